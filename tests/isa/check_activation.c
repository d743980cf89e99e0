/* Activations, arithmetic of two operands, the logarithm of softmax. */
#include <math.h>

#include "harness.h"

static double arithmetic_of(int kind, double a, double b) {
    switch (kind) {
    case NNP_ADD: return a + b;
    case NNP_SUB: return a - b;
    case NNP_MUL: return a * b;
    case NNP_DIV: return (double)((float)a / (float)b);
    case NNP_MAX: return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
    case NNP_MIN: return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
    case NNP_LESS: return a < b;
    case NNP_LESS_EQUAL: return a <= b;
    case NNP_EQUAL: return a == b;
    case NNP_KEEP: return b != 0 ? a : 0;
    case NNP_DROP: return b == 0 ? a : 0;
    default: return a == b ? 0.5 : a > b;
    }
}

void check_arithmetic(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int which = 0; which < 4 * (NNP_SHARE + 1); which++) {
            const ptrdiff_t n = sizes[s];
            const int kind = which / 4, a_step = which % 2, b_step = which / 2 % 2;
            if (n == 0) continue;
            begin("n %td, kind %d, steps %d and %d", n, kind, a_step, b_step);
            float *a = integers(a_step ? n : 1), *b = integers(b_step ? n : 1), *y = floats(n);
            if (kind == NNP_MAX || kind == NNP_MIN) a[0] = NAN, b[b_step ? n / 2 : 0] = NAN;
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++)
                expected[i] = arithmetic_of(kind, (double)a[a_step * i], (double)b[b_step * i]);
            table->arithmetic(kind, n, a, a_step, b, b_step, y);
            equal(n, y, expected);
            end();
        }
}

static double normal_up_to(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

/* In double; a, b and c are those of the calls below. */
static double activation_of(int kind, double x, double a, double b, double c) {
    switch (kind) {
    case NNP_ABS: return fabs(x);
    case NNP_CLIP: return fmin(fmax(x, a), b);
    case NNP_ELU: return x > 0 ? a * x : b * expm1(c * x);
    case NNP_ERF: return erf(x);
    case NNP_EXP: return exp(x);
    case NNP_GELU: return x * normal_up_to(x);
    case NNP_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case NNP_HARDSIGMOID: return fmin(fmax(a * x + b, 0), 1);
    case NNP_HARDSWISH: return x * fmin(fmax(a * x + b, 0), 1);
    case NNP_LEAKY: return x > 0 ? x : a * x;
    case NNP_LOG: return log(x);
    case NNP_MISH: return x * tanh(log1p(exp(x)));
    case NNP_RECIPROCAL: return 1 / x;
    case NNP_SCALE: return a * x;
    case NNP_SIGMOID: return 1 / (1 + exp(-x));
    case NNP_SILU: return x / (1 + exp(-x));
    case NNP_SOFTPLUS: return a * x > b ? x : log1p(exp(a * x)) / a;
    case NNP_SOFTSIGN: return x / (1 + fabs(x));
    case NNP_SQRT: return sqrt(x);
    case NNP_TANH: return tanh(x);
    default: return x > a ? x : b;
    }
}

static const float A = 0.25f, B = 0.5f, C = 2.0f;

/* Numbers that the function has: with logarithms and roots, positive ones. */
static float *arguments(int kind, ptrdiff_t n) {
    float *x = reals(n);
    for (ptrdiff_t i = 0; i < n; i++)
        if (kind == NNP_LOG || kind == NNP_SQRT || kind == NNP_RECIPROCAL) x[i] = 0.01f + x[i] * x[i];
    return x;
}

void check_activation(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind <= NNP_THRESHOLD; kind++)
            for (int in_place = 0; in_place < 2; in_place++) {
                const ptrdiff_t n = sizes[s];
                begin("n %td, kind %d, in place %d", n, kind, in_place);
                float *x = arguments(kind, n), *y = in_place ? x : floats(n);
                double *expected = zeros(n), *magnitude = zeros(n);
                for (ptrdiff_t i = 0; i < n; i++) {
                    expected[i] = activation_of(kind, (double)x[i], (double)A, (double)B, (double)C);
                    magnitude[i] = fmax(fabs(expected[i]), 0.1);
                }
                table->activation((nnp_activation){kind, A, B, C}, n, x, y);
                within(n, y, expected, 6, magnitude);
                end();
            }
}

/* Against differences in double. Where the kernel reads y, it is the function of x in float. */
void check_activation_grad(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind <= NNP_THRESHOLD; kind++) {
            const ptrdiff_t n = sizes[s];
            const int of_y = kind == NNP_CLIP || kind == NNP_ELU || kind == NNP_EXP || kind == NNP_HARDSIGMOID ||
                             kind == NNP_RECIPROCAL || kind == NNP_SIGMOID || kind == NNP_SOFTSIGN ||
                             kind == NNP_SQRT || kind == NNP_TANH;
            begin("n %td, kind %d", n, kind);
            float *v = arguments(kind, n), *dx = floats(n);
            const float *dy = reals(n);
            double *expected = zeros(n), *magnitude = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) {
                const double x = (double)v[i], h = 1e-6, a = (double)A, b = (double)B, c = (double)C;
                const double slope =
                    (activation_of(kind, x + h, a, b, c) - activation_of(kind, x - h, a, b, c)) / (2 * h);
                const int corner = fabs(x) < 1e-5 || fabs(x - a) < 1e-5 || fabs(x - b) < 1e-5;
                if (of_y) v[i] = (float)activation_of(kind, x, a, b, c);
                expected[i] = (double)dy[i] * slope;
                magnitude[i] = corner ? INFINITY : fmax(fabs(expected[i]), 1.0);
            }
            table->activation_grad((nnp_activation){kind, A, B, C}, n, dy, v, dx);
            within(n, dx, expected, 12, magnitude);
            end();
        }
}

void check_prelu(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int step = 0; step < 2; step++) {
            const ptrdiff_t n = sizes[s];
            if (n == 0) continue;
            begin("n %td, step %d", n, step);
            const float *x = integers(n), *w = integers(step ? n : 1);
            float *y = floats(n);
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) expected[i] = x[i] > 0 ? (double)x[i] : (double)(w[step * i] * x[i]);
            table->prelu(n, x, w, step, y);
            equal(n, y, expected);
            end();
        }
}

void check_prelu_grad(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int step = 0; step < 2; step++) {
            const ptrdiff_t n = sizes[s];
            if (n == 0) continue;
            begin("n %td, step %d", n, step);
            const float *dy = integers(n), *x = integers(n), *w = integers(step ? n : 1);
            float *dx = floats(n), *dw = floats(n);
            double *of_x = zeros(n), *of_w = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) {
                of_x[i] = x[i] > 0 ? (double)dy[i] : (double)(w[step * i] * dy[i]);
                of_w[i] = x[i] > 0 ? 0.0 : (double)(dy[i] * x[i]);
            }
            table->prelu_grad(n, dy, x, w, step, dx, dw);
            equal(n, dx, of_x);
            equal(n, dw, of_w);
            end();
        }
}

void check_log_softmax(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (ptrdiff_t rows = 0; rows < 3; rows++) {
            const ptrdiff_t n = sizes[s];
            if (n == 0) continue;
            begin("%td rows of %td", rows, n);
            const float *x = reals(rows * n);
            float *y = floats(rows * n);
            double *expected = zeros(rows * n), *magnitude = zeros(rows * n);
            for (ptrdiff_t r = 0; r < rows; r++) {
                double sum = 0.0;
                for (ptrdiff_t i = 0; i < n; i++) sum += exp((double)x[r * n + i]);
                for (ptrdiff_t i = 0; i < n; i++) {
                    expected[r * n + i] = (double)x[r * n + i] - log(sum);
                    magnitude[r * n + i] = 2.0 + log(sum);
                }
            }
            table->log_softmax(rows, n, x, y);
            within(rows * n, y, expected, 4, magnitude);
            end();
        }
}

void check_log_softmax_grad(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (ptrdiff_t rows = 0; rows < 3; rows++) {
            const ptrdiff_t n = sizes[s];
            if (n == 0) continue;
            begin("%td rows of %td", rows, n);
            const float *dy = reals(rows * n);
            float *y = reals(rows * n), *dx = floats(rows * n);
            for (ptrdiff_t i = 0; i < rows * n; i++) y[i] -= 1.0f;
            double *expected = zeros(rows * n), *magnitude = zeros(rows * n);
            for (ptrdiff_t r = 0; r < rows; r++) {
                double sum = 0.0, size = 0.0;
                for (ptrdiff_t i = 0; i < n; i++) sum += (double)dy[r * n + i], size += fabs((double)dy[r * n + i]);
                for (ptrdiff_t i = 0; i < n; i++) {
                    expected[r * n + i] = (double)dy[r * n + i] - exp((double)y[r * n + i]) * sum;
                    magnitude[r * n + i] = 1.0 + size;
                }
            }
            table->log_softmax_grad(rows, n, dy, y, dx);
            within(rows * n, dx, expected, 4, magnitude);
            end();
        }
}
