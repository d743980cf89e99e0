/* Batch normalisation. An image is `pixels` pixels of `channels` floats, `step` floats apart.
 *
 * Vectors run along memory. So that they are full with few channels, too, several pixels make one row of up to ROW
 * floats, each column with sums or factors of its own; more channels than that come in blocks of ROW. */
#include <math.h>
#include <string.h>

enum { ROW = 512, ROWS = 4 }; /* ROWS rows are added at once: sums are loaded and stored once for all of them */

/* Pixels of a row. A multiple of 16, if there are so many, makes the row whole vectors. */
static ptrdiff_t pixels_of_row(ptrdiff_t channels, ptrdiff_t step) {
    const ptrdiff_t most = channels == step ? ROW / channels : 1;
    return most >= 16 ? most - most % 16 : most > 1 ? most : 1;
}

/* Which gradients count: all, those where y > 0, or those where x * scale + shift > 0: y, if it had no residual. */
enum { ALL, OF_POSITIVE_Y, OF_POSITIVE_X };

static vec keep_positive(vec v, vec y) { return vec_select(vec_greater(y, vec_zero()), v, vec_zero()); }

/* row = values of the channels of one pixel, `pixels` times: each copy doubles what is there. */
static void repeat(ptrdiff_t pixels, ptrdiff_t channels, const float *values, float *row) {
    const ptrdiff_t size = pixels * channels;
    memmove(row, values, (size_t)channels * sizeof(float));
    for (ptrdiff_t done = channels; done < size; done *= 2)
        memcpy(row + done, row, (size_t)(done < size - done ? done : size - done) * sizeof(float));
}

/* Over pixels, for each channel: first = sum of left, second = sum of left * (x - centre), in double, where left is
 * x - centre, or dy, or dy where y > 0. */
typedef struct {
    const float *x, *dy, *y;
    ptrdiff_t step;
} sum_source;

typedef struct {
    float centre[ROW], scale[ROW], shift[ROW];
    double first[ROW], second[ROW];
} row_sums;

/* What is summed: x - centre, or the gradients that count. */
enum { DIFFERENCES = -1, GRADIENTS = ALL };

/* n columns, at most a vector. The next rows are asked for: widening makes enough work to hide their way from memory,
 * but only if it starts early. */
NNP_INLINE void add_columns(const int WHAT, const int rows, ptrdiff_t n, sum_source s, row_sums *sums, ptrdiff_t c) {
    const ptrdiff_t ahead = rows * s.step;
    const wide centre = wide_part(sums->centre + c, n);
    wide first = wide_load(sums->first + c), second = wide_load(sums->second + c);
    NNP_UNROLL
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = r * s.step + c;
        NNP_PREFETCH(s.x + at + ahead);
        const wide difference = wide_sub(wide_part(s.x + at, n), centre);
        wide left = difference;
        if (WHAT != DIFFERENCES) {
            NNP_PREFETCH(s.dy + at + ahead);
            left = wide_part(s.dy + at, n);
        }
        if (WHAT == OF_POSITIVE_Y) {
            NNP_PREFETCH(s.y + at + ahead);
            left = wide_of(keep_positive(load_part(s.dy + at, n), load_part(s.y + at, n)));
        }
        if (WHAT == OF_POSITIVE_X)
            left = wide_of(keep_positive(load_part(s.dy + at, n),
                                         vec_mul_add(load_part(s.x + at, n), load_part(sums->scale + c, n),
                                                     load_part(sums->shift + c, n))));
        first = wide_add(first, left);
        second = wide_mul_add(left, difference, second);
    }
    wide_store(sums->first + c, first);
    wide_store(sums->second + c, second);
}

NNP_INLINE void add_rows(const int WHAT, const int rows, ptrdiff_t width, sum_source s, row_sums *sums) {
    ptrdiff_t c = 0;
    for (; c + NNP_VECTOR <= width; c += NNP_VECTOR) add_columns(WHAT, rows, NNP_VECTOR, s, sums, c);
    if (c < width) add_columns(WHAT, rows, width - c, s, sums, c);
}

NNP_INLINE sum_source sum_source_at(const int WHAT, sum_source s, ptrdiff_t offset) {
    s.x += offset;
    if (WHAT != DIFFERENCES) s.dy += offset;
    if (WHAT == OF_POSITIVE_Y) s.y += offset;
    return s;
}

/* Sums of `group` pixels become those of one: halves are added while there are two. */
static void fold(ptrdiff_t group, ptrdiff_t channels, double *sums) {
    for (; group > 1; group -= group / 2) {
        const double *other = sums + (group - group / 2) * channels;
        for (ptrdiff_t i = 0; i < group / 2 * channels; i++) sums[i] += other[i];
    }
}

/* The sums of a channel c are left in sums->first[c] and sums->second[c]. */
NNP_INLINE void sum_pixels(const int WHAT, ptrdiff_t pixels, ptrdiff_t channels, sum_source s, row_sums *sums) {
    const ptrdiff_t group = pixels_of_row(channels, s.step), width = group * channels, last = pixels / group;
    const size_t used = (size_t)(width + NNP_VECTOR - 1) / NNP_VECTOR * NNP_VECTOR * sizeof(double);
    repeat(group, channels, sums->centre, sums->centre);
    if (WHAT == OF_POSITIVE_X) {
        repeat(group, channels, sums->scale, sums->scale);
        repeat(group, channels, sums->shift, sums->shift);
    }
    memset(sums->first, 0, used);
    memset(sums->second, 0, used);
    s.step *= group;
    ptrdiff_t r = 0;
    for (; r + ROWS <= last; r += ROWS) add_rows(WHAT, ROWS, width, sum_source_at(WHAT, s, r * s.step), sums);
    for (; r < last; r++) add_rows(WHAT, 1, width, sum_source_at(WHAT, s, r * s.step), sums);
    add_rows(WHAT, 1, (pixels - last * group) * channels, sum_source_at(WHAT, s, last * s.step), sums);
    fold(group, channels, sums->first);
    fold(group, channels, sums->second);
}

/* The sums of squares are about the first pixel, which is one of those summed: their mean square about it is at most
 * pixels + 1 times the variance, so that the rounding of double costs a relative 2^-53 pixels (pixels + 1), whatever
 * the data. */
static void channel_moments(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step, const float *x, double *mean,
                            double *m2) {
    row_sums sums;
    for (ptrdiff_t c0 = 0; c0 < channels; c0 += ROW) {
        const ptrdiff_t n = channels - c0 < ROW ? channels - c0 : ROW;
        const sum_source source = {x + c0, NULL, NULL, step};
        for (ptrdiff_t c = 0; c < n; c++) sums.centre[c] = isfinite(x[c0 + c]) ? x[c0 + c] : 0.0f;
        sum_pixels(DIFFERENCES, pixels, n, source, &sums);
        for (ptrdiff_t c = 0; c < n; c++) {
            const double shift = sums.first[c] / (double)pixels, rest = sums.second[c] - sums.first[c] * shift;
            mean[c0 + c] = sums.centre[c] + shift;
            m2[c0 + c] = rest < 0.0 ? 0.0 : rest;
        }
    }
}

static void channel_grad_sums(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step, const float *dy, const float *x,
                              const float *y, const float *scale, const float *shift, const float *mean, double *sum,
                              double *sum_product) {
    row_sums sums;
    for (ptrdiff_t c0 = 0; c0 < channels; c0 += ROW) {
        const ptrdiff_t n = channels - c0 < ROW ? channels - c0 : ROW;
        const sum_source source = {x + c0, dy + c0, y == NULL ? NULL : y + c0, step};
        memcpy(sums.centre, mean + c0, (size_t)n * sizeof(float));
        if (scale != NULL) {
            memcpy(sums.scale, scale + c0, (size_t)n * sizeof(float));
            memcpy(sums.shift, shift + c0, (size_t)n * sizeof(float));
            sum_pixels(OF_POSITIVE_X, pixels, n, source, &sums);
        } else if (y != NULL)
            sum_pixels(OF_POSITIVE_Y, pixels, n, source, &sums);
        else
            sum_pixels(GRADIENTS, pixels, n, source, &sums);
        memcpy(sum + c0, sums.first, (size_t)n * sizeof(double));
        memcpy(sum_product + c0, sums.second, (size_t)n * sizeof(double));
    }
}

/* Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983: squares about the mean of all are those
 * about each part's mean, plus those of the parts' means about it. */
static void merge_moments(ptrdiff_t parts, ptrdiff_t pixels_of_part, ptrdiff_t pixels, ptrdiff_t channels,
                          ptrdiff_t step, const double *mean, const double *m2, double *total_mean, double *variance) {
    for (ptrdiff_t c = 0; c < channels; c++) total_mean[c] = variance[c] = 0.0;
    for (ptrdiff_t p = 0; p < parts; p++) {
        const double n = (double)(p < parts - 1 ? pixels_of_part : pixels - p * pixels_of_part);
        for (ptrdiff_t c = 0; c < channels; c++) total_mean[c] += n * mean[p * step + c];
    }
    for (ptrdiff_t c = 0; c < channels; c++) total_mean[c] /= (double)pixels;
    for (ptrdiff_t p = 0; p < parts; p++) {
        const double n = (double)(p < parts - 1 ? pixels_of_part : pixels - p * pixels_of_part);
        for (ptrdiff_t c = 0; c < channels; c++) {
            const double d = mean[p * step + c] - total_mean[c];
            variance[c] += m2[p * step + c] + n * d * d;
        }
    }
    for (ptrdiff_t c = 0; c < channels; c++) variance[c] /= (double)pixels;
}

NNP_INLINE void scale_shift_row(const int with_residual, const int with_relu, ptrdiff_t width, const float *x,
                                const float *scale, const float *shift, const float *residual, float *y) {
    for (ptrdiff_t c = 0; c < width; c += NNP_VECTOR) {
        const ptrdiff_t n = width - c;
        vec v = vec_mul_add(load_part(x + c, n), load_part(scale + c, n), load_part(shift + c, n));
        if (with_residual) v = vec_add(v, load_part(residual + c, n));
        if (with_relu) v = vec_relu(v);
        store_part_of_stream(y + c, n, v);
    }
}

static void scale_shift(ptrdiff_t pixels, ptrdiff_t channels, const float *x, const float *scale, const float *shift,
                        const float *residual, int relu, float *y) {
    const ptrdiff_t group = pixels_of_row(channels, channels), width = group * channels, size = pixels * channels;
    float scales[ROW], shifts[ROW];
    if (group > 1) {
        repeat(group, channels, scale, scales), scale = scales;
        repeat(group, channels, shift, shifts), shift = shifts;
    }
    for (ptrdiff_t i = 0; i < size; i += width) {
        const ptrdiff_t n = size - i < width ? size - i : width;
        if (residual != NULL && relu)
            scale_shift_row(1, 1, n, x + i, scale, shift, residual + i, y + i);
        else if (residual != NULL)
            scale_shift_row(1, 0, n, x + i, scale, shift, residual + i, y + i);
        else if (relu)
            scale_shift_row(0, 1, n, x + i, scale, shift, NULL, y + i);
        else
            scale_shift_row(0, 0, n, x + i, scale, shift, NULL, y + i);
    }
}

/* Elements i to i + n, at most a vector, in column c of a row. */
typedef struct {
    const float *dy, *x, *y, *scale, *shift, *of_dy, *of_x, *rest;
    float *dx, *dresidual;
} grad_arrays;

NNP_INLINE void grad_columns(const int WHICH, const int with_residual, ptrdiff_t n, grad_arrays a, ptrdiff_t i,
                             ptrdiff_t c) {
    const vec x = load_part(a.x + i, n);
    vec g = load_part(a.dy + i, n);
    if (WHICH == OF_POSITIVE_Y) g = keep_positive(g, load_part(a.y + i, n));
    if (WHICH == OF_POSITIVE_X)
        g = keep_positive(g, vec_mul_add(x, load_part(a.scale + c, n), load_part(a.shift + c, n)));
    const vec rest = vec_mul_add(load_part(a.of_x + c, n), x, load_part(a.rest + c, n));
    store_part_of_stream(a.dx + i, n, vec_mul_add(load_part(a.of_dy + c, n), g, rest));
    if (with_residual) store_part_of_stream(a.dresidual + i, n, g);
}

NNP_INLINE void grad_rows(const int WHICH, const int with_residual, ptrdiff_t size, ptrdiff_t width, grad_arrays a) {
    for (ptrdiff_t i = 0; i < size; i += width) {
        const ptrdiff_t n = size - i < width ? size - i : width;
        ptrdiff_t c = 0;
        for (; c + NNP_VECTOR <= n; c += NNP_VECTOR) grad_columns(WHICH, with_residual, NNP_VECTOR, a, i + c, c);
        if (c < n) grad_columns(WHICH, with_residual, n - c, a, i + c, c);
    }
}

static void batch_norm_grad(ptrdiff_t pixels, ptrdiff_t channels, const float *dy, const float *x, const float *y,
                            const float *scale, const float *shift, const float *of_dy, const float *of_x,
                            const float *rest, float *dx, float *dresidual) {
    const ptrdiff_t group = pixels_of_row(channels, channels), width = group * channels, size = pixels * channels;
    float scales[ROW], shifts[ROW], of_dys[ROW], of_xs[ROW], rests[ROW];
    if (group > 1) {
        repeat(group, channels, of_dy, of_dys), of_dy = of_dys;
        repeat(group, channels, of_x, of_xs), of_x = of_xs;
        repeat(group, channels, rest, rests), rest = rests;
        if (scale != NULL) {
            repeat(group, channels, scale, scales), scale = scales;
            repeat(group, channels, shift, shifts), shift = shifts;
        }
    }
    const grad_arrays a = {dy, x, y, scale, shift, of_dy, of_x, rest, dx, dresidual};
    if (scale != NULL && dresidual != NULL)
        grad_rows(OF_POSITIVE_X, 1, size, width, a);
    else if (scale != NULL)
        grad_rows(OF_POSITIVE_X, 0, size, width, a);
    else if (y != NULL && dresidual != NULL)
        grad_rows(OF_POSITIVE_Y, 1, size, width, a);
    else if (y != NULL)
        grad_rows(OF_POSITIVE_Y, 0, size, width, a);
    else if (dresidual != NULL)
        grad_rows(ALL, 1, size, width, a);
    else
        grad_rows(ALL, 0, size, width, a);
}
