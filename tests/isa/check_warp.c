/* Rows of warped images against double. */
#include <math.h>
#include <string.h>

#include "harness.h"

/* What x has at a place, in double. */
static double pixel(const nnp_warp *w, ptrdiff_t channel, ptrdiff_t row, ptrdiff_t col) {
    const char *at = (const char *)w->x + channel * w->x_channel + row * w->x_row + col * w->x_col;
    return w->bytes ? *(const unsigned char *)at : *(const float *)at;
}

static double between(const nnp_warp *w, ptrdiff_t channel, double down, double right) {
    if (down < -0.5 || right < -0.5 || down > (double)w->height - 0.5 || right > (double)w->width - 0.5) return 0;
    down = fmin(fmax(down, 0), (double)w->height - 1);
    right = fmin(fmax(right, 0), (double)w->width - 1);
    const ptrdiff_t row = (ptrdiff_t)down, col = (ptrdiff_t)right;
    double sum = 0;
    for (int k = 0; k < 4; k++) {
        const double r = k / 2 ? down - (double)row : 1 - (down - (double)row);
        const double s = k % 2 ? right - (double)col : 1 - (right - (double)col);
        if (r * s != 0) sum += r * s * pixel(w, channel, row + k / 2, col + k % 2);
    }
    return sum;
}

/* Images whose channels lie apart, or side by side; turned, moved by whole pixels, or beyond the image. */
static void warp_case(const nnp_kernels *table, ptrdiff_t width, ptrdiff_t channels, int bytes, int side_by_side,
                      int kind) {
    enum { HEIGHT = 3, ROW = 1 };
    begin("width %td, channels %td, bytes %d, side by side %d, map %d", width, channels, bytes, side_by_side, kind);
    const double maps[3][6] = {{1, 0, 0, 0, 1, 0}, {0.8, -0.3, 0.4, 0.25, 0.9, -0.6}, {1, 0, 0.5, 0, 1, -2.75}};
    const ptrdiff_t size = bytes ? 1 : 4, pixels = HEIGHT * width;
    double *map = operand(6 * sizeof *map);
    int64_t *box = operand(4 * sizeof *box);
    float *colours = reals(channels * (channels + 1)), *y = floats(channels * width);
    double *expected = zeros(channels * width), *bound = zeros(channels * width);
    void *x = bytes ? operand((size_t)(channels * pixels)) : (void *)reals(channels * pixels);
    for (ptrdiff_t i = 0; bytes && i < channels * pixels; i++) ((unsigned char *)x)[i] = (unsigned char)(37 * i + 11);
    memcpy(map, maps[kind], 6 * sizeof *map);
    box[0] = kind, box[1] = width / 2, box[2] = 1, box[3] = 2;
    const nnp_warp w = {
        .x = x, .y = y - ROW * channels * width, .channels = channels, .height = HEIGHT, .width = width,
        .out_width = width, .map = map, .colours = colours, .box = box, .bytes = bytes,
        .x_channel = size * (side_by_side ? 1 : pixels), .x_col = size * (side_by_side ? channels : 1),
        .x_row = size * width * (side_by_side ? channels : 1), .y_channel = 4 * (side_by_side ? 1 : width),
        .y_col = 4 * (side_by_side ? channels : 1), .y_row = 4 * channels * width,
    };
    for (ptrdiff_t j = 0; j < width; j++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const ptrdiff_t at = side_by_side ? j * channels + c : c * width + j;
            if (box[0] == ROW && j >= box[1] && j < box[1] + box[3]) continue;
            const float *of = colours + c * (channels + 1);
            expected[at] = bound[at] = of[channels];
            bound[at] = fabs(bound[at]);
            for (ptrdiff_t k = 0; k < channels; k++) {
                const double v = between(&w, k, map[0] * ROW + map[1] * (double)j + map[2],
                                         map[3] * ROW + map[4] * (double)j + map[5]);
                expected[at] += of[k] * v;
                bound[at] += fabs(of[k] * v);
            }
        }
    table->warp_row(&w, ROW);
    within(channels * width, y, expected, (double)channels + 2, bound);
    end();
}

void check_warp_row(const nnp_kernels *table) {
    const ptrdiff_t channels[] = {1, 3, NNP_WARP_CHANNELS};
    for (int s = 1; s < SIZES; s++)
        for (int option = 0; option < 36; option++)
            if (sizes[s] * channels[option % 3] <= MOST_ELEMENTS)
                warp_case(table, sizes[s], channels[option % 3], option / 3 % 2, option / 6 % 2, option / 12);
}
