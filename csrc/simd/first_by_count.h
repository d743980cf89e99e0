/* Loads and stores of the first elements of a vector of four, for instruction sets without masks. */
static inline vec_mask vec_first(int n) { return n; }

static inline vec vec_load_first(const float *p, vec_mask n) {
    float all[NNP_VECTOR] = {0};
    if (n == NNP_VECTOR) return vec_load(p);
    for (int i = 0; i < n; i++) all[i] = p[i];
    return vec_load(all);
}

static inline void vec_store_first(float *p, vec_mask n, vec v) {
    float all[NNP_VECTOR];
    if (n == NNP_VECTOR) {
        vec_store(p, v);
        return;
    }
    vec_store(all, v);
    for (int i = 0; i < n; i++) p[i] = all[i];
}

typedef struct {
    int from, to;
} vec_lanes;

static inline vec_lanes vec_lanes_between(int from, int to) {
    const vec_lanes lanes = {from, to};
    return lanes;
}

static inline vec vec_load_lanes(vec v, const float *p, vec_lanes m) {
    float all[NNP_VECTOR];
    if (m.from == 0 && m.to == NNP_VECTOR) return vec_load(p);
    vec_store(all, v);
    for (int i = m.from; i < m.to; i++) all[i] = p[i];
    return vec_load(all);
}

#include "first_bytes.h"
