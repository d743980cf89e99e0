/* Softmax and losses. Sums are in double, or as exact: a loss is read by people, and compared between runs.
 *
 * With few classes a vector holds one class of many samples, turned by squares; with many, many classes of one sample.
 */
#include <math.h>

enum { FEW = 32 }; /* classes, so few that a vector for each stays in the first-level cache */

/* Of a sample: its largest logit, NaN left out; the sum of exp(z - largest); that of its label alone; and whether its
 * label is the first of the largest. */
typedef struct {
    double sum;
    float largest, of_label;
    int right;
} softmax_sums;

/* t[k] = class k of `samples` samples, one in each lane; lanes without a sample are 0. */
static void turn_in(int samples, int classes, const float *z, vec *t) {
    for (int k = 0; k < classes; k += NNP_VECTOR) {
        NNP_UNROLL
        for (int i = 0; i < NNP_VECTOR; i++)
            t[k + i] = i < samples ? load_part(z + i * classes + k, classes - k) : vec_zero();
        vec_transpose(t + k);
    }
}

static void turn_out(int samples, int classes, vec *t, float *y) {
    for (int k = 0; k < classes; k += NNP_VECTOR) {
        vec_transpose(t + k);
        NNP_UNROLL
        for (int i = 0; i < NNP_VECTOR; i++)
            if (i < samples) store_part(y + i * classes + k, classes - k, t[k + i]);
    }
}

/* y (samples <= NNP_VECTOR, classes <= FEW) = softmax(z) * scale unless NULL. With labels, all of `s` is filled in,
 * else the sums only. */
static void softmax_of_few(int samples, int classes, const float *z, const int64_t *label, double scale, float *y,
                           softmax_sums *s) {
    vec t[FEW + NNP_VECTOR];
    turn_in(samples, classes, z, t);
    vec largest = vec_set(-INFINITY), first = vec_set(-1.0f);
    for (int k = 0; k < classes; k++) largest = vec_max(t[k], largest);
    if (label != NULL)
        for (int k = classes - 1; k >= 0; k--) first = vec_select(vec_equal(t[k], largest), vec_set((float)k), first);
    wide sum = wide_of(vec_zero());
    for (int k = 0; k < classes; k++) {
        t[k] = exp_of_negative(vec_sub(t[k], largest));
        sum = wide_add(sum, wide_of(t[k]));
    }
    double sums[NNP_VECTOR];
    float maxima[NNP_VECTOR], firsts[NNP_VECTOR], factors[NNP_VECTOR];
    wide_store(sums, sum);
    vec_store(maxima, largest);
    vec_store(firsts, first);
    for (int i = 0; i < samples; i++) {
        s[i].sum = sums[i];
        s[i].largest = maxima[i];
        if (label == NULL) continue;
        s[i].of_label = ((const float *)(t + label[i]))[i];
        s[i].right = firsts[i] == (float)label[i];
    }
    if (y == NULL) return;
    for (int i = 0; i < NNP_VECTOR; i++) factors[i] = (float)(scale / sums[i]);
    const vec factor = vec_load(factors);
    for (int k = 0; k < classes; k++) t[k] = vec_mul(t[k], factor);
    turn_out(samples, classes, t, y);
}

/* NaN left out; -infinity if nothing else is there. */
static float largest_of(ptrdiff_t classes, const float *z) {
    vec largest[4];
    for (int j = 0; j < 4; j++) largest[j] = vec_set(-INFINITY);
    ptrdiff_t k = 0;
    for (; k + 4 * NNP_VECTOR <= classes; k += 4 * NNP_VECTOR) {
        NNP_UNROLL
        for (int j = 0; j < 4; j++) largest[j] = vec_max(vec_load(z + k + j * NNP_VECTOR), largest[j]);
    }
    for (; k < classes; k += NNP_VECTOR) largest[0] = vec_max(vec_load(z + whole_vector(k, classes)), largest[0]);
    return vec_largest(vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3])));
}

static int is_first_of_largest(const float *z, int64_t label, float largest) {
    int earlier = 0;
    for (int64_t k = 0; k < label; k++) earlier |= z[k] == largest;
    return z[label] == largest && !earlier;
}

/* A sum in floats of 1 and at most SHORT numbers from 0 to 1: total + lost. Since total >= 1 >= e, `lost` gets exactly
 * what rounding takes from the total (Dekker, "A floating-point technique for extending the available precision",
 * 1971): of each number at most 2^-20, or all of it. It loses less than SHORT 2^-24 of that itself. Double takes twice
 * the instructions. */
enum { SHORT = 16 };

typedef struct {
    vec total, lost;
} short_sum;

NNP_INLINE short_sum short_sum_add(short_sum s, vec e) {
    const vec total = vec_add(s.total, e);
    const short_sum sum = {total, vec_add(s.lost, vec_sub(e, vec_sub(total, s.total)))};
    return sum;
}

/* y = exp(z - largest) if WITH_Y; returns the sum. *next_largest = the largest of next, another row, NaN left out: what
 * it needs is ready before the next row's exponentials. There are more classes than a vector has lanes. */
NNP_INLINE double exponentials(const int WITH_Y, ptrdiff_t classes, const float *z, const float *next, float largest,
                               float *y, float *next_largest) {
    const vec m = vec_set(largest), one = vec_set(1.0f);
    vec later = vec_set(-INFINITY);
    wide sum = wide_of(vec_zero());
    float rest[NNP_VECTOR];
    ptrdiff_t k = 0;
    while (k + NNP_VECTOR <= classes) {
        const ptrdiff_t end = classes - k < SHORT * NNP_VECTOR ? classes : k + SHORT * NNP_VECTOR;
        short_sum s = {one, vec_zero()};
        for (; k + NNP_VECTOR <= end; k += NNP_VECTOR) {
            const vec e = exp_of_negative(vec_sub(vec_load(z + k), m));
            later = vec_max(load_part_of_stream(next + k, NNP_VECTOR), later);
            if (WITH_Y) store_part_of_stream(y + k, NNP_VECTOR, e);
            s = short_sum_add(s, e);
        }
        sum = wide_add(sum, wide_add(wide_of(vec_sub(s.total, one)), wide_of(s.lost)));
    }
    if (k < classes) {
        const vec e = exp_of_negative(vec_sub(load_part(z + k, classes - k), m));
        later = vec_max(vec_load(next + classes - NNP_VECTOR), later);
        if (WITH_Y) store_part(y + k, classes - k, e);
        vec_store(rest, e);
        sum = wide_add(sum, wide_part(rest, classes - k));
    }
    *next_largest = vec_largest(later);
    return wide_total(sum);
}

/* The same for samples of more than FEW classes, one after the other. */
static void softmax_of_many(ptrdiff_t samples, ptrdiff_t classes, const float *z, const int64_t *label, double scale,
                            float *y, softmax_sums *s) {
    float largest = largest_of(classes, z);
    for (ptrdiff_t i = 0; i < samples; i++, z += classes) {
        const float m = largest, *next = i < samples - 1 ? z + classes : z;
        float e[NNP_VECTOR];
        if (label != NULL) {
            vec_store(e, exp_of_negative(vec_set(z[label[i]] - m)));
            s[i].of_label = e[0];
            s[i].right = is_first_of_largest(z, label[i], m);
        }
        s[i].largest = m;
        if (y == NULL) {
            s[i].sum = exponentials(0, classes, z, next, m, NULL, &largest);
            continue;
        }
        s[i].sum = exponentials(1, classes, z, next, m, y, &largest);
        const vec factor = vec_set((float)(scale / s[i].sum));
        ptrdiff_t k = 0;
        for (; k + NNP_VECTOR <= classes; k += NNP_VECTOR) vec_store(y + k, vec_mul(vec_load(y + k), factor));
        if (k < classes) store_part(y + k, classes - k, vec_mul(load_part(y + k, classes - k), factor));
        y += classes;
    }
}

static void softmax_rows(ptrdiff_t samples, ptrdiff_t classes, const float *z, const int64_t *label, double scale,
                         float *y, softmax_sums *s) {
    if (classes > FEW) {
        softmax_of_many(samples, classes, z, label, scale, y, s);
        return;
    }
    for (ptrdiff_t i = 0; i < samples; i += NNP_VECTOR) {
        const ptrdiff_t n = samples - i < NNP_VECTOR ? samples - i : NNP_VECTOR, at = i * classes;
        softmax_of_few((int)n, (int)classes, z + at, label == NULL ? NULL : label + i, scale, y == NULL ? NULL : y + at,
                       s + i);
    }
}

static void softmax(ptrdiff_t samples, ptrdiff_t classes, const float *z, float *y) {
    softmax_sums s[NNP_SOFTMAX_SAMPLES];
    softmax_rows(samples, classes, z, NULL, 1.0, y, s);
}

/* One logarithm for all samples: a sum is at least 1, and less than 2^63. The label's own gradient is a difference that
 * has its digits in double only. */
static double softmax_cross_entropy(ptrdiff_t samples, ptrdiff_t classes, const float *z, const int64_t *label,
                                    double scale, float *grad, uint8_t *correct) {
    softmax_sums s[NNP_SOFTMAX_SAMPLES];
    double product = 1.0, loss = 0.0;
    softmax_rows(samples, classes, z, label, scale, grad, s);
    *correct = 0;
    for (ptrdiff_t i = 0; i < samples; i++) {
        product *= s[i].sum;
        loss += (double)s[i].largest - z[i * classes + label[i]];
        *correct = (uint8_t)(*correct + s[i].right);
        if (grad != NULL) grad[i * classes + label[i]] = (float)((s[i].of_label - s[i].sum) / s[i].sum * scale);
    }
    return loss + log(product);
}

enum { LANES = 16 }; /* partial sums: the compiler may add no others side by side */

static double total_of(const double *sums) {
    double total = 0.0;
    for (int j = 0; j < LANES; j++) total += sums[j];
    return total;
}

/* NaN left out, but if there is nothing else. */
static ptrdiff_t first_of_largest(ptrdiff_t n, const float *x) {
    ptrdiff_t at = 0;
    for (ptrdiff_t k = 1; k < n; k++) at = x[k] > x[at] || isnan(x[at]) ? k : at;
    return at;
}

/* A class's share of the loss: c_k. */
NNP_INLINE double share_of(double t, double w, double kept, double dealt) {
    return w * (kept * t + dealt);
}

/* n <= LANES classes: adds the exponentials' sum, that of the shares, and that of the shares times what the logit is
 * below the largest. */
NNP_INLINE void add_shares(ptrdiff_t n, const float *z, const float *t, const float *w, double kept, double dealt,
                           float largest, double *exps, double *shares, double *below) {
    float e[LANES];
    for (ptrdiff_t j = 0; j < n; j += NNP_VECTOR)
        store_part(e + j, n - j, exp_of_negative(vec_sub(load_part(z + j, n - j), vec_set(largest))));
    for (ptrdiff_t j = 0; j < n; j++) {
        const double c = share_of(t[j], w[j], kept, dealt);
        exps[j] += e[j];
        shares[j] += c;
        below[j] += c > 0.0 ? c * ((double)largest - z[j]) : 0.0; /* also where the logit is -infinity */
    }
}

/* loss = (sum of c) log(sum of exp(z - largest)) + sum of c (largest - z): no term is negative. */
static double soft_cross_entropy(ptrdiff_t classes, const float *z, const float *t, const float *w, double smoothing,
                                 double scale, float *grad, int *correct) {
    const double kept = 1.0 - smoothing, dealt = smoothing / (double)classes;
    double exps[LANES] = {0.0}, shares[LANES] = {0.0}, below[LANES] = {0.0};
    const ptrdiff_t best = first_of_largest(classes, z);
    const float largest = z[best];
    ptrdiff_t k = 0;
    for (; k + LANES <= classes; k += LANES)
        add_shares(LANES, z + k, t + k, w + k, kept, dealt, largest, exps, shares, below);
    add_shares(classes - k, z + k, t + k, w + k, kept, dealt, largest, exps, shares, below);
    const double sum = total_of(exps), share = total_of(shares);
    *correct = !isnan(largest) && best == first_of_largest(classes, t);
    for (k = 0; grad != NULL && k < classes; k += NNP_VECTOR) {
        float e[NNP_VECTOR];
        vec_store(e, exp_of_negative(vec_sub(load_part(z + k, classes - k), vec_set(largest))));
        for (ptrdiff_t j = 0; j < NNP_VECTOR && k + j < classes; j++)
            grad[k + j] = (float)((e[j] / sum * share - share_of(t[k + j], w[k + j], kept, dealt)) * scale);
    }
    return share * log(sum) + total_of(below);
}

NNP_INLINE void add_squares(ptrdiff_t n, const float *p, const float *t, float scale, float *grad, double *sums) {
    for (ptrdiff_t j = 0; j < n; j++) {
        const double d = (double)p[j] - t[j];
        sums[j] += d * d;
        if (grad != NULL) grad[j] = (float)(d * scale);
    }
}

static double squared_error(ptrdiff_t n, const float *p, const float *t, float scale, float *grad) {
    double sums[LANES] = {0.0};
    ptrdiff_t i = 0;
    if (grad == NULL)
        for (; i + LANES <= n; i += LANES) add_squares(LANES, p + i, t + i, scale, NULL, sums);
    else
        for (; i + LANES <= n; i += LANES) add_squares(LANES, p + i, t + i, scale, grad + i, sums);
    add_squares(n - i, p + i, t + i, scale, grad == NULL ? NULL : grad + i, sums);
    return total_of(sums);
}

/* x - largest - log(sum of exp(x - largest)), each row by itself; y may be x. */
static void log_softmax(ptrdiff_t rows, ptrdiff_t cols, const float *x, float *y) {
    for (ptrdiff_t r = 0; r < rows; r++, x += cols, y += cols) {
        float largest = -INFINITY, rest[NNP_VECTOR];
        for (ptrdiff_t i = 0; i < cols; i++) largest = x[i] > largest ? x[i] : largest;
        const vec shift = vec_set(largest);
        double sum = 0.0;
        for (ptrdiff_t i = 0; i < cols; i += NNP_VECTOR) {
            vec_store(rest, exp_of_negative(vec_sub(load_part(x + i, cols - i), shift)));
            for (ptrdiff_t k = 0; k < NNP_VECTOR && i + k < cols; k++) sum += rest[k];
        }
        const vec log_sum = vec_set((float)log(sum));
        for (ptrdiff_t i = 0; i < cols; i += NNP_VECTOR)
            store_part(y + i, cols - i, vec_sub(vec_sub(load_part(x + i, cols - i), shift), log_sum));
    }
}

/* dx = dy - exp(y) * sum of dy, of each row; dx may be dy. */
static void log_softmax_grad(ptrdiff_t rows, ptrdiff_t cols, const float *dy, const float *y, float *dx) {
    for (ptrdiff_t r = 0; r < rows; r++, dy += cols, y += cols, dx += cols) {
        wide total = wide_of(vec_zero());
        for (ptrdiff_t i = 0; i < cols; i += NNP_VECTOR) total = wide_add(total, wide_part(dy + i, cols - i));
        const vec sum = vec_set((float)wide_total(total));
        for (ptrdiff_t i = 0; i < cols; i += NNP_VECTOR)
            store_part(dx + i, cols - i,
                       vec_sub_mul(load_part(dy + i, cols - i), exp_of_negative(load_part(y + i, cols - i)), sum));
    }
}
