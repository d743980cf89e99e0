/* Depthwise convolution: one or two rows of output at a time against loops over the taps in double. */
#include <math.h>

#include "harness.h"

/* Along each axis: out, source, taps, step, start, dilation, kernel, kernel_step. The kernel has KERNEL positions. */
enum { KERNEL = 8 };
static const nnp_axis axes_h[] = {
    {3, 3, 3, 1, -1, 1, 0, 1},  /* padded */
    {2, 4, 3, 1, 0, 1, 2, -1},  /* not padded, backwards */
    {4, 2, 2, 1, -2, 1, 1, 3},  /* rows without a tap */
    {3, 5, 3, 2, -1, 1, 0, 1},  /* stride */
    {2, 6, 2, 1, -1, 3, 7, -2}, /* dilation */
    {1, 1, 0, 1, 0, 1, 0, 1},   /* no tap at all */
};
static const nnp_axis axes_w[] = {
    {8, 8, 3, 1, -1, 1, 0, 1},  {5, 5, 3, 1, -1, 1, 2, -1}, {15, 17, 3, 1, 0, 1, 1, 1}, {3, 3, 3, 1, -1, 1, 0, 1},
    {7, 7, 5, 1, -2, 1, 4, -1}, {4, 1, 5, 1, -4, 1, 0, 1},  {9, 9, 7, 1, -3, 1, 0, 1},  {6, 2, 7, 1, -5, 1, 7, -1},
    {12, 13, 2, 1, 0, 1, 0, 1}, {1, 1, 1, 1, 0, 1, 3, 1},   {7, 13, 3, 2, -1, 1, 0, 1}, {9, 11, 3, 1, -2, 3, 0, 2},
    {4, 9, 4, 3, -5, 2, 7, -2}, {5, 6, 0, 1, 0, 1, 0, 1},
};
enum { AXES_H = sizeof axes_h / sizeof axes_h[0], AXES_W = sizeof axes_w / sizeof axes_w[0] };

static const ptrdiff_t channels_of[] = {1, 3, 5, 8, 15, 17, 33, 67};
enum { CHANNELS = sizeof channels_of / sizeof channels_of[0] };

static nnp_depthwise make_depthwise(const nnp_axis *h, const nnp_axis *w, ptrdiff_t channels, ptrdiff_t apart) {
    const ptrdiff_t out_pixel = channels * apart;
    return (nnp_depthwise){*h, *w, channels, KERNEL, w->out * out_pixel + 1, out_pixel};
}

/* Floats from the first of `rows` rows of output to the end of the last. */
static ptrdiff_t out_size(const nnp_depthwise *s, int rows, ptrdiff_t n) {
    return (rows - 1) * s->out_row + (s->w.out - 1) * s->out_pixel + n;
}

static ptrdiff_t image_size(const nnp_depthwise *s, ptrdiff_t n) {
    return (s->h.source * s->w.source - 1) * s->pixel + n;
}

static ptrdiff_t weight_size(const nnp_depthwise *s, ptrdiff_t n) { return (KERNEL * KERNEL - 1) * s->pixel + n; }

static void begin_depthwise(const nnp_depthwise *s, ptrdiff_t n, ptrdiff_t row, int rows, const char *what) {
    begin("%td of %td channels, %td x %td taps, %td x %td from %td x %td, rows %td to %td, %s", n, s->pixel, s->h.taps,
          s->w.taps, s->h.out, s->w.out, s->h.source, s->w.source, row, row + rows, what);
}

/* Where the source of a tap of an output position, and its weight, begin; x is -1 outside. */
typedef struct {
    ptrdiff_t x, w;
} place;

static place tap(const nnp_depthwise *s, ptrdiff_t oh, ptrdiff_t ow, ptrdiff_t kh, ptrdiff_t kw) {
    const ptrdiff_t h = oh * s->h.step + s->h.start + kh * s->h.dilation;
    const ptrdiff_t w = ow * s->w.step + s->w.start + kw * s->w.dilation;
    const int inside = 0 <= h && h < s->h.source && 0 <= w && w < s->w.source;
    const ptrdiff_t row = s->h.kernel + kh * s->h.kernel_step, col = s->w.kernel + kw * s->w.kernel_step;
    return (place){inside ? (h * s->w.source + w) * s->pixel : -1, (row * KERNEL + col) * s->pixel};
}

static void rows_case(const nnp_kernels *table, const nnp_depthwise *s, ptrdiff_t n, ptrdiff_t row, int rows,
                      int biased) {
    const int relu = n % 2;
    begin_depthwise(s, n, row, rows, biased ? "bias" : "no bias");
    const float *x = integers(image_size(s, n)), *w = integers(weight_size(s, n)), *bias = biased ? integers(n) : NULL;
    float *y = floats(out_size(s, rows, n));
    table->depthwise_rows(s, n, row, rows, x, w, bias, relu, y);
    for (int i = 0; i < rows; i++)
        for (ptrdiff_t ow = 0; ow < s->w.out; ow++) {
            const ptrdiff_t at = i * s->out_row + ow * s->out_pixel;
            const ptrdiff_t next = ow < s->w.out - 1 ? at + s->out_pixel : (i + 1) * s->out_row;
            double *expected = zeros(n);
            for (ptrdiff_t k = 0; k < s->h.taps * s->w.taps; k++) {
                const place p = tap(s, row + i, ow, k / s->w.taps, k % s->w.taps);
                for (ptrdiff_t c = 0; c < n && p.x >= 0; c++) expected[c] += (double)x[p.x + c] * w[p.w + c];
            }
            for (ptrdiff_t c = 0; c < n && biased; c++) expected[c] += bias[c];
            for (ptrdiff_t c = 0; c < n && relu; c++) expected[c] = fmax(expected[c], 0);
            equal(n, y + at, expected);
            if (at + n < out_size(s, rows, n)) untouched(next - at - n, y + at + n);
        }
    end();
}

/* The kernel adds to dw, which holds integers before. */
static void weight_grad_case(const nnp_kernels *table, const nnp_depthwise *s, ptrdiff_t n, ptrdiff_t row, int rows) {
    begin_depthwise(s, n, row, rows, "gradient");
    const ptrdiff_t size = weight_size(s, n);
    const float *x = integers(image_size(s, n)), *dy = integers(out_size(s, rows, n)), *before = integers(size);
    float *dw = copy(size, before);
    double *expected = zeros(size);
    for (ptrdiff_t i = 0; i < size; i++) expected[i] = before[i];
    for (int i = 0; i < rows; i++)
        for (ptrdiff_t ow = 0; ow < s->w.out; ow++)
            for (ptrdiff_t k = 0; k < s->h.taps * s->w.taps; k++) {
                const place p = tap(s, row + i, ow, k / s->w.taps, k % s->w.taps);
                for (ptrdiff_t c = 0; c < n && p.x >= 0; c++)
                    expected[p.w + c] += (double)x[p.x + c] * dy[i * s->out_row + ow * s->out_pixel + c];
            }
    table->depthwise_weight_grad_rows(s, n, row, rows, x, dy, dw);
    equal(size, dw, expected);
    end();
}

/* Every geometry, band of rows and number of channels: all that there are, or all but two at the end; pixels of the
 * output next to each other or with gaps. */
static void each_case(const nnp_kernels *table, int gradient) {
    for (int g = 0; g < AXES_H * AXES_W; g++)
        for (int c = 0; c < CHANNELS; c++) {
            const ptrdiff_t n = channels_of[c];
            const nnp_depthwise s = make_depthwise(&axes_h[g / AXES_W], &axes_w[g % AXES_W], n + g % 2 * 2, 1 + g % 3);
            for (ptrdiff_t row = 0; row < s.h.out; row += NNP_DEPTHWISE_ROWS)
                for (int rows = 1; rows <= NNP_DEPTHWISE_ROWS && row + rows <= s.h.out; rows++)
                    if (gradient)
                        weight_grad_case(table, &s, n, row, rows);
                    else
                        rows_case(table, &s, n, row, rows, g / AXES_W % 2);
        }
}

void check_depthwise_rows(const nnp_kernels *table) { each_case(table, 0); }

void check_depthwise_weight_grad_rows(const nnp_kernels *table) { each_case(table, 1); }
