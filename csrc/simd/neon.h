/* NEON of 64-bit Arm: 4 floats in a vector, 32 registers. */
#include <arm_neon.h>
#include <string.h>

#define NNP_ISA_NAME "neon"
#define NNP_VECTOR 4
#define NNP_TILE_VECTORS 4

typedef float32x4_t vec;
typedef int vec_mask; /* how many of the first elements */

static inline vec vec_zero(void) { return vdupq_n_f32(0); }
static inline vec vec_set(float s) { return vdupq_n_f32(s); }
static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec v) { vst1q_f32(p, v); }
static inline void vec_stream(float *p, vec v) { vec_store(p, v); }
static inline void vec_stream_end(void) {}
static inline vec vec_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec vec_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec vec_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return vfmsq_f32(c, a, b); }

typedef uint32x4_t vec_bool;

static inline vec vec_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec vec_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vec_bool vec_less_equal(vec a, vec b) { return vcleq_f32(a, b); }
static inline vec_bool vec_greater(vec a, vec b) { return vcgtq_f32(a, b); }
static inline vec_bool vec_greater_or_nan(vec a, vec b) { return vmvnq_u32(vcleq_f32(a, b)); }
static inline vec_bool vec_equal(vec a, vec b) { return vceqq_f32(a, b); }
static inline vec_bool vec_is_nan(vec a) { return vmvnq_u32(vceqq_f32(a, a)); }
static inline vec_bool vec_or(vec_bool p, vec_bool q) { return vorrq_u32(p, q); }
static inline vec vec_select(vec_bool p, vec a, vec b) { return vbslq_f32(p, a, b); }

static inline float vec_largest(vec v) { return vmaxvq_f32(v); }

static inline vec vec_scale_where(vec_bool p, vec a, vec n, vec t) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    const float32x4_t power = vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3F800000)));
    return (void)n, vreinterpretq_f32_u32(vandq_u32(p, vreinterpretq_u32_f32(vmulq_f32(a, power))));
}

static inline vec_bool vec_bytes_equal(const uint8_t *p, uint8_t b) {
    uint32_t four;
    memcpy(&four, p, 4);
    return vceqq_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))), vdupq_n_u32(b));
}
static inline void vec_store_bytes(uint8_t *p, vec v) {
    const uint16x4_t shorts = vmovn_u32(vcvtq_u32_f32(v));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(shorts, shorts))), 0);
    memcpy(p, &four, 4);
}

typedef struct {
    float64x2_t low, high;
} wide;

static inline wide wide_of(vec v) {
    const wide w = {vcvt_f64_f32(vget_low_f32(v)), vcvt_high_f64_f32(v)};
    return w;
}
static inline wide wide_of_floats(const float *p) { return wide_of(vec_load(p)); }
static inline wide wide_load(const double *p) {
    const wide w = {vld1q_f64(p), vld1q_f64(p + 2)};
    return w;
}
static inline void wide_store(double *p, wide a) { vst1q_f64(p, a.low), vst1q_f64(p + 2, a.high); }
static inline wide wide_add(wide a, wide b) {
    const wide w = {vaddq_f64(a.low, b.low), vaddq_f64(a.high, b.high)};
    return w;
}
static inline wide wide_sub(wide a, wide b) {
    const wide w = {vsubq_f64(a.low, b.low), vsubq_f64(a.high, b.high)};
    return w;
}
static inline wide wide_mul_add(wide a, wide b, wide c) {
    const wide w = {vfmaq_f64(c.low, a.low, b.low), vfmaq_f64(c.high, a.high, b.high)};
    return w;
}
static inline double wide_total(wide a) { return vaddvq_f64(vaddq_f64(a.low, a.high)); }

typedef uint64x2_t words;

static inline words words_set(uint32_t s) { return vdupq_n_u64(s); }
static inline words words_load(const uint64_t *p) { return vld1q_u64(p); }
static inline words words_add(words a, words b) { return vaddq_u64(a, b); }
static inline words words_xor(words a, words b) { return veorq_u64(a, b); }
static inline words words_multiply(words a, words b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
static inline words words_high(words a) { return vshrq_n_u64(a, 32); }
static inline void words_store(uint32_t *p, const words w[4]) {
    const uint32x2x4_t low = {{vmovn_u64(w[0]), vmovn_u64(w[1]), vmovn_u64(w[2]), vmovn_u64(w[3])}};
    vst4_u32(p, low);
}
static inline vec_bool words_below(const uint32_t *p, uint32_t s) { return vcltq_u32(vld1q_u32(p), vdupq_n_u32(s)); }

/* A square of vectors, its rows and columns exchanged: first within pairs of rows, then the pairs. */
static inline void vec_transpose(vec r[NNP_VECTOR]) {
    const float32x4x2_t ab = vtrnq_f32(r[0], r[1]), cd = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
    r[1] = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
    r[2] = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
    r[3] = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

#include "first_by_count.h"
