/* The transforms of Winograd's F(4x4, 3x3), each a matrix from the left and its transpose from the right. */
#include <math.h>

#include "harness.h"

/* Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section 4.3. */
static const double b_transposed[6 * 6] = {4, 0,  -5, 0, 1, 0, 0, -4, -4, 1,  1, 0, 0, 4, -4, -1, 1, 0,
                                           0, -2, -1, 2, 1, 0, 0, 2,  -1, -2, 1, 0, 0, 4, 0,  -5, 0, 1};
static const double a_transposed[4 * 6] = {1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0, 0, 1, 1, 4, 4, 0, 0, 1, -1, 8, -8, 1};
static const double g[6 * 3] = {1. / 4,  0,       0,      -1. / 6, -1. / 6,  -1. / 6, -1. / 6, 1. / 6, -1. / 6,
                                1. / 24, 1. / 12, 1. / 6, 1. / 24, -1. / 12, 1. / 6,  0,       0,      1};

typedef struct {
    int out, in; /* an (in, in) square becomes (out, out) */
    const double *matrix;
    int row, col; /* strides of the matrix: (in, 1), or (1, out) for its transpose */
} transform;
static const transform input = {6, 6, b_transposed, 6, 1}, output = {4, 6, a_transposed, 6, 1},
                       output_grad = {6, 4, a_transposed, 1, 6}, weight = {6, 3, g, 3, 1},
                       weight_grad = {3, 6, g, 1, 3};

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

/* What is inside of a patch of size 6: whole, each side cut, a pixel, nothing. */
static const int insides[][4] = {{0, 6, 0, 6}, {1, 6, 0, 6}, {0, 6, 2, 6}, {0, 3, 0, 6},
                                 {0, 6, 0, 1}, {1, 4, 1, 5}, {2, 3, 3, 4}, {2, 2, 0, 6}};
enum { INSIDES = sizeof insides / sizeof insides[0] };

/* A patch of size 6 or 4, of which only the inside lies in memory. */
static nnp_patch make_patch(const int *inside, int size, ptrdiff_t n, ptrdiff_t *floats_inside) {
    const int bottom = inside[1] < size ? inside[1] : size, right = inside[3] < size ? inside[3] : size;
    const ptrdiff_t col = n + 2, row = 6 * col + 1;
    const int empty = bottom <= inside[0] || right <= inside[2];
    *floats_inside = empty ? 0 : (bottom - 1 - inside[0]) * row + (right - 1 - inside[2]) * col + n;
    return (nnp_patch){-inside[0] * row - inside[2] * col, row, col, inside[0], bottom, inside[2], right};
}

static void image_case(const nnp_kernels *table, transform t, ptrdiff_t n, const int *inside, ptrdiff_t gap) {
    begin("n %td, inside rows %d to %d, columns %d to %d", n, inside[0], inside[1], inside[2], inside[3]);
    ptrdiff_t memory;
    nnp_patch *p = operand(sizeof *p);
    *p = make_patch(inside, t.in, n, &memory);
    const float *image = reals(memory);
    float *y = positions(6, n, n + gap, floats);
    double *x = zeros(t.in * t.in * n);
    for (int i = p->top; i < p->bottom; i++)
        for (int j = p->left; j < p->right; j++)
            for (ptrdiff_t c = 0; c < n; c++)
                x[(t.in * i + j) * n + c] = image[p->first + i * p->row_stride + j * p->col_stride + c];
    (t.in == 6 ? table->winograd_input : table->winograd_output_grad)(n, p, image, y, n + gap);
    compare_positions(6, n, y, n + gap, expect(t, n, x));
    end();
}

static void check_image(const nnp_kernels *table, transform t) {
    for (int s = 1; s < SIZES; s++)
        for (int i = 0; i < INSIDES; i++) image_case(table, t, sizes[s], insides[i], i % 3);
}

void check_winograd_input(const nnp_kernels *table) { check_image(table, input); }

void check_winograd_output_grad(const nnp_kernels *table) { check_image(table, output_grad); }

static void output_case(const nnp_kernels *table, ptrdiff_t n, int bottom, int right, int with_bias) {
    begin("n %td, inside %d x %d, bias %d", n, bottom, right, with_bias);
    const int inside[4] = {0, bottom, 0, right};
    const ptrdiff_t stride = n + with_bias;
    ptrdiff_t memory;
    nnp_patch *p = operand(sizeof *p);
    *p = make_patch(inside, 4, n, &memory);
    float *image = floats(memory);
    const float *m = positions(6, n, stride, reals), *bias = with_bias ? reals(n) : NULL;
    square y = expect(output, n, gather(6, n, m, stride));
    for (ptrdiff_t c = 0; c < 16 * n && with_bias; c++) {
        y.values[c] += bias[c % n];
        y.magnitude[c] += fabs(bias[c % n]);
    }
    table->winograd_output(n, p, m, stride, bias, image);
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
    for (int s = 1; s < SIZES; s++)
        for (int bottom = 1; bottom <= 4; bottom++)
            for (int right = 1; right <= 4; right++) output_case(table, sizes[s], bottom, right, (bottom + right) % 2);
}

/* Filters stand in the order of their taps, or, turned by half a turn, in the reverse. */
static float *first_tap(float *taps, ptrdiff_t stride) { return stride < 0 ? taps - 8 * stride : taps; }

void check_winograd_weight(const nnp_kernels *table) {
    for (int s = 1; s < SIZES; s++)
        for (int turned = 0; turned <= 1; turned++) {
            const ptrdiff_t n = sizes[s], gap = turned, stride = turned ? -n - gap : n;
            begin("n %td, turned %d", n, turned);
            const float *taps = first_tap(positions(3, n, n + gap, reals), stride);
            float *u = positions(6, n, n + gap, floats);
            table->winograd_weight(n, taps, stride, u, n + gap);
            compare_positions(6, n, u, n + gap, expect(weight, n, gather(3, n, taps, stride)));
            end();
        }
}

void check_winograd_weight_grad(const nnp_kernels *table) {
    for (int s = 1; s < SIZES; s++)
        for (int turned = 0; turned <= 1; turned++) {
            const ptrdiff_t n = sizes[s], gap = turned, stride = turned ? -n - gap : n;
            begin("n %td, turned %d", n, turned);
            const float *u = positions(6, n, n + gap, reals);
            float *taps = first_tap(positions(3, n, n + gap, floats), stride);
            table->winograd_weight_grad(n, u, n + gap, taps, stride);
            const square expected = expect(weight_grad, n, gather(6, n, u, n + gap));
            for (int k = 0; k < 9; k++) {
                compare(n, taps + k * stride, expected, k);
                if (k < 8) untouched(gap, (turned ? taps + (k + 1) * stride : taps + k * stride) + n);
            }
            end();
        }
}
