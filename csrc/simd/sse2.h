/* SSE2, which every x86-64 processor has: 4 floats in a vector, 16 registers, no fused multiply-add. */
#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

#define NNP_ISA_NAME "sse2"
#define NNP_VECTOR 4
#define NNP_TILE_VECTORS 2

typedef __m128 vec;
typedef int vec_mask; /* how many of the first elements */

static inline vec vec_zero(void) { return _mm_setzero_ps(); }
static inline vec vec_set(float s) { return _mm_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm_storeu_ps(p, v); }
static inline void vec_stream(float *p, vec v) { _mm_stream_ps(p, v); }
static inline void vec_stream_end(void) { _mm_sfence(); }
static inline vec vec_add(vec a, vec b) { return _mm_add_ps(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
static inline vec vec_sub(vec a, vec b) { return _mm_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm_mul_ps(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }

typedef __m128 vec_bool;

static inline vec vec_div(vec a, vec b) { return _mm_div_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm_max_ps(a, b); }
static inline vec_bool vec_less_equal(vec a, vec b) { return _mm_cmple_ps(a, b); }
static inline vec_bool vec_greater(vec a, vec b) { return _mm_cmpgt_ps(a, b); }
static inline vec_bool vec_greater_or_nan(vec a, vec b) { return _mm_cmpnle_ps(a, b); }
static inline vec_bool vec_equal(vec a, vec b) { return _mm_cmpeq_ps(a, b); }
static inline vec_bool vec_is_nan(vec a) { return _mm_cmpunord_ps(a, a); }
static inline vec_bool vec_or(vec_bool p, vec_bool q) { return _mm_or_ps(p, q); }
static inline vec vec_select(vec_bool p, vec a, vec b) { return _mm_or_ps(_mm_and_ps(p, a), _mm_andnot_ps(p, b)); }

static inline float vec_largest(vec v) {
    const __m128 two = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline vec vec_scale_where(vec_bool p, vec a, vec n, vec t) {
    const __m128i exponent = _mm_slli_epi32(_mm_castps_si128(t), 23);
    const __m128i power = _mm_add_epi32(exponent, _mm_set1_epi32(0x3F800000));
    return (void)n, _mm_and_ps(p, _mm_mul_ps(a, _mm_castsi128_ps(power)));
}

static inline vec_bool vec_bytes_equal(const uint8_t *p, uint8_t b) {
    int32_t four;
    memcpy(&four, p, 4);
    const __m128i zero = _mm_setzero_si128(), shorts = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
    return _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_unpacklo_epi16(shorts, zero), _mm_set1_epi32(b)));
}
static inline void vec_store_bytes(uint8_t *p, vec v) {
    const __m128i whole = _mm_cvtps_epi32(v), shorts = _mm_packs_epi32(whole, whole);
    const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(shorts, shorts));
    memcpy(p, &four, 4);
}

typedef struct {
    __m128d low, high;
} wide;

static inline wide wide_of(vec v) {
    const wide w = {_mm_cvtps_pd(v), _mm_cvtps_pd(_mm_movehl_ps(v, v))};
    return w;
}
static inline wide wide_of_floats(const float *p) { return wide_of(vec_load(p)); }
static inline wide wide_load(const double *p) {
    const wide w = {_mm_loadu_pd(p), _mm_loadu_pd(p + 2)};
    return w;
}
static inline void wide_store(double *p, wide a) { _mm_storeu_pd(p, a.low), _mm_storeu_pd(p + 2, a.high); }
static inline wide wide_add(wide a, wide b) {
    const wide w = {_mm_add_pd(a.low, b.low), _mm_add_pd(a.high, b.high)};
    return w;
}
static inline wide wide_sub(wide a, wide b) {
    const wide w = {_mm_sub_pd(a.low, b.low), _mm_sub_pd(a.high, b.high)};
    return w;
}
static inline wide wide_mul_add(wide a, wide b, wide c) {
    const wide w = {_mm_add_pd(_mm_mul_pd(a.low, b.low), c.low), _mm_add_pd(_mm_mul_pd(a.high, b.high), c.high)};
    return w;
}
static inline double wide_total(wide a) {
    const __m128d two = _mm_add_pd(a.low, a.high);
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

typedef __m128i words;

static inline words words_set(uint32_t s) { return _mm_set1_epi64x(s); }
static inline words words_load(const uint64_t *p) { return _mm_loadu_si128((const __m128i *)p); }
static inline words words_add(words a, words b) { return _mm_add_epi64(a, b); }
static inline words words_xor(words a, words b) { return _mm_xor_si128(a, b); }
static inline words words_multiply(words a, words b) { return _mm_mul_epu32(a, b); }
static inline words words_high(words a) { return _mm_srli_epi64(a, 32); }
static inline void words_store(uint32_t *p, const words w[4]) {
    const words low = _mm_set1_epi64x(0xFFFFFFFF);
    const words a = _mm_or_si128(_mm_and_si128(w[0], low), _mm_slli_epi64(w[1], 32));
    const words b = _mm_or_si128(_mm_and_si128(w[2], low), _mm_slli_epi64(w[3], 32));
    _mm_storeu_si128((__m128i *)p, _mm_unpacklo_epi64(a, b));
    _mm_storeu_si128((__m128i *)(p + 4), _mm_unpackhi_epi64(a, b));
}
static inline vec_bool words_below(const uint32_t *p, uint32_t s) { /* the comparison is signed */
    const __m128i sign = _mm_set1_epi32(INT32_MIN), a = _mm_loadu_si128((const __m128i *)p);
    return _mm_castsi128_ps(_mm_cmpgt_epi32(_mm_set1_epi32((int)(s ^ 0x80000000)), _mm_xor_si128(a, sign)));
}

/* A square of vectors, its rows and columns exchanged. */
static inline void vec_transpose(vec r[NNP_VECTOR]) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }

#include "first_by_count.h"
