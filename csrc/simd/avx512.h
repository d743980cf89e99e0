/* AVX-512F: 16 floats in a vector, 32 registers. */
#include <immintrin.h>

#define NNP_ISA_NAME "avx512"
#define NNP_VECTOR 16
#define NNP_TILE_VECTORS 4

typedef __m512 vec;
typedef __mmask16 vec_mask;

static inline vec vec_zero(void) { return _mm512_setzero_ps(); }
static inline vec vec_set(float s) { return _mm512_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return _mm512_fnmadd_ps(a, b, c); }

static inline vec_mask vec_first(int n) { return (vec_mask)((1u << n) - 1); }
static inline vec vec_load_first(const float *p, vec_mask m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void vec_store_first(float *p, vec_mask m, vec v) { _mm512_mask_storeu_ps(p, m, v); }

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
