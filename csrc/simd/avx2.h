/* AVX2 and FMA: 8 floats in a vector, 16 registers. */
#include <immintrin.h>

#define NNP_ISA_NAME "avx2"
#define NNP_VECTOR 8
#define NNP_TILE_VECTORS 2

typedef __m256 vec;
typedef __m256i vec_mask;

static inline vec vec_zero(void) { return _mm256_setzero_ps(); }
static inline vec vec_set(float s) { return _mm256_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
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
