/* Rows of the im2col matrix, written in ascending order: each run ends with a whole vector, whose excess the next run
 * overwrites. */
NNP_INLINE float *write_zeros(float *to, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) vec_store(to + i, vec_zero());
    return to + n;
}

NNP_INLINE float *write_copy(float *to, const float *from, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += NNP_VECTOR) vec_store(to + i, load_part(from + i, n - i));
    return to + n;
}

/* The kernel rows [top, bottom) of a window lie inside the image. */
typedef struct {
    ptrdiff_t top, bottom;
} im2col_rows;

/* A window that begins at float `start` of the image's rows, which may lie outside. */
static float *write_window(const nnp_im2col *s, im2col_rows inside, const float *image, ptrdiff_t start, float *to) {
    const ptrdiff_t before = start < 0 ? -start : 0, room = s->row - start;
    const ptrdiff_t left = before < s->run ? before : s->run, end = room < s->run ? room : s->run;
    const ptrdiff_t right = end > left ? end : left;
    for (ptrdiff_t t = 0; t < s->kernel_h; t++) {
        if (t < inside.top || t >= inside.bottom) {
            to = write_zeros(to, s->run);
            continue;
        }
        to = write_zeros(to, left);
        to = write_copy(to, image + t * s->down + start + left, right - left);
        to = write_zeros(to, s->run - right);
    }
    return to;
}

/* Windows side by side with all their columns inside; VECS vectors hold a run. */
NNP_INLINE float *write_windows(const int VECS, const nnp_im2col *s, im2col_rows inside, ptrdiff_t pixels,
                                const float *from, float *to) {
    const ptrdiff_t run = s->run, down = s->down;
    const vec_mask last = vec_first((int)(run - (VECS - 1) * NNP_VECTOR));
    for (; pixels > 0; pixels--, from += s->step) {
        to = write_zeros(to, inside.top * run);
        for (ptrdiff_t t = inside.top; t < inside.bottom; t++, to += run) {
            const float *row = from + t * down;
            NNP_UNROLL
            for (int j = 0; j < VECS - 1; j++) vec_store(to + j * NNP_VECTOR, vec_load(row + j * NNP_VECTOR));
            vec_store(to + (VECS - 1) * NNP_VECTOR, vec_load_first(row + (VECS - 1) * NNP_VECTOR, last));
        }
        to = write_zeros(to, (s->kernel_h - inside.bottom) * run);
    }
    return to;
}

static void im2col(const nnp_im2col *s, ptrdiff_t h, ptrdiff_t w, ptrdiff_t pixels, const float *image, float *to) {
    const ptrdiff_t first_row = h * s->stride_h - s->pad_h, end = w + pixels;
    im2col_rows inside = {0, s->kernel_h};
    while (inside.top < inside.bottom && first_row + inside.top * s->dilation_h < 0) inside.top++;
    while (inside.top < inside.bottom && first_row + (inside.bottom - 1) * s->dilation_h >= s->height) inside.bottom--;
    image += first_row * s->row;
    while (w < end) {
        const ptrdiff_t start = w * s->step - s->before, room = s->row - s->run - start;
        if (start < 0 || room < 0 || s->run > 3 * NNP_VECTOR) {
            to = write_window(s, inside, image, start, to);
            w++;
            continue;
        }
        const ptrdiff_t whole = room / s->step + 1, n = whole < end - w ? whole : end - w;
        if (s->run <= NNP_VECTOR)
            to = write_windows(1, s, inside, n, image + start, to);
        else if (s->run <= 2 * NNP_VECTOR)
            to = write_windows(2, s, inside, n, image + start, to);
        else
            to = write_windows(3, s, inside, n, image + start, to);
        w += n;
    }
}

static void copy_stream(ptrdiff_t n, const float *from, float *to) {
    const ptrdiff_t before = -(ptrdiff_t)((uintptr_t)to / sizeof(float)) & (NNP_VECTOR - 1);
    ptrdiff_t i = 0;
    for (; i < before && i < n; i++) to[i] = from[i];
    for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) vec_stream(to + i, vec_load(from + i));
    for (; i < n; i++) to[i] = from[i];
}
