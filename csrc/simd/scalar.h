/* Plain C, for any processor: a vector of one float. */
#define NNP_ISA_NAME "scalar"
#define NNP_VECTOR 1
#define NNP_TILE_VECTORS 4

typedef float vec;
typedef int vec_mask; /* always 1: a part of a vector of one is all of it */

static inline vec vec_zero(void) { return 0.0f; }
static inline vec vec_set(float s) { return s; }
static inline vec vec_load(const float *p) { return *p; }
static inline void vec_store(float *p, vec v) { *p = v; }
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_mul_add(vec a, vec b, vec c) { return a * b + c; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_sub_mul(vec c, vec a, vec b) { return c - a * b; }
static inline void vec_transpose(vec r[NNP_VECTOR]) { (void)r; }

static inline vec_mask vec_first(int n) { return n; }
static inline vec vec_load_first(const float *p, vec_mask n) { return (void)n, *p; }
static inline void vec_store_first(float *p, vec_mask n, vec v) { (void)n, *p = v; }
