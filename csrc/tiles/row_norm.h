/* Normalisation of rows of `cols` floats, by their mean and deviation or by their root mean square alone, and of pixels
 * by the squares of channels nearby. */
#include <math.h>

/* Over a row: *first = sum of left, *second = sum of left * (x - centre), in double, where left is x - centre, or
 * dy * gamma unless dy is NULL. */
NNP_INLINE void sum_row(ptrdiff_t cols, const float *x, float centre, const float *dy, const float *gamma,
                        double *first, double *second) {
    wide firsts[2], seconds[2]; /* two chains each */
    float centres[NNP_VECTOR];
    vec_store(centres, vec_set(centre));
    for (int j = 0; j < 2; j++) firsts[j] = seconds[j] = wide_of(vec_zero());
    for (ptrdiff_t c = 0; c < cols; c += 2 * NNP_VECTOR) {
        NNP_UNROLL
        for (int j = 0; j < 2; j++) {
            const ptrdiff_t at = c + j * NNP_VECTOR, n = cols - at;
            if (n <= 0) break;
            const wide difference = wide_sub(wide_part(x + at, n), wide_part(centres, n));
            const wide left =
                dy == NULL ? difference : wide_of(vec_mul(load_part(dy + at, n), load_part(gamma + at, n)));
            firsts[j] = wide_add(firsts[j], left);
            seconds[j] = wide_mul_add(left, difference, seconds[j]);
        }
    }
    *first = wide_total(wide_add(firsts[0], firsts[1]));
    *second = wide_total(wide_add(seconds[0], seconds[1]));
}

/* Squares are summed about the row's first element: see channel_moments. */
static void row_norm(ptrdiff_t rows, ptrdiff_t cols, const float *x, const float *gamma, const float *beta, double eps,
                     int centred, float *mean, float *invstd, float *y) {
    for (ptrdiff_t r = 0; r < rows; r++, x += cols, y += cols) {
        const float centre = centred && isfinite(x[0]) ? x[0] : 0.0f;
        double sum, squares;
        sum_row(cols, x, centre, NULL, NULL, &sum, &squares);
        const double shift = centred ? sum / (double)cols : 0.0, variance = squares / (double)cols - shift * shift;
        mean[r] = (float)(centre + shift);
        invstd[r] = (float)(1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + eps));
        const vec m = vec_set(mean[r]), s = vec_set(invstd[r]);
        for (ptrdiff_t c = 0; c < cols; c += NNP_VECTOR) {
            const ptrdiff_t n = cols - c;
            const vec xhat = vec_mul(vec_sub(load_part(x + c, n), m), s);
            store_part(y + c, n, vec_mul_add(xhat, load_part(gamma + c, n), load_part(beta + c, n)));
        }
    }
}

/* Of a row: dx = invstd * dy * gamma + of_x * (x - mean) + rest. */
typedef struct {
    float mean, invstd, of_x, rest;
} row_factors;

NNP_INLINE void row_grad_columns(const int rows, ptrdiff_t cols, ptrdiff_t c, const row_factors *f, const float *dy,
                                 const float *x, vec gamma, float *dx, double *dgamma, double *dbeta) {
    const ptrdiff_t n = cols - c;
    vec sum = vec_zero(), product = vec_zero();
    NNP_UNROLL
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = r * cols + c;
        const vec slope = load_part(dy + at, n), difference = vec_sub(load_part(x + at, n), vec_set(f[r].mean));
        const vec invstd = vec_set(f[r].invstd);
        sum = vec_add(sum, slope);
        product = vec_mul_add(slope, vec_mul(difference, invstd), product);
        const vec rest = vec_mul_add(vec_set(f[r].of_x), difference, vec_set(f[r].rest));
        store_part(dx + at, n, vec_mul_add(vec_mul(slope, gamma), invstd, rest));
    }
    wide_store(dgamma + c, wide_add(wide_load(dgamma + c), wide_of(product)));
    wide_store(dbeta + c, wide_add(wide_load(dbeta + c), wide_of(sum)));
}

static void row_norm_grad(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *x, const float *mean,
                          const float *invstd, const float *gamma, int centred, float *dx, double *dgamma,
                          double *dbeta) {
    for (ptrdiff_t first = 0; first < rows; first += ROWS) {
        const ptrdiff_t at = first * cols, count = rows - first < ROWS ? rows - first : ROWS;
        row_factors f[ROWS];
        for (ptrdiff_t r = 0; r < count; r++) {
            const double s = invstd[first + r], n = (double)cols;
            double sum, product;
            sum_row(cols, x + at + r * cols, mean[first + r], dy + at + r * cols, gamma, &sum, &product);
            f[r] = (row_factors){mean[first + r], invstd[first + r], (float)(-s * s * s * product / n),
                                 centred ? (float)(-s * sum / n) : 0.0f};
        }
        for (ptrdiff_t c = 0; c < cols; c += NNP_VECTOR) {
            const vec weight = load_part(gamma + c, cols - c);
            if (count == ROWS)
                row_grad_columns(ROWS, cols, c, f, dy + at, x + at, weight, dx + at, dgamma, dbeta);
            else
                for (ptrdiff_t r = 0; r < count; r++)
                    row_grad_columns(1, cols, c, f + r, dy + at + r * cols, x + at + r * cols, weight,
                                     dx + at + r * cols, dgamma, dbeta);
        }
    }
}

/* sums[c] = sum of v[j] over the channels j from c - before to c + after. */
static void sum_nearby(ptrdiff_t channels, ptrdiff_t before, ptrdiff_t after, const float *v, float *sums) {
    for (ptrdiff_t c = 0; c < channels; c++) sums[c] = 0.0f;
    for (ptrdiff_t t = before < channels ? -before : 1 - channels; t <= after && t < channels; t++) {
        const ptrdiff_t first = t < 0 ? -t : 0, last = t < 0 ? channels : channels - t;
        for (ptrdiff_t c = first; c < last; c++) sums[c] += v[c + t];
    }
}

/* power = base^-beta; Krizhevsky's 3/4 comes by square roots. */
static void negative_power(ptrdiff_t n, const float *base, float beta, float *power) {
    if (beta == 0.75f)
        for (ptrdiff_t i = 0; i < n; i++) {
            const float root = sqrtf(base[i]);
            power[i] = 1.0f / (root * sqrtf(root));
        }
    else
        for (ptrdiff_t i = 0; i < n; i++) power[i] = powf(base[i], -beta);
}

/* base = k + scale * sum of squares nearby; `squares` is scratch. */
static void response_base(ptrdiff_t channels, const nnp_response *s, const float *x, float *squares, float *base) {
    for (ptrdiff_t c = 0; c < channels; c++) squares[c] = x[c] * x[c];
    sum_nearby(channels, s->before, s->after, squares, base);
    for (ptrdiff_t c = 0; c < channels; c++) base[c] = s->k + s->scale * base[c];
}

static void local_response(ptrdiff_t pixels, ptrdiff_t channels, const nnp_response *s, const float *x, float *scratch,
                           float *y) {
    float *base = scratch, *power = scratch + channels;
    for (ptrdiff_t p = 0; p < pixels; p++, x += channels, y += channels) {
        response_base(channels, s, x, power, base);
        negative_power(channels, base, s->beta, power);
        for (ptrdiff_t c = 0; c < channels; c++) y[c] = x[c] * power[c];
    }
}

/* dx[c] = dy[c] base[c]^-beta - 2 scale beta x[c] * the sum of dy[j] x[j] base[j]^(-beta - 1) over all j that have c
 * nearby. */
static void local_response_grad(ptrdiff_t pixels, ptrdiff_t channels, const nnp_response *s, const float *dy,
                                const float *x, float *scratch, float *dx) {
    float *base = scratch, *power = scratch + channels, *sums = scratch + 2 * channels;
    const float factor = 2.0f * s->scale * s->beta;
    for (ptrdiff_t p = 0; p < pixels; p++, dy += channels, x += channels, dx += channels) {
        response_base(channels, s, x, power, base);
        negative_power(channels, base, s->beta, power);
        for (ptrdiff_t c = 0; c < channels; c++) base[c] = dy[c] * x[c] * power[c] / base[c];
        sum_nearby(channels, s->after, s->before, base, sums);
        for (ptrdiff_t c = 0; c < channels; c++) dx[c] = dy[c] * power[c] - factor * x[c] * sums[c];
    }
}

/* Each row by itself. */
static void softmax_grad(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *y, float factor, float *dx) {
    const vec times = vec_set(factor);
    for (ptrdiff_t r = 0; r < rows; r++, dy += cols, y += cols, dx += cols) {
        wide sums = wide_of(vec_zero());
        for (ptrdiff_t c = 0; c < cols; c += NNP_VECTOR)
            sums = wide_mul_add(wide_part(dy + c, cols - c), wide_part(y + c, cols - c), sums);
        const vec mean = vec_set((float)wide_total(sums));
        for (ptrdiff_t c = 0; c < cols; c += NNP_VECTOR) {
            const vec difference = vec_sub(load_part(dy + c, cols - c), mean);
            store_part(dx + c, cols - c, vec_mul(vec_mul(difference, times), load_part(y + c, cols - c)));
        }
    }
}
