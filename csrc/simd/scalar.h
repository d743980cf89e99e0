/* Plain C, for any processor: a vector of one float. */
#include <stdint.h>
#include <string.h>

#define NNP_ISA_NAME "scalar"
#define NNP_VECTOR 1
#define NNP_TILE_VECTORS 4

typedef float vec;
typedef int vec_mask; /* always 1: a part of a vector of one is all of it */

static inline vec vec_zero(void) { return 0.0f; }
static inline vec vec_set(float s) { return s; }
static inline vec vec_load(const float *p) { return *p; }
static inline void vec_store(float *p, vec v) { *p = v; }
static inline void vec_stream(float *p, vec v) { vec_store(p, v); }
static inline void vec_stream_end(void) {}
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_mul_add(vec a, vec b, vec c) { return a * b + c; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return c - a * b; }
static inline void vec_transpose(vec r[NNP_VECTOR]) { (void)r; }

static inline vec_mask vec_first(int n) { return n; }
static inline vec vec_load_first(const float *p, vec_mask n) { return (void)n, *p; }
static inline void vec_store_first(float *p, vec_mask n, vec v) { (void)n, *p = v; }

typedef int vec_bool;

static inline vec vec_div(vec a, vec b) { return a / b; }
static inline vec vec_max(vec a, vec b) { return a > b ? a : b; }
static inline vec_bool vec_less_equal(vec a, vec b) { return a <= b; }
static inline vec_bool vec_greater(vec a, vec b) { return a > b; }
static inline vec_bool vec_greater_or_nan(vec a, vec b) { return !(a <= b); }
static inline vec_bool vec_equal(vec a, vec b) { return a == b; }
static inline vec_bool vec_is_nan(vec a) { return a != a; }
static inline vec_bool vec_or(vec_bool p, vec_bool q) { return p | q; }
static inline vec vec_select(vec_bool p, vec a, vec b) { return p ? a : b; }

static inline float vec_largest(vec v) { return v; }

static inline vec vec_scale_where(vec_bool p, vec a, vec n, vec t) {
    uint32_t bits;
    (void)n;
    memcpy(&bits, &t, 4);
    bits = (bits << 23) + 0x3F800000u;
    memcpy(&t, &bits, 4);
    return p ? a * t : 0.0f;
}

static inline vec_bool vec_bytes_equal(const uint8_t *p, uint8_t b) { return *p == b; }
static inline vec_bool vec_bytes_equal_first(const uint8_t *p, int n, uint8_t b) { return (void)n, *p == b; }
static inline void vec_store_bytes(uint8_t *p, vec v) { *p = (uint8_t)v; }
static inline void vec_store_bytes_first(uint8_t *p, int n, vec v) { (void)n, *p = (uint8_t)v; }

typedef double wide;

static inline wide wide_of(vec v) { return v; }
static inline wide wide_of_floats(const float *p) { return wide_of(vec_load(p)); }
static inline wide wide_load(const double *p) { return *p; }
static inline void wide_store(double *p, wide a) { *p = a; }
static inline wide wide_add(wide a, wide b) { return a + b; }
static inline wide wide_sub(wide a, wide b) { return a - b; }
static inline wide wide_mul_add(wide a, wide b, wide c) { return a * b + c; }
static inline double wide_total(wide a) { return a; }

typedef uint64_t words;

static inline words words_set(uint32_t s) { return s; }
static inline words words_load(const uint64_t *p) { return *p; }
static inline words words_add(words a, words b) { return a + b; }
static inline words words_xor(words a, words b) { return a ^ b; }
static inline words words_multiply(words a, words b) { return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF); }
static inline words words_high(words a) { return a >> 32; }
static inline void words_store(uint32_t *p, const words w[4]) {
    for (int j = 0; j < 4; j++) p[j] = (uint32_t)w[j];
}
static inline vec_bool words_below(const uint32_t *p, uint32_t s) { return *p < s; }
