/* Normalisation of rows and by the channels nearby, and the gradient of softmax, against loops in double. */
#include <math.h>

#include "harness.h"

/* Rows around those that are summed at once. */
enum { COUNTS = 6 };
static const ptrdiff_t counts[COUNTS] = {1, 2, 3, 4, 5, 9};

static void row_norm_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t cols, int centred, float offset,
                          int in_place) {
    const ptrdiff_t n = rows * cols;
    const double eps = 0.125;
    begin("rows %td, cols %td, centred %d, offset %g, in place %d", rows, cols, centred, (double)offset, in_place);
    float *x = integers(n), *mean = floats(rows), *invstd = floats(rows);
    for (ptrdiff_t i = 0; i < n; i++) x[i] += offset;
    float *y = in_place ? x : floats(n);
    const float *gamma = reals(cols), *beta = reals(cols);
    double *expected = zeros(n), *magnitude = zeros(n), *means = zeros(rows), *sizes_of_means = zeros(rows);
    double *deviations = zeros(rows);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0, squares = 0;
        for (ptrdiff_t c = 0; c < cols; c++) sum += x[r * cols + c], sizes_of_means[r] += fabs(x[r * cols + c]);
        means[r] = centred ? sum / (double)cols : 0;
        sizes_of_means[r] /= (double)cols;
        for (ptrdiff_t c = 0; c < cols; c++) squares += pow(x[r * cols + c] - means[r], 2);
        deviations[r] = 1 / sqrt(squares / (double)cols + eps);
        for (ptrdiff_t c = 0; c < cols; c++) {
            const double factor = deviations[r] * gamma[c], v = x[r * cols + c];
            expected[r * cols + c] = (v - means[r]) * factor + beta[c];
            magnitude[r * cols + c] = (fabs(v) + fabs(means[r])) * fabs(factor) + fabs(beta[c]);
        }
    }
    table->row_norm(rows, cols, x, gamma, beta, eps, centred, mean, invstd, y);
    within(rows, mean, means, 1, sizes_of_means);
    within(rows, invstd, deviations, 1, deviations);
    within(n, y, expected, 4, magnitude);
    end();
}

void check_row_norm(const nnp_kernels *table) {
    for (int h = 0; h < COUNTS; h++)
        for (int s = 1; s < SIZES; s++)
            for (int centred = 0; centred <= 1; centred++) {
                row_norm_case(table, counts[h], sizes[s], centred, 0, (h + s) % 2);
                row_norm_case(table, counts[h], sizes[s], centred, centred ? 1e4f : 1, (h + s + 1) % 2);
            }
}

static void row_norm_grad_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t cols, int centred, int in_place) {
    const ptrdiff_t n = rows * cols, padded = (cols + table->vector - 1) / table->vector * table->vector;
    begin("rows %td, cols %td, centred %d, in place %d", rows, cols, centred, in_place);
    float *dy = reals(n), *dx = in_place ? dy : floats(n);
    const float *x = reals(n), *mean = reals(rows), *invstd = reals(rows), *gamma = reals(cols);
    double *dgamma = doubles(padded), *dbeta = doubles(padded);
    double *expected = zeros(n), *magnitude = zeros(n), *sums = zeros(4 * cols);
    for (ptrdiff_t c = 0; c < padded; c++) dgamma[c] = dbeta[c] = 1;
    for (ptrdiff_t c = 0; c < cols; c++) sums[c] = sums[cols + c] = 1;
    for (ptrdiff_t r = 0; r < rows; r++) {
        double total = 0, product = 0, total_size = 0, product_size = 0;
        for (ptrdiff_t c = 0; c < cols; c++) {
            const double g = (double)dy[r * cols + c] * gamma[c], d = (double)x[r * cols + c] - mean[r];
            total += g, total_size += fabs(g), product += g * d, product_size += fabs(g * d);
            const double slope = dy[r * cols + c], xhat = d * invstd[r];
            sums[c] += slope * xhat, sums[cols + c] += slope;
            sums[2 * cols + c] += fabs(slope) * (fabs(x[r * cols + c]) + fabs(mean[r])) * fabs(invstd[r]);
            sums[3 * cols + c] += fabs(slope);
        }
        const double s = invstd[r], of_x = s * s * s / (double)cols, rest = centred ? s / (double)cols : 0;
        for (ptrdiff_t c = 0; c < cols; c++) {
            const double g = (double)dy[r * cols + c] * gamma[c], d = (double)x[r * cols + c] - mean[r];
            expected[r * cols + c] = s * g - of_x * product * d - rest * total;
            magnitude[r * cols + c] = fabs(s * g) + fabs(rest) * total_size +
                                      fabs(of_x) * product_size * (fabs(x[r * cols + c]) + fabs(mean[r]));
        }
    }
    table->row_norm_grad(rows, cols, dy, x, mean, invstd, gamma, centred, dx, dgamma, dbeta);
    within(n, dx, expected, 4, magnitude);
    for (ptrdiff_t c = 0; c < cols; c++) sums[2 * cols + c] += 1, sums[3 * cols + c] += 1;
    near(cols, dgamma, sums, 8 * 0x1p-24, sums + 2 * cols);
    near(cols, dbeta, sums + cols, 4 * 0x1p-24, sums + 3 * cols);
    end();
}

void check_row_norm_grad(const nnp_kernels *table) {
    for (int h = 0; h < COUNTS; h++)
        for (int s = 1; s < SIZES; s++)
            for (int centred = 0; centred <= 1; centred++)
                row_norm_grad_case(table, counts[h], sizes[s], centred, (h + s) % 2);
}

/* The sum of v[j] over the channels j from c - before to c + after that there are. */
static double nearby(ptrdiff_t channels, ptrdiff_t c, ptrdiff_t before, ptrdiff_t after, const double *v) {
    double sum = 0;
    for (ptrdiff_t j = c - before; j <= c + after; j++)
        if (0 <= j && j < channels) sum += v[j];
    return sum;
}

static void response_case(const nnp_kernels *table, ptrdiff_t channels, const nnp_response *s, int gradient,
                          int in_place) {
    enum { PIXELS = 3 };
    const ptrdiff_t n = PIXELS * channels;
    begin("channels %td, before %td, after %td, beta %g, in place %d", channels, s->before, s->after, (double)s->beta,
          in_place);
    float *x = reals(n), *dy = gradient ? reals(n) : NULL, *scratch = floats((2 + gradient) * channels);
    float *out = in_place ? gradient ? dy : x : floats(n);
    double *expected = zeros(n), *magnitude = zeros(n), *base = zeros(channels), *v = zeros(channels);
    double *size = zeros(channels);
    for (ptrdiff_t p = 0; p < n; p += channels) {
        for (ptrdiff_t c = 0; c < channels; c++) v[c] = (double)x[p + c] * x[p + c];
        for (ptrdiff_t c = 0; c < channels; c++)
            base[c] = s->k + (double)s->scale * nearby(channels, c, s->before, s->after, v);
        for (ptrdiff_t c = 0; gradient && c < channels; c++) {
            v[c] = (double)dy[p + c] * x[p + c] * pow(base[c], -(double)s->beta - 1);
            size[c] = fabs(v[c]);
        }
        for (ptrdiff_t c = 0; c < channels; c++) {
            const double power = pow(base[c], -(double)s->beta), factor = 2.0 * s->scale * s->beta * x[p + c];
            expected[p + c] = power * (gradient ? dy : x)[p + c];
            magnitude[p + c] = fabs(expected[p + c]);
            if (!gradient) continue;
            expected[p + c] -= factor * nearby(channels, c, s->after, s->before, v);
            magnitude[p + c] += fabs(factor) * nearby(channels, c, s->after, s->before, size);
        }
    }
    if (gradient)
        table->local_response_grad(PIXELS, channels, s, dy, x, scratch, out);
    else
        table->local_response(PIXELS, channels, s, x, scratch, out);
    within(n, out, expected, (double)(s->before + s->after) + 12, magnitude);
    end();
}

static void response_cases(const nnp_kernels *table, int gradient) {
    const nnp_response settings[] = {
        {0, 0, 0.5f, 0.75f, 1},  {1, 1, 0.25f, 0.75f, 1}, {2, 1, 0.5f, 0.5f, 2},
        {2, 2, 1e-4f, 0.75f, 1}, {70, 3, 1, 1, 3},
    };
    for (int i = 1; i < SIZES; i++)
        for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++)
            response_case(table, sizes[i], &settings[k], gradient, (i + (int)k) % 2);
}

void check_local_response(const nnp_kernels *table) { response_cases(table, 0); }

void check_local_response_grad(const nnp_kernels *table) { response_cases(table, 1); }

static void softmax_grad_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t cols, int in_place) {
    const ptrdiff_t n = rows * cols;
    begin("rows %td, cols %td, in place %d", rows, cols, in_place);
    float *dy = reals(n), *dx = in_place ? dy : floats(n);
    const float *y = reals(n);
    double *expected = zeros(n), *magnitude = zeros(n);
    for (ptrdiff_t i = 0; i < n; i += cols) {
        double sum = 0, size = 0;
        for (ptrdiff_t c = 0; c < cols; c++) {
            const double product = (double)dy[i + c] * y[i + c];
            sum += product, size += fabs(product);
        }
        for (ptrdiff_t c = 0; c < cols; c++) {
            expected[i + c] = 0.75 * (dy[i + c] - sum) * y[i + c];
            magnitude[i + c] = 0.75 * (fabs(dy[i + c]) + size) * fabs(y[i + c]);
        }
    }
    table->softmax_grad(rows, cols, dy, y, 0.75f, dx);
    within(n, dx, expected, 3, magnitude);
    end();
}

void check_softmax_grad(const nnp_kernels *table) {
    for (int h = 0; h < COUNTS; h++)
        for (int s = 1; s < SIZES; s++) softmax_grad_case(table, counts[h], sizes[s], (h + s) % 2);
}
