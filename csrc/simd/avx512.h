/* AVX-512F: 16 floats in a vector, 32 registers. */
#include <immintrin.h>
#include <stdint.h>

#define NNP_ISA_NAME "avx512"
#define NNP_VECTOR 16
#define NNP_TILE_VECTORS 4

typedef __m512 vec;
typedef __mmask16 vec_mask;

static inline vec vec_zero(void) { return _mm512_setzero_ps(); }
static inline vec vec_set(float s) { return _mm512_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline void vec_stream(float *p, vec v) { _mm512_stream_ps(p, v); }
static inline void vec_stream_end(void) { _mm_sfence(); }
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return _mm512_fnmadd_ps(a, b, c); }

static inline vec_mask vec_first(int n) { return (vec_mask)((1u << n) - 1); }
static inline vec vec_load_first(const float *p, vec_mask m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void vec_store_first(float *p, vec_mask m, vec v) { _mm512_mask_storeu_ps(p, m, v); }

typedef __mmask16 vec_bool;

static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec_bool vec_less_equal(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline vec_bool vec_greater(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline vec_bool vec_greater_or_nan(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ); }
static inline vec_bool vec_equal(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vec_bool vec_is_nan(vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
static inline vec_bool vec_or(vec_bool p, vec_bool q) { return (vec_bool)(p | q); }
static inline vec vec_select(vec_bool p, vec a, vec b) { return _mm512_mask_blend_ps(p, b, a); }

static inline float vec_largest(vec v) { return _mm512_reduce_max_ps(v); }

static inline vec vec_scale_where(vec_bool p, vec a, vec n, vec t) { return (void)t, _mm512_maskz_scalef_ps(p, a, n); }

static inline vec_bool vec_bytes_equal(const uint8_t *p, uint8_t b) {
    return _mm_cmpeq_epi8_mask(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)b));
}
static inline vec_bool vec_bytes_equal_first(const uint8_t *p, int n, uint8_t b) {
    const __mmask16 m = vec_first(n);
    return _mm_mask_cmpeq_epi8_mask(m, _mm_maskz_loadu_epi8(m, p), _mm_set1_epi8((char)b));
}
static inline void vec_store_bytes(uint8_t *p, vec v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
static inline void vec_store_bytes_first(uint8_t *p, int n, vec v) {
    _mm_mask_storeu_epi8(p, vec_first(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

typedef struct {
    __m512d low, high;
} wide;

static inline wide wide_of(vec v) {
    const wide w = {_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
    return w;
}
static inline wide wide_of_floats(const float *p) {
    const wide w = {_mm512_cvtps_pd(_mm256_loadu_ps(p)), _mm512_cvtps_pd(_mm256_loadu_ps(p + 8))};
    return w;
}
static inline wide wide_load(const double *p) {
    const wide w = {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)};
    return w;
}
static inline void wide_store(double *p, wide a) { _mm512_storeu_pd(p, a.low), _mm512_storeu_pd(p + 8, a.high); }
static inline wide wide_add(wide a, wide b) {
    const wide w = {_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
    return w;
}
static inline wide wide_sub(wide a, wide b) {
    const wide w = {_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)};
    return w;
}
static inline wide wide_mul_add(wide a, wide b, wide c) {
    const wide w = {_mm512_fmadd_pd(a.low, b.low, c.low), _mm512_fmadd_pd(a.high, b.high, c.high)};
    return w;
}
static inline double wide_total(wide a) { return _mm512_reduce_add_pd(_mm512_add_pd(a.low, a.high)); }

/* A square of vectors, its rows and columns exchanged: first within quarters of 4 x 4, then the quarters. */
static inline void vec_transpose(vec r[NNP_VECTOR]) {
    vec t[NNP_VECTOR];
    for (int i = 0; i < 16; i += 4) {
        const __m512d ab = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        const __m512d cd = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m512d AB = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        const __m512d CD = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(AB, CD));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(AB, CD));
    }
    for (int i = 0; i < 4; i++) {
        const vec p = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), q = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const vec P = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd), Q = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(p, q, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(P, Q, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(p, q, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(P, Q, 0xdd);
    }
}

typedef __m512i words;

static inline words words_set(uint32_t s) { return _mm512_set1_epi64(s); }
static inline words words_load(const uint64_t *p) { return _mm512_loadu_si512(p); }
static inline words words_add(words a, words b) { return _mm512_add_epi64(a, b); }
static inline words words_xor(words a, words b) { return _mm512_xor_si512(a, b); }
static inline words words_multiply(words a, words b) { return _mm512_mul_epu32(a, b); }
static inline words words_high(words a) { return _mm512_srli_epi64(a, 32); }
static inline void words_store(uint32_t *p, const words w[4]) {
    const words a = _mm512_mask_blend_epi32(0xAAAA, w[0], _mm512_slli_epi64(w[1], 32));
    const words b = _mm512_mask_blend_epi32(0xAAAA, w[2], _mm512_slli_epi64(w[3], 32));
    _mm512_storeu_si512(p, _mm512_unpacklo_epi64(a, b));
    _mm512_storeu_si512(p + 16, _mm512_unpackhi_epi64(a, b));
}
static inline vec_bool words_below(const uint32_t *p, uint32_t s) {
    return _mm512_cmplt_epu32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32((int)s));
}
