/* Convolution of few channels, whose images lie in a frame of zeros: a pixel's window is `taps` runs of `depth` floats,
 * a_down apart, without exceptions, and the next pixel's lies a_step further. */

NNP_INLINE void framed_tile(const int ROWS, const int VECS, int cols, const nnp_frame *s, const float *a,
                            const float *b, const float *bias, int relu, int accumulate, float *c, ptrdiff_t c_step) {
    vec sum[NNP_TALL_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++)
            sum[i][j] = tile_start(accumulate, accumulate ? c + i * c_step + j * NNP_VECTOR : NULL, j < VECS - 1, last);
    }
    for (ptrdiff_t t = 0; t < s->taps; t++, a += s->a_down) {
        const float *low = a, *high = a + NNP_TILE_ROWS * s->a_step;
        for (ptrdiff_t k = 0; k < s->depth; k++, low++, high++, b += VECS * NNP_VECTOR) {
            vec right[NNP_TILE_VECTORS];
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) right[j] = vec_load(b + j * NNP_VECTOR);
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) {
                const vec left =
                    vec_set(i < NNP_TILE_ROWS ? low[i * s->a_step] : high[(i - NNP_TILE_ROWS) * s->a_step]);
                NNP_UNROLL
                for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
            }
        }
    }
    store_tile(ROWS, VECS, sum, last, bias, relu, c, c_step);
}

#define NNP_FRAMED(ROWS, VECS)                                                                                         \
    static void framed_tile_##ROWS##x##VECS(int cols, const nnp_frame *s, const float *a, const float *b,              \
                                            const float *bias, int relu, int accumulate, float *c, ptrdiff_t c_step) { \
        framed_tile(ROWS, VECS, cols, s, a, b, bias, relu, accumulate, c, c_step);                                     \
    }

NNP_SHORT(NNP_FRAMED, 1)
NNP_TALL(NNP_FRAMED, 1)
NNP_SHORT(NNP_FRAMED, 2)
#if NNP_TILE_VECTORS == 4
NNP_SHORT(NNP_FRAMED, 3)
NNP_SHORT(NNP_FRAMED, 4)
#endif

typedef void framed_function(int, const nnp_frame *, const float *, const float *, const float *, int, int, float *,
                             ptrdiff_t);
static framed_function *const framed_tiles[NNP_TILE_VECTORS][NNP_TALL_ROWS] = NNP_TABLE_OF(framed_tile);

/* Tiles of equal height: a low one has too few sums to keep the processor busy. */
static void framed_row(ptrdiff_t pixels, int cols, const nnp_frame *s, const float *a, const float *b,
                       const float *bias, int relu, int accumulate, float *c, ptrdiff_t c_step) {
    const ptrdiff_t most = cols <= NNP_VECTOR ? NNP_TALL_ROWS : NNP_TILE_ROWS, tiles = (pixels + most - 1) / most;
    for (ptrdiff_t i = 0; i < tiles; i++) {
        const ptrdiff_t first = pixels * i / tiles, rows = pixels * (i + 1) / tiles - first;
        framed_tiles[vectors_across(cols) - 1][rows - 1](cols, s, a + first * s->a_step, b, bias, relu, accumulate,
                                                         c + first * c_step, c_step);
    }
}

/* Part of a window, TAPS runs, or parts of runs, of DEPTH floats, times b. The first tiles of a strip each ask for a
 * vector of every pixel of the next strip, `ahead` further on: memory is slower than the processor's own foresight. */
enum { NNP_WINDOW_TAPS = 5 };

NNP_INLINE void window_tile(const int TAPS, const int DEPTH, const int VECS, int cols, const nnp_frame *s,
                            ptrdiff_t segments, const nnp_segment *segment, ptrdiff_t a_offset, ptrdiff_t b_offset,
                            ptrdiff_t b_step, ptrdiff_t ahead, float *c, ptrdiff_t c_stride) {
    vec sum[NNP_WINDOW_TAPS][NNP_TALL_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    const ptrdiff_t a_step = s->a_step;
    NNP_UNROLL
    for (int t = 0; t < TAPS; t++) {
        NNP_UNROLL
        for (int i = 0; i < DEPTH; i++) {
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) sum[t][i][j] = vec_zero();
        }
    }
    for (; segments > 0; segments--, segment++) {
        const float *row[NNP_WINDOW_TAPS], *b = segment->b + b_offset;
        NNP_UNROLL
        for (int t = 0; t < TAPS; t++) row[t] = segment->a + a_offset + t * s->a_down;
        for (ptrdiff_t k = segment->length; k > 0; k--, b += b_step) {
            vec right[NNP_TILE_VECTORS];
            NNP_PREFETCH(b + ahead);
            NNP_UNROLL
            for (int j = 0; j < VECS - 1; j++) right[j] = vec_load(b + j * NNP_VECTOR);
            right[VECS - 1] = vec_load_first(b + (VECS - 1) * NNP_VECTOR, last);
            NNP_UNROLL
            for (int t = 0; t < TAPS; t++) {
                NNP_UNROLL
                for (int i = 0; i < DEPTH; i++) {
                    const vec left = vec_set(row[t][i]);
                    NNP_UNROLL
                    for (int j = 0; j < VECS; j++) sum[t][i][j] = vec_mul_add(left, right[j], sum[t][i][j]);
                }
                row[t] += a_step;
            }
        }
    }
    NNP_UNROLL
    for (int t = 0; t < TAPS; t++) {
        NNP_UNROLL
        for (int i = 0; i < DEPTH; i++, c += c_stride) {
            NNP_UNROLL
            for (int j = 0; j < VECS - 1; j++)
                vec_store(c + j * NNP_VECTOR, vec_add(vec_load(c + j * NNP_VECTOR), sum[t][i][j]));
            float *end = c + (VECS - 1) * NNP_VECTOR;
            vec_store_first(end, last, vec_add(vec_load_first(end, last), sum[t][i][VECS - 1]));
        }
    }
}

typedef void window_function(int, const nnp_frame *, ptrdiff_t, const nnp_segment *, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                             ptrdiff_t, float *, ptrdiff_t);

#define NNP_WINDOW(NAME, TAPS, DEPTH, VECS)                                                                            \
    static void NAME(int cols, const nnp_frame *s, ptrdiff_t n, const nnp_segment *segment, ptrdiff_t ao,              \
                     ptrdiff_t bo, ptrdiff_t bs, ptrdiff_t ahead, float *c, ptrdiff_t cs) {                            \
        window_tile(TAPS, DEPTH, VECS, cols, s, n, segment, ao, bo, bs, ahead, c, cs);                                 \
    }
#define NNP_PART(DEPTH, VECS) NNP_WINDOW(part_tile_##DEPTH##x##VECS, 1, DEPTH, VECS)

NNP_SHORT(NNP_PART, 1)
NNP_TALL(NNP_PART, 1)
NNP_SHORT(NNP_PART, 2)
NNP_WINDOW(window_3x3, 3, 3, 1)
#if NNP_TILE_VECTORS == 4
NNP_TALL(NNP_PART, 2)
NNP_SHORT(NNP_PART, 3)
NNP_SHORT(NNP_PART, 4)
NNP_WINDOW(window_3x9, 3, 9, 1)
NNP_WINDOW(window_5x5, 5, 5, 1)
#endif

static window_function *const part_tiles[NNP_TILE_VECTORS][NNP_TALL_ROWS] = NNP_OUTER_TABLE_OF(part_tile);

/* What does a whole window at once, so that b is read once: for 3x3 kernels of one channel, and where registers suffice
 * of three, and 5x5 of one. */
static window_function *whole_window(int cols, const nnp_frame *s) {
    if (cols > NNP_VECTOR) return NULL;
    if (s->taps == 3 && s->depth == 3) return window_3x3;
#if NNP_TILE_VECTORS == 4
    if (s->taps == 3 && s->depth == 9) return window_3x9;
    if (s->taps == 5 && s->depth == 5) return window_5x5;
#endif
    return NULL;
}

static void framed_outer(int cols, const nnp_frame *s, ptrdiff_t segments, const nnp_segment *segment,
                         ptrdiff_t b_offset, ptrdiff_t b_step, ptrdiff_t ahead, float *c, ptrdiff_t c_stride) {
    const ptrdiff_t tiles = outer_tiles_down(s->depth, cols);
    window_function *const whole = whole_window(cols, s);
    if (whole != NULL) {
        whole(cols, s, segments, segment, 0, b_offset, b_step, ahead, c, c_stride);
        return;
    }
    for (ptrdiff_t i = 0; i < s->taps * tiles; i++) {
        const ptrdiff_t t = i / tiles, first = s->depth * (i % tiles) / tiles;
        const ptrdiff_t rows = s->depth * (i % tiles + 1) / tiles - first;
        const ptrdiff_t vector = i * NNP_VECTOR;
        part_tiles[vectors_across(cols) - 1][rows - 1](cols, s, segments, segment, t * s->a_down + first, b_offset,
                                                       b_step, vector < cols ? ahead + vector : 0,
                                                       c + (t * s->depth + first) * c_stride, c_stride);
    }
}

static void copy_stream(ptrdiff_t n, const float *from, float *to) {
    const ptrdiff_t before = -(ptrdiff_t)((uintptr_t)to / sizeof(float)) & (NNP_VECTOR - 1);
    ptrdiff_t i = 0;
    for (; i < before && i < n; i++) to[i] = from[i];
    for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) vec_stream(to + i, vec_load(from + i));
    for (; i < n; i++) to[i] = from[i];
}
