/* Convolution towards few channels. A vector holds neighbouring pixels of one channel, so that it is full with a single
 * channel, too: images are planes, one for each channel. A tile is six rows, each the part of a channel of the result
 * that one row of the kernel contributes, by up to four vectors of pixels. */

NNP_INLINE void planes_tile(const int ROWS, const int VECS, ptrdiff_t cols, const nnp_planes *s, const float *w,
                            const float *x, float *const *y, ptrdiff_t at) {
    vec sum[NNP_TILE_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first((int)(cols - (VECS - 1) * NNP_VECTOR));
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) sum[i][j] = vec_zero();
    }
    x += at;
    for (ptrdiff_t k = 0; k < s->depth; k++, x += s->x_stride)
        for (ptrdiff_t t = 0; t < s->taps; t++, w += ROWS) {
            vec right[NNP_TILE_VECTORS];
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) right[j] = vec_load(x + s->offset[t] + j * NNP_VECTOR);
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) {
                const vec left = vec_set(w[i]);
                NNP_UNROLL
                for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
            }
        }
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        float *to = y[i] + at;
        NNP_UNROLL
        for (int j = 0; j < VECS - 1; j++, to += NNP_VECTOR) vec_store(to, vec_add(vec_load(to), sum[i][j]));
        vec_store_first(to, last, vec_add(vec_load_first(to, last), sum[i][VECS - 1]));
    }
}

#define NNP_PLANES(ROWS, VECS)                                                                                         \
    static void planes_tile_##ROWS##x##VECS(ptrdiff_t cols, const nnp_planes *s, const float *w, const float *x,       \
                                            float *const *y, ptrdiff_t at) {                                           \
        planes_tile(ROWS, VECS, cols, s, w, x, y, at);                                                                 \
    }
#define NNP_PLANES_OF(VECS)                                                                                            \
    NNP_PLANES(1, VECS)                                                                                                \
    NNP_PLANES(2, VECS) NNP_PLANES(3, VECS) NNP_PLANES(4, VECS) NNP_PLANES(5, VECS) NNP_PLANES(6, VECS)

NNP_PLANES_OF(1)
NNP_PLANES_OF(2)
#if NNP_TILE_VECTORS == 4
NNP_PLANES_OF(3)
NNP_PLANES_OF(4)
#define NNP_PLANES_TABLE                                                                                               \
    {                                                                                                                  \
        {NNP_ROWS_OF(planes_tile, 1)}, {NNP_ROWS_OF(planes_tile, 2)}, {NNP_ROWS_OF(planes_tile, 3)}, {                 \
            NNP_ROWS_OF(planes_tile, 4)                                                                                \
        }                                                                                                              \
    }
#else
#define NNP_PLANES_TABLE                                                                                               \
    {                                                                                                                  \
        {NNP_ROWS_OF(planes_tile, 1)}, { NNP_ROWS_OF(planes_tile, 2) }                                                 \
    }
#endif

typedef void planes_function(ptrdiff_t, const nnp_planes *, const float *, const float *, float *const *, ptrdiff_t);
static planes_function *const planes_tiles[NNP_TILE_VECTORS][NNP_TILE_ROWS] = NNP_PLANES_TABLE;

static void convolve_planes(const nnp_planes *s, ptrdiff_t pixels, const float *w, const float *x, float *const *y) {
    const ptrdiff_t blocks = (s->rows + NNP_TILE_ROWS - 1) / NNP_TILE_ROWS;
    for (ptrdiff_t at = 0; at < pixels; at += NNP_TILE_VECTORS * NNP_VECTOR) {
        const ptrdiff_t cols = min_size(NNP_TILE_VECTORS * NNP_VECTOR, pixels - at);
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const ptrdiff_t first = s->rows * b / blocks, rows = s->rows * (b + 1) / blocks - first;
            planes_tiles[vectors_across((int)cols) - 1][rows - 1](cols, s, w + first * s->depth * s->taps, x, y + first,
                                                                  at);
        }
    }
}

/* A square reads a part of each pixel: the processor does not see by itself that the next pixels will be wanted. */
static void split_planes(ptrdiff_t channels, ptrdiff_t pixels, const float *src, float *dst, ptrdiff_t dst_stride) {
    if (channels > 16)
        turn_squares(1, pixels, channels, src, channels, dst, dst_stride);
    else
        turn_squares(0, pixels, channels, src, channels, dst, dst_stride);
}

NNP_INLINE void join_few(const int CHANNELS, ptrdiff_t pixels, const float *restrict src, ptrdiff_t src_stride,
                         float *restrict dst, ptrdiff_t step) {
    for (ptrdiff_t p = 0; p < pixels; p++) {
        NNP_UNROLL
        for (int c = 0; c < CHANNELS; c++) dst[p * step + c] = src[c * src_stride + p];
    }
}

static void join_planes(ptrdiff_t channels, ptrdiff_t pixels, const float *src, ptrdiff_t src_stride, float *dst,
                        ptrdiff_t step) {
    if (channels == 1 && step == 1)
        join_few(1, pixels, src, src_stride, dst, 1);
    else if (channels == 1)
        join_few(1, pixels, src, src_stride, dst, step);
    else if (channels == 2)
        join_few(2, pixels, src, src_stride, dst, step);
    else if (channels == 3 && step == 3)
        join_few(3, pixels, src, src_stride, dst, 3);
    else if (channels == 3)
        join_few(3, pixels, src, src_stride, dst, step);
    else
        turn(channels, pixels, src, src_stride, dst, step);
}
