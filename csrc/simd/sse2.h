/* SSE2, which every x86-64 processor has: 4 floats in a vector, 16 registers, no fused multiply-add. */
#include <emmintrin.h>

#define NNP_ISA_NAME "sse2"
#define NNP_VECTOR 4
#define NNP_TILE_VECTORS 2

typedef __m128 vec;
typedef int vec_mask; /* how many of the first elements */

static inline vec vec_zero(void) { return _mm_setzero_ps(); }
static inline vec vec_set(float s) { return _mm_set1_ps(s); }
static inline vec vec_load(const float *p) { return _mm_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm_storeu_ps(p, v); }
static inline vec vec_add(vec a, vec b) { return _mm_add_ps(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
static inline vec vec_sub(vec a, vec b) { return _mm_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm_mul_ps(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }

/* A square of vectors, its rows and columns exchanged. */
static inline void vec_transpose(vec r[NNP_VECTOR]) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }

#include "first_by_count.h"
