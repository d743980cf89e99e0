/* Depthwise convolution and its weight gradient. Every channel has a kernel of its own, so vectors go along the
 * channels, and what counts is how often memory is read.
 *
 * Where neighbours in the output read neighbours in the source (step and dilation 1) and a row of the kernel has 3, 5
 * or 7 taps, blocks of pixels are computed from registers that hold one row of the source after the other, each loaded
 * once; columns outside the image are zeros. Everything else goes by tiles of up to six pixels of a row, which read
 * memory tap by tap; a pixel whose window reaches over the left or right edge is by itself, with the taps inside. */

enum { BLOCK_PIXELS = 4, GRAD_PIXELS = 7, MOST_TAPS = 7 };

/* Some pixels of the output, from y_at, and what they read: `rows` and `cols` are what lies inside the image, of the
 * kernel for a tile, of the source for a block; x_at is the first of it. The forward pass reads x, w and bias, and
 * writes y; the gradient reads x and dy, and adds to dw. */
typedef struct {
    const float *x, *w, *bias, *dy;
    float *y, *dw;
    ptrdiff_t x_at, x_row, x_tap, x_pixel, w_row, w_tap, y_at, y_row, y_pixel;
    range rows, cols;
    ptrdiff_t height, taps_h; /* of a block: rows of output, rows of the kernel */
    int relu;
} depthwise_window;

/* One vector of channels, or the part of one that is left. */
NNP_INLINE vec load_channels(const float *p, int whole, vec_mask last) {
    return whole ? vec_load(p) : vec_load_first(p, last);
}

NNP_INLINE void store_channels(float *p, int whole, vec_mask last, vec v) {
    if (whole)
        vec_store(p, v);
    else
        vec_store_first(p, last, v);
}

NNP_INLINE void finish_and_store(const int PIXELS, const int WHOLE, vec_mask last, const depthwise_window *s,
                                 ptrdiff_t c, vec *sum, float *y) {
    if (s->bias != NULL) {
        const vec add = load_channels(s->bias + c, WHOLE, last);
        NNP_UNROLL
        for (int p = 0; p < PIXELS; p++) sum[p] = vec_add(sum[p], add);
    }
    if (s->relu) {
        NNP_UNROLL
        for (int p = 0; p < PIXELS; p++) sum[p] = vec_relu(sum[p]);
    }
    NNP_UNROLL
    for (int p = 0; p < PIXELS; p++) store_channels(y + p * s->y_pixel, WHOLE, last, sum[p]);
}

/* A pixel's sum is one chain over (kh, kw). */
NNP_INLINE void depthwise_tile(const int PIXELS, const int WHOLE, vec_mask last, const depthwise_window *s,
                               ptrdiff_t c) {
    const float *x = s->x + s->x_at + c;
    vec sum[NNP_TILE_ROWS];
    NNP_UNROLL
    for (int p = 0; p < PIXELS; p++) sum[p] = vec_zero();
    for (ptrdiff_t kh = s->rows.from; kh < s->rows.to; kh++, x += s->x_row) {
        const float *at = x, *weight = s->w + c + kh * s->w_row + s->cols.from * s->w_tap;
        for (ptrdiff_t kw = s->cols.from; kw < s->cols.to; kw++, at += s->x_tap, weight += s->w_tap) {
            const vec right = load_channels(weight, WHOLE, last);
            NNP_UNROLL
            for (int p = 0; p < PIXELS; p++)
                sum[p] = vec_mul_add(load_channels(at + p * s->x_pixel, WHOLE, last), right, sum[p]);
        }
    }
    finish_and_store(PIXELS, WHOLE, last, s, c, sum, s->y + s->y_at + c);
}

/* dw += the products of some pixels, each tap's summed by itself first. */
NNP_INLINE void depthwise_grad_tile(const int PIXELS, const int WHOLE, vec_mask last, const depthwise_window *s,
                                    ptrdiff_t c) {
    const float *x = s->x + s->x_at + c;
    vec right[NNP_TILE_ROWS];
    NNP_UNROLL
    for (int p = 0; p < PIXELS; p++) right[p] = load_channels(s->dy + s->y_at + c + p * s->y_pixel, WHOLE, last);
    for (ptrdiff_t kh = s->rows.from; kh < s->rows.to; kh++, x += s->x_row) {
        const float *at = x;
        float *to = s->dw + c + kh * s->w_row + s->cols.from * s->w_tap;
        for (ptrdiff_t kw = s->cols.from; kw < s->cols.to; kw++, at += s->x_tap, to += s->w_tap) {
            vec sum = vec_mul(load_channels(at, WHOLE, last), right[0]);
            NNP_UNROLL
            for (int p = 1; p < PIXELS; p++)
                sum = vec_mul_add(load_channels(at + p * s->x_pixel, WHOLE, last), right[p], sum);
            store_channels(to, WHOLE, last, vec_add(load_channels(to, WHOLE, last), sum));
        }
    }
}

/* The source columns of a block in one row; x lies at the first inside. */
NNP_INLINE void load_columns(const int COLUMNS, const int EDGE, const int WHOLE, vec_mask last,
                             const depthwise_window *s, const float *x, vec *col) {
    NNP_UNROLL
    for (int j = 0; j < COLUMNS; j++)
        if (EDGE && (j < s->cols.from || j >= s->cols.to))
            col[j] = vec_zero();
        else
            col[j] = load_channels(x + (EDGE ? j - s->cols.from : j) * s->x_tap, WHOLE, last);
}

/* One or two rows of four pixels. Source row r lies under kernel row r - i of output row i. */
NNP_INLINE void depthwise_block(const int TAPS, const int EDGE, const int WHOLE, vec_mask last,
                                const depthwise_window *s, ptrdiff_t c) {
    const float *x = s->x + s->x_at + c;
    vec sum[NNP_DEPTHWISE_ROWS][BLOCK_PIXELS], col[BLOCK_PIXELS + MOST_TAPS - 1];
    NNP_UNROLL
    for (int i = 0; i < NNP_DEPTHWISE_ROWS; i++) {
        NNP_UNROLL
        for (int p = 0; p < BLOCK_PIXELS; p++) sum[i][p] = vec_zero();
    }
    for (ptrdiff_t r = s->rows.from; r < s->rows.to; r++, x += s->x_row) {
        load_columns(BLOCK_PIXELS + TAPS - 1, EDGE, WHOLE, last, s, x, col);
        NNP_UNROLL
        for (int i = 0; i < NNP_DEPTHWISE_ROWS; i++) {
            if (i >= s->height || r < i || r - i >= s->taps_h) continue;
            NNP_UNROLL
            for (int kw = 0; kw < TAPS; kw++) {
                const vec right = load_channels(s->w + c + (r - i) * s->w_row + kw * s->w_tap, WHOLE, last);
                NNP_UNROLL
                for (int p = 0; p < BLOCK_PIXELS; p++) sum[i][p] = vec_mul_add(col[p + kw], right, sum[i][p]);
            }
        }
    }
    NNP_UNROLL
    for (int i = 0; i < NNP_DEPTHWISE_ROWS; i++)
        if (i < s->height) finish_and_store(BLOCK_PIXELS, WHOLE, last, s, c, sum[i], s->y + s->y_at + c + i * s->y_row);
}

/* As depthwise_grad_tile, for one or two rows of seven pixels. */
NNP_INLINE void depthwise_grad_block(const int TAPS, const int EDGE, const int WHOLE, vec_mask last,
                                     const depthwise_window *s, ptrdiff_t c) {
    const float *x = s->x + s->x_at + c, *dy = s->dy + s->y_at + c;
    vec right[NNP_DEPTHWISE_ROWS][GRAD_PIXELS], col[GRAD_PIXELS + MOST_TAPS - 1];
    NNP_UNROLL
    for (int i = 0; i < NNP_DEPTHWISE_ROWS; i++) {
        NNP_UNROLL
        for (int p = 0; p < GRAD_PIXELS; p++)
            right[i][p] = i < s->height ? load_channels(dy + i * s->y_row + p * s->y_pixel, WHOLE, last) : vec_zero();
    }
    for (ptrdiff_t r = s->rows.from; r < s->rows.to; r++, x += s->x_row) {
        load_columns(GRAD_PIXELS + TAPS - 1, EDGE, WHOLE, last, s, x, col);
        NNP_UNROLL
        for (int i = 0; i < NNP_DEPTHWISE_ROWS; i++) {
            if (i >= s->height || r < i || r - i >= s->taps_h) continue;
            NNP_UNROLL
            for (int kw = 0; kw < TAPS; kw++) {
                float *const to = s->dw + c + (r - i) * s->w_row + kw * s->w_tap;
                vec sum = vec_mul(col[kw], right[i][0]);
                NNP_UNROLL
                for (int p = 1; p < GRAD_PIXELS; p++) sum = vec_mul_add(col[p + kw], right[i][p], sum);
                store_channels(to, WHOLE, last, vec_add(load_channels(to, WHOLE, last), sum));
            }
        }
    }
}

/* NAME(channels, window): BODY with these constants for each vector of channels. */
#define NNP_DEPTHWISE(NAME, BODY, ...)                                                                                 \
    static void NAME(ptrdiff_t channels, const depthwise_window *s) {                                                  \
        const vec_mask last = vec_first((int)(channels % NNP_VECTOR));                                                 \
        ptrdiff_t c = 0;                                                                                               \
        for (; c + NNP_VECTOR <= channels; c += NNP_VECTOR) BODY(__VA_ARGS__, 1, last, s, c);                          \
        if (c < channels) BODY(__VA_ARGS__, 0, last, s, c);                                                            \
    }
#define NNP_DEPTHWISE_TILES(P)                                                                                         \
    NNP_DEPTHWISE(depthwise_tile_##P, depthwise_tile, P)                                                               \
    NNP_DEPTHWISE(depthwise_grad_tile_##P, depthwise_grad_tile, P)
#define NNP_DEPTHWISE_BLOCKS(TAPS)                                                                                     \
    NNP_DEPTHWISE(depthwise_block_##TAPS##_inside, depthwise_block, TAPS, 0)                                           \
    NNP_DEPTHWISE(depthwise_block_##TAPS##_edge, depthwise_block, TAPS, 1)                                             \
    NNP_DEPTHWISE(depthwise_grad_block_##TAPS##_inside, depthwise_grad_block, TAPS, 0)                                 \
    NNP_DEPTHWISE(depthwise_grad_block_##TAPS##_edge, depthwise_grad_block, TAPS, 1)
NNP_DEPTHWISE_TILES(1)
NNP_DEPTHWISE_TILES(2)
NNP_DEPTHWISE_TILES(3)
NNP_DEPTHWISE_TILES(4)
NNP_DEPTHWISE_TILES(5)
NNP_DEPTHWISE_TILES(6)
NNP_DEPTHWISE_BLOCKS(3)
NNP_DEPTHWISE_BLOCKS(5)
NNP_DEPTHWISE_BLOCKS(7)

typedef void depthwise_function(ptrdiff_t, const depthwise_window *);
#define NNP_TILES_OF(OP) {OP##_1, OP##_2, OP##_3, OP##_4, OP##_5, OP##_6}
#define NNP_BLOCKS_OF(OP)                                                                                              \
    {                                                                                                                  \
        {OP##_3_inside, OP##_3_edge}, {OP##_5_inside, OP##_5_edge}, { OP##_7_inside, OP##_7_edge }                     \
    }
static depthwise_function *const depthwise_tiles[NNP_TILE_ROWS] = NNP_TILES_OF(depthwise_tile);
static depthwise_function *const depthwise_grad_tiles[NNP_TILE_ROWS] = NNP_TILES_OF(depthwise_grad_tile);
static depthwise_function *const depthwise_blocks[3][2] = NNP_BLOCKS_OF(depthwise_block);
static depthwise_function *const depthwise_grad_blocks[3][2] = NNP_BLOCKS_OF(depthwise_grad_block);

static ptrdiff_t ceil_quotient(ptrdiff_t a, ptrdiff_t b) { return a <= 0 ? 0 : (a + b - 1) / b; }

/* The taps of output position i that lie inside the source. */
static range taps_inside(const nnp_axis *a, ptrdiff_t i) {
    const ptrdiff_t first = i * a->step + a->start;
    const range r = {ceil_quotient(-first, a->dilation),
                     min_size(a->taps, ceil_quotient(a->source - first, a->dilation))};
    return r;
}

/* The output positions all of whose taps do. */
static range whole_windows(const nnp_axis *a) {
    const ptrdiff_t span = (a->taps - 1) * a->dilation;
    const range r = {min_size(a->out, ceil_quotient(-a->start, a->step)),
                     min_size(a->out, ceil_quotient(a->source - a->start - span, a->step))};
    return r;
}

static depthwise_window window_of(const nnp_depthwise *s, const float *x) {
    const depthwise_window window = {
        .x = x,
        .x_row = s->h.dilation * s->w.source * s->pixel,
        .x_tap = s->w.dilation * s->pixel,
        .x_pixel = s->w.step * s->pixel,
        .w_row = s->h.kernel_step * s->kernel_w * s->pixel,
        .w_tap = s->w.kernel_step * s->pixel,
        .y_row = s->out_row,
        .y_pixel = s->out_pixel,
        .taps_h = s->h.taps,
    };
    return window;
}

static ptrdiff_t kernel_at(const nnp_depthwise *s) { return (s->h.kernel * s->kernel_w + s->w.kernel) * s->pixel; }

static int neighbours(const nnp_axis *a) { return a->step == 1 && a->dilation == 1; }

/* Whether blocks can compute it. */
static int has_blocks(const nnp_depthwise *s) {
    const ptrdiff_t taps = s->w.taps;
    return neighbours(&s->h) && neighbours(&s->w) && (taps == 3 || taps == 5 || taps == 7);
}

/* The source rows of a block whose first output row is `row`. */
static void block_rows(const nnp_depthwise *s, ptrdiff_t row, int rows, depthwise_window *window) {
    const ptrdiff_t top = row + s->h.start;
    window->height = rows;
    window->rows.from = max_size(0, -top);
    window->rows.to = min_size(rows - 1 + s->h.taps, s->h.source - top);
}

/* One block of these rows, from output position j on. */
static void run_block(const nnp_depthwise *s, depthwise_function *const blocks[3][2], ptrdiff_t pixels,
                      ptrdiff_t channels, ptrdiff_t row, ptrdiff_t j, depthwise_window *window) {
    const ptrdiff_t top = row + s->h.start + window->rows.from, left = j + s->w.start;
    const ptrdiff_t columns = pixels + s->w.taps - 1;
    window->cols.from = max_size(0, -left);
    window->cols.to = min_size(columns, s->w.source - left);
    window->x_at = (top * s->w.source + left + window->cols.from) * s->pixel;
    window->y_at = j * s->out_pixel;
    blocks[s->w.taps / 2 - 1][window->cols.from > 0 || window->cols.to < columns](channels, window);
}

/* Output positions j and following of a row, by tiles. */
static void run_tiles(const nnp_depthwise *s, depthwise_function *const *tiles, ptrdiff_t channels, ptrdiff_t row,
                      ptrdiff_t j, depthwise_window *window) {
    const range whole = whole_windows(&s->w);
    ptrdiff_t pixels, top;
    window->rows = taps_inside(&s->h, row);
    top = row * s->h.step + s->h.start + window->rows.from * s->h.dilation;
    for (; j < s->w.out; j += pixels) {
        pixels = whole.from <= j && j < whole.to ? min_size(NNP_TILE_ROWS, whole.to - j) : 1;
        window->cols = taps_inside(&s->w, j);
        window->x_at = (top * s->w.source + j * s->w.step + s->w.start + window->cols.from * s->w.dilation) * s->pixel;
        window->y_at = j * s->out_pixel;
        tiles[pixels - 1](channels, window);
    }
}

static void depthwise_rows(const nnp_depthwise *s, ptrdiff_t channels, ptrdiff_t row, int rows, const float *x,
                           const float *w, const float *bias, int relu, float *y) {
    depthwise_window window = window_of(s, x);
    window.w = w + kernel_at(s), window.bias = bias, window.relu = relu, window.y = y;
    if (has_blocks(s) && s->w.out >= BLOCK_PIXELS) {
        block_rows(s, row, rows, &window);
        /* The last block may overlap the one before: the same pixels come out once more. */
        for (ptrdiff_t j = 0; j < s->w.out; j += BLOCK_PIXELS)
            run_block(s, depthwise_blocks, BLOCK_PIXELS, channels, row, min_size(j, s->w.out - BLOCK_PIXELS), &window);
        return;
    }
    for (int i = 0; i < rows; i++, window.y += s->out_row) run_tiles(s, depthwise_tiles, channels, row + i, 0, &window);
}

static void depthwise_weight_grad_rows(const nnp_depthwise *s, ptrdiff_t channels, ptrdiff_t row, int rows,
                                       const float *x, const float *dy, float *dw) {
    depthwise_window window = window_of(s, x);
    ptrdiff_t j = 0;
    window.dw = dw + kernel_at(s), window.dy = dy;
    if (has_blocks(s)) {
        block_rows(s, row, rows, &window);
        for (; j + GRAD_PIXELS <= s->w.out; j += GRAD_PIXELS)
            run_block(s, depthwise_grad_blocks, GRAD_PIXELS, channels, row, j, &window);
    }
    for (int i = 0; i < rows; i++, window.dy += s->out_row)
        run_tiles(s, depthwise_grad_tiles, channels, row + i, j, &window);
}
