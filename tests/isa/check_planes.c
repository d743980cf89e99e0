/* Convolution of planes, and the ways between planes and channels-last memory. */
#include <math.h>

#include "harness.h"

enum { DEPTH = 3, TAPS = 3 };

/* Weights lie block by block of rows: kernels.h. */
static float weight(const nnp_planes *s, const float *w, ptrdiff_t row, ptrdiff_t k, ptrdiff_t t) {
    const ptrdiff_t blocks = (s->rows + NNP_TILE_ROWS - 1) / NNP_TILE_ROWS;
    ptrdiff_t b = 0;
    while (s->rows * (b + 1) / blocks <= row) b++;
    const ptrdiff_t first = s->rows * b / blocks, rows = s->rows * (b + 1) / blocks - first;
    return w[first * s->depth * s->taps + (k * s->taps + t) * rows + row - first];
}

static void convolve_planes_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t pixels,
                                 float *(*numbers)(ptrdiff_t)) {
    const ptrdiff_t read = (pixels + table->vector - 1) / table->vector * table->vector, stride = read + 7;
    begin("rows %td, pixels %td", rows, pixels);
    ptrdiff_t *offset = operand(TAPS * sizeof *offset);
    offset[0] = 2, offset[1] = 0, offset[2] = 5;
    const nnp_planes s = {rows, DEPTH, TAPS, stride, offset};
    const float *x = numbers((DEPTH - 1) * stride + 5 + read), *w = numbers(rows * DEPTH * TAPS);
    float **y = operand((size_t)rows * sizeof *y);
    double *expected = zeros(rows * pixels), *magnitude = zeros(rows * pixels);
    for (ptrdiff_t i = 0; i < rows; i++) {
        y[i] = numbers(pixels);
        for (ptrdiff_t p = 0; p < pixels; p++) {
            const ptrdiff_t at = i * pixels + p;
            expected[at] = y[i][p], magnitude[at] = fabs(y[i][p]);
            for (ptrdiff_t k = 0; k < DEPTH; k++)
                for (ptrdiff_t t = 0; t < TAPS; t++) {
                    const double product = (double)weight(&s, w, i, k, t) * x[k * stride + offset[t] + p];
                    expected[at] += product, magnitude[at] += fabs(product);
                }
        }
    }
    table->convolve_planes(&s, pixels, w, x, y);
    for (ptrdiff_t i = 0; i < rows; i++) {
        if (numbers == integers)
            equal(pixels, y[i], expected + i * pixels);
        else
            within(pixels, y[i], expected + i * pixels, DEPTH * TAPS + 1, magnitude + i * pixels);
    }
    end();
}

void check_convolve_planes(const nnp_kernels *table) {
    for (ptrdiff_t rows = 1; rows <= 13; rows++)
        for (int i = 0; i < SIZES; i++) {
            convolve_planes_case(table, rows, sizes[i], integers);
            convolve_planes_case(table, rows, sizes[i], reals);
        }
}

/* Channels around what has a form of its own, a vector, and what is asked for ahead. */
enum { COUNTS = 9 };
static const ptrdiff_t counts[COUNTS] = {1, 2, 3, 4, 5, 8, 16, 17, 40};

void check_split_planes(const nnp_kernels *table) {
    for (int i = 0; i < COUNTS; i++)
        for (int j = 0; j < SIZES; j++) {
            const ptrdiff_t channels = counts[i], pixels = sizes[j], stride = pixels + 3;
            begin("channels %td, pixels %td", channels, pixels);
            const float *src = reals(pixels * channels);
            float *dst = floats((channels - 1) * stride + pixels);
            double *expected = zeros(pixels);
            table->split_planes(channels, pixels, src, dst, stride);
            for (ptrdiff_t c = 0; c < channels; c++) {
                for (ptrdiff_t p = 0; p < pixels; p++) expected[p] = src[p * channels + c];
                equal(pixels, dst + c * stride, expected);
                if (c < channels - 1) untouched(stride - pixels, dst + c * stride + pixels);
            }
            end();
        }
}

void check_join_planes(const nnp_kernels *table) {
    for (int i = 0; i < COUNTS; i++)
        for (int j = 0; j < SIZES; j++)
            for (ptrdiff_t gap = 0; gap <= 2; gap += 2) {
                const ptrdiff_t channels = counts[i], pixels = sizes[j], stride = pixels + 3, step = channels + gap;
                begin("channels %td, pixels %td, step %td", channels, pixels, step);
                const float *src = reals((channels - 1) * stride + pixels);
                float *dst = floats(pixels > 0 ? (pixels - 1) * step + channels : 0);
                double *expected = zeros(channels);
                table->join_planes(channels, pixels, src, stride, dst, step);
                for (ptrdiff_t p = 0; p < pixels; p++) {
                    for (ptrdiff_t c = 0; c < channels; c++) expected[c] = src[c * stride + p];
                    equal(channels, dst + p * step, expected);
                    if (p < pixels - 1) untouched(gap, dst + p * step + channels);
                }
                end();
            }
}
