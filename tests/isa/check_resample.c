/* Weighted sums of rows against loops in double. */
#include <math.h>

#include "harness.h"

enum { ROWS_OF_X = 7, TABLES = 5 };
/* How many terms the rows of the result have, in turn. */
static const ptrdiff_t terms[TABLES] = {1, 2, 0, 5, 1};

static void weighted_rows_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t n) {
    begin("%td rows of %td", rows, n);
    ptrdiff_t total = 0;
    for (ptrdiff_t i = 0; i < rows; i++) total += terms[i % TABLES];
    int64_t *first = operand((size_t)(rows + 1) * sizeof *first), *index = operand((size_t)total * sizeof *index);
    float *weight = reals(total), *y = floats(rows * n);
    const float *x = reals(ROWS_OF_X * n);
    double *expected = zeros(rows * n), *magnitude = zeros(rows * n);
    first[0] = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        first[i + 1] = first[i] + terms[i % TABLES];
        for (ptrdiff_t k = first[i]; k < first[i + 1]; k++) {
            index[k] = (5 * k + i) % ROWS_OF_X;
            if (i % TABLES == 0) weight[k] = 1;
            for (ptrdiff_t c = 0; c < n; c++) {
                const double product = (double)weight[k] * (double)x[index[k] * n + c];
                expected[i * n + c] += product;
                magnitude[i * n + c] += fabs(product);
            }
        }
    }
    table->weighted_rows(rows, n, first, index, weight, x, y);
    within(rows * n, y, expected, 5, magnitude);
    end();
}

void check_weighted_rows(const nnp_kernels *table) {
    for (ptrdiff_t rows = 1; rows <= 6; rows++)
        for (int s = 1; s < SIZES; s++) weighted_rows_case(table, rows, sizes[s]);
}
