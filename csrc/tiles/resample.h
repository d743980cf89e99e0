/* Sums of weighted rows: resampling, padding, selecting and pooling along an axis are tables of rows and weights. */

/* n floats: the sum of `terms` rows, in their order. */
NNP_INLINE void weighted_sum(ptrdiff_t terms, ptrdiff_t n, const int64_t *index, const float *weight, const float *x,
                             float *y) {
    for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR) {
        vec sum = vec_mul(vec_set(weight[0]), load_part(x + index[0] * n + c, n - c));
        for (ptrdiff_t k = 1; k < terms; k++)
            sum = vec_mul_add(vec_set(weight[k]), load_part(x + index[k] * n + c, n - c), sum);
        store_part(y + c, n - c, sum);
    }
}

/* Row i of y, of n floats, is the sum of rows index[k] of x times weight[k] for k from first[i] to before first[i + 1].
 * Rows that are there once and with weight 1 are copied, so that NaN and zeros keep their bits. */
static void weighted_rows(ptrdiff_t rows, ptrdiff_t n, const int64_t *first, const int64_t *index, const float *weight,
                          const float *x, float *y) {
    for (ptrdiff_t i = 0; i < rows; i++, y += n) {
        const ptrdiff_t k = first[i], terms = first[i + 1] - k;
        if (terms == 0)
            for (ptrdiff_t c = 0; c < n; c++) y[c] = 0.0f;
        else if (terms == 1 && weight[k] == 1.0f)
            for (ptrdiff_t c = 0; c < n; c++) y[c] = x[index[k] * n + c];
        else if (terms == 2)
            weighted_sum(2, n, index + k, weight + k, x, y);
        else
            weighted_sum(terms, n, index + k, weight + k, x, y);
    }
}
