/* Pooling: every row of output, or of the gradient, against loops over the windows in double. */
#include <math.h>

#include "harness.h"

/* height, width, kernel, stride, padding before, dilation, padding after, windows more than end before that */
static const ptrdiff_t geometries[][14] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0}, {6, 5, 2, 2, 2, 2, 0, 0, 1, 1, 0, 0}, {5, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1},
    {4, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1}, {9, 8, 2, 3, 4, 5, 1, 1, 1, 1, 1, 1}, {7, 9, 2, 3, 1, 2, 1, 0, 1, 1, 1, 0},
    {2, 3, 4, 5, 1, 1, 2, 1, 1, 1, 2, 1}, {1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1}, {6, 5, 3, 2, 2, 1, 2, 0, 1, 1, 0, 1},
    {5, 7, 2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 1}, {7, 6, 3, 3, 3, 2, 1, 2, 1, 1, 2, 0, 0, 1},
    {9, 8, 3, 2, 1, 2, 0, 0, 2, 3, 0, 0}, {9, 9, 2, 2, 2, 2, 0, 0, 2, 2, 0, 0}, {2, 3, 2, 2, 1, 1, 2, 3, 3, 4, 2, 3},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static nnp_pool make_pool(const ptrdiff_t *g, ptrdiff_t channels, int count_include_pad) {
    return (nnp_pool){.channels = channels,
                      .height = g[0],
                      .width = g[1],
                      .out_height = (g[0] + g[6] + g[10] - g[8] * (g[2] - 1) - 1) / g[4] + 1 + g[12],
                      .out_width = (g[1] + g[7] + g[11] - g[9] * (g[3] - 1) - 1) / g[5] + 1 + g[13],
                      .kernel_h = g[2],
                      .kernel_w = g[3],
                      .stride_h = g[4],
                      .stride_w = g[5],
                      .pad_h = g[6],
                      .pad_w = g[7],
                      .dilation_h = g[8],
                      .dilation_w = g[9],
                      .end_h = g[0] + g[10],
                      .end_w = g[1] + g[11],
                      .count_include_pad = count_include_pad};
}

static void begin_pool(const nnp_pool *s, ptrdiff_t row, const char *what) {
    begin("%td channels of %td x %td, kernel %td %td, stride %td %td, padding %td %td, dilation %td %td, row %td, %s",
          s->channels, s->height, s->width, s->kernel_h, s->kernel_w, s->stride_h, s->stride_w, s->pad_h, s->pad_w,
          s->dilation_h, s->dilation_w, row, what);
}

/* The pixel under position (kh, kw) of window (oh, ow): its number, or -1 in the padding. */
static ptrdiff_t pixel(const nnp_pool *s, ptrdiff_t oh, ptrdiff_t ow, ptrdiff_t kh, ptrdiff_t kw) {
    const ptrdiff_t h = oh * s->stride_h - s->pad_h + kh * s->dilation_h;
    const ptrdiff_t w = ow * s->stride_w - s->pad_w + kw * s->dilation_w;
    return 0 <= h && h < s->height && 0 <= w && w < s->width ? h * s->width + w : -1;
}

/* Position of the first maximum, or of the last NaN, in window (oh, ow) of a channel; -1 if all is padding. */
static ptrdiff_t winner(const nnp_pool *s, const float *x, ptrdiff_t oh, ptrdiff_t ow, ptrdiff_t channel) {
    ptrdiff_t best = -1;
    float most = 0;
    for (ptrdiff_t k = 0; k < s->kernel_h * s->kernel_w; k++) {
        const ptrdiff_t p = pixel(s, oh, ow, k / s->kernel_w, k % s->kernel_w);
        if (p < 0) continue;
        const float v = x[p * s->channels + channel];
        if (best < 0 || isnan(v) || v > most) {
            best = k;
            most = v;
        }
    }
    return best;
}

/* What the sum of a window is divided by. */
static double divisor_of(const nnp_pool *s, ptrdiff_t oh, ptrdiff_t ow) {
    if (s->sum) return 1;
    double inside = 0, counted = 0;
    for (ptrdiff_t k = 0; k < s->kernel_h * s->kernel_w; k++) {
        const ptrdiff_t h = oh * s->stride_h - s->pad_h + k / s->kernel_w * s->dilation_h;
        const ptrdiff_t w = ow * s->stride_w - s->pad_w + k % s->kernel_w * s->dilation_w;
        inside += pixel(s, oh, ow, k / s->kernel_w, k % s->kernel_w) >= 0;
        counted += h < s->end_h && w < s->end_w;
    }
    return s->count_include_pad ? counted : fmax(1, inside);
}

/* Adds n quotients, and their sizes. */
static void add(ptrdiff_t n, const float *x, double divisor, double *sum, double *magnitude) {
    for (ptrdiff_t i = 0; i < n; i++) {
        sum[i] += x[i] / divisor;
        magnitude[i] += fabs(x[i] / divisor);
    }
}

static float *make_images(const nnp_pool *s, int special) {
    float *x = integers(s->height * s->width * s->channels);
    for (ptrdiff_t i = 0; special && i < s->height * s->width * s->channels; i++) {
        if (x[i] == 3) x[i] = NAN;
        if (x[i] < 2) x[i] = -INFINITY;
    }
    return x;
}

static void max_pool_case(const nnp_kernels *table, const nnp_pool *s, ptrdiff_t oh, int special, int with_argmax) {
    const ptrdiff_t n = s->out_width * s->channels;
    begin_pool(s, oh, special ? "NaN and -infinity" : with_argmax ? "argmax" : "no argmax");
    const float *x = make_images(s, special);
    float *y = floats(n);
    uint8_t *argmax = with_argmax ? operand((size_t)n) : NULL, *expected_argmax = operand((size_t)n);
    double *expected = zeros(n);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow++)
        for (ptrdiff_t c = 0; c < s->channels; c++) {
            const ptrdiff_t k = winner(s, x, oh, ow, c), i = ow * s->channels + c;
            expected[i] = k < 0 ? -INFINITY : x[pixel(s, oh, ow, k / s->kernel_w, k % s->kernel_w) * s->channels + c];
            expected_argmax[i] = (uint8_t)(k < 0 ? 0 : k);
        }
    table->max_pool_row(s, x, oh, y, argmax);
    equal(n, y, expected);
    if (with_argmax) same(n, argmax, expected_argmax);
    end();
}

void check_max_pool_row(const nnp_kernels *table) {
    for (int g = 0; g < GEOMETRIES; g++)
        for (int c = 1; c < SIZES; c++) {
            nnp_pool s = make_pool(geometries[g], sizes[c], 0);
            for (s.stream = 0; s.stream <= 1; s.stream++)
                for (ptrdiff_t oh = 0; oh < s.out_height; oh++) {
                    max_pool_case(table, &s, oh, 0, 1);
                    max_pool_case(table, &s, oh, 0, 0);
                    max_pool_case(table, &s, oh, 1, 1);
                }
        }
}

void check_max_pool_grad_row(const nnp_kernels *table) {
    for (int g = 0; g < GEOMETRIES; g++)
        for (int c = 1; c < SIZES; c++) {
            nnp_pool s = make_pool(geometries[g], sizes[c], 0);
            const ptrdiff_t n = s.channels, row = s.width * n, windows = s.out_height * s.out_width;
            for (ptrdiff_t ih = 0; ih < s.height; ih++) {
                begin_pool(&s, ih, "gradient");
                const float *dy = integers(windows * n);
                uint8_t *argmax = operand((size_t)(windows * n));
                const float *x = make_images(&s, 0);
                double *expected = zeros(s.height * row);
                for (ptrdiff_t i = 0; i < windows * n; i++) {
                    const ptrdiff_t oh = i / n / s.out_width, ow = i / n % s.out_width;
                    const ptrdiff_t k = winner(&s, x, oh, ow, i % n);
                    argmax[i] = (uint8_t)(k < 0 ? 0 : k);
                    if (k >= 0) expected[pixel(&s, oh, ow, k / s.kernel_w, k % s.kernel_w) * n + i % n] += dy[i];
                }
                for (s.stream = 0; s.stream <= 1; s.stream++) {
                    float *dx = floats(row);
                    table->max_pool_grad_row(&s, dy, argmax, ih, dx);
                    equal(row, dx, expected + ih * row);
                }
                end();
            }
        }
}

enum { WITHOUT_PADDING, WITH_PADDING, SUM, KINDS };
static const char *const kinds[KINDS] = {"without padding", "count_include_pad", "sum"};

static nnp_pool make_avg_pool(const ptrdiff_t *g, ptrdiff_t channels, int kind) {
    nnp_pool s = make_pool(g, channels, kind == WITH_PADDING);
    s.sum = kind == SUM;
    return s;
}

void check_avg_pool_row(const nnp_kernels *table) {
    for (int g = 0; g < GEOMETRIES; g++)
        for (int c = 1; c < SIZES; c++)
            for (int kind = 0; kind < KINDS; kind++) {
                const nnp_pool s = make_avg_pool(geometries[g], sizes[c], kind);
                const ptrdiff_t n = s.channels, row = s.out_width * n;
                for (ptrdiff_t oh = 0; oh < s.out_height; oh++) {
                    begin_pool(&s, oh, kinds[kind]);
                    const float *x = reals(s.height * s.width * n);
                    float *y = floats(row);
                    double *expected = zeros(row), *magnitude = zeros(row);
                    for (ptrdiff_t ow = 0; ow < s.out_width; ow++) {
                        const double area = divisor_of(&s, oh, ow);
                        for (ptrdiff_t k = 0; k < s.kernel_h * s.kernel_w; k++) {
                            const ptrdiff_t p = pixel(&s, oh, ow, k / s.kernel_w, k % s.kernel_w);
                            if (p >= 0) add(n, x + p * n, area, expected + ow * n, magnitude + ow * n);
                        }
                    }
                    table->avg_pool_row(&s, x, oh, y);
                    within(row, y, expected, (double)(s.kernel_h * s.kernel_w), magnitude);
                    end();
                }
            }
}

void check_avg_pool_grad_row(const nnp_kernels *table) {
    for (int g = 0; g < GEOMETRIES; g++)
        for (int c = 1; c < SIZES; c++)
            for (int kind = 0; kind < KINDS; kind++) {
                nnp_pool s = make_avg_pool(geometries[g], sizes[c], kind);
                const ptrdiff_t n = s.channels, row = s.width * n, windows = s.out_height * s.out_width;
                for (ptrdiff_t ih = 0; ih < s.height; ih++) {
                    begin_pool(&s, ih, kinds[kind]);
                    const float *dy = reals(windows * n);
                    double *expected = zeros(s.height * row), *magnitude = zeros(s.height * row);
                    for (ptrdiff_t i = 0; i < windows; i++) {
                        const ptrdiff_t oh = i / s.out_width, ow = i % s.out_width;
                        const double area = divisor_of(&s, oh, ow);
                        for (ptrdiff_t k = 0; k < s.kernel_h * s.kernel_w; k++) {
                            const ptrdiff_t p = pixel(&s, oh, ow, k / s.kernel_w, k % s.kernel_w);
                            if (p >= 0) add(n, dy + i * n, area, expected + p * n, magnitude + p * n);
                        }
                    }
                    for (s.stream = 0; s.stream <= 1; s.stream++) {
                        float *dx = floats(row);
                        table->avg_pool_grad_row(&s, dy, ih, dx);
                        within(row, dx, expected + ih * row, (double)(s.kernel_h * s.kernel_w), magnitude + ih * row);
                    }
                    end();
                }
            }
}
