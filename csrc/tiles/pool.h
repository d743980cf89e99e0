/* Pooling, one row of one image. Windows of 2 x 2 and 3 x 3 inside the image are kept in registers; others take their
 * positions one by one, over blocks of channels that stay in the first-level cache. */

enum { CHANNELS = 256 };

static ptrdiff_t min_size(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t max_size(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
/* n / d, rounded up; most often d is 1. */
static ptrdiff_t steps_of(ptrdiff_t n, ptrdiff_t d) { return d == 1 ? n : (n + d - 1) / d; }

/* The part [from, to) of a window's `kernel` positions that lies inside an axis of `size`, the window starting at
 * `start`, its positions `dilation` apart. It may be empty. */
typedef struct {
    ptrdiff_t from, to;
} range;

static range window_inside(ptrdiff_t start, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t size) {
    const ptrdiff_t from = steps_of(max_size(0, -start), dilation);
    const range r = {from, max_size(from, min_size(kernel, steps_of(max_size(0, size - start), dilation)))};
    return r;
}

/* How far a window reaches: from its first position to after the last. */
static ptrdiff_t span_of(ptrdiff_t kernel, ptrdiff_t dilation) { return (kernel - 1) * dilation + 1; }

/* The windows o with o * stride - pad <= i < o * stride - pad + span, out of `out_size`. */
static range windows_over(ptrdiff_t i, ptrdiff_t span, ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t out_size) {
    const ptrdiff_t before = i + pad - span; /* where the last window that ends before i may start */
    const range r = {before < 0 ? 0 : before / stride + 1, min_size(out_size, (i + pad) / stride + 1)};
    return r;
}

/* The part of a window that lies inside the image: its first pixel, its rows and columns, and its first position. */
typedef struct {
    const float *x;
    ptrdiff_t rows, columns, row_step, column_step;
    int position, kernel_w;
} window;

static window window_at(const nnp_pool *s, const float *x, range rh, ptrdiff_t h0, ptrdiff_t w0) {
    const range rw = window_inside(w0, s->kernel_w, s->dilation_w, s->width);
    const int empty = rh.from == rh.to || rw.from == rw.to;
    const ptrdiff_t first = (h0 + rh.from * s->dilation_h) * s->width + w0 + rw.from * s->dilation_w;
    const window w = {empty ? x : x + first * s->channels,
                      rh.to - rh.from,
                      rw.to - rw.from,
                      s->dilation_h * s->width * s->channels,
                      s->dilation_w * s->channels,
                      empty ? 0 : (int)(rh.from * s->kernel_w + rw.from),
                      (int)s->kernel_w};
    return w;
}

/* A NaN is the largest; of equal ones the first stays, of NaNs the last. Positions are floats: up to 256 they are
 * exact, and vectors of one kind do. */
NNP_INLINE void take_larger(vec *best, vec *where, vec v, int position) {
    const vec_bool take = vec_or(vec_greater(v, *best), vec_is_nan(v));
    *best = vec_select(take, v, *best);
    *where = vec_select(take, vec_set((float)position), *where);
}

NNP_INLINE vec load_of_window(const int ahead, const float *p, ptrdiff_t n) {
    return ahead ? load_part_of_stream(p, n) : load_part(p, n);
}

/* How memory is read and written: ASKED_FOR ahead; the same, but written PAST the caches; or PLAIN, for less than a
 * vector of channels: they come from so little memory that asking for it costs more than waiting. */
enum { PLAIN, ASKED_FOR, PAST };

NNP_INLINE void store_maximum(const int way, float *y, ptrdiff_t n, vec v) {
    if (way == PAST)
        vec_stream(y, v);
    else if (way == ASKED_FOR)
        store_part_of_stream(y, n, v);
    else
        store_part(y, n, v);
}

/* n channels, at most a vector. */
NNP_INLINE void max_columns(const int rows, const int columns, const int way, window w, ptrdiff_t n, float *y,
                            uint8_t *argmax) {
    vec best = load_of_window(way, w.x, n), where = vec_set((float)w.position);
    NNP_UNROLL
    for (int i = 0; i < rows; i++) {
        NNP_UNROLL
        for (int j = i == 0; j < columns; j++)
            take_larger(&best, &where, load_of_window(way, w.x + i * w.row_step + j * w.column_step, n),
                        w.position + i * w.kernel_w + j);
    }
    store_maximum(way, y, n, best);
    if (argmax != NULL) store_bytes_part(argmax, n, where);
}

/* `run` windows side by side, `step` floats apart. */
NNP_INLINE void max_windows(const int rows, const int columns, const int way, ptrdiff_t run, ptrdiff_t step, window w,
                            ptrdiff_t channels, float *y, uint8_t *argmax) {
    for (const float *x = w.x; run > 0; run--, x += step, y += channels) {
        w.x = x;
        if (way == PLAIN) max_columns(rows, columns, way, w, channels, y, argmax);
        for (ptrdiff_t c = 0; way != PLAIN && c < channels; c += NNP_VECTOR) {
            const ptrdiff_t at = whole_vector(c, channels);
            w.x = x + at;
            max_columns(rows, columns, way, w, channels - at, y + at, argmax == NULL ? NULL : argmax + at);
        }
        if (argmax != NULL) argmax += channels;
    }
}

/* Also one without any pixel of the image: minus infinity at position 0. */
static void max_window_of_any_size(window w, ptrdiff_t channels, float *y, uint8_t *argmax) {
    float best[CHANNELS + NNP_VECTOR], where[CHANNELS + NNP_VECTOR];
    for (ptrdiff_t c0 = 0; c0 < channels; c0 += CHANNELS) {
        const ptrdiff_t n = min_size(CHANNELS, channels - c0);
        for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR)
            vec_store(best + c, vec_set(-INFINITY)), vec_store(where + c, vec_set((float)w.position));
        for (ptrdiff_t i = 0; i < w.rows; i++)
            for (ptrdiff_t j = 0; j < w.columns; j++) {
                const float *x = w.x + i * w.row_step + j * w.column_step + c0;
                const int position = w.position + (int)i * w.kernel_w + (int)j;
                for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR) {
                    vec b = vec_load(best + c), at = vec_load(where + c);
                    take_larger(&b, &at, load_part(x + c, n - c), position);
                    vec_store(best + c, b), vec_store(where + c, at);
                }
            }
        for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR) {
            store_part(y + c0 + c, n - c, vec_load(best + c));
            if (argmax != NULL) store_bytes_part(argmax + c0 + c, n - c, vec_load(where + c));
        }
    }
}

/* How many windows there are side by side from w on with the same part inside the image. */
static ptrdiff_t windows_alike(const nnp_pool *s, window w, ptrdiff_t ow) {
    if (w.columns < s->kernel_w) return 1;
    return min_size(s->out_width, (s->width + s->pad_w - span_of(s->kernel_w, s->dilation_w)) / s->stride_w + 1) - ow;
}

static void max_pool_row(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row, uint8_t *argmax_row) {
    const ptrdiff_t h0 = oh * s->stride_h - s->pad_h, channels = s->channels, step = s->stride_w * channels;
    const range rh = window_inside(h0, s->kernel_h, s->dilation_h, s->height);
    const int past = s->stream && channels % NNP_VECTOR == 0 && is_aligned(y_row);
    for (ptrdiff_t ow = 0, run; ow < s->out_width; ow += run) {
        const window w = window_at(s, x, rh, h0, ow * s->stride_w - s->pad_w);
        float *y = y_row + ow * channels;
        uint8_t *argmax = argmax_row == NULL ? NULL : argmax_row + ow * channels;
        run = windows_alike(s, w, ow);
        if (w.rows == 2 && w.columns == 2 && channels < NNP_VECTOR)
            max_windows(2, 2, PLAIN, run, step, w, channels, y, argmax);
        else if (w.rows == 2 && w.columns == 2 && past)
            max_windows(2, 2, PAST, run, step, w, channels, y, argmax);
        else if (w.rows == 2 && w.columns == 2)
            max_windows(2, 2, ASKED_FOR, run, step, w, channels, y, argmax);
        else if (w.rows == 3 && w.columns == 3)
            max_windows(3, 3, ASKED_FOR, run, step, w, channels, y, argmax);
        else
            run = 1, max_window_of_any_size(w, channels, y, argmax);
    }
    if (past) vec_stream_end();
}

/* dy where the maximum came from `position` of the window. */
NNP_INLINE vec grad_of(const float *dy, const uint8_t *argmax, int position, ptrdiff_t n) {
    return vec_select(bytes_equal_part(argmax, n, (uint8_t)position), load_part(dy, n), vec_zero());
}

/* With few channels a row is so short that it goes by once for each column and vector: less per window. */
static ptrdiff_t windows_of_run(const nnp_pool *s) { return s->channels <= 16 ? s->out_width : 1; }

/* Whether a row of dx is written past the caches: whole vectors of all channels, one after the other. */
static int streams(const nnp_pool *s, const float *dx) {
    return s->stream && windows_of_run(s) == 1 && s->channels % NNP_VECTOR == 0 && is_aligned(dx);
}

NNP_INLINE void store_grad(const int stream, float *dx, ptrdiff_t n, vec v) {
    if (stream)
        vec_stream(dx, v);
    else
        store_part_of_stream(dx, n, v);
}

/* Windows side by side, as many pixels wide as they are apart: each gives kernel_w pixels of this row their gradients.
 */
NNP_INLINE void max_pool_grad_tiled(const int stream, const nnp_pool *s, const float *dy, const uint8_t *argmax,
                                    int position, float *dx) {
    const ptrdiff_t channels = s->channels, columns = s->kernel_w, run = windows_of_run(s);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow += run)
        for (ptrdiff_t kw = 0; kw < columns; kw++)
            for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) {
                const ptrdiff_t at = whole_vector(c, channels), n = channels - at;
                for (ptrdiff_t o = ow; o < ow + run; o++)
                    store_grad(stream, dx + (o * columns + kw) * channels + at, n,
                               grad_of(dy + o * channels + at, argmax + o * channels + at, position + (int)kw, n));
            }
    if (stream) vec_stream_end();
}

/* The next column's windows: `w` are those of the column before. */
static range next_windows(range w, const nnp_pool *s, ptrdiff_t iw) {
    const ptrdiff_t span = span_of(s->kernel_w, s->dilation_w);
    while (w.from < s->out_width && w.from * s->stride_w - s->pad_w + span <= iw) w.from++;
    while (w.to < s->out_width && w.to * s->stride_w - s->pad_w <= iw) w.to++;
    return w;
}

/* The position of a window, `offset` pixels after its first one; -1 if there is none between two that are further apart.
 */
static ptrdiff_t position_at(ptrdiff_t offset, ptrdiff_t dilation) {
    if (dilation == 1) return offset;
    return offset % dilation == 0 ? offset / dilation : -1;
}

/* Windows side by side, as wide as they are apart, one row of which has this row of pixels: the common case. */
static int tiled(const nnp_pool *s, range over_h) {
    return s->kernel_w == s->stride_w && s->pad_w == 0 && s->dilation_w == 1 && s->dilation_h == 1 &&
           s->out_width * s->kernel_w <= s->width && over_h.to - over_h.from == 1;
}

/* Where a window over a pixel has its gradients, and the pixel's position in it. */
typedef struct {
    ptrdiff_t from;
    int position;
} source;

NNP_INLINE void max_pool_grad_pixel(const int count, const source *windows, ptrdiff_t channels, const float *dy,
                                    const uint8_t *argmax, float *dx) {
    for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) {
        const ptrdiff_t at = whole_vector(c, channels), n = channels - at;
        vec sum = vec_zero();
        NNP_UNROLL
        for (int k = 0; k < count; k++) {
            const ptrdiff_t from = windows[k].from + at;
            sum = vec_add(sum, grad_of(dy + from, argmax + from, windows[k].position, n));
        }
        store_part_of_stream(dx + at, n, sum);
    }
}

static void max_pool_grad_row(const nnp_pool *s, const float *dy, const uint8_t *argmax, ptrdiff_t ih, float *dx_row) {
    const ptrdiff_t channels = s->channels, y_step = s->out_width * channels;
    const range over_h = windows_over(ih, span_of(s->kernel_h, s->dilation_h), s->stride_h, s->pad_h, s->out_height);
    ptrdiff_t iw = 0;
    if (tiled(s, over_h)) {
        const ptrdiff_t kh = ih + s->pad_h - over_h.from * s->stride_h, from = over_h.from * y_step;
        if (streams(s, dx_row))
            max_pool_grad_tiled(1, s, dy + from, argmax + from, (int)(kh * s->kernel_w), dx_row);
        else
            max_pool_grad_tiled(0, s, dy + from, argmax + from, (int)(kh * s->kernel_w), dx_row);
        iw = s->kernel_w * s->out_width;
    }
    range over_w = {0, 0};
    for (; iw < s->width; iw++) {
        source windows[256]; /* a window has no more positions */
        int count = 0;
        over_w = next_windows(over_w, s, iw);
        for (ptrdiff_t oh = over_h.from; oh < over_h.to; oh++)
            for (ptrdiff_t ow = over_w.from; ow < over_w.to; ow++) {
                const ptrdiff_t kh = position_at(ih + s->pad_h - oh * s->stride_h, s->dilation_h);
                const ptrdiff_t kw = position_at(iw + s->pad_w - ow * s->stride_w, s->dilation_w);
                if (kh < 0 || kw < 0) continue;
                windows[count].from = oh * y_step + ow * channels;
                windows[count++].position = (int)(kh * s->kernel_w + kw);
            }
        float *dx = dx_row + iw * channels;
        if (count == 1)
            max_pool_grad_pixel(1, windows, channels, dy, argmax, dx);
        else if (count == 2)
            max_pool_grad_pixel(2, windows, channels, dy, argmax, dx);
        else if (count == 4)
            max_pool_grad_pixel(4, windows, channels, dy, argmax, dx);
        else
            max_pool_grad_pixel(count, windows, channels, dy, argmax, dx);
    }
}

/* What the sum of the window that starts at h0, w0 is divided by; h and w are its part inside the image. */
static float window_divisor(const nnp_pool *s, ptrdiff_t h0, ptrdiff_t w0, range h, range w) {
    if (s->sum) return 1.0f;
    if (!s->count_include_pad) return (float)max_size(1, (h.to - h.from) * (w.to - w.from));
    /* In double: a window may reach far into its padding, and its area beyond 64 bits. */
    return (float)((double)min_size(s->kernel_h, steps_of(s->end_h - h0, s->dilation_h)) *
                   (double)min_size(s->kernel_w, steps_of(s->end_w - w0, s->dilation_w)));
}

NNP_INLINE void avg_window(const int rows, const int columns, window w, ptrdiff_t channels, vec divisor, float *y) {
    for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) {
        const ptrdiff_t at = whole_vector(c, channels), n = channels - at;
        vec sum = load_part_of_stream(w.x + at, n);
        NNP_UNROLL
        for (int i = 0; i < rows; i++) {
            NNP_UNROLL
            for (int j = i == 0; j < columns; j++)
                sum = vec_add(sum, load_part_of_stream(w.x + i * w.row_step + j * w.column_step + at, n));
        }
        store_part_of_stream(y + at, n, vec_div(sum, divisor));
    }
}

static void avg_window_of_any_size(window w, ptrdiff_t channels, vec divisor, float *y) {
    float sum[CHANNELS + NNP_VECTOR];
    for (ptrdiff_t c0 = 0; c0 < channels; c0 += CHANNELS) {
        const ptrdiff_t n = min_size(CHANNELS, channels - c0);
        for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR) vec_store(sum + c, vec_zero());
        for (ptrdiff_t i = 0; i < w.rows; i++)
            for (ptrdiff_t j = 0; j < w.columns; j++) {
                const float *x = w.x + i * w.row_step + j * w.column_step + c0;
                for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR)
                    vec_store(sum + c, vec_add(vec_load(sum + c), load_part(x + c, n - c)));
            }
        for (ptrdiff_t c = 0; c < n; c += NNP_VECTOR)
            store_part(y + c0 + c, n - c, vec_div(vec_load(sum + c), divisor));
    }
}

static void avg_pool_row(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row) {
    const ptrdiff_t h0 = oh * s->stride_h - s->pad_h;
    const range rh = window_inside(h0, s->kernel_h, s->dilation_h, s->height);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow++) {
        const ptrdiff_t w0 = ow * s->stride_w - s->pad_w;
        const window w = window_at(s, x, rh, h0, w0);
        const range rw = window_inside(w0, s->kernel_w, s->dilation_w, s->width);
        const vec divisor = vec_set(window_divisor(s, h0, w0, rh, rw));
        float *y = y_row + ow * s->channels;
        if (w.rows == 2 && w.columns == 2)
            avg_window(2, 2, w, s->channels, divisor, y);
        else if (w.rows == 3 && w.columns == 3)
            avg_window(3, 3, w, s->channels, divisor, y);
        else
            avg_window_of_any_size(w, s->channels, divisor, y);
    }
}

/* Windows side by side: each gives kernel_w pixels of this row its gradient times its share. */
NNP_INLINE void avg_pool_grad_tiled(const int stream, const nnp_pool *s, const float *dy, float share, float *dx) {
    const ptrdiff_t channels = s->channels, columns = s->kernel_w, run = windows_of_run(s);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow += run)
        for (ptrdiff_t kw = 0; kw < columns; kw++)
            for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) {
                const ptrdiff_t at = whole_vector(c, channels), n = channels - at;
                for (ptrdiff_t o = ow; o < ow + run; o++)
                    store_grad(stream, dx + (o * columns + kw) * channels + at, n,
                               vec_mul(vec_set(share), load_part(dy + o * channels + at, n)));
            }
    if (stream) vec_stream_end();
}

static void avg_pool_grad_row(const nnp_pool *s, const float *dy, ptrdiff_t ih, float *dx_row) {
    const ptrdiff_t channels = s->channels;
    const range over_h = windows_over(ih, span_of(s->kernel_h, s->dilation_h), s->stride_h, s->pad_h, s->out_height);
    ptrdiff_t iw = 0;
    if (tiled(s, over_h)) {
        const ptrdiff_t h0 = over_h.from * s->stride_h - s->pad_h;
        const range h = window_inside(h0, s->kernel_h, 1, s->height), w = {0, s->kernel_w};
        const float *g = dy + over_h.from * s->out_width * channels;
        const float share = 1.0f / window_divisor(s, h0, 0, h, w);
        if (streams(s, dx_row))
            avg_pool_grad_tiled(1, s, g, share, dx_row);
        else
            avg_pool_grad_tiled(0, s, g, share, dx_row);
        iw = s->kernel_w * s->out_width;
    }
    range over_w = {0, 0};
    for (; iw < s->width; iw++) {
        float *dx = dx_row + iw * channels;
        over_w = next_windows(over_w, s, iw);
        for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) store_part_of_stream(dx + c, channels - c, vec_zero());
        for (ptrdiff_t oh = over_h.from; oh < over_h.to; oh++) {
            const ptrdiff_t h0 = oh * s->stride_h - s->pad_h;
            const range h = window_inside(h0, s->kernel_h, s->dilation_h, s->height);
            if (position_at(ih - h0, s->dilation_h) < 0) continue;
            for (ptrdiff_t ow = over_w.from; ow < over_w.to; ow++) {
                const ptrdiff_t w0 = ow * s->stride_w - s->pad_w;
                const range w = window_inside(w0, s->kernel_w, s->dilation_w, s->width);
                if (position_at(iw - w0, s->dilation_w) < 0) continue;
                const vec share = vec_set(1.0f / window_divisor(s, h0, w0, h, w));
                const float *g = dy + (oh * s->out_width + ow) * channels;
                for (ptrdiff_t c = 0; c < channels; c += NNP_VECTOR) {
                    const ptrdiff_t n = channels - c;
                    store_part(dx + c, n, vec_mul_add(share, load_part(g + c, n), load_part(dx + c, n)));
                }
            }
        }
    }
}
