/* The kernels of nnpar: the arithmetic of one tile each, for one instruction set. See README.md for the contract.
 *
 * A kernel never allocates, never starts a thread, keeps no state and touches nothing outside the elements named here.
 * Sizes and strides count elements, not bytes, and are signed. Pointers need no alignment beyond that of their type.
 */
#ifndef NNPAR_KERNELS_H
#define NNPAR_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Rows of the matrix-multiply tile. Six rows of four vectors fill 24 of the 32 registers of AVX-512 and NEON; six rows
 * of two vectors fill 12 of the 16 of SSE and AVX2. One height for all, so that schedules do not depend on the ISA. */
#define NNP_TILE_ROWS 6
/* Where a tile is only one vector wide: as many sums in flight as two vectors of six rows. */
#define NNP_TALL_ROWS 12

/* Samples of one call of softmax. */
#define NNP_SOFTMAX_SAMPLES 16

/* A run of `length` steps along the summed axis of an outer product: step k reads a[k * a_step ...] and b[k * b_step
 * ...]. */
typedef struct {
    const float *a, *b;
    ptrdiff_t length;
} nnp_segment;

/* A square of pixels of a channels-last image: row i, column j at first + i * row_stride + j * col_stride. Of its rows
 * only [top, bottom) are inside the image, of its columns [left, right). */
typedef struct {
    ptrdiff_t first, row_stride, col_stride;
    int top, bottom, left, right;
} nnp_patch;

/* Channels of a strip of Winograd's V and M, which are (strip, tile, position, NNP_STRIP); an odd number of cache lines
 * from tile to tile. */
#define NNP_STRIP 16
#define NNP_TILE_STEP(POSITIONS) (NNP_STRIP * ((POSITIONS) + 1))

/* Winograd's products for some positions of a block of tiles. Strips lie v_strip and m_strip apart, tiles tile_step, in
 * U positions u_step. The `ask_bytes` from `ask` on may be asked for meanwhile, to come near: there need be nothing. */
typedef struct {
    ptrdiff_t positions, tiles, depth, tile_step, v_strip, m_strip, u_step;
    int accumulate;
    const float *ask;
    ptrdiff_t ask_bytes;
} nnp_products;

/* Pooling geometry. Images are channels-last: x is (height, width, channels), y is (out_height, out_width, channels).
 * The padding is what lies before the image; end_h and end_w are where the padding after it ends. */
typedef struct {
    ptrdiff_t channels, height, width, out_height, out_width;
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, end_h, end_w;
    int count_include_pad; /* average pooling: divide by the whole window, or by the part inside the image */
    int sum;               /* average pooling: divide by nothing */
    int stream;            /* the result may go to memory past the caches */
} nnp_pool;

/* Rows of output that a depthwise kernel can compute from the same rows of the source. */
#define NNP_DEPTHWISE_ROWS 2

/* One axis of a depthwise convolution. Output position i, of `out`, reads for each of its `taps` k the source position
 * i * step + start + k * dilation, if that lies in [0, source), and the weight at kernel position kernel + k *
 * kernel_step. */
typedef struct {
    ptrdiff_t out, source, taps, step, start, dilation, kernel, kernel_step;
} nnp_axis;

/* Depthwise geometry. The source is (h.source, w.source, pixel), the weights are (KH, kernel_w, pixel); rows of the
 * output are out_row apart, its pixels out_pixel. */
typedef struct {
    nnp_axis h, w;
    ptrdiff_t pixel, kernel_w, out_row, out_pixel;
} nnp_depthwise;

/* Windows of few channels, in a frame of zeros: `taps` runs of `depth` floats, a_down apart; the next pixel's window
 * lies a_step further. */
typedef struct {
    ptrdiff_t taps, depth, a_down, a_step;
} nnp_frame;

/* A convolution of planes, one for each of `depth` channels read, x_stride apart: tap t of a pixel lies offset[t]
 * floats after the pixel's own place. */
typedef struct {
    ptrdiff_t rows, depth, taps, x_stride;
    const ptrdiff_t *offset;
} nnp_planes;

/* a + b, a - b, a b, a / b; the larger one and the smaller one, NaN if either is; whether a < b, a <= b, a == b, as 1 or
 * 0; a where b is not 0, and where it is, else 0; the share of a in the gradient of the larger one: 1, 1/2 if both are
 * equal, or 0. */
enum nnp_arithmetic {
    NNP_ADD,
    NNP_SUB,
    NNP_MUL,
    NNP_DIV,
    NNP_MAX,
    NNP_MIN,
    NNP_LESS,
    NNP_LESS_EQUAL,
    NNP_EQUAL,
    NNP_KEEP,
    NNP_DROP,
    NNP_SHARE
};

/* Where in training a random number is drawn: the four counter words of Philox4x32-10 but the first, and its key. */
typedef struct {
    uint32_t key[2];
    uint32_t sample, epoch, layer;
} nnp_philox;

enum { NNP_WARP_CHANNELS = 64 };

/* An image that is another one's, moved, recoloured and partly covered. Pixel (i, j) of y, out_width wide, is what x
 * has at row map[0] i + map[1] j + map[2] and column map[3] i + map[4] j + map[5], between pixels by weights; outside of
 * x, whose pixels reach half a pixel around their middles, it is zeros. With v[k] its channels, at most
 * NNP_WARP_CHANNELS, y[c] = colours[c][channels] + sum over k of colours[c][k] v[k]; and 0 in the box. Strides are in
 * bytes. */
typedef struct {
    const void *x; /* uint8_t if bytes, else float */
    float *y;
    ptrdiff_t channels, height, width, out_width;
    ptrdiff_t x_channel, x_row, x_col, y_channel, y_row, y_col;
    const double *map;
    const float *colours; /* (channels, channels + 1) */
    const int64_t *box;   /* first row, first column, rows, columns */
    int bytes;
} nnp_warp;

/* Local response normalisation: channels c - before to c + after are near c. */
typedef struct {
    ptrdiff_t before, after;
    float scale, beta, k;
} nnp_response;
/* An activation y = f(x), and what its gradient reads, x or y. Kinds without a letter have no constants. */
enum {
    NNP_ABS,         /* |x|; x */
    NNP_CLIP,        /* max(a, x), then min(b, .); y. The gradient is 0 at a and b. */
    NNP_ELU,         /* a x for x > 0, else b (exp(c x) - 1), a and c > 0, b >= 0; y */
    NNP_ERF,         /* x */
    NNP_EXP,         /* y */
    NNP_GELU,        /* x times the normal distribution up to x; x */
    NNP_GELU_TANH,   /* its approximation; x */
    NNP_HARDSIGMOID, /* a x + b between 0 and 1; y */
    NNP_HARDSWISH,   /* x times that; x */
    NNP_LEAKY,       /* x for x > 0, else a x; x, or y if a >= 0 */
    NNP_LOG,         /* x */
    NNP_MISH,        /* x tanh(log(1 + exp(x))); x */
    NNP_RECIPROCAL,  /* y */
    NNP_SCALE,       /* a x; either */
    NNP_SIGMOID,     /* 1 / (1 + exp(-x)); y */
    NNP_SILU,        /* x times that; x */
    NNP_SOFTPLUS,    /* log(1 + exp(a x)) / a, or x where a x > b; x */
    NNP_SOFTSIGN,    /* x / (1 + |x|); y */
    NNP_SQRT,        /* y */
    NNP_TANH,        /* y */
    NNP_THRESHOLD,   /* x for x > a, else b; x */
};
typedef struct {
    int kind;
    float a, b, c;
} nnp_activation;

/* fresh = 1 - dampening: differences from 1 are taken in double, where they keep their digits. */
typedef struct {
    float lr, momentum, fresh, weight_decay;
    int nesterov, first_step;
} nnp_sgd;

/* step_size = lr / (1 - beta1^t), inv_sqrt_correction = 1 / sqrt(1 - beta2^t), fresh = 1 - beta,
 * kept = 1 - lr * weight_decay if the decay is decoupled, else 1. */
typedef struct {
    float step_size, inv_sqrt_correction, beta1, fresh1, beta2, fresh2, eps, weight_decay, kept;
} nnp_adam;

typedef struct {
    const char *isa;
    int vector;       /* floats in a vector */
    int tile_vectors; /* vectors across the widest tile: a panel of B is at most tile_vectors * vector columns wide */

    /* C = A B, or C += A B if accumulate, then + bias (cols) unless NULL, then max(C, 0) if relu; NaN stays NaN.
     * C is (rows <= 6, cols <= tile_vectors * vector), or (rows <= 12, cols <= vector): row i at c[i].
     * A's row i is `taps` runs of `depth` floats: run t at a[t * a_stride + i]. B is one packed panel (taps *
     * depth, width), width = cols rounded up to whole vectors. Each element is summed in one chain over (tap, depth),
     * whatever the tile. */
    void (*gemm_tile)(int rows, int cols, ptrdiff_t taps, ptrdiff_t depth, const float *const *a, ptrdiff_t a_stride,
                      const float *b, const float *bias, int relu, int accumulate, float *const *c);

    /* The same for any number of rows, a_step and c_step apart, cols as above. B is packed; or, if `packed` is not
     * NULL, its rows (depth, cols) are b_step apart, and come to lie in `packed` as a panel. */
    void (*gemm_rows)(ptrdiff_t rows, int cols, ptrdiff_t depth, const float *a, ptrdiff_t a_step, const float *b,
                      ptrdiff_t b_step, float *packed, const float *bias, int relu, int accumulate, float *c,
                      ptrdiff_t c_step);

    /* C += sum over segments s, steps k of a[s][a_offset + k*a_step + i] * b[s][b_offset + k*b_step + j], C as
     * above. A tile's sum starts from zero and is added to C at its end. The cache line that lies a_ahead floats after
     * each step's a[s], and that b_ahead after its b[s], may be asked for: there need be nothing. */
    void (*outer_tile)(int rows, int cols, ptrdiff_t segments, const nnp_segment *segment, ptrdiff_t a_offset,
                       ptrdiff_t a_step, ptrdiff_t a_ahead, ptrdiff_t b_offset, ptrdiff_t b_step, ptrdiff_t b_ahead,
                       float *c, ptrdiff_t c_stride);

    /* C (rows, cols) += A^T B for any number of rows: A is (depth, rows), its rows a_step apart, B (depth, cols). How
     * sums begin and end, and cols, as in outer_tile. */
    void (*outer_rows)(ptrdiff_t rows, int cols, ptrdiff_t depth, const float *a, ptrdiff_t a_step, const float *b,
                       ptrdiff_t b_step, float *c, ptrdiff_t c_step);

    /* out[i] = sum of a[i][k] * x[k] over k < depth, for rows <= 6. The lanes of vectors are chains of their own. */
    void (*dot_tile)(int rows, ptrdiff_t depth, const float *const *a, const float *x, float *out);

    /* panel (depth, width) = alpha * B (depth, cols) of any strides, zeros to the right. */
    void (*pack_panel)(ptrdiff_t depth, int cols, float alpha, const float *b, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       float *panel);

    /* dst (rows, cols), row-major with leading dimension ld, = src of any strides. Also the transposition. */
    void (*copy_matrix)(ptrdiff_t rows, ptrdiff_t cols, const float *src, ptrdiff_t row_stride, ptrdiff_t col_stride,
                        float *dst, ptrdiff_t ld);

    /* C (pixels, cols), pixels c_step apart, = the windows (pixels, taps * depth) from a on times B, or C += that if
     * accumulate, + bias (cols) unless NULL, then max(C, 0) if relu; cols, B and the order of summation as in
     * gemm_tile. */
    void (*framed_row)(ptrdiff_t pixels, int cols, const nnp_frame *s, const float *a, const float *b,
                       const float *bias, int relu, int accumulate, float *c, ptrdiff_t c_step);
    /* C (taps * depth, cols) += sum over segments s, steps k of window k from a[s] on times b[s][b_offset + k*b_step +
     * j]; cols, and how sums begin and end, as in outer_tile. What lies `ahead` further in b is likely to be read next;
     * it may lie outside of an array. */
    void (*framed_outer)(int cols, const nnp_frame *s, ptrdiff_t segments, const nnp_segment *segment,
                         ptrdiff_t b_offset, ptrdiff_t b_step, ptrdiff_t ahead, float *c, ptrdiff_t c_stride);
    /* to = from, past the caches: for what is so large that it would not stay there. Other threads see it after this
     * thread's next fence. */
    void (*copy_stream)(ptrdiff_t n, const float *from, float *to);
    void (*stream_fence)(void);

    /* Winograd's F(4x4, 3x3) and F(4x4, 5x5) of n channels, see tiles/winograd.h: `size` is 6 or 8, of which a kernel
     * has 3 less. What belongs to position k = size * i + j of size^2 lies at k * stride. input: v = B^T d B of size x
     * size pixels; output_grad: z = A dy A^T of 4 x 4 pixels; pixels outside the image are zeros. output: 4 x 4 pixels
     * = A^T m A, + bias (n) unless NULL, then max(., 0) if relu; those outside, below bottom or right of right, are not
     * written. Of the first and the last, v and m lie in strips of channels, see nnp_products. */
    void (*winograd_input_strips)(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *v,
                                  ptrdiff_t v_strip);
    void (*winograd_input)(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *v, ptrdiff_t v_stride);
    void (*winograd_output_grad)(int size, ptrdiff_t n, const nnp_patch *p, const float *image, float *z,
                                 ptrdiff_t z_stride);
    void (*winograd_output)(int size, ptrdiff_t n, const nnp_patch *p, const float *m, ptrdiff_t m_strip,
                            const float *bias, int relu, float *image);
    /* m[k] (tiles, cols) = v[k] (tiles, depth) u[k] (depth, cols), or += it if accumulate. cols <= tile_vectors *
     * vector; u[k] is a packed panel; whole vectors of m are written. */
    void (*winograd_products)(const nnp_products *s, int cols, const float *v, const float *u, float *m);
    /* n filters side by side, tap number t = (size - 3) * i + j at t * g_stride, which may be negative: u = G g G^T,
     * and the gradient g = G^T u G. */
    void (*winograd_weight)(int size, ptrdiff_t n, const float *g, ptrdiff_t g_stride, float *u, ptrdiff_t u_stride);
    void (*winograd_weight_grad)(int size, ptrdiff_t n, const float *u, ptrdiff_t u_stride, float *g,
                                 ptrdiff_t g_stride);

    /* One row of output (forward) or of input (gradient) of one image. argmax is kh * kernel_w + kw, a byte. */
    void (*max_pool_row)(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row, uint8_t *argmax_row);
    void (*max_pool_grad_row)(const nnp_pool *s, const float *dy, const uint8_t *argmax, ptrdiff_t ih, float *dx_row);
    void (*avg_pool_row)(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row);
    void (*avg_pool_grad_row)(const nnp_pool *s, const float *dy, ptrdiff_t ih, float *dx_row);

    /* Row i of y (rows, n) = the sum of rows index[k] of x times weight[k], k from first[i] to before first[i + 1]. */
    void (*weighted_rows)(ptrdiff_t rows, ptrdiff_t n, const int64_t *first, const int64_t *index, const float *weight,
                          const float *x, float *y);

    /* Batch normalisation: `pixels` pixels of `channels` floats each, `step` floats apart, or without a step
     * contiguous. For each channel, over the pixels (one at least): the mean, and the sum of the squares of the
     * differences from it. */
    void (*channel_moments)(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step, const float *x, double *mean,
                            double *m2);
    /* The mean and the biased variance of `pixels` pixels, out of those of parts that have `pixels_of_part` each but
     * the last; part p at mean[p * step] and m2[p * step]. */
    void (*merge_moments)(ptrdiff_t parts, ptrdiff_t pixels_of_part, ptrdiff_t pixels, ptrdiff_t channels,
                          ptrdiff_t step, const double *mean, const double *m2, double *total_mean, double *variance);
    /* y = x * scale + shift, + residual unless NULL, then max(y, 0) if relu. y may be x or residual. */
    void (*scale_shift)(ptrdiff_t pixels, ptrdiff_t channels, const float *x, const float *scale, const float *shift,
                        const float *residual, int relu, float *y);
    /* g = dy, but 0 where not y > 0, unless NULL, or where not x * scale + shift > 0, as scale_shift has it, unless
     * NULL. For each channel, over the pixels: the sum of g and that of g * (x - mean). */
    void (*channel_grad_sums)(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step, const float *dy, const float *x,
                              const float *y, const float *scale, const float *shift, const float *mean, double *sum,
                              double *sum_product);
    /* With the same g, dx = of_dy * g + of_x * x + rest; dresidual = g unless NULL. dx or dresidual may be dy. */
    void (*batch_norm_grad)(ptrdiff_t pixels, ptrdiff_t channels, const float *dy, const float *x, const float *y,
                            const float *scale, const float *shift, const float *of_dy, const float *of_x,
                            const float *rest, float *dx, float *dresidual);
    /* y = (x - mean) * invstd * gamma + beta of each row of x (rows, cols), where mean is the row's, or 0 unless
     * centred, and invstd = 1 / sqrt(mean of (x - mean)^2 + eps); both are written for each row. gamma, beta (cols). y
     * may be x.
     */
    void (*row_norm)(ptrdiff_t rows, ptrdiff_t cols, const float *x, const float *gamma, const float *beta, double eps,
                     int centred, float *mean, float *invstd, float *y);
    /* Its gradients: dx, which may be dy; dgamma += sum over rows of dy * (x - mean) * invstd, dbeta += sum of dy,
     * which are read and written up to whole vectors. */
    void (*row_norm_grad)(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *x, const float *mean,
                          const float *invstd, const float *gamma, int centred, float *dx, double *dgamma,
                          double *dbeta);
    /* Of x (pixels, channels): y = x * (k + scale * the sum of x^2 over the channels nearby)^-beta; scratch has room
     * for 2 channels. And the gradient, whose scratch has room for 3 channels. y may be x, dx may be dy. */
    void (*local_response)(ptrdiff_t pixels, ptrdiff_t channels, const nnp_response *s, const float *x, float *scratch,
                           float *y);
    void (*local_response_grad)(ptrdiff_t pixels, ptrdiff_t channels, const nnp_response *s, const float *dy,
                                const float *x, float *scratch, float *dx);
    /* `channels` of the channels of one image; x, w, bias, y, dy and dw are at the first of them. Rows row to row +
     * rows
     * <= NNP_DEPTHWISE_ROWS: y, at the first of these rows, = sum over taps of x * w, + bias unless NULL, then max(y,
     * 0) if relu. Each element is summed in one chain over the taps, whatever the rows; taps to the left and right of
     * the image may be left out, or be zeros. */
    void (*depthwise_rows)(const nnp_depthwise *s, ptrdiff_t channels, ptrdiff_t row, int rows, const float *x,
                           const float *w, const float *bias, int relu, float *y);
    /* dw (KH, kernel_w, pixel) += sum over the pixels of the same rows, the first of which lies at dy, of x * dy. */
    void (*depthwise_weight_grad_rows)(const nnp_depthwise *s, ptrdiff_t channels, ptrdiff_t row, int rows,
                                       const float *x, const float *dy, float *dw);

    /* y[i] (pixels) += sum over k < depth and taps t of w[i][k][t] * x[k * x_stride + offset[t] + pixel], i < rows.
     * Rows go in ceil(rows / 6) = n blocks: block b, from row rows * b / n on, has its w as (depth, taps, rows of the
     * block). x is read up to whole vectors of pixels. */
    void (*convolve_planes)(const nnp_planes *s, ptrdiff_t pixels, const float *w, const float *x, float *const *y);
    /* dst (channels, pixels), channels dst_stride apart, = src (pixels, channels). */
    void (*split_planes)(ptrdiff_t channels, ptrdiff_t pixels, const float *src, float *dst, ptrdiff_t dst_stride);
    /* dst, pixels `step` floats apart, = src (channels, pixels), channels src_stride apart. */
    void (*join_planes)(ptrdiff_t channels, ptrdiff_t pixels, const float *src, ptrdiff_t src_stride, float *dst,
                        ptrdiff_t step);

    /* Element by element over n floats; y may be x, dx may be dy. With `stream`, the result goes to memory past the
     * caches. */
    void (*relu)(ptrdiff_t n, const float *x, int stream, float *y);
    void (*relu_grad)(ptrdiff_t n, const float *dy, const float *y, int stream, float *dx);
    void (*scale)(ptrdiff_t n, float factor, float *x);
    /* y = a + b, then max(y, 0) if relu; y may be a or b. */
    void (*add)(ptrdiff_t n, const float *a, const float *b, int relu, float *y);

    /* y[i] = a[i] + b[i], or another of nnp_arithmetic; with step 0, a[0] or b[0] in all places. y may be a or b. */
    void (*arithmetic)(int kind, ptrdiff_t n, const float *a, int a_step, const float *b, int b_step, float *y);
    /* y = f(x), and dx = dy f'(x), where v is what the kind says; y may be x, dx may be dy or v. */
    void (*activation)(nnp_activation s, ptrdiff_t n, const float *x, float *y);
    void (*activation_grad)(nnp_activation s, ptrdiff_t n, const float *dy, const float *v, float *dx);

    /* y = x, or w x where not x > 0; w one number, or with w_step n of them. Gradients: dx, which may be dy, and of each
     * element its part of dw. */
    void (*prelu)(ptrdiff_t n, const float *x, const float *w, int w_step, float *y);
    void (*prelu_grad)(ptrdiff_t n, const float *dy, const float *x, const float *w, int w_step, float *dx, float *dw);

    /* dst (cols, rows) = src (rows, cols) transposed, each row-major with its leading dimension. Few hundred columns at
     * once keep the lines that are written in the first-level cache until they are full. */
    void (*turn)(ptrdiff_t rows, ptrdiff_t cols, const float *src, ptrdiff_t src_ld, float *dst, ptrdiff_t dst_ld);

    /* Element e of the sample is kept, and multiplied by factor, if word e % 4 of block e / 4 is >= threshold. y may be
     * x. */
    void (*dropout)(ptrdiff_t n, const float *x, nnp_philox at, uint32_t threshold, float factor, float *y);

    /* out (cols) = sum of the rows of x (rows, cols), or out += it; the sizes and the stride decide in which order. */
    void (*sum_rows)(ptrdiff_t rows, ptrdiff_t cols, const float *x, ptrdiff_t row_stride, int accumulate, float *out);

    /* Row `row` of the image y. */
    void (*warp_row)(const nnp_warp *warp, ptrdiff_t row);

    /* The sum of n elements, `step` apart. */
    double (*sum_strided)(ptrdiff_t n, const float *x, ptrdiff_t step);

    /* y (samples <= NNP_SOFTMAX_SAMPLES, classes) = softmax(z), each row by itself; both contiguous. */
    void (*softmax)(ptrdiff_t samples, ptrdiff_t classes, const float *z, float *y);
    /* dx = factor * (dy - sum of dy y) * y of each row, the gradient of y = softmax(factor * x); dx may be dy. */
    void (*softmax_grad)(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *y, float factor, float *dx);
    /* y (rows, cols) = log softmax(x), each row by itself, and dx of dy and y; y may be x, dx may be dy. */
    void (*log_softmax)(ptrdiff_t rows, ptrdiff_t cols, const float *x, float *y);
    void (*log_softmax_grad)(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *y, float *dx);
    /* Returns the sum of -log softmax(z)[label] over samples <= NNP_SOFTMAX_SAMPLES, writes grad (samples, classes) =
     * (softmax(z) - onehot) * scale unless NULL, and of how many samples the largest logit (the first, if equal; a NaN
     * is never the largest) is the label's. */
    double (*softmax_cross_entropy)(ptrdiff_t samples, ptrdiff_t classes, const float *z, const int64_t *label,
                                    double scale, float *grad, uint8_t *correct);
    /* With probabilities t and weights w of the classes, of one sample: c_k = w_k ((1 - smoothing) t_k + smoothing /
     * classes). Returns sum over k of c_k * -log softmax(z)_k, writes grad = (softmax(z) * sum of c - c) * scale unless
     * NULL, and whether the first largest logit, a NaN never, is the first largest of t. */
    double (*soft_cross_entropy)(ptrdiff_t classes, const float *z, const float *t, const float *w, double smoothing,
                                 double scale, float *grad, int *correct);
    /* Returns sum (p - t)^2 over n, writes grad = (p - t) * scale unless NULL. */
    double (*squared_error)(ptrdiff_t n, const float *p, const float *t, float scale, float *grad);

    void (*sgd)(ptrdiff_t n, nnp_sgd s, float *w, const float *grad, float *momentum_buffer);
    void (*adam)(ptrdiff_t n, nnp_adam s, float *w, const float *grad, float *exp_avg, float *exp_avg_sq);

    /* `rounds` times 12 independent vector multiply-adds: 24 * vector * rounds FLOPs that touch no memory. */
    float (*multiply_add_peak)(ptrdiff_t rounds);
} nnp_kernels;

/* The best table that this processor and its operating system can run; with a name, that one, or NULL if it cannot. */
const nnp_kernels *nnp_find_kernels(const char *isa);
/* Name number i of the tables in this build, best first, NULL after the last; *runs says whether this machine can run
 * it. */
const char *nnp_built_isa(int i, int *runs);

#endif
