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

static inline vec_mask vec_first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec vec_load_first(const float *p, vec_mask m) { return _mm256_maskload_ps(p, m); }
static inline void vec_store_first(float *p, vec_mask m, vec v) { _mm256_maskstore_ps(p, m, v); }
