/* Element by element, and sums of rows. */
#include <math.h>
#include <string.h>

#include "harness.h"

/* Numbers among which each special one comes to every place of a vector: 9 is prime to all their lengths. */
static float *specials(ptrdiff_t n) {
    const float values[9] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, -1.5f, 0x1p-126f, -0x1p-126f};
    float *x = floats(n);
    for (ptrdiff_t i = 0; i < n; i++) x[i] = values[i % 9];
    return x;
}

void check_relu(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int which = 0; which < 4; which++) {
            const ptrdiff_t n = sizes[s];
            const int in_place = which % 2, stream = which / 2;
            begin("n %td, in place %d, stream %d", n, in_place, stream);
            float *x = specials(n), *y = in_place ? x : floats(n);
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) expected[i] = isnan(x[i]) ? NAN : x[i] > 0 ? x[i] : 0.0;
            table->relu(n, x, stream, y);
            equal(n, y, expected);
            end();
        }
}

void check_relu_grad(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int which = 0; which < 4; which++) {
            const ptrdiff_t n = sizes[s];
            const int special = which % 2, stream = which / 2;
            begin("n %td, %s, stream %d", n, special ? "special dy" : "special y", stream);
            const float *dy = special ? specials(n) : reals(n), *y = special ? integers(n) : specials(n);
            float *dx = floats(n);
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) expected[i] = y[i] > 0 ? dy[i] : 0.0;
            table->relu_grad(n, dy, y, stream, dx);
            equal(n, dx, expected);
            end();
        }
}

/* Into memory of its own, into a, into b; with and without ReLU. */
void check_add(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (int which = 0; which < 6; which++) {
            const ptrdiff_t n = sizes[s];
            const int relu = which % 2;
            begin("n %td, y is %s, ReLU %d", n, which / 2 == 0 ? "apart" : which / 2 == 1 ? "a" : "b", relu);
            float *a = specials(n), *b = integers(n), *y = which / 2 == 0 ? floats(n) : which / 2 == 1 ? a : b;
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) {
                expected[i] = a[i] + b[i];
                if (relu && expected[i] <= 0) expected[i] = 0;
            }
            table->add(n, a, b, relu, y);
            equal(n, y, expected);
            end();
        }
}

void check_scale(const nnp_kernels *table) {
    const float factors[] = {0, 1, -0.3f, NAN};
    for (int s = 0; s < SIZES; s++)
        for (int f = 0; f < 4; f++) {
            const ptrdiff_t n = sizes[s];
            begin("n %td, factor %g", n, (double)factors[f]);
            float *x = reals(n);
            double *expected = zeros(n);
            for (ptrdiff_t i = 0; i < n; i++) expected[i] = (double)x[i] * factors[f];
            table->scale(n, factors[f], x);
            equal(n, x, expected);
            end();
        }
}

void check_turn(const nnp_kernels *table) {
    for (int r = 0; r < SIZES; r++)
        for (int c = 0; c < SIZES; c++)
            for (ptrdiff_t gap = 0; gap <= 3; gap += 3) {
                const ptrdiff_t rows = sizes[r], cols = sizes[c], src_ld = cols + gap, dst_ld = rows + 2 * gap;
                begin("rows %td, cols %td, leading dimensions %td and %td", rows, cols, src_ld, dst_ld);
                const float *src = reals(rows > 0 ? (rows - 1) * src_ld + cols : 0);
                float *dst = floats(cols > 0 ? (cols - 1) * dst_ld + rows : 0);
                double *expected = zeros(rows);
                table->turn(rows, cols, src, src_ld, dst, dst_ld);
                for (ptrdiff_t j = 0; j < cols; j++) {
                    for (ptrdiff_t i = 0; i < rows; i++) expected[i] = src[i * src_ld + j];
                    equal(rows, dst + j * dst_ld, expected);
                    if (j < cols - 1) untouched(dst_ld - rows, dst + j * dst_ld + rows);
                }
                end();
            }
}

/* Word number `which` of Philox4x32-10, from the definition: Salmon, Moraes, Dror, Shaw, SC 2011, section 4.3. */
static uint32_t philox(const uint32_t counter[4], const uint32_t key[2], ptrdiff_t which) {
    uint64_t left0 = counter[1], right0 = counter[0], left1 = counter[3], right1 = counter[2];
    for (uint32_t round = 0; round < 10; round++) {
        const uint64_t product0 = 0xD2511F53 * right0, product1 = 0xCD9E8D57 * right1;
        right0 = (product1 >> 32 ^ left0 ^ (key[0] + round * 0x9E3779B9)) & 0xFFFFFFFF;
        right1 = (product0 >> 32 ^ left1 ^ (key[1] + round * 0xBB67AE85)) & 0xFFFFFFFF;
        left0 = product1 & 0xFFFFFFFF;
        left1 = product0 & 0xFFFFFFFF;
    }
    const uint64_t words[4] = {right0, left0, right1, left1};
    return (uint32_t)words[which];
}

/* Random123, tests/kat_vectors: counter, key, words. */
static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
     0x24126ea1},
};

static void dropout_case(const nnp_kernels *table, ptrdiff_t n, nnp_philox at, uint32_t threshold, int in_place) {
    begin("n %td, threshold %u, sample %u, in place %d", n, threshold, at.sample, in_place);
    float *x = reals(n), *y = in_place ? x : floats(n);
    double *expected = zeros(n);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint32_t counter[4] = {(uint32_t)(i / 4), at.sample, at.epoch, at.layer};
        expected[i] = philox(counter, at.key, i % 4) >= threshold ? (double)x[i] * 1.3f : 0.0;
    }
    table->dropout(n, x, at, threshold, 1.3f, y);
    equal(n, y, expected);
    end();
}

void check_dropout(const nnp_kernels *table) {
    for (int answer = 0; answer < 3; answer++)
        for (int word = 0; word < 4; word++) {
            begin("known answer %d, word %d", answer, word);
            close_to(philox(known[answer], known[answer] + 4, word), known[answer][6 + word], 0, 0);
        }
    const nnp_philox first = {{0, 0}, 0, 0, 0}, other = {{0x89abcdef, 0x1234567}, 0xfffffffe, 3, 7};
    for (int s = 0; s < SIZES; s++)
        for (int in_place = 0; in_place <= 1; in_place++) {
            for (int word = 6; word < 10; word++) { /* a word that equals the threshold is kept */
                dropout_case(table, sizes[s], first, known[0][word], in_place);
                dropout_case(table, sizes[s], first, known[0][word] + 1, in_place);
            }
            dropout_case(table, sizes[s], other, 0, in_place);
            dropout_case(table, sizes[s], other, 0x80000000, in_place);
        }
}

static void sum_rows_case(const nnp_kernels *table, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t stride, int accumulate,
                          float *(*numbers)(ptrdiff_t)) {
    begin("rows %td, cols %td, stride %td, accumulate %d, %s", rows, cols, stride, accumulate,
          numbers == integers ? "integers" : "reals");
    const float *x = numbers(rows > 0 ? (rows - 1) * stride + cols : 0);
    float *out = accumulate ? numbers(cols) : floats(cols);
    double *expected = zeros(cols), *magnitude = zeros(cols);
    for (ptrdiff_t i = 0; i < cols && accumulate; i++) {
        expected[i] = out[i];
        magnitude[i] = fabs(out[i]);
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < cols; i++) {
            expected[i] += x[r * stride + i];
            magnitude[i] += fabs(x[r * stride + i]);
        }
    table->sum_rows(rows, cols, x, stride, accumulate, out);
    if (numbers == integers)
        equal(cols, out, expected);
    else
        within(cols, out, expected, (double)rows, magnitude);
    end();
}

void check_sum_rows(const nnp_kernels *table) {
    for (int w = 0; w < WIDTHS; w++)
        for (int h = -1; h < HEIGHTS; h++)
            for (int option = 0; option < 4; option++) {
                const ptrdiff_t rows = h < 0 ? 0 : heights[h], cols = widths[w], stride = cols + 3 * (option & 1);
                if (rows * stride > MOST_ELEMENTS) continue;
                sum_rows_case(table, rows, cols, stride, option >> 1, integers);
                sum_rows_case(table, rows, cols, stride, option >> 1, reals);
            }
}

void check_sum_strided(const nnp_kernels *table) {
    for (int s = 0; s < SIZES; s++)
        for (ptrdiff_t step = 0; step < 4; step++) {
            const ptrdiff_t n = sizes[s], length = n == 0 ? 0 : (n - 1) * step + 1;
            begin("n %td, step %td", n, step);
            const float *x = integers(length);
            double sum = 0.0;
            for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i * step];
            close_to(table->sum_strided(n, x, step), sum, 0, 0);
            end();
        }
}
