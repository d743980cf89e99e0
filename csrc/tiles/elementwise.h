/* Element by element, and sums over rows: limited by memory, so plain loops that the compiler vectorises. */

static void relu(ptrdiff_t n, const float *x, float *y) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] <= 0.0f ? 0.0f : x[i]; /* NaN stays NaN */
}

static void relu_grad(ptrdiff_t n, const float *dy, const float *y, float *dx) {
    for (ptrdiff_t i = 0; i < n; i++) dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

static void scale(ptrdiff_t n, float factor, float *x) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] *= factor;
}

static void sum_rows(ptrdiff_t rows, ptrdiff_t cols, const float *x, ptrdiff_t row_stride, int accumulate, float *out) {
    if (!accumulate)
        for (ptrdiff_t c = 0; c < cols; c++) out[c] = 0.0f;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c++) out[c] += x[r * row_stride + c];
}

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
static void philox4x32(uint32_t word[4], const uint32_t key[2]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * word[0], p1 = (uint64_t)0xCD9E8D57u * word[2];
        word[0] = (uint32_t)(p1 >> 32) ^ word[1] ^ k0;
        word[2] = (uint32_t)(p0 >> 32) ^ word[3] ^ k1;
        word[1] = (uint32_t)p1;
        word[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static void dropout(ptrdiff_t n, const float *x, nnp_philox at, uint32_t threshold, float factor, float *y) {
    for (ptrdiff_t block = 0; 4 * block < n; block++) {
        uint32_t word[4] = {(uint32_t)block, at.sample, at.epoch, at.layer};
        philox4x32(word, at.key);
        for (ptrdiff_t i = 4 * block; i < n && i < 4 * block + 4; i++)
            y[i] = word[i % 4] >= threshold ? x[i] * factor : 0.0f;
    }
}
