/* Explicit im2col, and stores past the caches. */
#include "harness.h"

/* The float at place `at` of row `row` of the image, or zero outside. */
static double pixel_part(const nnp_im2col *s, const float *image, ptrdiff_t row, ptrdiff_t at) {
    return row < 0 || row >= s->height || at < 0 || at >= s->row ? 0.0 : image[row * s->row + at];
}

static void im2col_case(const nnp_kernels *table, ptrdiff_t channels, ptrdiff_t kernel_w, ptrdiff_t width,
                        ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t w, ptrdiff_t pixels) {
    enum { HEIGHT = 3, KERNEL_H = 2, STRIDE_H = 2, PAD_H = 1, DILATION_H = 2 };
    const ptrdiff_t run = kernel_w * channels, length = KERNEL_H * run, vector = table->vector;
    nnp_im2col s = {HEIGHT, width * channels, KERNEL_H, run, DILATION_H * width * channels, stride * channels,
                    pad * channels, (length + vector - 1) / vector * vector, STRIDE_H, PAD_H, DILATION_H};
    for (ptrdiff_t h = 0; h < 3; h++) {
        begin("channels %td, kernel width %td, width %td, stride %td, padding %td, row %td, %td pixels from %td", channels,
              kernel_w, width, stride, pad, h, pixels, w);
        const float *image = reals(HEIGHT * s.row);
        float *to = floats(pixels * s.ld + vector);
        double *expected = zeros(length);
        table->im2col(&s, h, w, pixels, image, to);
        for (ptrdiff_t p = 0; p < pixels; p++) {
            for (ptrdiff_t k = 0; k < length; k++)
                expected[k] = pixel_part(&s, image, h * STRIDE_H - PAD_H + k / run * DILATION_H,
                                         (w + p) * s.step - s.before + k % run);
            equal(length, to + p * s.ld, expected);
        }
        end();
    }
}

void check_im2col(const nnp_kernels *table) {
    for (ptrdiff_t channels = 1; channels <= 5; channels++)
        for (ptrdiff_t kernel_w = 1; kernel_w <= 7; kernel_w += 2)
            for (ptrdiff_t width = 1; width <= 20; width += 3)
                for (ptrdiff_t stride = 1; stride <= 2; stride++)
                    for (ptrdiff_t pad = 0; pad <= 4; pad += 2) {
                        const ptrdiff_t room = width + 2 * pad - kernel_w, out = room < 0 ? 0 : room / stride + 1;
                        if (out > 0) im2col_case(table, channels, kernel_w, width, stride, pad, 0, out);
                        if (out > 2) im2col_case(table, channels, kernel_w, width, stride, pad, 1, out - 2);
                    }
}

void check_copy_stream(const nnp_kernels *table) {
    for (int i = 0; i < SIZES; i++)
        for (ptrdiff_t shift = 0; shift < 3; shift++) {
            const ptrdiff_t n = sizes[i];
            begin("%td floats from %td on", n, shift);
            const float *from = reals(n);
            float *to = floats(shift + n);
            double *expected = zeros(n);
            for (ptrdiff_t k = 0; k < n; k++) expected[k] = from[k];
            table->copy_stream(n, from, to + shift);
            table->stream_fence();
            untouched(shift, to);
            equal(n, to + shift, expected);
            end();
        }
}

/* What it orders, no single thread can see. */
void check_stream_fence(const nnp_kernels *table) {
    begin("no arguments");
    table->stream_fence();
    end();
}
