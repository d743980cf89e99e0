/* Pooling, one row of one image. Channels go in blocks, so that the running maxima stay in the first-level cache. */
#include <math.h>

enum { CHANNELS = 64 };

static ptrdiff_t min_size(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t max_size(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
/* The part [from, to) of a window's `kernel` positions that lies inside an axis of `size`, the window starting at
 * `start`. */
typedef struct {
    ptrdiff_t from, to;
} range;

static range window_inside(ptrdiff_t start, ptrdiff_t kernel, ptrdiff_t size) {
    const range r = {max_size(0, -start), min_size(kernel, size - start)};
    return r;
}

/* The windows o with o * stride - pad <= i < o * stride - pad + kernel, out of `out_size`. */
static range windows_over(ptrdiff_t i, ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t out_size) {
    const ptrdiff_t before = i + pad - kernel; /* where the last window that ends before i may start */
    const range r = {before < 0 ? 0 : before / stride + 1, min_size(out_size, (i + pad) / stride + 1)};
    return r;
}

static void max_pool_row(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row, uint8_t *argmax_row) {
    const ptrdiff_t h0 = oh * s->stride_h - s->pad_h;
    const range rh = window_inside(h0, s->kernel_h, s->height);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow++) {
        const ptrdiff_t w0 = ow * s->stride_w - s->pad_w;
        const range rw = window_inside(w0, s->kernel_w, s->width);
        for (ptrdiff_t c0 = 0; c0 < s->channels; c0 += CHANNELS) {
            const ptrdiff_t n = min_size(CHANNELS, s->channels - c0);
            float best[CHANNELS];
            int32_t where[CHANNELS];
            for (ptrdiff_t c = 0; c < n; c++) best[c] = -INFINITY;
            for (ptrdiff_t c = 0; c < n; c++) where[c] = (int32_t)(rh.from * s->kernel_w + rw.from);
            for (ptrdiff_t kh = rh.from; kh < rh.to; kh++)
                for (ptrdiff_t kw = rw.from; kw < rw.to; kw++) {
                    const float *v = x + ((h0 + kh) * s->width + w0 + kw) * s->channels + c0;
                    const int32_t here = (int32_t)(kh * s->kernel_w + kw);
                    for (ptrdiff_t c = 0; c < n; c++) {
                        const int take = (v[c] > best[c]) | (v[c] != v[c]);
                        best[c] = take ? v[c] : best[c];
                        where[c] = take ? here : where[c];
                    }
                }
            for (ptrdiff_t c = 0; c < n; c++) y_row[ow * s->channels + c0 + c] = best[c];
            if (argmax_row != NULL)
                for (ptrdiff_t c = 0; c < n; c++) argmax_row[ow * s->channels + c0 + c] = (uint8_t)where[c];
        }
    }
}

static void max_pool_grad_row(const nnp_pool *s, const float *dy, const uint8_t *argmax, ptrdiff_t ih, float *dx_row) {
    const ptrdiff_t n = s->channels;
    const range over_h = windows_over(ih, s->kernel_h, s->stride_h, s->pad_h, s->out_height);
    for (ptrdiff_t iw = 0; iw < s->width; iw++) {
        const range over_w = windows_over(iw, s->kernel_w, s->stride_w, s->pad_w, s->out_width);
        float *dx = dx_row + iw * n;
        for (ptrdiff_t c = 0; c < n; c++) dx[c] = 0.0f;
        for (ptrdiff_t oh = over_h.from; oh < over_h.to; oh++)
            for (ptrdiff_t ow = over_w.from; ow < over_w.to; ow++) {
                const ptrdiff_t kh = ih + s->pad_h - oh * s->stride_h, kw = iw + s->pad_w - ow * s->stride_w;
                const uint8_t here = (uint8_t)(kh * s->kernel_w + kw);
                const float *g = dy + (oh * s->out_width + ow) * n;
                const uint8_t *from = argmax + (oh * s->out_width + ow) * n;
                for (ptrdiff_t c = 0; c < n; c++) dx[c] += from[c] == here ? g[c] : 0.0f;
            }
    }
}

static float window_divisor(const nnp_pool *s, range h, range w) {
    /* In double: a window may reach far into its padding, and its area beyond 64 bits. */
    if (s->count_include_pad) return (float)((double)s->kernel_h * (double)s->kernel_w);
    return (float)((h.to - h.from) * (w.to - w.from));
}

static void avg_pool_row(const nnp_pool *s, const float *x, ptrdiff_t oh, float *y_row) {
    const ptrdiff_t n = s->channels, h0 = oh * s->stride_h - s->pad_h;
    const range rh = window_inside(h0, s->kernel_h, s->height);
    for (ptrdiff_t ow = 0; ow < s->out_width; ow++) {
        const ptrdiff_t w0 = ow * s->stride_w - s->pad_w;
        const range rw = window_inside(w0, s->kernel_w, s->width);
        float *y = y_row + ow * n;
        for (ptrdiff_t c = 0; c < n; c++) y[c] = 0.0f;
        for (ptrdiff_t kh = rh.from; kh < rh.to; kh++)
            for (ptrdiff_t kw = rw.from; kw < rw.to; kw++) {
                const float *v = x + ((h0 + kh) * s->width + w0 + kw) * n;
                for (ptrdiff_t c = 0; c < n; c++) y[c] += v[c];
            }
        const float divisor = window_divisor(s, rh, rw);
        for (ptrdiff_t c = 0; c < n; c++) y[c] /= divisor;
    }
}

static void avg_pool_grad_row(const nnp_pool *s, const float *dy, ptrdiff_t ih, float *dx_row) {
    const ptrdiff_t n = s->channels;
    const range over_h = windows_over(ih, s->kernel_h, s->stride_h, s->pad_h, s->out_height);
    for (ptrdiff_t iw = 0; iw < s->width; iw++) {
        const range over_w = windows_over(iw, s->kernel_w, s->stride_w, s->pad_w, s->out_width);
        float *dx = dx_row + iw * n;
        for (ptrdiff_t c = 0; c < n; c++) dx[c] = 0.0f;
        for (ptrdiff_t oh = over_h.from; oh < over_h.to; oh++)
            for (ptrdiff_t ow = over_w.from; ow < over_w.to; ow++) {
                const range h = window_inside(oh * s->stride_h - s->pad_h, s->kernel_h, s->height);
                const range w = window_inside(ow * s->stride_w - s->pad_w, s->kernel_w, s->width);
                const float *g = dy + (oh * s->out_width + ow) * n, divisor = window_divisor(s, h, w);
                for (ptrdiff_t c = 0; c < n; c++) dx[c] += g[c] / divisor;
            }
    }
}
