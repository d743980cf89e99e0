/* One pass over a range of the flat parameter buffer. */
#include <math.h>

/* PyTorch's SGD: g += weight_decay w; b = momentum b + (1 - dampening) g (b = g at first); g = b, or g + momentum b if
 * nesterov; w -= lr g. */
static void sgd(ptrdiff_t n, nnp_sgd s, float *w, const float *grad, float *momentum_buffer) {
    const float fresh = s.first_step ? 1.0f : s.fresh;
    if (s.momentum == 0.0f) {
        for (ptrdiff_t i = 0; i < n; i++) w[i] -= s.lr * (grad[i] + s.weight_decay * w[i]);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const float g = grad[i] + s.weight_decay * w[i];
        const float b = (s.first_step ? 0.0f : s.momentum * momentum_buffer[i]) + fresh * g;
        momentum_buffer[i] = b;
        w[i] -= s.lr * (s.nesterov ? g + s.momentum * b : b);
    }
}

/* Kingma, Ba, "Adam", arXiv:1412.6980, Algorithm 1; with `decay` the decoupled form of Loshchilov, Hutter,
 * arXiv:1711.05101. As in PyTorch: w -= step_size m / (sqrt(v) inv_sqrt_correction + eps). */
static void adam(ptrdiff_t n, nnp_adam s, float *w, const float *grad, float *exp_avg, float *exp_avg_sq) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const float g = grad[i] + s.weight_decay * w[i];
        const float m = s.beta1 * exp_avg[i] + s.fresh1 * g;
        const float v = s.beta2 * exp_avg_sq[i] + s.fresh2 * g * g;
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        w[i] = w[i] * s.kept - s.step_size * m / (sqrtf(v) * s.inv_sqrt_correction + s.eps);
    }
}
