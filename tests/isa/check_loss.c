/* Softmax and losses against double. */
#include <math.h>

#include "harness.h"

static const ptrdiff_t samples_of[] = {1, 2, 4, 7, 9, NNP_SOFTMAX_SAMPLES};
enum { SAMPLES = sizeof samples_of / sizeof samples_of[0] };

/* Softmax of one row, and how far each exp may be off, in units u: 2.04 of its own, and its argument's rounding, u |z|;
 * where z, the difference from the largest logit, is 0, exp is exact. As in tests/test_elementwise.py. */
typedef struct {
    double *p, *error;
    double largest, sum, errors;
} probabilities;

static probabilities softmax_of(ptrdiff_t classes, const float *z) {
    probabilities s = {zeros(classes), zeros(classes), -INFINITY, 0, 0};
    for (ptrdiff_t k = 0; k < classes; k++) s.largest = fmax(s.largest, z[k]);
    for (ptrdiff_t k = 0; k < classes; k++) s.sum += s.p[k] = exp(z[k] - s.largest);
    for (ptrdiff_t k = 0; k < classes; k++) {
        s.p[k] /= s.sum;
        s.error[k] = z[k] < s.largest ? 1.0001 * s.p[k] * (fmin(s.largest - z[k], 90) + 2.04) : 0;
        s.errors += s.error[k];
    }
    return s;
}

static float *logits(ptrdiff_t n, float spread) {
    float *z = reals(n);
    for (ptrdiff_t i = 0; i < n; i++) z[i] *= spread;
    return z;
}

/* |actual - expected| <= u bound, and what counts as zero. */
static void within_bound(ptrdiff_t n, const float *actual, const double *expected, const double *bound) {
    within(n, actual, expected, 0.5, bound);
}

static void softmax_case(const nnp_kernels *table, ptrdiff_t samples, ptrdiff_t classes, float spread, int in_place) {
    begin("samples %td, classes %td, logits up to %g, in place %d", samples, classes, (double)spread, in_place);
    float *z = logits(samples * classes, spread), *y = in_place ? z : floats(samples * classes);
    double *expected = zeros(samples * classes), *bound = zeros(samples * classes);
    for (ptrdiff_t i = 0; i < samples; i++) {
        const probabilities s = softmax_of(classes, z + i * classes);
        for (ptrdiff_t k = 0; k < classes; k++) {
            expected[i * classes + k] = s.p[k];
            bound[i * classes + k] = s.error[k] + s.p[k] * (s.errors + 2);
        }
    }
    table->softmax(samples, classes, z, y);
    within_bound(samples * classes, y, expected, bound);
    end();
}

/* A NaN comes to its own sample alone. */
static void softmax_with_nan(const nnp_kernels *table, ptrdiff_t samples, ptrdiff_t classes, ptrdiff_t nan_class) {
    begin("samples %td, classes %td, all 0 but a NaN in class %td", samples, classes, nan_class);
    float *z = logits(samples * classes, 0), *y = floats(samples * classes);
    double *expected = zeros(samples * classes);
    z[samples / 2 * classes + nan_class] = NAN;
    for (ptrdiff_t i = 0; i < samples * classes; i++)
        expected[i] = i / classes == samples / 2 ? NAN : (double)(float)(1.0 / (double)classes);
    table->softmax(samples, classes, z, y);
    equal(samples * classes, y, expected);
    end();
}

void check_softmax(const nnp_kernels *table) {
    const float spreads[] = {0, 1, 50, 1e30f};
    for (int n = 0; n < SAMPLES; n++)
        for (int s = 1; s < SIZES; s++) {
            for (int spread = 0; spread < 4; spread++)
                softmax_case(table, samples_of[n], sizes[s], spreads[spread], (n + spread) % 2);
            softmax_with_nan(table, samples_of[n], sizes[s], 0);
            softmax_with_nan(table, samples_of[n], sizes[s], sizes[s] - 1);
        }
}

/* The label's gradient is a difference in double: 1 - p has its digits even where p is nearly 1. */
static void cross_entropy_case(const nnp_kernels *table, ptrdiff_t samples, ptrdiff_t classes, float spread,
                               int with_grad) {
    const double factor = 0.3;
    begin("samples %td, classes %td, logits up to %g, gradient %d", samples, classes, (double)spread, with_grad);
    const float *z = logits(samples * classes, spread);
    float *grad = with_grad ? floats(samples * classes) : NULL;
    int64_t *label = operand((size_t)samples * sizeof *label);
    uint8_t *correct = operand(1), right = 0;
    double *expected = zeros(samples * classes), *bound = zeros(samples * classes), loss = 0, error = 0;
    for (ptrdiff_t i = 0; i < samples; i++) {
        const float *row = z + i * classes;
        const ptrdiff_t own = label[i] = (classes - 1 + 5 * i) % classes;
        const probabilities s = softmax_of(classes, row);
        double others = 0;
        int is_first_of_largest = 1;
        for (ptrdiff_t k = 0; k < classes; k++) {
            if (k != own) others += s.p[k];
            is_first_of_largest &= k < own ? row[k] < row[own] : row[k] <= row[own];
            expected[i * classes + k] = s.p[k] * factor;
            bound[i * classes + k] = (s.error[k] + s.p[k] * (s.errors + 2)) * factor;
        }
        expected[i * classes + own] = -others * factor;
        bound[i * classes + own] = (s.errors - s.error[own] + others * (s.errors + 1) + 1e-7) * factor;
        loss += log(s.sum) - (row[own] - s.largest);
        error += 0x1p-24 * s.errors + 1e-14;
        right = (uint8_t)(right + is_first_of_largest);
    }
    close_to(table->softmax_cross_entropy(samples, classes, z, label, factor, grad, correct), loss, 1e-14, error);
    if (with_grad) within_bound(samples * classes, grad, expected, bound);
    same(1, correct, &right);
    end();
}

/* Three logits in front, or at the end, of others that are never the largest; with more than 32 classes, another way
 * of summing is taken. */
static void correct_case(const nnp_kernels *table, const float *first, ptrdiff_t classes, ptrdiff_t at, int64_t label,
                         uint8_t expected) {
    begin("logits %g %g %g from %td of %td, label %d", (double)first[0], (double)first[1], (double)first[2], at,
          classes, (int)label);
    float *z = logits(classes, 0);
    int64_t *own = operand(sizeof *own);
    uint8_t *correct = operand(1);
    for (ptrdiff_t k = 0; k < classes; k++) z[k] = at <= k && k < at + 3 ? first[k - at] : NAN;
    *own = at + label;
    table->softmax_cross_entropy(1, classes, z, own, 1, NULL, correct);
    same(1, correct, &expected);
    end();
}

static void cross_entropy_with_nan(const nnp_kernels *table, ptrdiff_t samples, ptrdiff_t classes) {
    begin("samples %td, classes %td, the last is a NaN", samples, classes);
    float *z = logits(samples * classes, 0), *grad = floats(samples * classes);
    int64_t *label = operand((size_t)samples * sizeof *label);
    uint8_t *correct = operand(1), right = (uint8_t)(samples - (classes == 1));
    double *expected = zeros(samples * classes);
    z[samples * classes - 1] = NAN;
    for (ptrdiff_t i = 0; i < samples * classes; i++) {
        label[i / classes] = 0;
        expected[i] = i / classes == samples - 1 ? NAN
                      : i % classes              ? 1.0 / (double)classes
                                                 : 1.0 / (double)classes - 1;
    }
    close_to(table->softmax_cross_entropy(samples, classes, z, label, 1, grad, correct), NAN, 0, 0);
    equal(samples * classes, grad, expected);
    same(1, correct, &right);
    end();
}

void check_softmax_cross_entropy(const nnp_kernels *table) {
    const float spreads[] = {0, 1, 50, 1e30f};
    for (int n = 0; n < SAMPLES; n++)
        for (int s = 1; s < SIZES; s++) {
            for (int option = 0; option < 8; option++)
                cross_entropy_case(table, samples_of[n], sizes[s], spreads[option / 2], option % 2);
            cross_entropy_with_nan(table, samples_of[n], sizes[s]);
        }
    const float ties[] = {1, 2, 2}, some[] = {NAN, 1, 0}, late[] = {0, NAN, 1}, none[] = {NAN, NAN, NAN};
    for (int place = 0; place < 4; place++)
        for (int label = 0; label < 3; label++) {
            const ptrdiff_t classes = place < 2 ? 32 : 50, at = place % 2 ? classes - 3 : 0;
            correct_case(table, ties, classes, at, label, label == 1);
            correct_case(table, some, classes, at, label, label == 1);
            correct_case(table, late, classes, at, label, label == 2);
            correct_case(table, none, classes, at, label, 0);
        }
}

static void soft_case(const nnp_kernels *table, ptrdiff_t classes, float spread, double smoothing, int with_grad) {
    const double factor = 0.3;
    begin("classes %td, logits up to %g, smoothing %g, gradient %d", classes, (double)spread, smoothing, with_grad);
    const float *z = logits(classes, spread);
    float *t = reals(classes), *w = reals(classes), *grad = with_grad ? floats(classes) : NULL;
    int correct = 2, best = 0, wanted = 0;
    double *c = zeros(classes), *expected = zeros(classes), *bound = zeros(classes), share = 0, loss = 0;
    for (ptrdiff_t k = 0; k < classes; k++) {
        t[k] = fabsf(t[k]);
        w[k] = fabsf(w[k]);
        if (z[k] > z[best]) best = (int)k;
        if (t[k] > t[wanted]) wanted = (int)k;
        share += c[k] = w[k] * ((1 - smoothing) * t[k] + smoothing / (double)classes);
    }
    const probabilities s = softmax_of(classes, z);
    for (ptrdiff_t k = 0; k < classes; k++) {
        loss += c[k] * (log(s.sum) - (z[k] - s.largest));
        expected[k] = (share * s.p[k] - c[k]) * factor;
        bound[k] = (share * (s.error[k] + s.p[k] * s.errors) + fabs(share * s.p[k] - c[k]) + 1e-7) * factor;
    }
    const double got = table->soft_cross_entropy(classes, z, t, w, smoothing, factor, grad, &correct);
    close_to(got, loss, 1e-13, share * (0x1p-24 * s.errors + 1e-14));
    if (with_grad) within_bound(classes, grad, expected, bound);
    close_to(correct, best == wanted, 0, 0);
    end();
}

/* A NaN is never the largest, and comes to the loss. */
static void soft_with_nan(const nnp_kernels *table, ptrdiff_t classes, ptrdiff_t nan_class) {
    begin("classes %td, the logit of class %td is a NaN", classes, nan_class);
    float *z = logits(classes, 0), *t = floats(classes), *w = floats(classes);
    int correct = 2;
    for (ptrdiff_t k = 0; k < classes; k++) t[k] = w[k] = 1;
    z[nan_class] = NAN;
    t[nan_class == 0 && classes > 1] = 2;
    close_to(table->soft_cross_entropy(classes, z, t, w, 0, 1, NULL, &correct), NAN, 0, 0);
    close_to(correct, classes > 1, 0, 0);
    end();
}

void check_soft_cross_entropy(const nnp_kernels *table) {
    const float spreads[] = {0, 1, 50, 1e30f};
    for (int s = 1; s < SIZES; s++) {
        for (int option = 0; option < 16; option++)
            soft_case(table, sizes[s], spreads[option / 4], option % 4 < 2 ? 0 : 0.1, option % 2);
        soft_with_nan(table, sizes[s], 0);
        soft_with_nan(table, sizes[s], sizes[s] - 1);
    }
}

void check_squared_error(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int with_grad = 0; with_grad <= 1; with_grad++)
            for (int with_nan = 0; with_nan <= (sizes[s] > 0); with_nan++) {
                const ptrdiff_t n = sizes[s];
                begin("n %td, gradient %d, NaN %d", n, with_grad, with_nan);
                float *p = reals(n), *t = reals(n), *grad = with_grad ? floats(n) : NULL;
                double *expected = zeros(n), sum = 0;
                if (with_nan) t[n - 1] = NAN;
                for (ptrdiff_t i = 0; i < n; i++) {
                    sum += ((double)p[i] - t[i]) * ((double)p[i] - t[i]);
                    expected[i] = ((double)p[i] - t[i]) * 0.75;
                }
                close_to(table->squared_error(n, p, t, 0.75f, grad), sum, 1e-13, 0);
                if (with_grad) equal(n, grad, expected);
                end();
            }
}
