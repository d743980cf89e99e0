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

#include "first_bytes.h"
