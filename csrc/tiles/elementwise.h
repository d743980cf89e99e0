/* Element by element, and sums over rows: limited by memory. */

/* NaN stays NaN. */
NNP_INLINE void relu_some(ptrdiff_t n, const float *x, float *y) {
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) store_part(y + i, n - i, vec_relu(load_part(x + i, n - i)));
}

static void relu(ptrdiff_t n, const float *x, int stream, float *y) {
    ptrdiff_t i = 0;
    if (stream) {
        for (; i < n && !is_aligned(y + i); i++) relu_some(1, x + i, y + i);
        for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) {
            const vec v = load_part_of_stream(x + i, NNP_VECTOR);
            vec_stream(y + i, vec_select(vec_less_equal(v, vec_zero()), vec_zero(), v));
        }
        vec_stream_end();
    }
    relu_some(n - i, x + i, y + i);
}

NNP_INLINE void relu_grad_some(ptrdiff_t n, const float *dy, const float *y, float *dx) {
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR)
        store_part(dx + i, n - i, keep_positive(load_part(dy + i, n - i), load_part(y + i, n - i)));
}

static void relu_grad(ptrdiff_t n, const float *dy, const float *y, int stream, float *dx) {
    ptrdiff_t i = 0;
    if (stream) {
        for (; i < n && !is_aligned(dx + i); i++) relu_grad_some(1, dy + i, y + i, dx + i);
        for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) {
            const vec v = load_part_of_stream(dy + i, NNP_VECTOR);
            vec_stream(dx + i, keep_positive(v, load_part_of_stream(y + i, NNP_VECTOR)));
        }
        vec_stream_end();
    }
    relu_grad_some(n - i, dy + i, y + i, dx + i);
}

static void add(ptrdiff_t n, const float *a, const float *b, int relu, float *y) {
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) {
        const vec sum = vec_add(load_part(a + i, n - i), load_part(b + i, n - i));
        store_part(y + i, n - i, relu ? vec_relu(sum) : sum);
    }
}

static void scale(ptrdiff_t n, float factor, float *x) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] *= factor;
}

NNP_INLINE void add_plain_rows(const int rows, ptrdiff_t width, const float *x, ptrdiff_t step, float *sums) {
    for (ptrdiff_t c = 0; c < width; c += NNP_VECTOR) {
        vec sum = vec_load(sums + c);
        NNP_UNROLL
        for (int r = 0; r < rows; r++) sum = vec_add(sum, load_part(x + r * step + c, width - c));
        vec_store(sums + c, sum);
    }
}

/* With few columns, several rows make one: see batch_norm.h. */
static void sum_rows(ptrdiff_t rows, ptrdiff_t cols, const float *x, ptrdiff_t row_stride, int accumulate, float *out) {
    for (ptrdiff_t c0 = 0; c0 < cols; c0 += ROW) {
        const ptrdiff_t n = cols - c0 < ROW ? cols - c0 : ROW, group = pixels_of_row(n, row_stride), width = group * n;
        const ptrdiff_t step = group * row_stride, last = rows / group;
        float sums[ROW];
        for (ptrdiff_t c = 0; c < width; c += NNP_VECTOR) vec_store(sums + c, vec_zero());
        ptrdiff_t r = 0;
        for (; r + ROWS <= last; r += ROWS) add_plain_rows(ROWS, width, x + c0 + r * step, step, sums);
        for (; r < last; r++) add_plain_rows(1, width, x + c0 + r * step, step, sums);
        add_plain_rows(1, (rows - last * group) * n, x + c0 + last * step, step, sums);
        for (ptrdiff_t p = 1; p < group; p++)
            for (ptrdiff_t c = 0; c < n; c++) sums[c] += sums[p * n + c];
        for (ptrdiff_t c = 0; c < n; c++) out[c0 + c] = accumulate ? out[c0 + c] + sums[c] : sums[c];
    }
}

static double sum_strided(ptrdiff_t n, const float *x, ptrdiff_t step) {
    wide sum = wide_of(vec_zero());
    double rest = 0.0;
    ptrdiff_t i = 0;
    if (step == 1)
        for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) sum = wide_add(sum, wide_of_floats(x + i));
    for (; i < n; i++) rest += (double)x[i * step];
    return wide_total(sum) + rest;
}

/* A square of vectors, or its part of rows x cols. The lines that the next rows' squares write are asked for, and those
 * that they read if FETCH. */
NNP_INLINE void turn_square(const int FETCH, const int whole, ptrdiff_t rows, ptrdiff_t cols, const float *src,
                            ptrdiff_t src_ld, float *dst, ptrdiff_t dst_ld) {
    vec square[NNP_VECTOR];
    NNP_UNROLL
    for (int r = 0; r < NNP_VECTOR; r++)
        square[r] = whole ? vec_load(src + r * src_ld) : r < rows ? load_part(src + r * src_ld, cols) : vec_zero();
    vec_transpose(square);
    NNP_UNROLL
    for (int c = 0; c < NNP_VECTOR; c++)
        if (whole || c < cols) {
            NNP_PREFETCH(dst + c * dst_ld + 16);
            if (FETCH) NNP_PREFETCH(src + (c + 16) * src_ld);
            store_part(dst + c * dst_ld, whole ? NNP_VECTOR : rows, square[c]);
        }
}

NNP_INLINE void turn_squares(const int FETCH, ptrdiff_t rows, ptrdiff_t cols, const float *src, ptrdiff_t src_ld,
                             float *dst, ptrdiff_t dst_ld) {
    for (ptrdiff_t i = 0; i < rows; i += NNP_VECTOR)
        for (ptrdiff_t j = 0; j < cols; j += NNP_VECTOR) {
            const float *from = src + i * src_ld + j;
            float *to = dst + j * dst_ld + i;
            if (i + NNP_VECTOR <= rows && j + NNP_VECTOR <= cols)
                turn_square(FETCH, 1, NNP_VECTOR, NNP_VECTOR, from, src_ld, to, dst_ld);
            else
                turn_square(FETCH, 0, rows - i, cols - j, from, src_ld, to, dst_ld);
        }
}

static void turn(ptrdiff_t rows, ptrdiff_t cols, const float *src, ptrdiff_t src_ld, float *dst, ptrdiff_t dst_ld) {
    turn_squares(0, rows, cols, src, src_ld, dst, dst_ld);
}

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * Word j of BLOCKS blocks stands in w[j], each in the lower half of 64 bits; what the upper halves hold does not
 * matter. words_store puts the blocks of even lanes first: lane 2 i has block i, lane 2 i + 1 block BLOCKS / 2 + i. */
enum { BLOCKS = (NNP_VECTOR + 1) / 2 };

static void philox4x32(words w[4], const uint32_t key[2]) {
    uint32_t k0 = key[0], k1 = key[1];
    NNP_UNROLL
    for (int round = 0; round < 10; round++) {
        const words p0 = words_multiply(w[0], words_set(0xD2511F53u)),
                    p1 = words_multiply(w[2], words_set(0xCD9E8D57u));
        w[0] = words_xor(words_xor(words_high(p1), w[1]), words_set(k0));
        w[2] = words_xor(words_xor(words_high(p0), w[3]), words_set(k1));
        w[1] = p1;
        w[3] = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static void dropout(ptrdiff_t n, const float *x, nnp_philox at, uint32_t threshold, float factor, float *y) {
    uint64_t lanes[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) lanes[b] = (uint64_t)(b % 2 * (BLOCKS / 2) + b / 2);
    const words block_of_lane = words_load(lanes);
    for (ptrdiff_t i = 0; i < n; i += 4 * BLOCKS, x += 4 * BLOCKS, y += 4 * BLOCKS) {
        uint32_t word[4 * BLOCKS];
        const words block = words_add(block_of_lane, words_set((uint32_t)(i / 4)));
        words w[4] = {block, words_set(at.sample), words_set(at.epoch), words_set(at.layer)};
        philox4x32(w, at.key);
        words_store(word, w);
        for (ptrdiff_t e = 0; e < 4 * BLOCKS && i + e < n; e += NNP_VECTOR) {
            const vec kept = vec_mul(load_part(x + e, n - i - e), vec_set(factor));
            store_part(y + e, n - i - e, vec_select(words_below(word + e, threshold), vec_zero(), kept));
        }
    }
}
