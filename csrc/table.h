/* The table of one instruction set. A file in isa/ includes a header of simd/, then this one, and is compiled with that
 * set's flags. Only the table has external linkage: nothing compiled for one set can be linked in place of another's.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#include "tiles/gemm.h"

#include "tiles/rows.h"

#include "tiles/exp.h"
#include "tiles/functions.h"
#include "tiles/parts.h"

#include "tiles/arithmetic.h"
#include "tiles/activation.h"
#include "tiles/batch_norm.h"
#include "tiles/pool.h"

#include "tiles/depthwise.h"
#include "tiles/elementwise.h"
#include "tiles/framed.h"
#include "tiles/loss.h"
#include "tiles/optimizer.h"
#include "tiles/planes.h"
#include "tiles/resample.h"
#include "tiles/row_norm.h"
#include "tiles/warp.h"
#include "tiles/winograd.h"

#include "tiles/winograd_products.h"

#define NNP_TABLE                                                                                                      \
    {                                                                                                                  \
        .isa = NNP_ISA_NAME,                                                                                           \
        .vector = NNP_VECTOR,                                                                                          \
        .tile_vectors = NNP_TILE_VECTORS,                                                                              \
        .gemm_tile = gemm_tile,                                                                                        \
        .gemm_rows = gemm_rows,                                                                                        \
        .outer_tile = outer_tile,                                                                                      \
        .outer_rows = outer_rows,                                                                                      \
        .dot_tile = dot_tile,                                                                                          \
        .pack_panel = pack_panel,                                                                                      \
        .copy_matrix = copy_matrix,                                                                                    \
        .framed_row = framed_row,                                                                                      \
        .framed_outer = framed_outer,                                                                                  \
        .copy_stream = copy_stream,                                                                                    \
        .stream_fence = vec_stream_end,                                                                                \
        .winograd_input = winograd_input,                                                                              \
        .winograd_input_strips = winograd_input_strips,                                                                \
        .winograd_products = winograd_products,                                                                        \
        .winograd_output_grad = winograd_output_grad,                                                                  \
        .winograd_output = winograd_output,                                                                            \
        .winograd_weight = winograd_weight,                                                                            \
        .winograd_weight_grad = winograd_weight_grad,                                                                  \
        .max_pool_row = max_pool_row,                                                                                  \
        .max_pool_grad_row = max_pool_grad_row,                                                                        \
        .avg_pool_row = avg_pool_row,                                                                                  \
        .avg_pool_grad_row = avg_pool_grad_row,                                                                        \
        .channel_moments = channel_moments,                                                                            \
        .merge_moments = merge_moments,                                                                                \
        .scale_shift = scale_shift,                                                                                    \
        .channel_grad_sums = channel_grad_sums,                                                                        \
        .batch_norm_grad = batch_norm_grad,                                                                            \
        .row_norm = row_norm,                                                                                          \
        .row_norm_grad = row_norm_grad,                                                                                \
        .local_response = local_response,                                                                              \
        .local_response_grad = local_response_grad,                                                                    \
        .depthwise_rows = depthwise_rows,                                                                              \
        .depthwise_weight_grad_rows = depthwise_weight_grad_rows,                                                      \
        .convolve_planes = convolve_planes,                                                                            \
        .split_planes = split_planes,                                                                                  \
        .join_planes = join_planes,                                                                                    \
        .arithmetic = arithmetic,                                                                                      \
        .activation = activation,                                                                                      \
        .activation_grad = activation_grad,                                                                            \
        .prelu = prelu,                                                                                                \
        .prelu_grad = prelu_grad,                                                                                      \
        .log_softmax = log_softmax,                                                                                    \
        .log_softmax_grad = log_softmax_grad,                                                                          \
        .relu = relu,                                                                                                  \
        .relu_grad = relu_grad,                                                                                        \
        .scale = scale,                                                                                                \
        .add = add,                                                                                                    \
        .turn = turn,                                                                                                  \
        .dropout = dropout,                                                                                            \
        .weighted_rows = weighted_rows,                                                                                \
        .warp_row = warp_row,                                                                                          \
        .sum_strided = sum_strided,                                                                                    \
        .sum_rows = sum_rows,                                                                                          \
        .softmax = softmax,                                                                                            \
        .softmax_grad = softmax_grad,                                                                                  \
        .softmax_cross_entropy = softmax_cross_entropy,                                                                \
        .soft_cross_entropy = soft_cross_entropy,                                                                      \
        .squared_error = squared_error,                                                                                \
        .sgd = sgd,                                                                                                    \
        .adam = adam,                                                                                                  \
        .multiply_add_peak = multiply_add_peak,                                                                        \
    }
