/* Updates of parameters against their formulae in double; bounds as in tests/test_optimizer_steps.py. */
#include <math.h>

#include "harness.h"

void check_sgd(const nnp_kernels *table) {
    const nnp_sgd settings[] = {
        {.lr = 0.1f, .fresh = 1},
        {.lr = 0.1f, .fresh = 1, .weight_decay = 0.1f},
        {.lr = 0.1f, .fresh = 1, .weight_decay = 0.1f, .first_step = 1},
        {.lr = 0.1f, .fresh = 1, .momentum = 0.9f},
        {.lr = 0.1f, .fresh = 0.7f, .momentum = 0.9f, .weight_decay = 0.01f},
        {.lr = 0.1f, .fresh = 0.7f, .momentum = 0.9f, .weight_decay = 0.01f, .first_step = 1},
        {.lr = 0.1f, .fresh = 1, .momentum = 0.9f, .weight_decay = 0.1f, .nesterov = 1},
        {.lr = 0.1f, .fresh = 1, .momentum = 0.9f, .nesterov = 1, .first_step = 1},
    };
    for (int size = 0; size < SIZES; size++)
        for (size_t number = 0; number < sizeof settings / sizeof settings[0]; number++) {
            const nnp_sgd s = settings[number];
            const ptrdiff_t n = sizes[size];
            begin("n %td, settings %zu", n, number);
            const float *grad = reals(n);
            float *w = reals(n), *buffer = s.momentum == 0 ? NULL : s.first_step ? floats(n) : reals(n);
            double *new_w = zeros(n), *new_buffer = zeros(n), *w_size = zeros(n), *buffer_size = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) {
                const double g = grad[i] + (double)s.weight_decay * w[i], fresh = s.first_step ? 1 : s.fresh;
                const double g_size = fabs(grad[i]) + fabs(s.weight_decay * w[i]);
                const double old = s.momentum == 0 || s.first_step ? 0 : (double)s.momentum * buffer[i];
                new_buffer[i] = old + (s.momentum == 0 ? 1 : fresh) * g;
                buffer_size[i] = fabs(old) + g_size;
                new_w[i] = w[i] - s.lr * (s.nesterov ? g + s.momentum * new_buffer[i] : new_buffer[i]);
                w_size[i] = fabs(w[i]) + s.lr * (s.nesterov ? g_size + s.momentum * buffer_size[i] : buffer_size[i]);
            }
            table->sgd(n, s, w, grad, buffer);
            within(n, w, new_w, 5, w_size);
            if (buffer != NULL) within(n, buffer, new_buffer, 5, buffer_size);
            end();
        }
}

/* The settings of step t, rounded as the kernel gets them. */
static nnp_adam make_adam(double beta1, double beta2, double eps, double weight_decay, double kept, int t) {
    return (nnp_adam){.step_size = (float)(0.1 / (1 - pow(beta1, t))),
                      .inv_sqrt_correction = (float)(1 / sqrt(1 - pow(beta2, t))),
                      .beta1 = (float)beta1,
                      .fresh1 = (float)(1 - beta1),
                      .beta2 = (float)beta2,
                      .fresh2 = (float)(1 - beta2),
                      .eps = (float)eps,
                      .weight_decay = (float)weight_decay,
                      .kept = (float)kept};
}

void check_adam(const nnp_kernels *table) {
    const nnp_adam settings[] = {
        make_adam(0.9, 0.999, 1e-8, 0, 1, 1),  make_adam(0.9, 0.999, 1e-8, 0, 1, 100),  make_adam(0, 0, 1e-8, 0, 1, 1),
        make_adam(0.8, 0.95, 0.01, 0.1, 1, 3), make_adam(0.9, 0.999, 1e-8, 0, 0.99, 3),
    };
    for (int size = 0; size < SIZES; size++)
        for (size_t number = 0; number < sizeof settings / sizeof settings[0]; number++) {
            const nnp_adam s = settings[number];
            const ptrdiff_t n = sizes[size];
            begin("n %td, settings %zu", n, number);
            const float *grad = reals(n);
            float *w = reals(n), *mean = reals(n), *square = reals(n);
            double *new_w = zeros(n), *new_mean = zeros(n), *new_square = zeros(n);
            double *w_size = zeros(n), *mean_size = zeros(n), *square_size = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) {
                square[i] *= square[i];
                const double g = grad[i] + (double)s.weight_decay * w[i];
                const double g_size = fabs(grad[i]) + fabs(s.weight_decay * w[i]);
                new_mean[i] = (double)s.beta1 * mean[i] + s.fresh1 * g;
                mean_size[i] = fabs(s.beta1 * mean[i]) + s.fresh1 * g_size;
                new_square[i] = (double)s.beta2 * square[i] + s.fresh2 * g * g;
                square_size[i] = s.beta2 * square[i] + s.fresh2 * g_size * g_size;
                const double root = sqrt(new_square[i]) * s.inv_sqrt_correction + s.eps;
                new_w[i] = w[i] * (double)s.kept - s.step_size * new_mean[i] / root;
                w_size[i] = fabs(w[i]) + s.step_size * mean_size[i] / root * square_size[i] / new_square[i];
            }
            table->adam(n, s, w, grad, mean, square);
            within(n, mean, new_mean, 4, mean_size);
            within(n, square, new_square, 6, square_size);
            within(n, w, new_w, 8, w_size);
            end();
        }
}
