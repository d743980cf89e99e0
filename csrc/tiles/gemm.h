/* Matrix-multiply tiles. Every accumulator is one chain of multiply-adds in the order of the summed axis, so an
 * element's bits do not depend on where in a tile it falls. */
#include <assert.h>
#include <stdint.h>

#if defined(__clang__)
#define NNP_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define NNP_UNROLL _Pragma("GCC unroll 16")
#else
#define NNP_UNROLL
#endif

#if defined(__GNUC__)
#define NNP_INLINE static inline __attribute__((always_inline))
#else
#define NNP_INLINE static inline
#endif

/* Ask for a cache line that is wanted soon; there may be nothing. */
#if defined(__GNUC__)
#define NNP_PREFETCH(P) __builtin_prefetch(P)
#else
#define NNP_PREFETCH(P) (void)(P)
#endif

/* NaN stays NaN. */
NNP_INLINE vec vec_relu(vec v) { return vec_select(vec_less_equal(v, vec_zero()), vec_zero(), v); }

/* Ask for the cache line `ahead` floats after P, where there may be nothing, to come as near as the second level. */
#if defined(__GNUC__)
#define NNP_PREFETCH_AT(P, AHEAD) __builtin_prefetch((const void *)((uintptr_t)(P) + 4 * (uintptr_t)(AHEAD)), 0, 2)
#else
#define NNP_PREFETCH_AT(P, AHEAD) ((void)(P), (void)(AHEAD))
#endif

/* The tile's sums start from C or from zero. The last vector of a row may be a part: `last` masks it. */
NNP_INLINE vec tile_start(int accumulate, const float *c, int whole, vec_mask last) {
    if (!accumulate) return vec_zero();
    return whole ? vec_load(c) : vec_load_first(c, last);
}

/* Rows of B that a tile asks for before it uses them, and the floats of a cache line. */
enum { NNP_AHEAD = 8, NNP_LINE = 16 };

/* Asks for a row of B that is so wide that it comes from the second-level cache too late. */
NNP_INLINE void ask_for_row(const int VECS, const float *b) {
    NNP_UNROLL
    for (int j = 0; VECS * NNP_VECTOR > 2 * NNP_LINE && j < VECS * NNP_VECTOR; j += NNP_LINE) NNP_PREFETCH(b + j);
}

NNP_INLINE void gemm_tile_body(const int ROWS, const int VECS, int cols, ptrdiff_t taps, ptrdiff_t depth,
                               const float *const *a, ptrdiff_t a_stride, const float *b, const float *bias, int relu,
                               int accumulate, float *const *c) {
    vec sum[NNP_TALL_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++)
            sum[i][j] = tile_start(accumulate, accumulate ? c[i] + j * NNP_VECTOR : NULL, j < VECS - 1, last);
    }
    for (ptrdiff_t t = 0; t < taps; t++, a += a_stride) {
        const float *row[NNP_TALL_ROWS];
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) row[i] = a[i] + depth;
        for (ptrdiff_t k = -depth; k < 0; k++) {
            vec right[NNP_TILE_VECTORS];
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) right[j] = vec_load(b + j * NNP_VECTOR);
            ask_for_row(VECS, b + NNP_AHEAD * VECS * NNP_VECTOR);
            b += VECS * NNP_VECTOR;
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) {
                const vec left = vec_set(row[i][k]);
                NNP_UNROLL
                for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
            }
        }
    }
    if (bias != NULL) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) {
            const vec add =
                j < VECS - 1 ? vec_load(bias + j * NNP_VECTOR) : vec_load_first(bias + j * NNP_VECTOR, last);
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) sum[i][j] = vec_add(sum[i][j], add);
        }
    }
    if (relu) {
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) {
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) sum[i][j] = vec_relu(sum[i][j]);
        }
    }
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS - 1; j++) vec_store(c[i] + j * NNP_VECTOR, sum[i][j]);
        vec_store_first(c[i] + (VECS - 1) * NNP_VECTOR, last, sum[i][VECS - 1]);
    }
}

NNP_INLINE void outer_tile_body(const int ROWS, const int VECS, int cols, ptrdiff_t segments,
                                const nnp_segment *segment, ptrdiff_t a_offset, ptrdiff_t a_step, ptrdiff_t a_ahead,
                                ptrdiff_t b_offset, ptrdiff_t b_step, ptrdiff_t b_ahead, float *c, ptrdiff_t c_stride) {
    vec sum[NNP_TALL_ROWS][NNP_TILE_VECTORS];
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) sum[i][j] = vec_zero();
    }
    for (ptrdiff_t s = 0; s < segments; s++) {
        const float *a = segment[s].a + a_offset, *b = segment[s].b + b_offset;
        for (ptrdiff_t k = segment[s].length; k > 0; k--, a += a_step, b += b_step) {
            vec right[NNP_TILE_VECTORS];
            NNP_UNROLL
            for (int j = 0; j < VECS - 1; j++) right[j] = vec_load(b + j * NNP_VECTOR);
            right[VECS - 1] = vec_load_first(b + (VECS - 1) * NNP_VECTOR, last);
            if (VECS > 1) {
                NNP_PREFETCH_AT(a, a_ahead);
                NNP_PREFETCH_AT(b, b_ahead);
            }
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) {
                const vec left = vec_set(a[i]);
                NNP_UNROLL
                for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
            }
        }
    }
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) {
            float *at = c + i * c_stride + j * NNP_VECTOR;
            const vec total = vec_add(tile_start(1, at, j < VECS - 1, last), sum[i][j]);
            if (j < VECS - 1)
                vec_store(at, total);
            else
                vec_store_first(at, last, total);
        }
    }
}

/* One function per tile size: rows 1 to 6, vectors 1 to NNP_TILE_VECTORS; and rows 7 to 12 of one vector. */
#define NNP_OUTER_TILE(ROWS, VECS)                                                                                     \
    static void outer_tile_##ROWS##x##VECS(int cols, ptrdiff_t n, const nnp_segment *s, ptrdiff_t ao, ptrdiff_t as,    \
                                           ptrdiff_t aa, ptrdiff_t bo, ptrdiff_t bs, ptrdiff_t ba, float *c,           \
                                           ptrdiff_t cs) {                                                             \
        outer_tile_body(ROWS, VECS, cols, n, s, ao, as, aa, bo, bs, ba, c, cs);                                        \
    }
#define NNP_TILE(ROWS, VECS)                                                                                           \
    static void gemm_tile_##ROWS##x##VECS(int cols, ptrdiff_t taps, ptrdiff_t depth, const float *const *a,            \
                                          ptrdiff_t a_stride, const float *b, const float *bias, int relu,             \
                                          int accumulate, float *const *c) {                                           \
        gemm_tile_body(ROWS, VECS, cols, taps, depth, a, a_stride, b, bias, relu, accumulate, c);                      \
    }                                                                                                                  \
    NNP_OUTER_TILE(ROWS, VECS)
#define NNP_SHORT(TILE, VECS) TILE(1, VECS) TILE(2, VECS) TILE(3, VECS) TILE(4, VECS) TILE(5, VECS) TILE(6, VECS)
#define NNP_TALL(TILE, VECS) TILE(7, VECS) TILE(8, VECS) TILE(9, VECS) TILE(10, VECS) TILE(11, VECS) TILE(12, VECS)
#define NNP_ROWS_OF(OP, VECS) OP##_1x##VECS, OP##_2x##VECS, OP##_3x##VECS, OP##_4x##VECS, OP##_5x##VECS, OP##_6x##VECS
#define NNP_TALL_OF(OP, VECS)                                                                                          \
    OP##_7x##VECS, OP##_8x##VECS, OP##_9x##VECS, OP##_10x##VECS, OP##_11x##VECS, OP##_12x##VECS

NNP_SHORT(NNP_TILE, 1)
NNP_TALL(NNP_TILE, 1)
NNP_SHORT(NNP_TILE, 2)
#if NNP_TILE_VECTORS == 4
NNP_TALL(NNP_OUTER_TILE, 2)
NNP_SHORT(NNP_TILE, 3)
NNP_SHORT(NNP_TILE, 4)
#define NNP_TABLE_OF(OP)                                                                                               \
    {                                                                                                                  \
        {NNP_ROWS_OF(OP, 1), NNP_TALL_OF(OP, 1)}, {NNP_ROWS_OF(OP, 2)}, {NNP_ROWS_OF(OP, 3)}, { NNP_ROWS_OF(OP, 4) }   \
    }
/* Of outer products, which need no pointers to rows: two vectors across, too, leave registers for twelve rows. */
#define NNP_OUTER_TABLE_OF(OP)                                                                                         \
    {                                                                                                                  \
        {NNP_ROWS_OF(OP, 1), NNP_TALL_OF(OP, 1)}, {NNP_ROWS_OF(OP, 2), NNP_TALL_OF(OP, 2)}, {NNP_ROWS_OF(OP, 3)}, {    \
            NNP_ROWS_OF(OP, 4)                                                                                         \
        }                                                                                                              \
    }
#else
#define NNP_TABLE_OF(OP)                                                                                               \
    {                                                                                                                  \
        {NNP_ROWS_OF(OP, 1), NNP_TALL_OF(OP, 1)}, { NNP_ROWS_OF(OP, 2) }                                               \
    }
#define NNP_OUTER_TABLE_OF NNP_TABLE_OF
#endif

typedef void gemm_tile_function(int, ptrdiff_t, ptrdiff_t, const float *const *, ptrdiff_t, const float *,
                                const float *, int, int, float *const *);
typedef void outer_tile_function(int, ptrdiff_t, const nnp_segment *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                 ptrdiff_t, ptrdiff_t, float *, ptrdiff_t);
static gemm_tile_function *const gemm_tiles[NNP_TILE_VECTORS][NNP_TALL_ROWS] = NNP_TABLE_OF(gemm_tile);
static outer_tile_function *const outer_tiles[NNP_TILE_VECTORS][NNP_TALL_ROWS] = NNP_OUTER_TABLE_OF(outer_tile);

static int vectors_across(int cols) { return (cols + NNP_VECTOR - 1) / NNP_VECTOR; }

static void check_tile(int rows, int cols) {
    assert(1 <= cols && cols <= NNP_TILE_VECTORS * NNP_VECTOR);
    assert(1 <= rows && rows <= (cols <= NNP_VECTOR ? NNP_TALL_ROWS : NNP_TILE_ROWS));
}

static void gemm_tile(int rows, int cols, ptrdiff_t taps, ptrdiff_t depth, const float *const *a, ptrdiff_t a_stride,
                      const float *b, const float *bias, int relu, int accumulate, float *const *c) {
    check_tile(rows, cols);
    gemm_tiles[vectors_across(cols) - 1][rows - 1](cols, taps, depth, a, a_stride, b, bias, relu, accumulate, c);
}

static void outer_tile(int rows, int cols, ptrdiff_t segments, const nnp_segment *segment, ptrdiff_t a_offset,
                       ptrdiff_t a_step, ptrdiff_t a_ahead, ptrdiff_t b_offset, ptrdiff_t b_step, ptrdiff_t b_ahead,
                       float *c, ptrdiff_t c_stride) {
    check_tile(rows, cols);
    outer_tiles[vectors_across(cols) - 1][rows - 1](cols, segments, segment, a_offset, a_step, a_ahead, b_offset,
                                                    b_step, b_ahead, c, c_stride);
}

/* A square of vectors of src, times factor, transposed into dst; or only its first rows and columns. */
NNP_INLINE void transpose_square(const int whole, int rows, int cols, vec factor, const float *src, ptrdiff_t src_ld,
                                 float *dst, ptrdiff_t dst_ld) {
    const vec_mask across = vec_first(cols), down = vec_first(rows);
    vec square[NNP_VECTOR];
    NNP_UNROLL
    for (int i = 0; i < NNP_VECTOR; i++) {
        if (whole)
            square[i] = vec_mul(factor, vec_load(src + i * src_ld));
        else
            square[i] = i < rows ? vec_mul(factor, vec_load_first(src + i * src_ld, across)) : vec_zero();
    }
    vec_transpose(square);
    NNP_UNROLL
    for (int j = 0; j < NNP_VECTOR; j++) {
        if (whole)
            vec_store(dst + j * dst_ld, square[j]);
        else if (j < cols)
            vec_store_first(dst + j * dst_ld, down, square[j]);
    }
}

/* dst (cols, rows) = factor * src (rows, cols) transposed, by squares of vectors. src_ld from row to row of src, dst_ld
 * of dst. */
static void transpose(ptrdiff_t rows, ptrdiff_t cols, float factor, const float *src, ptrdiff_t src_ld, float *dst,
                      ptrdiff_t dst_ld) {
    const vec times = vec_set(factor);
    for (ptrdiff_t i = 0; i < rows; i += NNP_VECTOR)
        for (ptrdiff_t j = 0; j < cols; j += NNP_VECTOR) {
            const int h = (int)(rows - i < NNP_VECTOR ? rows - i : NNP_VECTOR);
            const int w = (int)(cols - j < NNP_VECTOR ? cols - j : NNP_VECTOR);
            const float *from = src + i * src_ld + j;
            float *to = dst + j * dst_ld + i;
            if (h == NNP_VECTOR && w == NNP_VECTOR)
                transpose_square(1, h, w, times, from, src_ld, to, dst_ld);
            else if (4 * h * w >= NNP_VECTOR * NNP_VECTOR)
                transpose_square(0, h, w, times, from, src_ld, to, dst_ld);
            else
                for (int r = 0; r < h; r++)
                    for (int c = 0; c < w; c++) to[c * dst_ld + r] = factor * from[r * src_ld + c];
        }
}

/* With no axis contiguous in the source, by strips of the nearer one: a cache line each. */
enum { STRIP = 16, THIN = 4 };

/* Rows of a panel whose columns lie side by side in the source, too. */
NNP_INLINE void pack_rows(const int VECS, ptrdiff_t depth, int cols, float alpha, const float *b, ptrdiff_t k_stride,
                          float *panel) {
    const vec_mask last = vec_first(cols - (VECS - 1) * NNP_VECTOR);
    const vec times = vec_set(alpha);
    for (ptrdiff_t k = 0; k < depth; k++, b += k_stride, panel += VECS * NNP_VECTOR) {
        NNP_UNROLL
        for (int j = 0; j < VECS - 1; j++)
            vec_store(panel + j * NNP_VECTOR, vec_mul(times, vec_load(b + j * NNP_VECTOR)));
        vec_store(panel + (VECS - 1) * NNP_VECTOR, vec_mul(times, vec_load_first(b + (VECS - 1) * NNP_VECTOR, last)));
    }
}

static void pack_panel(ptrdiff_t depth, int cols, float alpha, const float *b, ptrdiff_t k_stride, ptrdiff_t n_stride,
                       float *panel) {
    const int width = vectors_across(cols) * NNP_VECTOR;
    if (n_stride == 1) {
        switch (vectors_across(cols)) {
        case 1:
            pack_rows(1, depth, cols, alpha, b, k_stride, panel);
            return;
        case 2:
            pack_rows(2, depth, cols, alpha, b, k_stride, panel);
            return;
        case 3:
            pack_rows(3, depth, cols, alpha, b, k_stride, panel);
            return;
        default:
            pack_rows(4, depth, cols, alpha, b, k_stride, panel);
            return;
        }
    }
    if (k_stride == 1)
        transpose(cols, depth, alpha, b, n_stride, panel, width);
    else
        for (ptrdiff_t k0 = 0; k0 < depth; k0 += STRIP)
            for (int j = 0; j < cols; j++)
                for (ptrdiff_t k = k0; k < k0 + STRIP && k < depth; k++)
                    panel[k * width + j] = alpha * b[k * k_stride + j * n_stride];
    for (ptrdiff_t k = 0; k < depth; k++)
        for (int j = cols; j < width; j++) panel[k * width + j] = 0.0f;
}

static void copy_matrix(ptrdiff_t rows, ptrdiff_t cols, const float *src, ptrdiff_t row_stride, ptrdiff_t col_stride,
                        float *dst, ptrdiff_t ld) {
    if (col_stride == 1) {
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < cols; j++) dst[i * ld + j] = src[i * row_stride + j];
        return;
    }
    if (row_stride == 1 && rows >= THIN && cols >= THIN) {
        transpose(cols, rows, 1.0f, src, col_stride, dst, ld);
        return;
    }
    if (cols < THIN) {
        for (ptrdiff_t j = 0; j < cols; j++)
            for (ptrdiff_t i = 0; i < rows; i++) dst[i * ld + j] = src[i * row_stride + j * col_stride];
        return;
    }
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += STRIP)
        for (ptrdiff_t j = 0; j < cols; j++)
            for (ptrdiff_t i = i0; i < i0 + STRIP && i < rows; i++)
                dst[i * ld + j] = src[i * row_stride + j * col_stride];
}

static float vec_sum(vec v) {
    float lane[NNP_VECTOR], sum = 0.0f;
    vec_store(lane, v);
    for (int i = 0; i < NNP_VECTOR; i++) sum += lane[i];
    return sum;
}

/* Each row has two chains of vectors, the even and the odd ones. */
NNP_INLINE void dot_tile_body(const int ROWS, ptrdiff_t depth, const float *const *a, const float *x, float *out) {
    vec even[NNP_TILE_ROWS], odd[NNP_TILE_ROWS];
    const float *row[NNP_TILE_ROWS];
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) even[i] = odd[i] = vec_zero(), row[i] = a[i];
    ptrdiff_t k = 0;
    for (; k + 2 * NNP_VECTOR <= depth; k += 2 * NNP_VECTOR) {
        const vec x0 = vec_load(x + k), x1 = vec_load(x + k + NNP_VECTOR);
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) {
            even[i] = vec_mul_add(vec_load(row[i] + k), x0, even[i]);
            odd[i] = vec_mul_add(vec_load(row[i] + k + NNP_VECTOR), x1, odd[i]);
        }
    }
    for (; k < depth; k += NNP_VECTOR) {
        const vec_mask last = vec_first((int)(depth - k < NNP_VECTOR ? depth - k : NNP_VECTOR));
        const vec x0 = vec_load_first(x + k, last);
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) even[i] = vec_mul_add(vec_load_first(row[i] + k, last), x0, even[i]);
    }
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) out[i] = vec_sum(vec_add(even[i], odd[i]));
}

static void dot_tile(int rows, ptrdiff_t depth, const float *const *a, const float *x, float *out) {
    switch (rows) {
    case 1:
        dot_tile_body(1, depth, a, x, out);
        return;
    case 2:
        dot_tile_body(2, depth, a, x, out);
        return;
    case 3:
        dot_tile_body(3, depth, a, x, out);
        return;
    case 4:
        dot_tile_body(4, depth, a, x, out);
        return;
    case 5:
        dot_tile_body(5, depth, a, x, out);
        return;
    default:
        dot_tile_body(6, depth, a, x, out);
        return;
    }
}

/* Twelve chains hide a latency of up to six cycles at two multiply-adds a cycle. The values stay finite: x <- x/2 +
 * 1/2. */
static float multiply_add_peak(ptrdiff_t rounds) {
    const vec half = vec_set(0.5f);
    vec x0 = vec_set(0.00f), x1 = vec_set(0.01f), x2 = vec_set(0.02f), x3 = vec_set(0.03f), x4 = vec_set(0.04f);
    vec x5 = vec_set(0.05f), x6 = vec_set(0.06f), x7 = vec_set(0.07f), x8 = vec_set(0.08f), x9 = vec_set(0.09f);
    vec x10 = vec_set(0.10f), x11 = vec_set(0.11f);
    float out[NNP_VECTOR];
    for (ptrdiff_t r = 0; r < rounds; r++) {
        x0 = vec_mul_add(x0, half, half), x1 = vec_mul_add(x1, half, half), x2 = vec_mul_add(x2, half, half);
        x3 = vec_mul_add(x3, half, half), x4 = vec_mul_add(x4, half, half), x5 = vec_mul_add(x5, half, half);
        x6 = vec_mul_add(x6, half, half), x7 = vec_mul_add(x7, half, half), x8 = vec_mul_add(x8, half, half);
        x9 = vec_mul_add(x9, half, half), x10 = vec_mul_add(x10, half, half), x11 = vec_mul_add(x11, half, half);
    }
    x0 = vec_add(vec_add(vec_add(x0, x1), vec_add(x2, x3)), vec_add(x4, x5));
    x6 = vec_add(vec_add(vec_add(x6, x7), vec_add(x8, x9)), vec_add(x10, x11));
    vec_store(out, vec_add(x0, x6));
    return out[0];
}
