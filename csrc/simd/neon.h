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
static inline vec vec_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec vec_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return vfmsq_f32(c, a, b); }

/* A square of vectors, its rows and columns exchanged: first within pairs of rows, then the pairs. */
static inline void vec_transpose(vec r[NNP_VECTOR]) {
    const float32x4x2_t ab = vtrnq_f32(r[0], r[1]), cd = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
    r[1] = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
    r[2] = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
    r[3] = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

#include "first_by_count.h"
