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

static inline vec_mask vec_first(int n) { return (vec_mask)((1u << n) - 1); }
static inline vec vec_load_first(const float *p, vec_mask m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void vec_store_first(float *p, vec_mask m, vec v) { _mm512_mask_storeu_ps(p, m, v); }
