/* The matrix-multiply tiles, and the copies that prepare their operands. */
#include <math.h>
#include <string.h>

#include "harness.h"

/* A tile's operands and result: each run of A and each row of C is an operand of its own. */
typedef struct {
    int rows, cols;
    ptrdiff_t taps, depth, a_stride;
    float **a, **c;
    float *b, *bias;
    int relu;
    double *expected, *magnitude; /* (rows, cols), and the same sum of absolute values */
} tile;

static int panel_width(const nnp_kernels *table, int cols) {
    return (cols + table->vector - 1) / table->vector * table->vector;
}

/* Tiles of one vector may be taller. */
static int most_rows(const nnp_kernels *table, int cols) {
    return cols <= table->vector ? NNP_TALL_ROWS : NNP_TILE_ROWS;
}

/* A tile of A and B by `numbers`, and the sums that start from the old C, which is the canary unless `accumulate`. */
static tile make_tile(const nnp_kernels *table, int rows, int cols, ptrdiff_t taps, ptrdiff_t depth, int with_bias,
                      int accumulate, float *(*numbers)(ptrdiff_t)) {
    tile t = {.rows = rows, .cols = cols, .taps = taps, .depth = depth, .a_stride = rows + taps % 2};
    const int width = panel_width(table, cols);
    t.a = operand(sizeof *t.a * (size_t)(taps > 0 ? (taps - 1) * t.a_stride + rows : 0));
    t.c = operand(sizeof *t.c * (size_t)rows);
    t.b = numbers(taps * depth * width);
    t.bias = with_bias ? numbers(cols) : NULL;
    t.expected = zeros(rows * cols);
    t.magnitude = zeros(rows * cols);
    for (ptrdiff_t k = 0; k < taps * depth; k++)
        for (int j = cols; j < width; j++) t.b[k * width + j] = 0;
    for (int i = 0; i < rows; i++) {
        t.c[i] = accumulate ? numbers(cols) : floats(cols);
        for (int j = 0; j < cols; j++) {
            t.expected[i * cols + j] = (accumulate ? t.c[i][j] : 0.0) + (with_bias ? t.bias[j] : 0.0);
            t.magnitude[i * cols + j] = fabs(accumulate ? t.c[i][j] : 0.0) + fabs(with_bias ? t.bias[j] : 0.0);
        }
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            const float *a = t.a[tap * t.a_stride + i] = numbers(depth);
            const float *b = t.b + tap * depth * width;
            for (ptrdiff_t k = 0; k < depth; k++)
                for (int j = 0; j < cols; j++) {
                    const double product = (double)a[k] * b[k * width + j];
                    t.expected[i * cols + j] += product;
                    t.magnitude[i * cols + j] += fabs(product);
                }
        }
    }
    return t;
}

static void run_tile(const nnp_kernels *table, tile t, int accumulate) {
    table->gemm_tile(t.rows, t.cols, t.taps, t.depth, (const float *const *)t.a, t.a_stride, t.b, t.bias, t.relu,
                     accumulate, t.c);
}

/* max(., 0), of a NaN that. */
static void positive(ptrdiff_t n, double *values) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (values[i] <= 0) values[i] = 0;
}

/* Each element's bits are those of a tile of one row and one column. */
static void same_as_alone(const nnp_kernels *table, tile t) {
    const int width = panel_width(table, t.cols), vector = table->vector;
    for (int j = 0; j < t.cols; j++) {
        float panel[64 * 64] = {0}, alone;
        for (ptrdiff_t k = 0; k < t.taps * t.depth; k++) panel[k * vector] = t.b[k * width + j];
        for (int i = 0; i < t.rows; i++) {
            float *c = &alone;
            table->gemm_tile(1, 1, t.taps, t.depth, (const float *const *)t.a + i, t.a_stride, panel, NULL, 0, 0, &c);
            same(sizeof alone, t.c[i] + j, &alone);
        }
    }
}

static void gemm_tile_case(const nnp_kernels *table, int rows, int cols, ptrdiff_t taps, ptrdiff_t depth, int with_bias,
                           int accumulate, int relu) {
    begin("rows %d, cols %d, taps %td, depth %td, bias %d, accumulate %d, ReLU %d", rows, cols, taps, depth, with_bias,
          accumulate, relu);
    tile t = make_tile(table, rows, cols, taps, depth, with_bias, accumulate, integers);
    t.relu = relu;
    if (relu) positive(rows * cols, t.expected);
    run_tile(table, t, accumulate);
    for (int i = 0; i < rows; i++) equal(cols, t.c[i], t.expected + i * cols);
    end();
}

static void gemm_tile_of_reals(const nnp_kernels *table, int rows, int cols) {
    begin("rows %d, cols %d, real numbers", rows, cols);
    tile t = make_tile(table, rows, cols, 2, 31, 0, 0, reals);
    run_tile(table, t, 0);
    for (int i = 0; i < rows; i++) within(cols, t.c[i], t.expected + i * cols, 62, t.magnitude + i * cols);
    same_as_alone(table, t);
    end();
}

/* A NaN times zeros, and an infinity, come to their row and column, and to no other. */
static void gemm_tile_of_specials(const nnp_kernels *table, int rows, int cols, int nan_row) {
    begin("rows %d, cols %d, NaN in row %d, infinity in the last column", rows, cols, nan_row);
    tile t = make_tile(table, rows, cols, 1, 2, 0, 0, integers);
    const int width = panel_width(table, cols);
    for (int j = 0; j < cols; j++) t.b[width + j] = 0;
    t.b[cols - 1] = INFINITY;
    for (int i = 0; i < rows; i++) {
        t.a[i][0] = 1;
        if (i == nan_row) t.a[i][1] = NAN;
        for (int j = 0; j < cols; j++) t.expected[i * cols + j] = i == nan_row ? NAN : t.b[j];
    }
    t.relu = nan_row % 2;
    if (t.relu) positive(rows * cols, t.expected);
    run_tile(table, t, 0);
    for (int i = 0; i < rows; i++) equal(cols, t.c[i], t.expected + i * cols);
    end();
}

void check_gemm_tile(const nnp_kernels *table) {
    const ptrdiff_t axes[][2] = {{0, 3}, {1, 0}, {1, 1}, {1, 7}, {3, 2}, {2, 5}};
    for (int cols = 1; cols <= table->vector * table->tile_vectors; cols++)
        for (int rows = 1; rows <= most_rows(table, cols); rows++) {
            for (size_t axis = 0; axis < sizeof axes / sizeof axes[0]; axis++)
                for (int option = 0; option < 8; option++)
                    gemm_tile_case(table, rows, cols, axes[axis][0], axes[axis][1], option & 1, option >> 1 & 1,
                                   option >> 2);
            if (cols % table->vector != 0) continue;
            gemm_tile_of_reals(table, rows, cols);
            for (int nan_row = 0; nan_row < rows; nan_row++) gemm_tile_of_specials(table, rows, cols, nan_row);
        }
}

/* Any number of rows, B packed or not; with small integers, and each element with the bits that a tile gives it. */
static void gemm_rows_case(const nnp_kernels *table, ptrdiff_t rows, int cols, ptrdiff_t depth, int packing,
                           int with_bias, int accumulate, int relu) {
    const int width = panel_width(table, cols);
    const ptrdiff_t a_step = depth + 3, b_step = packing ? cols + 2 : width, c_step = cols + 1;
    begin("rows %td, cols %d, depth %td, packing %d, bias %d, accumulate %d, ReLU %d", rows, cols, depth, packing,
          with_bias, accumulate, relu);
    const float *a = integers((rows - 1) * a_step + depth), *bias = with_bias ? integers(cols) : NULL;
    float *b = integers(depth > 0 ? (depth - 1) * b_step + (packing ? cols : width) : 0);
    float *packed = packing ? floats(depth * width) : NULL, *c = floats((rows - 1) * c_step + cols);
    double *expected = zeros(cols);
    for (ptrdiff_t k = 0; k < depth && !packing; k++)
        for (int j = cols; j < width; j++) b[k * width + j] = 0;
    for (ptrdiff_t i = 0; i < rows && accumulate; i++)
        for (int j = 0; j < cols; j++) c[i * c_step + j] = (float)(j - i % 5);
    table->gemm_rows(rows, cols, depth, a, a_step, b, b_step, packed, bias, relu, accumulate, c, c_step);
    for (ptrdiff_t i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            expected[j] = (accumulate ? (double)(j - i % 5) : 0.0) + (with_bias ? bias[j] : 0.0);
            for (ptrdiff_t k = 0; k < depth; k++) expected[j] += (double)a[i * a_step + k] * b[k * b_step + j];
        }
        if (relu) positive(cols, expected);
        equal(cols, c + i * c_step, expected);
        if (i < rows - 1) untouched(1, c + i * c_step + cols);
    }
    double *panel = zeros(width);
    for (ptrdiff_t k = 0; k < depth && packing; k++) {
        for (int j = 0; j < cols; j++) panel[j] = b[k * b_step + j];
        equal(width, packed + k * width, panel);
    }
    end();
}

void check_gemm_rows(const nnp_kernels *table) {
    const ptrdiff_t heights_of_rows[] = {1, 5, 6, 7, 11, 12, 13, 24, 25};
    for (int cols = 1; cols <= table->vector * table->tile_vectors; cols++)
        for (size_t h = 0; h < sizeof heights_of_rows / sizeof heights_of_rows[0]; h++)
            for (ptrdiff_t depth = 0; depth <= 6; depth += 3)
                for (int option = 0; option < 16; option++)
                    gemm_rows_case(table, heights_of_rows[h], cols, depth, option & 1, option >> 1 & 1, option >> 2 & 1,
                                   option >> 3);
}

/* Three segments, one of them empty, with steps of A and B that may go backwards. */
static void outer_tile_case(const nnp_kernels *table, int rows, int cols, ptrdiff_t gap, int backwards,
                            float *(*numbers)(ptrdiff_t)) {
    enum { SEGMENTS = 3 };
    const ptrdiff_t lengths[SEGMENTS] = {4, 0, 1};
    const ptrdiff_t a_step = backwards ? -(rows + gap) : rows + gap, b_step = backwards ? -(cols + gap) : cols + gap;
    const ptrdiff_t a_offset = gap, b_offset = 2 * gap, ld = cols + gap;
    begin("rows %d, cols %d, gaps of %td, backwards %d", rows, cols, gap, backwards);
    nnp_segment *segments = operand(SEGMENTS * sizeof *segments);
    float *c = floats((rows - 1) * ld + cols), *start = numbers(rows * cols);
    double *expected = zeros(rows * cols), *magnitude = zeros(rows * cols);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            c[i * ld + j] = start[i * cols + j];
            expected[i * cols + j] = start[i * cols + j];
            magnitude[i * cols + j] = fabs(start[i * cols + j]);
        }
    for (int s = 0; s < SEGMENTS; s++) {
        const ptrdiff_t last = lengths[s] > 0 ? lengths[s] - 1 : 0, first = backwards ? last : 0;
        const ptrdiff_t a_floats = lengths[s] > 0 ? last * (rows + gap) + rows : 0;
        const ptrdiff_t b_floats = lengths[s] > 0 ? last * (cols + gap) + cols : 0;
        const float *a = numbers(a_floats) + first * (rows + gap), *b = numbers(b_floats) + first * (cols + gap);
        segments[s] = (nnp_segment){a - a_offset, b - b_offset, lengths[s]};
        for (ptrdiff_t k = 0; k < lengths[s]; k++)
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < cols; j++) {
                    const double product = (double)a[k * a_step + i] * b[k * b_step + j];
                    expected[i * cols + j] += product;
                    magnitude[i * cols + j] += fabs(product);
                }
    }
    table->outer_tile(rows, cols, SEGMENTS, segments, a_offset, a_step, 1 << 20, b_offset, b_step, -(1 << 20), c, ld);
    for (int i = 0; i < rows; i++) {
        if (numbers == integers)
            equal(cols, c + i * ld, expected + i * cols);
        else
            within(cols, c + i * ld, expected + i * cols, 6, magnitude + i * cols);
        for (int j = 0; j < cols; j++) { /* the bits are those of C plus a tile of one row and one column */
            float alone = 0;
            table->outer_tile(1, 1, SEGMENTS, segments, a_offset + i, a_step, 0, b_offset + j, b_step, 0, &alone, 1);
            alone += start[i * cols + j];
            same(sizeof alone, c + i * ld + j, &alone);
        }
        if (i < rows - 1) untouched(gap, c + i * ld + cols);
    }
    end();
}

void check_outer_tile(const nnp_kernels *table) {
    for (int cols = 1; cols <= table->vector * table->tile_vectors; cols++)
        for (int rows = 1; rows <= most_rows(table, cols); rows++)
            for (ptrdiff_t gap = 0; gap <= 3; gap += 3)
                for (int backwards = 0; backwards <= 1; backwards++) {
                    outer_tile_case(table, rows, cols, gap, backwards, integers);
                    outer_tile_case(table, rows, cols, gap, backwards, reals);
                }
}

/* The bits are those of outer_tile, however the rows are cut into tiles. */
static void outer_rows_case(const nnp_kernels *table, ptrdiff_t rows, int cols, ptrdiff_t depth, ptrdiff_t gap) {
    const ptrdiff_t a_step = rows + gap, b_step = cols + gap, c_step = cols + gap;
    begin("rows %td, cols %d, depth %td, gaps of %td", rows, cols, depth, gap);
    float *c = floats((rows - 1) * c_step + cols), *expected = floats(cols);
    const float *a = reals(depth > 0 ? (depth - 1) * a_step + rows : 0);
    const float *b = reals(depth > 0 ? (depth - 1) * b_step + cols : 0);
    const nnp_segment all = {a, b, depth};
    for (ptrdiff_t i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) c[i * c_step + j] = (float)(j - i % 5);
    table->outer_rows(rows, cols, depth, a, a_step, b, b_step, c, c_step);
    for (ptrdiff_t i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) expected[j] = (float)(j - i % 5);
        table->outer_tile(1, cols, 1, &all, i, a_step, 0, 0, b_step, 0, expected, 0);
        same(sizeof *c * (size_t)cols, c + i * c_step, expected);
        if (i < rows - 1) untouched(gap, c + i * c_step + cols);
    }
    end();
}

void check_outer_rows(const nnp_kernels *table) {
    const ptrdiff_t rows[] = {1, 5, 6, 7, 11, 12, 13, 16, 25, 32};
    for (int cols = 1; cols <= table->vector * table->tile_vectors; cols++)
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            for (ptrdiff_t depth = 0; depth <= 6; depth += 3)
                for (ptrdiff_t gap = 0; gap <= 3; gap += 3) outer_rows_case(table, rows[r], cols, depth, gap);
}

/* The bits of a row's sum do not depend on the other rows; a NaN in one comes to no other. */
static void dot_tile_case(const nnp_kernels *table, int rows, ptrdiff_t depth, int nan_row,
                          float *(*numbers)(ptrdiff_t)) {
    begin("rows %d, depth %td, NaN in row %d, %s", rows, depth, nan_row, numbers == integers ? "integers" : "reals");
    const float **a = operand(sizeof *a * (size_t)rows), *x = numbers(depth);
    float *out = floats(rows);
    double *expected = zeros(rows), *magnitude = zeros(rows);
    for (int i = 0; i < rows; i++) {
        float *row = numbers(depth);
        if (i == nan_row) row[depth - 1] = NAN;
        for (ptrdiff_t k = 0; k < depth; k++) {
            expected[i] += (double)row[k] * x[k];
            magnitude[i] += fabs((double)row[k] * x[k]);
        }
        a[i] = row;
    }
    table->dot_tile(rows, depth, a, x, out);
    if (numbers == integers)
        equal(rows, out, expected);
    else
        within(rows, out, expected, (double)depth, magnitude);
    for (int i = 0; i < rows; i++) {
        float alone;
        table->dot_tile(1, depth, a + i, x, &alone);
        if (i != nan_row) same(sizeof alone, out + i, &alone);
    }
    end();
}

void check_dot_tile(const nnp_kernels *table) {
    for (int rows = 1; rows <= NNP_TILE_ROWS; rows++)
        for (int s = 0; s < SIZES; s++) {
            dot_tile_case(table, rows, sizes[s], -1, integers);
            dot_tile_case(table, rows, sizes[s], -1, reals);
            if (sizes[s] > 0) dot_tile_case(table, rows, sizes[s], rows / 2, integers);
        }
}

/* Strides of a (rows, cols) matrix: row by row, with gaps, column by column, neither, backwards. */
enum { LAYOUTS = 5 };

static void strides(int layout, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t *row, ptrdiff_t *col) {
    const ptrdiff_t all[LAYOUTS][2] = {{cols, 1}, {cols + 3, 1}, {1, rows + 2}, {2 * cols + 1, 2}, {-cols, -1}};
    *row = all[layout][0];
    *col = all[layout][1];
}

/* A matrix of these strides by itself: its first element, which is the last in memory if the strides are negative. */
static const float *make_matrix(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t row, ptrdiff_t col) {
    if (rows == 0 || cols == 0) return integers(0);
    const ptrdiff_t last = (rows - 1) * row + (cols - 1) * col;
    const float *x = integers((last < 0 ? -last : last) + 1);
    return last < 0 ? x - last : x;
}

void check_pack_panel(const nnp_kernels *table) {
    const ptrdiff_t depths[] = {0, 1, 5, 16, 17, 33};
    const float factors[] = {1, -2.5f};
    for (int cols = 1; cols <= table->vector * table->tile_vectors; cols++)
        for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++)
            for (int layout = 0; layout < LAYOUTS; layout++)
                for (int f = 0; f < 2; f++) {
                    const ptrdiff_t depth = depths[d];
                    ptrdiff_t row, col;
                    strides(layout, depth, cols, &row, &col);
                    begin("depth %td, cols %d, factor %g, strides %td %td", depth, cols, (double)factors[f], row, col);
                    const int width = panel_width(table, cols);
                    const float *b = make_matrix(depth, cols, row, col);
                    float *panel = floats(depth * width);
                    double *expected = zeros(depth * width);
                    for (ptrdiff_t k = 0; k < depth; k++)
                        for (int j = 0; j < cols; j++)
                            expected[k * width + j] = (double)factors[f] * b[k * row + j * col];
                    table->pack_panel(depth, cols, factors[f], b, row, col, panel);
                    for (ptrdiff_t k = 0; k < depth; k++)
                        for (int j = cols; j < width; j++) panel[k * width + j] += 0.0f; /* of either sign */
                    equal(depth * width, panel, expected);
                    end();
                }
}

void check_copy_matrix(const nnp_kernels *table) {
    for (int r = 0; r < SIZES; r++)
        for (int c = 0; c < SIZES; c++)
            for (int layout = 0; layout < LAYOUTS; layout++) {
                const ptrdiff_t rows = sizes[r], cols = sizes[c], gap = layout % 3, ld = cols + gap;
                ptrdiff_t row, col;
                strides(layout, rows, cols, &row, &col);
                begin("rows %td, cols %td, strides %td %td, ld %td", rows, cols, row, col, ld);
                const float *x = make_matrix(rows, cols, row, col);
                float *y = floats(rows > 0 ? (rows - 1) * ld + cols : 0);
                table->copy_matrix(rows, cols, x, row, col, y, ld);
                double *expected = zeros(cols);
                for (ptrdiff_t i = 0; i < rows; i++) {
                    for (ptrdiff_t j = 0; j < cols; j++) expected[j] = x[i * row + j * col];
                    equal(cols, y + i * ld, expected);
                    if (i < rows - 1) untouched(gap, y + i * ld + cols);
                }
                end();
            }
}

/* Twelve chains x <- x / 2 + 1 / 2, from 0.00, 0.01, ... 0.11, in every element of the vector. */
void check_multiply_add_peak(const nnp_kernels *table) {
    for (int rounds = 0; rounds <= 40; rounds++) {
        begin("rounds %d", rounds);
        const double sum = 12 - (12 - 0.66) * ldexp(1, -rounds);
        const float actual = table->multiply_add_peak(rounds);
        within(1, &actual, &sum, 16, &sum);
        end();
    }
}
