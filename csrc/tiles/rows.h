/* Any number of rows of a matrix product, or of an outer product, in one call. What a call of gemm_tile costs is as
 * much as a tile's arithmetic where the summed axis is short, and the processor can begin a tile before it has stored
 * the last one. */

/* The end of a tile whose rows of C are c_step apart: + bias unless NULL, then the ReLU. */
NNP_INLINE void store_tile(const int ROWS, const int VECS, vec (*sum)[NNP_TILE_VECTORS], vec_mask last,
                           const float *bias, int relu, float *c, ptrdiff_t c_step) {
    NNP_UNROLL
    for (int j = 0; j < VECS; j++) {
        vec add = vec_zero();
        if (bias != NULL)
            add = j < VECS - 1 ? vec_load(bias + j * NNP_VECTOR) : vec_load_first(bias + j * NNP_VECTOR, last);
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) {
            float *at = c + i * c_step + j * NNP_VECTOR;
            vec total = bias != NULL ? vec_add(sum[i][j], add) : sum[i][j];
            if (relu) total = vec_relu(total);
            if (j < VECS - 1)
                vec_store(at, total);
            else
                vec_store_first(at, last, total);
        }
    }
}

/* A tile, its rows of A a_step apart. If PACK, B's rows are copied to `packed` as they go by. */
NNP_INLINE void strided_tile(const int ROWS, const int VECS, const int PACK, int cols, ptrdiff_t depth, const float *a,
                             ptrdiff_t a_step, const float *b, ptrdiff_t b_step, float *packed, const float *bias,
                             int relu, int accumulate, float *c, ptrdiff_t c_step) {
    vec sum[NNP_TALL_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    const float *high = a + NNP_TILE_ROWS * a_step;
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++)
            sum[i][j] = tile_start(accumulate, c + i * c_step + j * NNP_VECTOR, j < VECS - 1, last);
    }
    if (!PACK) b_step = VECS * NNP_VECTOR;
    for (ptrdiff_t k = 0; k < depth; k++, a++, high++, b += b_step) {
        vec right[NNP_TILE_VECTORS];
        ask_for_row(VECS, b + NNP_AHEAD * b_step);
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) {
            const float *from = b + j * NNP_VECTOR;
            right[j] = PACK && j == VECS - 1 ? vec_load_first(from, last) : vec_load(from);
            if (PACK) vec_store(packed + j * NNP_VECTOR, right[j]);
        }
        if (PACK) packed += VECS * NNP_VECTOR;
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) {
            const vec left = vec_set(i < NNP_TILE_ROWS ? a[i * a_step] : high[(i - NNP_TILE_ROWS) * a_step]);
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
        }
    }
    store_tile(ROWS, VECS, sum, last, bias, relu, c, c_step);
}

/* Twelve rows where two vectors across leave registers for them. */
enum { NNP_PAIR_ROWS = NNP_TILE_VECTORS == 4 ? NNP_TALL_ROWS : NNP_TILE_ROWS };

/* Rows from the first that whole tiles cover; the caller does the rest. */
#define NNP_ROWS(VECS, HEIGHT)                                                                                         \
    static ptrdiff_t gemm_rows_##VECS(ptrdiff_t rows, int cols, ptrdiff_t depth, const float *a, ptrdiff_t a_step,     \
                                      const float *b, ptrdiff_t b_step, float *packed, const float *bias, int relu,    \
                                      int accumulate, float *c, ptrdiff_t c_step) {                                    \
        ptrdiff_t i = 0;                                                                                               \
        if (packed != NULL && rows >= HEIGHT) {                                                                        \
            strided_tile(HEIGHT, VECS, 1, cols, depth, a, a_step, b, b_step, packed, bias, relu, accumulate, c,        \
                         c_step);                                                                                      \
            b = packed;                                                                                                \
            i = HEIGHT;                                                                                                \
        }                                                                                                              \
        for (; i + HEIGHT <= rows; i += HEIGHT)                                                                        \
            strided_tile(HEIGHT, VECS, 0, cols, depth, a + i * a_step, a_step, b, 0, NULL, bias, relu, accumulate,     \
                         c + i * c_step, c_step);                                                                      \
        return i;                                                                                                      \
    }
NNP_ROWS(1, NNP_TALL_ROWS)
NNP_ROWS(2, NNP_PAIR_ROWS)
#if NNP_TILE_VECTORS == 4
NNP_ROWS(3, NNP_TILE_ROWS)
NNP_ROWS(4, NNP_TILE_ROWS)
#define NNP_ROWS_TABLE                                                                                                 \
    { gemm_rows_1, gemm_rows_2, gemm_rows_3, gemm_rows_4 }
#else
#define NNP_ROWS_TABLE                                                                                                 \
    { gemm_rows_1, gemm_rows_2 }
#endif

typedef ptrdiff_t gemm_rows_function(ptrdiff_t, int, ptrdiff_t, const float *, ptrdiff_t, const float *, ptrdiff_t,
                                     float *, const float *, int, int, float *, ptrdiff_t);
static gemm_rows_function *const gemm_rows_of[NNP_TILE_VECTORS] = NNP_ROWS_TABLE;

static void gemm_rows(ptrdiff_t rows, int cols, ptrdiff_t depth, const float *a, ptrdiff_t a_step, const float *b,
                      ptrdiff_t b_step, float *packed, const float *bias, int relu, int accumulate, float *c,
                      ptrdiff_t c_step) {
    const int vectors = vectors_across(cols);
    ptrdiff_t i =
        gemm_rows_of[vectors - 1](rows, cols, depth, a, a_step, b, b_step, packed, bias, relu, accumulate, c, c_step);
    if (packed != NULL) {
        if (i == 0) pack_panel(depth, cols, 1.0f, b, b_step, 1, packed);
        b = packed;
    }
    while (i < rows) {
        const float *left[NNP_TALL_ROWS];
        float *out[NNP_TALL_ROWS];
        const int most = vectors == 1 ? NNP_TALL_ROWS : NNP_TILE_ROWS;
        const int height = (int)(rows - i < most ? rows - i : most);
        for (int r = 0; r < height; r++) left[r] = a + (i + r) * a_step, out[r] = c + (i + r) * c_step;
        gemm_tile(height, cols, 1, depth, left, 0, b, bias, relu, accumulate, out);
        i += height;
    }
}

/* Tiles of equal height: a low one has too few sums to keep the processor busy. */
static ptrdiff_t outer_tiles_down(ptrdiff_t rows, int cols) {
    const int vectors = vectors_across(cols);
    const ptrdiff_t most = vectors == 1 ? NNP_TALL_ROWS : vectors == 2 ? NNP_PAIR_ROWS : NNP_TILE_ROWS;
    return (rows + most - 1) / most;
}

static void outer_rows(ptrdiff_t rows, int cols, ptrdiff_t depth, const float *a, ptrdiff_t a_step, const float *b,
                       ptrdiff_t b_step, float *c, ptrdiff_t c_step) {
    const nnp_segment all = {a, b, depth};
    const ptrdiff_t tiles = outer_tiles_down(rows, cols);
    for (ptrdiff_t i = 0; i < tiles; i++) {
        const ptrdiff_t first = rows * i / tiles, height = rows * (i + 1) / tiles - first;
        outer_tiles[vectors_across(cols) - 1][height - 1](cols, 1, &all, first, a_step, 0, 0, b_step, 0,
                                                          c + first * c_step, c_step);
    }
}
