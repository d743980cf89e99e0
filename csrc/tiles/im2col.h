/* At the sides of an image, runs are written in ascending order: each part ends with a whole vector, whose excess the
 * next part overwrites. */
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
static void write_window(const nnp_im2col *s, im2col_rows inside, const float *image, ptrdiff_t start, float *to) {
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
}

/* One vector of the rows of windows side by side that have all their columns inside: put together from the runs that
 * fall into it, by loads of some lanes each, and stored whole. */
NNP_INLINE void write_vectors(const int PIECES, const ptrdiff_t *offset, const vec_lanes *lanes, ptrdiff_t pixels,
                              ptrdiff_t step, const float *from, float *to, ptrdiff_t ld) {
    for (; pixels > 0; pixels--, from += step, to += ld) {
        vec v = vec_zero();
        NNP_UNROLL
        for (int i = 0; i < PIECES; i++) v = vec_load_lanes(v, from + offset[i], lanes[i]);
        vec_store(to, v);
    }
}

static void write_windows(const nnp_im2col *s, im2col_rows inside, ptrdiff_t pixels, const float *from, float *to) {
    const ptrdiff_t length = s->kernel_h * s->run;
    for (ptrdiff_t k = 0; k < length; k += NNP_VECTOR) {
        const ptrdiff_t end = length - k < NNP_VECTOR ? length : k + NNP_VECTOR;
        ptrdiff_t offset[NNP_VECTOR] = {0};
        vec_lanes lanes[NNP_VECTOR];
        int pieces = 0;
        for (ptrdiff_t t = k / s->run; t * s->run < end; t++) {
            const ptrdiff_t first = t * s->run > k ? t * s->run : k, last = (t + 1) * s->run;
            if (t < inside.top || t >= inside.bottom) continue;
            offset[pieces] = t * s->down + k - t * s->run;
            lanes[pieces++] = vec_lanes_between((int)(first - k), (int)((last < end ? last : end) - k));
        }
        if (pieces == 1)
            write_vectors(1, offset, lanes, pixels, s->step, from, to + k, s->ld);
        else if (pieces == 2)
            write_vectors(2, offset, lanes, pixels, s->step, from, to + k, s->ld);
        else if (pieces == 3)
            write_vectors(3, offset, lanes, pixels, s->step, from, to + k, s->ld);
        else
            write_vectors(pieces, offset, lanes, pixels, s->step, from, to + k, s->ld);
    }
}

static void im2col(const nnp_im2col *s, ptrdiff_t h, ptrdiff_t w, ptrdiff_t pixels, const float *image, float *to) {
    const ptrdiff_t first_row = h * s->stride_h - s->pad_h, end = w + pixels;
    im2col_rows inside = {0, s->kernel_h};
    while (inside.top < inside.bottom && first_row + inside.top * s->dilation_h < 0) inside.top++;
    while (inside.top < inside.bottom && first_row + (inside.bottom - 1) * s->dilation_h >= s->height) inside.bottom--;
    image += first_row * s->row;
    while (w < end) {
        const ptrdiff_t start = w * s->step - s->before, room = s->row - s->run - start;
        ptrdiff_t n = 1;
        if (start < 0 || room < 0) {
            write_window(s, inside, image, start, to);
        } else {
            n = room / s->step + 1 < end - w ? room / s->step + 1 : end - w;
            write_windows(s, inside, n, image + start, to);
        }
        w += n;
        to += n * s->ld;
    }
}

static void copy_stream(ptrdiff_t n, const float *from, float *to) {
    const ptrdiff_t before = -(ptrdiff_t)((uintptr_t)to / sizeof(float)) & (NNP_VECTOR - 1);
    ptrdiff_t i = 0;
    for (; i < before && i < n; i++) to[i] = from[i];
    for (; i + NNP_VECTOR <= n; i += NNP_VECTOR) vec_stream(to + i, vec_load(from + i));
    for (; i < n; i++) to[i] = from[i];
}
