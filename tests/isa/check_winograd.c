/* The transforms of Winograd's F(4x4, 3x3) and F(4x4, 5x5), each a matrix from the left and its transpose from the
 * right. */
#include <math.h>

#include "harness.h"

/* Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section 4.3. */
static const double b_transposed_6[6 * 6] = {4, 0,  -5, 0, 1, 0, 0, -4, -4, 1,  1, 0, 0, 4, -4, -1, 1, 0,
                                             0, -2, -1, 2, 1, 0, 0, 2,  -1, -2, 1, 0, 0, 4, 0,  -5, 0, 1};
static const double a_transposed_6[4 * 6] = {1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0,
                                             0, 1, 1, 4, 4, 0, 0, 1, -1, 8, -8, 1};
static const double g_6[6 * 3] = {1. / 4,  0,       0,      -1. / 6, -1. / 6,  -1. / 6, -1. / 6, 1. / 6, -1. / 6,
                                  1. / 24, 1. / 12, 1. / 6, 1. / 24, -1. / 12, 1. / 6,  0,       0,      1};

/* The same for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity. Row p of B^T has the coefficients of the product of
 * (x - q) over the other points q, the last row over all; row p of G is 1, p, p^2, ... over the product of p - q. The
 * row of the point 0 has its sign changed in both. */
static const double b_transposed_8[8 * 8] = {
    1, 0,   -5.25, 0,    5.25,  0,   -1, 0, 0, 1,  1,   -4.25, -4.25, 1,     1, 0, //
    0, -1,  1,     4.25, -4.25, -1,  1,  0, 0, .5, .25, -2.5,  -1.25, 2,     1, 0, //
    0, -.5, .25,   2.5,  -1.25, -2,  1,  0, 0, 2,  4,   -2.5,  -5,    .5,    1, 0, //
    0, -2,  4,     2.5,  -5,    -.5, 1,  0, 0, -1, 0,   5.25,  0,     -5.25, 0, 1};
static const double a_transposed_8[4 * 8] = {1, 1, 1, 1, 1, 1,   1,   0, 0, 1, -1, 2, -2, .5,   -.5,   0,
                                             0, 1, 1, 4, 4, .25, .25, 0, 0, 1, -1, 8, -8, .125, -.125, 1};
static const double g_8[8 * 5] = {
    1,        0,         0,       0,        0,        -2. / 9,  -2. / 9,  -2. / 9, -2. / 9, -2. / 9,  //
    -2. / 9,  2. / 9,    -2. / 9, 2. / 9,   -2. / 9,  1. / 90,  2. / 90,  4. / 90, 8. / 90, 16. / 90, //
    1. / 90,  -2. / 90,  4. / 90, -8. / 90, 16. / 90, 32. / 45, 16. / 45, 8. / 45, 4. / 45, 2. / 45,  //
    32. / 45, -16. / 45, 8. / 45, -4. / 45, 2. / 45,  0,        0,        0,       0,       1};

typedef struct {
    int out, in; /* an (in, in) square becomes (out, out) */
    const double *matrix;
    int row, col; /* strides of the matrix: (in, 1), or (1, out) for its transpose */
} transform;

/* The transforms of a tile of `size` inputs. */
static const struct {
    int size;
    transform input, output, output_grad, weight, weight_grad;
} tiles[] = {
    {6,
     {6, 6, b_transposed_6, 6, 1},
     {4, 6, a_transposed_6, 6, 1},
     {6, 4, a_transposed_6, 1, 6},
     {6, 3, g_6, 3, 1},
     {3, 6, g_6, 1, 3}},
    {8,
     {8, 8, b_transposed_8, 8, 1},
     {4, 8, a_transposed_8, 8, 1},
     {8, 4, a_transposed_8, 1, 8},
     {8, 5, g_8, 5, 1},
     {5, 8, g_8, 1, 5}},
};
enum { TILES = sizeof tiles / sizeof tiles[0] };

typedef struct {
    double *values, *magnitude; /* (squares' positions, n) */
} square;

static square make_square(ptrdiff_t n, int size) { return (square){zeros(size * size * n), zeros(size * size * n)}; }

/* M x M^T of each channel, and the same sum of absolute values. */
static square expect(transform t, ptrdiff_t n, const double *x) {
    const square y = make_square(n, t.out);
    for (int i = 0; i < t.out * t.out; i++)
        for (int k = 0; k < t.in * t.in; k++) {
            const double factor =
                t.matrix[i / t.out * t.row + k / t.in * t.col] * t.matrix[i % t.out * t.row + k % t.in * t.col];
            for (ptrdiff_t c = 0; c < n && factor != 0; c++) {
                y.values[i * n + c] += factor * x[k * n + c];
                y.magnitude[i * n + c] += fabs(factor * x[k * n + c]);
            }
        }
    return y;
}

/* Two axes, of at most eight roundings each, constants included. */
static void compare(ptrdiff_t n, const float *actual, square expected, int position) {
    within(n, actual, expected.values + position * n, 8, expected.magnitude + position * n);
}

/* Operands of n channels at each of `size` * `size` positions, `stride` apart. */
static float *positions(int size, ptrdiff_t n, ptrdiff_t stride, float *(*numbers)(ptrdiff_t)) {
    return numbers((size * size - 1) * stride + n);
}

static double *gather(int size, ptrdiff_t n, const float *x, ptrdiff_t stride) {
    double *all = zeros(size * size * n);
    for (int k = 0; k < size * size; k++)
        for (ptrdiff_t c = 0; c < n; c++) all[k * n + c] = x[k * stride + c];
    return all;
}

static void compare_positions(int size, ptrdiff_t n, const float *actual, ptrdiff_t stride, square expected) {
    for (int k = 0; k < size * size; k++) {
        compare(n, actual + k * stride, expected, k);
        if (k < size * size - 1) untouched(stride - n, actual + k * stride + n);
    }
}

/* The same in strips of channels, which begin `strip` apart. */
static ptrdiff_t in_strips(ptrdiff_t strip, int k, ptrdiff_t c) {
    return c / NNP_STRIP * strip + k * NNP_STRIP + c % NNP_STRIP;
}

static float *strips(int size, ptrdiff_t n, ptrdiff_t strip, float *(*numbers)(ptrdiff_t)) {
    return numbers(in_strips(strip, size * size - 1, n - 1) + 1);
}

static double *gather_strips(int size, ptrdiff_t n, const float *x, ptrdiff_t strip) {
    double *all = zeros(size * size * n);
    for (int k = 0; k < size * size; k++)
        for (ptrdiff_t c = 0; c < n; c++) all[k * n + c] = x[in_strips(strip, k, c)];
    return all;
}

static void compare_strips(int size, ptrdiff_t n, const float *actual, ptrdiff_t strip, square expected) {
    for (ptrdiff_t c = 0; c < n; c += NNP_STRIP) {
        const ptrdiff_t channels = n - c < NNP_STRIP ? n - c : NNP_STRIP;
        for (int k = 0; k < size * size; k++) {
            const float *at = actual + in_strips(strip, k, c);
            within(channels, at, expected.values + k * n + c, 8, expected.magnitude + k * n + c);
            if (k < size * size - 1) untouched(NNP_STRIP - channels, at + channels);
        }
        if (c + NNP_STRIP < n) untouched(strip - size * size * NNP_STRIP, actual + in_strips(strip, size * size, c));
    }
}

/* What is inside of a patch of size 8 or less: whole, each side cut, a pixel, nothing. */
static const int insides[][4] = {{0, 8, 0, 8}, {1, 8, 0, 8}, {0, 8, 2, 8}, {0, 3, 0, 8},
                                 {0, 8, 0, 1}, {1, 4, 1, 5}, {2, 3, 3, 4}, {2, 2, 0, 8}};
enum { INSIDES = sizeof insides / sizeof insides[0] };

/* A patch of size 8, 6 or 4, of which only the inside lies in memory. */
static nnp_patch make_patch(const int *inside, int size, ptrdiff_t n, ptrdiff_t *floats_inside) {
    const int bottom = inside[1] < size ? inside[1] : size, right = inside[3] < size ? inside[3] : size;
    const ptrdiff_t col = n + 2, row = 8 * col + 1;
    const int empty = bottom <= inside[0] || right <= inside[2];
    *floats_inside = empty ? 0 : (bottom - 1 - inside[0]) * row + (right - 1 - inside[2]) * col + n;
    return (nnp_patch){-inside[0] * row - inside[2] * col, row, col, inside[0], bottom, inside[2], right};
}

/* If `strip`, the result lies in strips of channels, otherwise each position by itself. */
static void image_case(const nnp_kernels *table, int size, transform t, ptrdiff_t n, const int *inside, ptrdiff_t gap,
                       ptrdiff_t strip) {
    begin("size %d, n %td, inside rows %d to %d, columns %d to %d", size, n, inside[0], inside[1], inside[2],
          inside[3]);
    ptrdiff_t memory;
    nnp_patch *p = operand(sizeof *p);
    *p = make_patch(inside, t.in, n, &memory);
    const float *image = reals(memory);
    float *y = strip > 0 ? strips(size, n, strip, floats) : positions(size, n, n + gap, floats);
    double *x = zeros(t.in * t.in * n);
    for (int i = p->top; i < p->bottom; i++)
        for (int j = p->left; j < p->right; j++)
            for (ptrdiff_t c = 0; c < n; c++)
                x[(t.in * i + j) * n + c] = image[p->first + i * p->row_stride + j * p->col_stride + c];
    if (strip > 0) {
        table->winograd_input_strips(size, n, p, image, y, strip);
        compare_strips(size, n, y, strip, expect(t, n, x));
    } else {
        (t.in == size ? table->winograd_input : table->winograd_output_grad)(size, n, p, image, y, n + gap);
        compare_positions(size, n, y, n + gap, expect(t, n, x));
    }
    end();
}

static void check_image(const nnp_kernels *table, int size, transform t, int in_strip) {
    for (int s = 1; s < SIZES; s++)
        for (int i = 0; i < INSIDES; i++)
            image_case(table, size, t, sizes[s], insides[i], i % 3, in_strip * (size * size * NNP_STRIP + i % 3));
}

void check_winograd_input(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++) check_image(table, tiles[t].size, tiles[t].input, 0);
}

void check_winograd_input_strips(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++) check_image(table, tiles[t].size, tiles[t].input, 1);
}

void check_winograd_output_grad(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++) check_image(table, tiles[t].size, tiles[t].output_grad, 0);
}

static void output_case(const nnp_kernels *table, transform t, ptrdiff_t n, int bottom, int right, int with_bias) {
    const int relu = (bottom + right + with_bias) % 2;
    begin("size %d, n %td, inside %d x %d, bias %d, ReLU %d", t.in, n, bottom, right, with_bias, relu);
    const int inside[4] = {0, bottom, 0, right};
    const ptrdiff_t strip = t.in * t.in * NNP_STRIP + with_bias;
    ptrdiff_t memory;
    nnp_patch *p = operand(sizeof *p);
    *p = make_patch(inside, 4, n, &memory);
    float *image = floats(memory);
    const float *m = strips(t.in, n, strip, reals), *bias = with_bias ? reals(n) : NULL;
    square y = expect(t, n, gather_strips(t.in, n, m, strip));
    for (ptrdiff_t c = 0; c < 16 * n && with_bias; c++) {
        y.values[c] += bias[c % n];
        y.magnitude[c] += fabs(bias[c % n]);
    }
    for (ptrdiff_t c = 0; c < 16 * n && relu; c++) y.values[c] = fmax(y.values[c], 0);
    table->winograd_output(t.in, n, p, m, strip, bias, relu, image);
    for (int i = 0; i < bottom; i++)
        for (int j = 0; j < right; j++) {
            float *pixel = image + i * p->row_stride + j * p->col_stride;
            compare(n, pixel, y, 4 * i + j);
            if (j < right - 1) untouched(p->col_stride - n, pixel + n);
            if (j == right - 1 && i < bottom - 1) untouched(p->row_stride - (right - 1) * p->col_stride - n, pixel + n);
        }
    end();
}

void check_winograd_output(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++)
        for (int s = 1; s < SIZES; s++)
            for (int bottom = 1; bottom <= 4; bottom++)
                for (int right = 1; right <= 4; right++)
                    output_case(table, tiles[t].output, sizes[s], bottom, right, (bottom + right) % 2);
}

/* Filters stand in the order of their taps, or, turned by half a turn, in the reverse. */
static float *first_tap(float *taps, int area, ptrdiff_t stride) {
    return stride < 0 ? taps - (area - 1) * stride : taps;
}

static void weight_case(const nnp_kernels *table, transform t, ptrdiff_t n, int turned) {
    const ptrdiff_t gap = turned, stride = turned ? -n - gap : n;
    begin("size %d, n %td, turned %d", t.out, n, turned);
    const float *taps = first_tap(positions(t.in, n, n + gap, reals), t.in * t.in, stride);
    float *u = positions(t.out, n, n + gap, floats);
    table->winograd_weight(t.out, n, taps, stride, u, n + gap);
    compare_positions(t.out, n, u, n + gap, expect(t, n, gather(t.in, n, taps, stride)));
    end();
}

void check_winograd_weight(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++)
        for (int s = 1; s < SIZES; s++)
            for (int turned = 0; turned <= 1; turned++) weight_case(table, tiles[t].weight, sizes[s], turned);
}

static void weight_grad_case(const nnp_kernels *table, transform t, ptrdiff_t n, int turned) {
    const int area = t.out * t.out;
    const ptrdiff_t gap = turned, stride = turned ? -n - gap : n;
    begin("size %d, n %td, turned %d", t.in, n, turned);
    const float *u = positions(t.in, n, n + gap, reals);
    float *taps = first_tap(positions(t.out, n, n + gap, floats), area, stride);
    table->winograd_weight_grad(t.in, n, u, n + gap, taps, stride);
    const square expected = expect(t, n, gather(t.in, n, u, n + gap));
    for (int k = 0; k < area; k++) {
        compare(n, taps + k * stride, expected, k);
        if (k < area - 1) untouched(gap, (turned ? taps + (k + 1) * stride : taps + k * stride) + n);
    }
    end();
}

void check_winograd_weight_grad(const nnp_kernels *table) {
    for (int t = 0; t < TILES; t++)
        for (int s = 1; s < SIZES; s++)
            for (int turned = 0; turned <= 1; turned++) weight_grad_case(table, tiles[t].weight_grad, sizes[s], turned);
}

/* Where the float of channel c stands, of position k of a tile. */
static ptrdiff_t place(const nnp_products *s, ptrdiff_t strip, ptrdiff_t tile, ptrdiff_t k, ptrdiff_t c) {
    return in_strips(strip, (int)k, c) + tile * s->tile_step;
}

static void products_case(const nnp_kernels *table, ptrdiff_t positions, ptrdiff_t tiles, int cols, ptrdiff_t depth,
                          int accumulate, ptrdiff_t tile_step) {
    begin("positions %td, tiles %td, cols %d, depth %td, accumulate %d, step %td", positions, tiles, cols, depth,
          accumulate, tile_step);
    const ptrdiff_t width = (cols + table->vector - 1) / table->vector * table->vector;
    nnp_products *s = operand(sizeof *s);
    *s = (nnp_products){positions,         tiles,      depth, tile_step, tiles * tile_step, tiles * tile_step,
                        depth * width + 3, accumulate, NULL,  0};
    const ptrdiff_t all = place(s, s->m_strip, tiles - 1, positions - 1, width - 1) + 1;
    const float *v = integers(place(s, s->v_strip, tiles - 1, positions - 1, depth - 1) + 1);
    float *u = integers((positions - 1) * s->u_step + depth * width), *m = accumulate ? integers(all) : floats(all);
    const float *old = copy(all, m);
    double *expected = zeros(all), *written = zeros(all);
    for (ptrdiff_t k = 0; k < positions; k++)
        for (ptrdiff_t i = 0; i < tiles; i++)
            for (ptrdiff_t j = 0; j < width; j++) {
                const ptrdiff_t at = place(s, s->m_strip, i, k, j);
                written[at] = 1;
                expected[at] = accumulate ? m[at] : 0.0;
                for (ptrdiff_t d = 0; d < depth; d++)
                    expected[at] += (double)v[place(s, s->v_strip, i, k, d)] * u[k * s->u_step + d * width + j];
            }
    if (tiles % 2 == 0) s->ask = v, s->ask_bytes = 1000;
    table->winograd_products(s, cols, v, u, m);
    for (ptrdiff_t at = 0; at < all; at++)
        if (written[at] > 0)
            equal(1, m + at, expected + at);
        else
            same(sizeof(float), m + at, old + at);
    end();
}

void check_winograd_products(const nnp_kernels *table) {
    static const ptrdiff_t depths[] = {1, 15, 16, 17, 33, 64, 65, 80, 129};
    const int most = table->vector * table->tile_vectors;
    for (int cols = 1; cols <= most; cols += cols < most - 2 && table->vector > 4 ? 5 : 1)
        for (ptrdiff_t tiles = 1; tiles <= 26; tiles += tiles < 14 ? 1 : 4) {
            const ptrdiff_t depth = depths[(cols + tiles) % 6]; /* operands have 256 KiB at most */
            products_case(table, 1 + tiles % 3, tiles, cols, depth, (int)(tiles / 2 + cols) % 2,
                          NNP_TILE_STEP(tiles % 4 < 2 || tiles > 13 ? 36 : 64));
        }
    for (int d = 0; d < 9; d++) products_case(table, 2, 7, most, depths[d], d % 2, NNP_TILE_STEP(36));
}
