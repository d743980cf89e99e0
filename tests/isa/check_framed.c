/* Convolution of few channels in a frame, and stores past the caches. */
#include <math.h>

#include "harness.h"

/* Windows that have functions of their own, and others: rows of tiles around 6 and 12. */
enum { WINDOWS = 8 };
static const nnp_frame windows[WINDOWS] = {{1, 1, 0, 1},   {3, 3, 40, 1}, {3, 9, 130, 3},  {5, 5, 41, 1},
                                           {2, 7, 50, 14}, {1, 12, 0, 5}, {2, 13, 100, 4}, {3, 25, 99, 2}};

static ptrdiff_t window_reach(const nnp_frame *s) { return (s->taps - 1) * s->a_down + s->depth; }

static void framed_row_case(const nnp_kernels *table, const nnp_frame *s, int cols, ptrdiff_t pixels, int relu,
                            int accumulate, float *(*numbers)(ptrdiff_t)) {
    const ptrdiff_t k = s->taps * s->depth, width = (cols + table->vector - 1) / table->vector * table->vector;
    const ptrdiff_t step = cols + 3;
    begin("taps %td, depth %td, cols %d, pixels %td, relu %d", s->taps, s->depth, cols, pixels, relu);
    const float *a = numbers((pixels - 1) * s->a_step + window_reach(s)), *b = numbers(k * width);
    const float *bias = pixels % 2 ? numbers(cols) : NULL;
    float *c = accumulate ? numbers((pixels - 1) * step + cols) : floats((pixels - 1) * step + cols);
    double *start = zeros((pixels - 1) * step + cols);
    for (ptrdiff_t i = 0; accumulate && i < (pixels - 1) * step + cols; i++) start[i] = c[i];
    double *expected = zeros(cols), *magnitude = zeros(cols);
    table->framed_row(pixels, cols, s, a, b, bias, relu, accumulate, c, step);
    for (ptrdiff_t p = 0; p < pixels; p++) {
        for (int j = 0; j < cols; j++) {
            expected[j] = start[p * step + j] + (bias != NULL ? bias[j] : 0.0);
            magnitude[j] = fabs(start[p * step + j]) + fabs(bias != NULL ? bias[j] : 0.0);
            for (ptrdiff_t i = 0; i < k; i++) {
                const double product =
                    (double)a[p * s->a_step + i / s->depth * s->a_down + i % s->depth] * b[i * width + j];
                expected[j] += product, magnitude[j] += fabs(product);
            }
            if (relu && expected[j] < 0.0) expected[j] = 0.0;
        }
        if (numbers == integers)
            equal(cols, c + p * step, expected);
        else
            within(cols, c + p * step, expected, k + 2, magnitude);
        if (p < pixels - 1 && !accumulate) untouched(3, c + p * step + cols);
    }
    end();
}

void check_framed_row(const nnp_kernels *table) {
    for (int w = 0; w < WINDOWS; w++)
        for (int cols = 1; cols <= table->tile_vectors * table->vector; cols += 1 + cols / 6)
            for (ptrdiff_t pixels = 1; pixels <= 26; pixels += 1 + pixels / 13) {
                framed_row_case(table, &windows[w], cols, pixels, 0, 0, integers);
                framed_row_case(table, &windows[w], cols, pixels, 0, 1, integers);
                framed_row_case(table, &windows[w], cols, pixels, 1, 0, reals);
            }
}

static void framed_outer_case(const nnp_kernels *table, const nnp_frame *s, int cols, ptrdiff_t length,
                              float *(*numbers)(ptrdiff_t)) {
    enum { SEGMENTS = 2, OFFSET = 2 };
    const ptrdiff_t k = s->taps * s->depth, b_step = OFFSET + cols, stride = cols + 1;
    begin("taps %td, depth %td, cols %d, length %td", s->taps, s->depth, cols, length);
    nnp_segment *segment = operand(SEGMENTS * sizeof *segment);
    double *expected = zeros(k * cols), *magnitude = zeros(k * cols);
    float *c = numbers((k - 1) * stride + cols);
    for (ptrdiff_t i = 0; i < k; i++)
        for (int j = 0; j < cols; j++)
            expected[i * cols + j] = c[i * stride + j], magnitude[i * cols + j] = fabs(c[i * stride + j]);
    for (int n = 0; n < SEGMENTS; n++) {
        const ptrdiff_t pixels = length + n;
        segment[n].length = pixels;
        segment[n].a = numbers((pixels - 1) * s->a_step + window_reach(s));
        segment[n].b = numbers(pixels * b_step);
        for (ptrdiff_t p = 0; p < pixels; p++)
            for (ptrdiff_t i = 0; i < k; i++)
                for (int j = 0; j < cols; j++) {
                    const double left = segment[n].a[p * s->a_step + i / s->depth * s->a_down + i % s->depth];
                    const double product = left * segment[n].b[p * b_step + OFFSET + j];
                    expected[i * cols + j] += product, magnitude[i * cols + j] += fabs(product);
                }
    }
    table->framed_outer(cols, s, SEGMENTS, segment, OFFSET, b_step, length * b_step, c, stride);
    for (ptrdiff_t i = 0; i < k; i++)
        if (numbers == integers)
            equal(cols, c + i * stride, expected + i * cols);
        else
            within(cols, c + i * stride, expected + i * cols, 2 * length + 2, magnitude + i * cols);
    end();
}

void check_framed_outer(const nnp_kernels *table) {
    for (int w = 0; w < WINDOWS; w++)
        for (int cols = 1; cols <= table->tile_vectors * table->vector; cols += 1 + cols / 6)
            for (ptrdiff_t length = 1; length <= 9; length += 4) {
                framed_outer_case(table, &windows[w], cols, length, integers);
                framed_outer_case(table, &windows[w], cols, length, reals);
            }
}

void check_copy_stream(const nnp_kernels *table) {
    for (int i = 0; i < SIZES; i++)
        for (ptrdiff_t shift = 0; shift < 3; shift++) {
            const ptrdiff_t n = sizes[i];
            begin("%td floats from %td on", n, shift);
            const float *from = reals(n);
            float *to = floats(shift + n);
            double *expected = zeros(n);
            for (ptrdiff_t k = 0; k < n; k++) expected[k] = from[k];
            table->copy_stream(n, from, to + shift);
            table->stream_fence();
            untouched(shift, to);
            equal(n, to + shift, expected);
            end();
        }
}

/* What it orders, no single thread can see. */
void check_stream_fence(const nnp_kernels *table) {
    begin("no arguments");
    table->stream_fence();
    end();
}
