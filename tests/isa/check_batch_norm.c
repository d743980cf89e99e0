/* The passes of batch normalisation. Sums of small integers are exact, in whatever order. */
#include <math.h>

#include "harness.h"

/* A case of every matrix (pixels, channels). Passes over pixels of which `channels` are a part come with a gap. */
#define FOR_EACH_MATRIX(CALL)                                                                                          \
    for (int h = 0; h < HEIGHTS; h++)                                                                                  \
        for (int w = 0; w < WIDTHS; w++) {                                                                             \
            const ptrdiff_t pixels = heights[h], channels = widths[w];                                                 \
            if (pixels * (channels + 3) <= MOST_ELEMENTS) CALL;                                                        \
        }

static int is_power_of_2(ptrdiff_t n) { return (n & (n - 1)) == 0; }

/* NaN where y is not positive: what has to be left out. */
static void spoil_where_not_positive(ptrdiff_t n, const float *y, float *dy) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(y[i] > 0)) dy[i] = NAN;
}

/* Integers, of which every ninth is a NaN. */
static float *integers_and_nans(ptrdiff_t n) {
    float *x = integers(n);
    for (ptrdiff_t i = 4; i < n; i += 9) x[i] = NAN;
    return x;
}

/* Which gradients count: all, or those where y, given or x * scale + shift, is positive. */
enum { ALL, OF_Y, OF_X, MASKS };

/* What decides which, for x (pixels, channels), pixels `step` floats apart. */
static const float *y_of(int mask, ptrdiff_t size, ptrdiff_t step, ptrdiff_t channels, const float *x,
                         const float *scale, const float *shift) {
    if (mask == ALL) return NULL;
    if (mask == OF_Y) return integers_and_nans(size);
    float *y = floats(size);
    for (ptrdiff_t i = 0; i < size; i++) y[i] = i % step < channels ? x[i] * scale[i % step] + shift[i % step] : 0;
    return y;
}

/* Sums of squares are about the first pixel: batch_norm.h says how near that is. With `offset` they would be off if
 * they were about 0. Without, and with a power of two of pixels, nothing is rounded. */
static void moments_case(const nnp_kernels *table, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t gap, float offset,
                         ptrdiff_t nan_pixel) {
    const ptrdiff_t step = channels + gap, nan_channel = channels / 2;
    begin("pixels %td, channels %td, step %td, offset %g, NaN at pixel %td", pixels, channels, step, (double)offset,
          nan_pixel);
    const double n = (double)pixels, relative = offset == 0 && is_power_of_2(pixels) ? 0 : 0x1p-53 * n * (n + 1);
    float *x = integers((pixels - 1) * step + channels);
    double *mean = doubles(channels), *m2 = doubles(channels), *magnitude = zeros(channels);
    double *expected_mean = zeros(channels), *expected_m2 = zeros(channels);
    for (ptrdiff_t i = 0; i < (pixels - 1) * step + channels; i++) x[i] += offset;
    if (nan_pixel >= 0) x[nan_pixel * step + nan_channel] = NAN;
    for (ptrdiff_t p = 0; p < pixels; p++)
        for (ptrdiff_t c = 0; c < channels; c++) expected_mean[c] += x[p * step + c] / n;
    for (ptrdiff_t p = 0; p < pixels; p++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const double difference = x[p * step + c] - expected_mean[c];
            expected_m2[c] += difference * difference;
            magnitude[c] += fabs(x[p * step + c]) / n;
        }
    table->channel_moments(pixels, channels, step, x, mean, m2);
    near(channels, mean, expected_mean, relative, magnitude);
    for (ptrdiff_t c = 0; c < channels; c++) magnitude[c] = expected_m2[c] + 0x1p-40; /* and the oracle's own error */
    near(channels, m2, expected_m2, relative, magnitude);
    end();
}

void check_channel_moments(const nnp_kernels *table) {
    for (ptrdiff_t gap = 0; gap <= 3; gap += 3) {
        FOR_EACH_MATRIX(moments_case(table, pixels, channels, gap, 0, -1))
        FOR_EACH_MATRIX(moments_case(table, pixels, channels, gap, 1e6f, -1))
        FOR_EACH_MATRIX(moments_case(table, pixels, channels, gap, 0, 0))
        FOR_EACH_MATRIX(moments_case(table, pixels, channels, gap, 0, pixels - 1))
    }
}

/* variance = mean of squares - square of the mean */
static void merge_case(const nnp_kernels *table, ptrdiff_t parts, ptrdiff_t of_part, ptrdiff_t of_last,
                       ptrdiff_t channels, ptrdiff_t gap) {
    const ptrdiff_t pixels = (parts - 1) * of_part + of_last, step = channels + gap,
                    size = (parts - 1) * step + channels;
    begin("parts %td of %td pixels, the last of %td, channels %td, step %td", parts, of_part, of_last, channels, step);
    const float *means = integers(size), *squares = integers(size);
    double *mean = doubles(size), *m2 = doubles(size), *total = doubles(channels), *variance = doubles(channels);
    double *expected_mean = zeros(channels), *expected = zeros(channels), *magnitude = zeros(channels);
    for (ptrdiff_t p = 0; p < parts; p++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const ptrdiff_t at = p * step + c;
            const double n = (double)(p < parts - 1 ? of_part : of_last);
            mean[at] = means[at];
            m2[at] = fabs(squares[at]);
            expected_mean[c] += n * mean[at] / (double)pixels;
            expected[c] += (m2[at] + n * mean[at] * mean[at]) / (double)pixels;
        }
    for (ptrdiff_t c = 0; c < channels; c++) {
        magnitude[c] = expected[c] + 9;
        expected[c] -= expected_mean[c] * expected_mean[c];
    }
    const double relative = is_power_of_2(pixels) ? 0 : 0x1p-52 * ((double)parts + 4);
    table->merge_moments(parts, of_part, pixels, channels, step, mean, m2, total, variance);
    near(channels, total, expected_mean, relative, magnitude);
    near(channels, variance, expected, relative, magnitude);
    end();
}

void check_merge_moments(const nnp_kernels *table) {
    const ptrdiff_t parts[] = {1, 2, 3, 9};
    for (int p = 0; p < 4; p++)
        for (int s = 1; s < SIZES; s++)
            for (ptrdiff_t gap = 0; gap <= 3; gap += 3) {
                merge_case(table, parts[p], 4, 4, sizes[s], gap);
                merge_case(table, parts[p], 7, 1, sizes[s], gap);
                merge_case(table, parts[p], 8, 8 * (parts[p] % 2 + 1) / 2, sizes[s], gap);
            }
}

enum { NO_RESIDUAL, RESIDUAL, TO_X, TO_RESIDUAL, WAYS };

static void scale_shift_case(const nnp_kernels *table, ptrdiff_t pixels, ptrdiff_t channels, int way, int relu) {
    const ptrdiff_t n = pixels * channels;
    begin("pixels %td, channels %td, way %d, relu %d", pixels, channels, way, relu);
    float *x = integers_and_nans(n), *residual = way == NO_RESIDUAL ? NULL : integers(n);
    float *y = way == TO_X ? x : way == TO_RESIDUAL ? residual : floats(n);
    const float *scale = integers(channels), *shift = integers(channels);
    double *expected = zeros(n);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double sum = (double)x[i] * scale[i % channels] + shift[i % channels] + (residual ? residual[i] : 0);
        expected[i] = relu && sum <= 0 ? 0 : sum;
    }
    table->scale_shift(pixels, channels, x, scale, shift, residual, relu, y);
    equal(n, y, expected);
    end();
}

void check_scale_shift(const nnp_kernels *table) {
    for (int way = 0; way < WAYS; way++)
        for (int relu = 0; relu <= 1; relu++) FOR_EACH_MATRIX(scale_shift_case(table, pixels, channels, way, relu))
}

static void grad_sums_case(const nnp_kernels *table, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t gap, int mask) {
    const ptrdiff_t step = channels + gap, size = (pixels - 1) * step + channels;
    begin("pixels %td, channels %td, step %td, mask %d", pixels, channels, step, mask);
    float *dy = integers(size);
    const float *x = integers(size), *mean = integers(channels);
    const float *scale = integers(channels), *shift = integers(channels);
    const float *y = y_of(mask, size, step, channels, x, scale, shift);
    double *sum = doubles(channels), *product = doubles(channels), *none = zeros(channels);
    double *expected_sum = zeros(channels), *expected_product = zeros(channels);
    if (y != NULL) spoil_where_not_positive(size, y, dy);
    for (ptrdiff_t p = 0; p < pixels; p++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const double g = y == NULL || y[p * step + c] > 0 ? dy[p * step + c] : 0;
            expected_sum[c] += g;
            expected_product[c] += g * (x[p * step + c] - mean[c]);
        }
    table->channel_grad_sums(pixels, channels, step, dy, x, mask == OF_Y ? y : NULL, mask == OF_X ? scale : NULL,
                             mask == OF_X ? shift : NULL, mean, sum, product);
    near(channels, sum, expected_sum, 0, none);
    near(channels, product, expected_product, 0, none);
    end();
}

void check_channel_grad_sums(const nnp_kernels *table) {
    for (ptrdiff_t gap = 0; gap <= 3; gap += 3)
        for (int mask = 0; mask < MASKS; mask++)
            FOR_EACH_MATRIX(grad_sums_case(table, pixels, channels, gap, mask))
}

enum { DX_ALONE, BOTH, DX_IN_PLACE, DRESIDUAL_IN_PLACE, PLACES };

static void grad_case(const nnp_kernels *table, ptrdiff_t pixels, ptrdiff_t channels, int place, int mask) {
    const ptrdiff_t n = pixels * channels;
    begin("pixels %td, channels %td, place %d, mask %d", pixels, channels, place, mask);
    float *dy = integers(n), *dx = place == DX_IN_PLACE ? dy : floats(n);
    float *dresidual = place == DX_ALONE ? NULL : place == DRESIDUAL_IN_PLACE ? dy : floats(n);
    const float *x = integers(n), *scale = integers(channels), *shift = integers(channels);
    const float *of_dy = integers(channels), *of_x = integers(channels), *rest = integers(channels);
    const float *y = y_of(mask, n, channels, channels, x, scale, shift);
    double *g = zeros(n), *expected = zeros(n);
    if (y != NULL) spoil_where_not_positive(n, y, dy);
    for (ptrdiff_t i = 0; i < n; i++) {
        g[i] = y == NULL || y[i] > 0 ? dy[i] : 0;
        expected[i] = of_dy[i % channels] * g[i] + (double)of_x[i % channels] * x[i] + rest[i % channels];
    }
    table->batch_norm_grad(pixels, channels, dy, x, mask == OF_Y ? y : NULL, mask == OF_X ? scale : NULL,
                           mask == OF_X ? shift : NULL, of_dy, of_x, rest, dx, dresidual);
    equal(n, dx, expected);
    if (dresidual != NULL) equal(n, dresidual, g);
    end();
}

void check_batch_norm_grad(const nnp_kernels *table) {
    for (int place = 0; place < PLACES; place++)
        for (int mask = 0; mask < MASKS; mask++) FOR_EACH_MATRIX(grad_case(table, pixels, channels, place, mask))
}
