/* Losses of one sample, in double. */
#include <math.h>

#include "harness.h"

static void cross_entropy_case(const nnp_kernels *table, ptrdiff_t n, ptrdiff_t label, float spread, int with_grad) {
    const float factor = 0.25f;
    begin("n %td, label %td, logits up to %g, gradient %d", n, label, (double)spread, with_grad);
    float *z = reals(n), *grad = with_grad ? floats(n) : NULL;
    uint8_t *correct = operand(1), right = 1;
    double *expected = zeros(n), *magnitude = zeros(n), largest = -INFINITY, sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) z[i] *= spread;
    for (ptrdiff_t i = 0; i < n; i++) {
        largest = fmax(largest, z[i]);
        right &= i < label ? z[i] < z[label] : z[i] <= z[label];
    }
    for (ptrdiff_t i = 0; i < n; i++) sum += exp(z[i] - largest);
    for (ptrdiff_t i = 0; i < n; i++) {
        expected[i] = (exp(z[i] - largest - log(sum)) - (i == label)) * factor;
        magnitude[i] = fabs(expected[i]) + 1e-8 * factor;
    }
    close_to(table->softmax_cross_entropy(n, z, label, factor, grad, correct), log(sum) - (z[label] - largest), 1e-12,
             1e-15);
    if (with_grad) within(n, grad, expected, 1, magnitude);
    same(1, correct, &right);
    end();
}

static void correct_case(const nnp_kernels *table, const float *logits, int64_t label, uint8_t expected) {
    begin("logits %g %g %g, label %d", (double)logits[0], (double)logits[1], (double)logits[2], (int)label);
    const float *z = copy(3, logits);
    uint8_t *correct = operand(1);
    table->softmax_cross_entropy(3, z, label, 1, NULL, correct);
    same(1, correct, &expected);
    end();
}

void check_softmax_cross_entropy(const nnp_kernels *table) {
    const float spreads[] = {0, 1, 50, 1e30f};
    for (int s = 1; s < SIZES; s++)
        for (int spread = 0; spread < 4; spread++)
            for (int option = 0; option < 6; option++) {
                const ptrdiff_t labels[] = {0, sizes[s] / 2, sizes[s] - 1};
                cross_entropy_case(table, sizes[s], labels[option / 2], spreads[spread], option % 2);
            }
    const float ties[] = {1, 2, 2}, some[] = {NAN, 1, 0}, late[] = {0, NAN, 1}, none[] = {NAN, NAN, NAN};
    for (int label = 0; label < 3; label++) {
        correct_case(table, ties, label, label == 1);
        correct_case(table, some, label, label == 1);
        correct_case(table, late, label, label == 2);
        correct_case(table, none, label, 0);
    }
    for (int s = 1; s < SIZES; s++) {
        const ptrdiff_t n = sizes[s];
        begin("n %td, the last is NaN", n);
        float *z = reals(n), *grad = floats(n);
        uint8_t *correct = operand(1);
        double *expected = zeros(n);
        for (ptrdiff_t i = 0; i < n; i++) expected[i] = NAN;
        z[n - 1] = NAN;
        close_to(table->softmax_cross_entropy(n, z, 0, 1, grad, correct), NAN, 0, 0);
        equal(n, grad, expected);
        end();
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
