/* NEON of 64-bit Arm: 4 floats in a vector, 32 registers. */
#include <arm_neon.h>

#define NNP_ISA_NAME "neon"
#define NNP_VECTOR 4
#define NNP_TILE_VECTORS 4

typedef float32x4_t vec;
typedef int vec_mask; /* how many of the first elements */

static inline vec vec_zero(void) { return vdupq_n_f32(0); }
static inline vec vec_set(float s) { return vdupq_n_f32(s); }
static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec v) { vst1q_f32(p, v); }
static inline vec vec_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }

#include "first_by_count.h"
