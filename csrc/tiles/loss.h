/* Losses of one sample. Sums in double: a loss is read by people, and compared between runs. */
#include <math.h>

static double softmax_cross_entropy(ptrdiff_t n, const float *z, int64_t label, float scale, float *grad,
                                    uint8_t *correct) {
    ptrdiff_t best = 0;
    float largest = z[0];
    for (ptrdiff_t i = 1; i < n; i++)
        if (z[i] > largest || (largest != largest && z[i] == z[i])) {
            best = i;
            largest = z[i];
        }
    *correct = (uint8_t)(best == label && largest == largest);
    double sum = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) sum += exp((double)z[i] - largest);
    if (grad != NULL)
        for (ptrdiff_t i = 0; i < n; i++) {
            const double p = exp((double)z[i] - largest) / sum;
            grad[i] = (float)((i == label ? p - 1.0 : p) * scale);
        }
    return log(sum) - ((double)z[label] - largest);
}

static double squared_error(ptrdiff_t n, const float *p, const float *t, float scale, float *grad) {
    double sum = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double d = (double)p[i] - t[i];
        sum += d * d;
        if (grad != NULL) grad[i] = (float)(d * scale);
    }
    return sum;
}
