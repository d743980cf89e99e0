/* AVX2 and FMA: 8 floats in a vector, 16 registers. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define NNP_ISA_NAME "avx2"
#define NNP_VECTOR 8
#define NNP_TILE_VECTORS 2

typedef __m256 vec;
typedef __m256i vec_mask;

static inline vec vec_zero(void) { return _mm256_setzero_ps(); }
static inline vec vec_set(float s) { return _mm256_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
/* Past the caches, to whole vectors only (p is a multiple of one); ordered with what follows by the end. */
static inline void vec_stream(float *p, vec v) { _mm256_stream_ps(p, v); }
static inline void vec_stream_end(void) { _mm_sfence(); }
static inline vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return _mm256_fnmadd_ps(a, b, c); }

static inline vec_mask vec_first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec vec_load_first(const float *p, vec_mask m) { return _mm256_maskload_ps(p, m); }
static inline void vec_store_first(float *p, vec_mask m, vec v) { _mm256_maskstore_ps(p, m, v); }

/* Comparisons with a NaN are false, but for the one that says so. vec_max(a, b) is b if a is a NaN; b is none.
 * vec_select(p, a, b): a where p, else b. */
typedef __m256 vec_bool;

static inline vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec_bool vec_less_equal(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline vec_bool vec_greater(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
static inline vec_bool vec_greater_or_nan(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_NLE_UQ); }
static inline vec_bool vec_equal(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vec_bool vec_is_nan(vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
static inline vec_bool vec_or(vec_bool p, vec_bool q) { return _mm256_or_ps(p, q); }
static inline vec vec_select(vec_bool p, vec a, vec b) { return _mm256_blendv_ps(b, a, p); }

/* The largest lane; none is a NaN. */
static inline float vec_largest(vec v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* a * 2^n where p, else 0. n is whole, -126 <= n <= 127 where p; t = n + 1.5 * 2^23: n stands in its lowest bits. */
static inline vec vec_scale_where(vec_bool p, vec a, vec n, vec t) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    const __m256i power = _mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F800000));
    return (void)n, _mm256_and_ps(p, _mm256_mul_ps(a, _mm256_castsi256_ps(power)));
}

/* A byte for each float: comparison of those at p with b, and conversion of whole numbers from 0 to 255. */
static inline vec_bool vec_bytes_equal(const uint8_t *p, uint8_t b) {
    const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(bytes, _mm256_set1_epi32(b)));
}
static inline void vec_store_bytes(uint8_t *p, vec v) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(halves, halves));
}

#include "first_bytes.h"

/* The floats of a vector as doubles. */
typedef struct {
    __m256d low, high;
} wide;

static inline wide wide_of(vec v) {
    const wide w = {_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
    return w;
}
static inline wide wide_of_floats(const float *p) { /* from memory it needs no shuffle */
    const wide w = {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))};
    return w;
}
static inline wide wide_load(const double *p) {
    const wide w = {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
    return w;
}
static inline void wide_store(double *p, wide a) { _mm256_storeu_pd(p, a.low), _mm256_storeu_pd(p + 4, a.high); }
static inline wide wide_add(wide a, wide b) {
    const wide w = {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
    return w;
}
static inline wide wide_sub(wide a, wide b) {
    const wide w = {_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
    return w;
}
static inline wide wide_mul_add(wide a, wide b, wide c) {
    const wide w = {_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
    return w;
}
static inline double wide_total(wide a) {
    const __m256d four = _mm256_add_pd(a.low, a.high);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/* A square of vectors, its rows and columns exchanged: first within quarters of 4 x 4, then the quarters. */
static inline void vec_transpose(vec r[NNP_VECTOR]) {
    vec t[NNP_VECTOR];
    for (int i = 0; i < 8; i += 4) {
        const __m256d ab = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        const __m256d cd = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m256d AB = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
        const __m256d CD = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(AB, CD));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(AB, CD));
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

/* For random numbers: a 32-bit word in the lower half of every 64 bits, the upper half anything. words_multiply is the
 * 64-bit product of two of them, words_high its upper half. words_store writes w[0], ..., w[3] of lanes 0, 2, ..., then
 * of lanes 1, 3, ...; words_below compares unsigned words in memory, one for each float, with s. */
typedef __m256i words;

static inline words words_set(uint32_t s) { return _mm256_set1_epi64x(s); }
static inline words words_load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline words words_add(words a, words b) { return _mm256_add_epi64(a, b); }
static inline words words_xor(words a, words b) { return _mm256_xor_si256(a, b); }
static inline words words_multiply(words a, words b) { return _mm256_mul_epu32(a, b); }
static inline words words_high(words a) { return _mm256_srli_epi64(a, 32); }
static inline void words_store(uint32_t *p, const words w[4]) {
    const words a = _mm256_blend_epi32(w[0], _mm256_slli_epi64(w[1], 32), 0xAA);
    const words b = _mm256_blend_epi32(w[2], _mm256_slli_epi64(w[3], 32), 0xAA);
    _mm256_storeu_si256((__m256i *)p, _mm256_unpacklo_epi64(a, b));
    _mm256_storeu_si256((__m256i *)(p + 8), _mm256_unpackhi_epi64(a, b));
}
static inline vec_bool words_below(const uint32_t *p, uint32_t s) { /* the comparison is signed */
    const __m256i sign = _mm256_set1_epi32(INT32_MIN), a = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(s ^ 0x80000000)), _mm256_xor_si256(a, sign)));
}
