/* What the checks of the kernels share: operands between guards, numbers, comparisons. See README.md. */
#ifndef NNPAR_HARNESS_H
#define NNPAR_HARNESS_H

#include "kernels.h"

/* Every function of nnp_kernels: NAME is checked by check_NAME. */
#define KERNELS(X)                                                                                                     \
    X(gemm_tile)                                                                                                       \
    X(gemm_rows)                                                                                                       \
    X(outer_tile)                                                                                                      \
    X(outer_rows)                                                                                                      \
    X(dot_tile)                                                                                                        \
    X(pack_panel)                                                                                                      \
    X(copy_matrix)                                                                                                     \
    X(framed_row)                                                                                                      \
    X(framed_outer)                                                                                                    \
    X(copy_stream)                                                                                                     \
    X(stream_fence)                                                                                                    \
    X(winograd_input_strips)                                                                                           \
    X(winograd_input)                                                                                                  \
    X(winograd_output_grad)                                                                                            \
    X(winograd_output)                                                                                                 \
    X(winograd_products)                                                                                               \
    X(winograd_weight)                                                                                                 \
    X(winograd_weight_grad)                                                                                            \
    X(max_pool_row)                                                                                                    \
    X(max_pool_grad_row)                                                                                               \
    X(avg_pool_row)                                                                                                    \
    X(avg_pool_grad_row)                                                                                               \
    X(weighted_rows)                                                                                                   \
    X(channel_moments)                                                                                                 \
    X(merge_moments)                                                                                                   \
    X(scale_shift)                                                                                                     \
    X(channel_grad_sums)                                                                                               \
    X(batch_norm_grad)                                                                                                 \
    X(row_norm)                                                                                                        \
    X(row_norm_grad)                                                                                                   \
    X(local_response)                                                                                                  \
    X(local_response_grad)                                                                                             \
    X(depthwise_rows)                                                                                                  \
    X(depthwise_weight_grad_rows)                                                                                      \
    X(convolve_planes)                                                                                                 \
    X(split_planes)                                                                                                    \
    X(join_planes)                                                                                                     \
    X(arithmetic)                                                                                                      \
    X(activation)                                                                                                      \
    X(activation_grad)                                                                                                 \
    X(prelu)                                                                                                           \
    X(prelu_grad)                                                                                                      \
    X(log_softmax)                                                                                                     \
    X(log_softmax_grad)                                                                                                \
    X(relu)                                                                                                            \
    X(relu_grad)                                                                                                       \
    X(scale)                                                                                                           \
    X(add)                                                                                                             \
    X(turn)                                                                                                            \
    X(dropout)                                                                                                         \
    X(sum_rows)                                                                                                        \
    X(warp_row)                                                                                                        \
    X(sum_strided)                                                                                                     \
    X(softmax)                                                                                                         \
    X(softmax_grad)                                                                                                    \
    X(softmax_cross_entropy)                                                                                           \
    X(soft_cross_entropy)                                                                                              \
    X(squared_error)                                                                                                   \
    X(sgd)                                                                                                             \
    X(adam)                                                                                                            \
    X(multiply_add_peak)
#define DECLARE(NAME) void check_##NAME(const nnp_kernels *table);
KERNELS(DECLARE)
#undef DECLARE

enum { SIZES = 20 };
extern const ptrdiff_t sizes[SIZES]; /* lengths around the vectors of every instruction set */

/* Matrices for kernels that join rows of few columns, or cut those of many: csrc/tiles/batch_norm.h. A matrix of more
 * than MOST_ELEMENTS is left out. */
enum { WIDTHS = 16, HEIGHTS = 10, MOST_ELEMENTS = 25000 };
extern const ptrdiff_t widths[WIDTHS], heights[HEIGHTS];

/* Every call of a kernel stands between begin, which says what is called and discards the operands of the call before,
 * and end, which sees that nothing around its operands was overwritten. */
void begin(const char *format, ...) __attribute__((format(printf, 1, 2)));
void end(void);

/* Operands. Each touches a page that faults, on the side that the harness is looking at, and has 256 bytes that nobody
 * may write on the other. Floats are the canary, a NaN, unless drawn: what nobody wrote is still that. */
void *operand(size_t bytes);
float *floats(ptrdiff_t n);
float *integers(ptrdiff_t n); /* -3 to 3, whose sums of products are exact in any order */
float *reals(ptrdiff_t n);    /* uniform in [-1, 1) */
float *copy(ptrdiff_t n, const float *x);
double *doubles(ptrdiff_t n); /* a NaN, unless written */
double *zeros(ptrdiff_t n);   /* no operand, but a place for the expected */

/* Comparisons of n elements; the first that differs is reported. */
void equal(ptrdiff_t n, const float *actual, const double *expected); /* the same float; one NaN is like another */
void same(ptrdiff_t n, const void *actual, const void *expected);     /* n bytes */
void untouched(ptrdiff_t n, const float *actual);
/* |actual - expected| <= 2 terms u magnitude, and what counts as zero, with u = 2^-24: tests/cases.py says why. */
void within(ptrdiff_t n, const float *actual, const double *expected, double terms, const double *magnitude);
/* For numbers in double. */
void near(ptrdiff_t n, const double *actual, const double *expected, double relative, const double *magnitude);
void close_to(double actual, double expected, double relative, double absolute);

#endif
