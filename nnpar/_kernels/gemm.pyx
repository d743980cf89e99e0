"""Matrix multiply.

In general one operand, the right one, is packed into panels as wide as a tile; the other is read in place, row by row.
The problem is turned round, C^T = B^T A^T, where that copies less. Tasks are blocks of rows times panels; each element
of C is one chain of multiply-adds over the summed axis, in order, so threads cannot change it. A product with few rows
or columns reads the large operand in place: there would be more to pack than to multiply, unless that is done once.
A batch of products has a task for each panel of each.
"""

import math

import numpy as np

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t
from libc.string cimport memset

from nnpar._kernels.csrc cimport (NNP_TALL_ROWS, NNP_TILE_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode, nnp_segment)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    # 256 columns of B, 1024 steps deep, are 1 MB: they stay in the second-level cache while rows of A go by, each of
    # which is fetched once for all of them. See bench/README.md.
    DEPTH = 1024
    GROUP_COLS = 256
    BLOCK_ROWS = 16 * NNP_TILE_ROWS
    COPY_ROWS = 16         # rows of a task that copies
    OWN_PANELS = 8         # with so many, and one block of rows, each task packs the panels that it multiplies,
    OWN_DEPTH = 512        # so deep; one by one, while a few rows are multiplied,
    OWN_FLOATS = 8192      # so large, that they stay in the first-level cache
    OWN_COLS = 1024        # and for so many columns before the next block of the summed axis,
    STRIP = 16             # going along so many rows of B at once
    FAR_FLOATS = 1 << 17   # (if B is larger than a part of the second-level cache)
    NEAR_FLOATS = 3 << 20  # B up to this size comes fast enough to be packed while it is multiplied
    FEW_ROWS = 6           # up to so many rows (or columns) of the result are a thin product
    THIN_COLS = 48         # columns of a task of a thin product by dot products
    THIN_ROW_COLS = 1024   # of a thin product by rows, at most
    THIN_DEPTH = 16        # rows of B that it goes along at once


cdef struct Matrix:        # rows x cols by strides, in floats
    const float *data
    Py_ssize_t row, col


cdef double cycles(Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t k, Py_ssize_t packed, Py_ssize_t copied,
                   int vector) noexcept:
    """Rough cost of a product: two vector multiply-adds a cycle over whole tiles, and what is copied before."""
    return (<double> ceil_div(rows, NNP_TILE_ROWS) * NNP_TILE_ROWS * ceil_div(cols, vector) * k / 2 + 0.5 * packed
            + 1.5 * copied)


def gemm_step(a, b, c, bias=None, bint relu=False, float alpha=1.0, float beta=0.0, bint prepacked=False):
    """The step c = alpha * a @ b + beta * c, plus bias on each row, or the ReLU of that.

    Shape and strides choose the algorithm.

    Parameters
    ----------
    a, b : ndarray of shape (m, k) and (k, n), float32, any strides
    c : ndarray of shape (m, n), float32, rows contiguous; overlaps neither a nor b; not read if beta is 0
    bias : ndarray of shape (n,), float32, contiguous, optional; then beta must be 0
    relu : bool
    prepacked : bool
        Whether b is packed once, by `Step.prepack`, before the step runs.
    """
    if bias is not None and beta != 0.0:
        raise ValueError("gemm: bias needs beta = 0")
    if c.shape[1] > 1 and c.strides[1] != 4:
        raise ValueError("gemm: expected contiguous rows of c")
    if ThinGemm.fits(a, b) and not prepacked:
        return ThinGemm(a, b, c, bias, relu, alpha, beta)
    return PackedGemm(a, b, c, bias, relu, alpha, beta, prepacked)


cdef class PackedGemm(Step):
    """The product of `gemm_step` by tiles, one operand packed into panels."""

    cdef Matrix left, right
    cdef const float *bias
    cdef bint relu
    cdef float *c
    cdef Py_ssize_t rows, cols, k, c_row, m, n, depth
    cdef float alpha, beta
    cdef bint turned, copy_left
    cdef Py_ssize_t left_offset, left_row, out_offset  # in the workspace, after the packed panels
    # Each task packs what it needs, if there is no second use or if that costs little: rows of B that are contiguous
    # are packed while the first rows of A are multiplied with them, or if they are far away, in strips. With few rows,
    # a panel makes way for the next once it is multiplied.
    cdef bint pack_own, on_the_way, one_by_one

    def __init__(self, a, b, c, bias, bint relu, float alpha, float beta, bint prepacked):
        cdef const nnp_kernels *kernel = kernels()
        cdef Matrix left, right
        self.name = "gemm"
        self.m, self.n, self.k = a.shape[0], b.shape[1], a.shape[1] if alpha != 0.0 else 0
        left = Matrix(self.floats(a), a.strides[0] // 4, a.strides[1] // 4)
        right = Matrix(self.weights(b), b.strides[0] // 4, b.strides[1] // 4)
        self.c = self.floats(c, write=True)
        self.c_row = c.strides[0] // 4
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu, self.alpha, self.beta = relu, alpha, beta

        m, n, k = self.m, self.n, self.k
        straight = cycles(m, n, k, k * n, k * m if left.col != 1 else 0, kernel.vector)
        turned = cycles(n, m, k, k * m, (k * n if right.row != 1 else 0) + m * n, kernel.vector)
        self.turned = beta == 0.0 and turned < straight and not prepacked
        if self.turned:
            self.rows, self.cols = self.n, self.m
            self.left, self.right = Matrix(right.data, right.col, right.row), Matrix(left.data, left.col, left.row)
        else:
            self.rows, self.cols = self.m, self.n
            self.left, self.right = left, right
        self.copy_left = self.left.col != 1 and self.k > 1
        padded = ceil_div(self.cols, kernel.vector) * kernel.vector
        width = kernel.vector * kernel.tile_vectors
        panels = ceil_div(self.cols, width)
        self.on_the_way = not prepacked and self.right.col == 1 and alpha == 1.0 and self.k * self.cols <= NEAR_FLOATS
        self.pack_own = self.right.col == 1 or (self.rows <= BLOCK_ROWS and panels >= OWN_PANELS)
        self.pack_own = self.pack_own and not prepacked
        self.one_by_one = self.on_the_way and self.rows <= BLOCK_ROWS and self.k * self.cols >= FAR_FLOATS
        self.depth = OWN_DEPTH if self.pack_own and self.rows <= BLOCK_ROWS else DEPTH
        if self.one_by_one or (prepacked and NNP_TILE_ROWS < self.rows <= BLOCK_ROWS):
            self.depth = OWN_FLOATS // width
        packed_bytes = aligned(4 * self.k * padded)
        self.prepacked_bytes = packed_bytes if prepacked else 0
        self.left_offset = 0 if self.pack_own or prepacked else packed_bytes
        # Rows a cache line further apart than a round number: else a strip's 16 rows could share one set of the cache.
        self.left_row = aligned(4 * self.k) // 4 + 16
        self.out_offset = self.left_offset + (4 * self.rows * self.left_row if self.copy_left else 0)
        self.cost(2.0 * self.m * self.n * self.k, 4.0 * (self.m * self.k + self.k * self.n + self.m * self.n))
        own = 4 * min(width if self.one_by_one else GROUP_COLS, padded) * min(self.k, self.depth)
        self.need(self.out_offset + (4 * self.rows * self.cols if self.turned else 0), own if self.pack_own else -1)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        cdef Py_ssize_t panels = ceil_div(self.cols, width), depth_blocks = max(ceil_div(self.k, self.depth), 1)
        cdef Py_ssize_t copies = ceil_div(self.rows, COPY_ROWS), turns = ceil_div(self.m, COPY_ROWS)
        cdef bint scale = not self.turned and self.beta != 0.0 and self.beta != 1.0
        cdef Py_ssize_t team = self.team(), groups, row_blocks, block_rows, task
        cdef Py_ssize_t group = (OWN_COLS if self.one_by_one else GROUP_COLS) // width
        cdef nnp_float_mode mode = 0
        # All rows for a group of panels, unless that leaves threads without work.
        if self.one_by_one:
            group = ceil_div(panels, team * ceil_div(panels, team * group))
        elif team > 1:
            group = max(1, min(group, panels // (2 * team)))
        groups = max(ceil_div(panels, group), 1)
        row_blocks = max(1, min(ceil_div(self.rows, BLOCK_ROWS), ceil_div(2 * team, groups))) if team > 1 else 1
        block_rows = ceil_div(ceil_div(self.rows, row_blocks), NNP_TALL_ROWS) * NNP_TALL_ROWS
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            if not self.pack_own and self.prepacked_bytes == 0:
                for task in prange(panels * depth_blocks, schedule="dynamic"):
                    self.pack_block(kernel, task % panels, task // panels)
            if self.copy_left:
                for task in prange(copies, schedule="dynamic"):
                    self.copy_rows(kernel, task * COPY_ROWS)
            if scale:
                for task in prange(self.m, schedule="static"):
                    kernel.scale(self.n, self.beta, self.c + task * self.c_row)
            for task in prange(row_blocks * ceil_div(panels, group), schedule="dynamic"):
                if self.goes_on():
                    self.multiply(kernel, task % row_blocks * block_rows, block_rows, task // row_blocks * group,
                                  min((task // row_blocks + 1) * group, panels), depth_blocks,
                                  <float *> self.own())
            if self.turned:
                for task in prange(turns, schedule="static"):
                    self.turn_back(kernel, task * COPY_ROWS)
            nnp_restore_float_mode(mode)

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t panel, block
        cdef nnp_float_mode mode = nnp_flush_denormals()
        for panel in range(ceil_div(self.cols, kernel.vector * kernel.tile_vectors)):
            for block in range(ceil_div(self.k, self.depth)):
                self.pack_block(kernel, panel, block)
        nnp_restore_float_mode(mode)

    cdef int panel_cols(self, const nnp_kernels *kernel, Py_ssize_t panel) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        return <int> min(width, self.cols - panel * width)

    cdef float *packed(self, const nnp_kernels *kernel, Py_ssize_t panel, Py_ssize_t block) noexcept nogil:
        """A block of a panel. All panels but the last are whole, so that they follow each other at k * width."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        cdef Py_ssize_t own = ceil_div(self.panel_cols(kernel, panel), kernel.vector) * kernel.vector
        cdef float *first = <float *> (self.prepacked if self.prepacked_bytes > 0 else self.workspace)
        return first + panel * width * self.k + block * self.depth * own

    cdef void pack_block(self, const nnp_kernels *kernel, Py_ssize_t panel, Py_ssize_t block) noexcept nogil:
        cdef Py_ssize_t k = block * self.depth
        self.pack(kernel, panel, k, min(self.depth, self.k - k), self.packed(kernel, panel, block))

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t panel, Py_ssize_t k, Py_ssize_t depth,
                   float *packed) noexcept nogil:
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors
        kernel.pack_panel(depth, self.panel_cols(kernel, panel), self.alpha,
                          self.right.data + k * self.right.row + col * self.right.col, self.right.row, self.right.col,
                          packed)

    cdef void pack_strips(self, const nnp_kernels *kernel, Py_ssize_t first_panel, Py_ssize_t last_panel,
                          Py_ssize_t k, Py_ssize_t depth, float *own) noexcept nogil:
        """Pack a few panels side by side: so their rows are read in longer runs."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, done = 0, panel, padded
        while done < depth:
            for panel in range(first_panel, last_panel):
                padded = ceil_div(self.panel_cols(kernel, panel), kernel.vector) * kernel.vector
                self.pack(kernel, panel, k + done, min(STRIP, depth - done),
                          own + (panel - first_panel) * depth * width + done * padded)
            done += STRIP

    cdef void copy_rows(self, const nnp_kernels *kernel, Py_ssize_t row) noexcept nogil:
        kernel.copy_matrix(min(COPY_ROWS, self.rows - row), self.k, self.left.data + row * self.left.row,
                           self.left.row, self.left.col,
                           <float *> (self.workspace + self.left_offset) + row * self.left_row, self.left_row)

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t first_row, Py_ssize_t block_rows,
                       Py_ssize_t first_panel, Py_ssize_t last_panel, Py_ssize_t depth_blocks,
                       float *own) noexcept nogil:
        """All of the summed axis for a block of rows and a few panels, which stay in cache while the rows go by."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, end = min(first_row + block_rows, self.rows)
        cdef Py_ssize_t block, panel, row, k, depth, step = block_rows
        cdef float *packed
        if last_panel - first_panel > 1 and block_rows > BLOCK_ROWS:
            step = NNP_TILE_ROWS
        for block in range(depth_blocks):
            k = block * self.depth
            depth = min(self.depth, self.k - k)
            if self.pack_own and not self.on_the_way:
                self.pack_strips(kernel, first_panel, last_panel, k, depth, own)
            row = first_row
            while row < end:
                for panel in range(first_panel, last_panel):
                    if self.one_by_one:
                        packed = own
                    elif self.pack_own:
                        packed = own + (panel - first_panel) * depth * width
                    else:
                        packed = self.packed(kernel, panel, block)
                    self.multiply_rows(kernel, row, min(step, end - row), panel, k, depth, packed,
                                       self.on_the_way and row == first_row)
                row += step

    cdef void multiply_rows(self, const nnp_kernels *kernel, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t panel,
                            Py_ssize_t k, Py_ssize_t depth, float *packed, bint pack) noexcept nogil:
        """Rows times a panel, `depth` steps of the summed axis from k."""
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors
        cdef const float *left = self.left.data
        cdef const float *right = packed
        cdef Py_ssize_t left_row = self.left.row, out_row = self.c_row
        cdef float *out = self.c
        cdef const float *bias = NULL
        cdef int relu = 0, accumulate = k > 0 or (self.beta != 0.0 and not self.turned)
        if self.copy_left:
            left, left_row = <const float *> (self.workspace + self.left_offset), self.left_row
        if self.turned:
            out, out_row = <float *> (self.workspace + self.out_offset), self.cols
        elif k + depth == self.k:
            relu = self.relu
            if self.bias != NULL:
                bias = self.bias + col
        if pack:
            right = self.right.data + k * self.right.row + col
        kernel.gemm_rows(rows, self.panel_cols(kernel, panel), depth, left + row * left_row + k, left_row, right,
                         self.right.row, packed if pack else NULL, bias, relu, accumulate, out + row * out_row + col,
                         out_row)

    cdef void turn_back(self, const nnp_kernels *kernel, Py_ssize_t row) noexcept nogil:
        """Copy rows of c out of the transposed result (n, m), adding the bias, then the ReLU."""
        cdef Py_ssize_t rows = min(COPY_ROWS, self.m - row), i
        cdef const float *out = <const float *> (self.workspace + self.out_offset) + row
        kernel.copy_matrix(rows, self.n, out, 1, self.m, self.c + row * self.c_row, self.c_row)
        if self.bias != NULL:
            for i in range(rows):
                kernel.sum_rows(1, self.n, self.bias, 0, 1, self.c + (row + i) * self.c_row)
        if self.relu:
            for i in range(rows):
                kernel.relu(self.n, self.c + (row + i) * self.c_row, 0, self.c + (row + i) * self.c_row)


cdef class ThinGemm(Step):
    """The product of `gemm_step` with few rows of the result, or few columns: the large operand is read once, in place.

    If B's columns are contiguous (a dense layer's weights), each element is a dot product; if its rows are, a few of
    them go by at a time, each times its elements of A.
    """

    cdef Matrix left, right
    cdef const float *bias
    cdef bint relu
    cdef float *c
    cdef Py_ssize_t rows, cols, k, c_row, c_col, a_row
    cdef Py_ssize_t bias_row, bias_col
    cdef float alpha, beta
    cdef bint by_rows

    @staticmethod
    def fits(a, b):
        """Whether few rows or columns are wanted, and the large operand is contiguous as it has to be."""
        if a.shape[0] <= FEW_ROWS:
            return b.shape[0] <= 1 or b.strides[0] == 4 or (b.strides[1] == 4 and b.shape[1] > 1)
        return b.shape[1] <= FEW_ROWS and (a.shape[1] <= 1 or a.strides[1] == 4)

    def __init__(self, a, b, c, bias, bint relu, float alpha, float beta):
        self.name = "gemm"
        self.k = a.shape[1] if alpha != 0.0 else 0
        self.left = Matrix(self.floats(a), a.strides[0] // 4, a.strides[1] // 4)
        self.right = Matrix(self.floats(b), b.strides[0] // 4, b.strides[1] // 4)
        self.c = self.floats(c, write=True)
        self.rows, self.cols = a.shape[0], b.shape[1]
        self.c_row, self.c_col, self.bias_row, self.bias_col = c.strides[0] // 4, 1, 0, 1
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu, self.alpha, self.beta = relu, alpha, beta
        if self.rows > FEW_ROWS:
            self.left, self.right = (Matrix(self.right.data, self.right.col, self.right.row),
                                     Matrix(self.left.data, self.left.col, self.left.row))
            self.rows, self.cols = self.cols, self.rows
            self.c_row, self.c_col, self.bias_row, self.bias_col = 1, self.c_row, 1, 0
        self.by_rows = self.k > 1 and self.right.row != 1
        self.a_row = aligned(4 * self.k) // 4          # of A as rows, for the dot products
        self.need(4 * self.rows * (self.k if self.by_rows else self.a_row))
        self.cost(2.0 * self.rows * self.cols * self.k,
                  4.0 * (self.rows * self.k + self.k * self.cols + self.rows * self.cols))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = self.row_cols(kernel) if self.by_rows else THIN_COLS, task
        cdef float *a = <float *> self.workspace
        cdef nnp_float_mode mode = nnp_flush_denormals()
        if self.by_rows:
            kernel.copy_matrix(self.k, self.rows, self.left.data, self.left.col, self.left.row, a, self.rows)
            kernel.scale(self.k * self.rows, self.alpha, a)
        else:
            kernel.copy_matrix(self.rows, self.k, self.left.data, self.left.row, self.left.col, a, self.a_row)
        nnp_restore_float_mode(mode)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(ceil_div(self.cols, width) if self.rows > 0 else 0, schedule="static"):
                if self.by_rows:
                    self.add_rows(kernel, task * width, min(width, self.cols - task * width))
                else:
                    self.dot_columns(kernel, task * width, min(width, self.cols - task * width))
            nnp_restore_float_mode(mode)

    cdef Py_ssize_t row_cols(self, const nnp_kernels *kernel) noexcept nogil:
        """Columns of a task of a product by rows, whole panels: as many tasks for each thread."""
        cdef Py_ssize_t panel = kernel.vector * kernel.tile_vectors, team = self.team()
        cdef Py_ssize_t tasks = team * max(1, ceil_div(self.cols, team * THIN_ROW_COLS))
        return max(1, ceil_div(ceil_div(self.cols, tasks), panel)) * panel

    cdef void dot_columns(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t cols) noexcept nogil:
        cdef const float *b[NNP_TILE_ROWS]
        cdef float sums[NNP_TILE_ROWS]
        cdef float *c
        cdef Py_ssize_t col = first, i, j
        cdef int count
        while col < first + cols:
            count = <int> min(NNP_TILE_ROWS, first + cols - col)
            for j in range(count):
                b[j] = self.right.data + (col + j) * self.right.col
            for i in range(self.rows):
                kernel.dot_tile(count, self.k, b, <const float *> self.workspace + i * self.a_row, sums)
                for j in range(count):
                    c = self.c + i * self.c_row + (col + j) * self.c_col
                    c[0] = self.alpha * sums[j] + (self.beta * c[0] if self.beta != 0.0 else 0.0)
                    if self.bias != NULL:
                        c[0] += self.bias[i * self.bias_row + (col + j) * self.bias_col]
                    if self.relu:
                        kernel.relu(1, c, 0, c)
            col += count

    cdef void add_rows(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t cols) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, k = 0, col, i
        cdef float *c = self.c + first
        cdef nnp_segment s
        for i in range(self.rows):
            if self.beta == 0.0:
                memset(c + i * self.c_row, 0, 4 * cols)
            else:
                kernel.scale(cols, self.beta, c + i * self.c_row)
        while k < self.k:
            s.a = <const float *> self.workspace + k * self.rows
            s.b = self.right.data + k * self.right.row + first
            s.length = min(THIN_DEPTH, self.k - k)
            col = 0
            while col < cols:
                kernel.outer_tile(<int> self.rows, <int> min(width, cols - col), 1, &s, 0, self.rows, 0, col,
                                  self.right.row, 0, c + col, self.c_row)
                col += width
            k += THIN_DEPTH
        if self.bias != NULL:
            for i in range(self.rows):
                kernel.sum_rows(1, cols, self.bias + first, 0, 1, c + i * self.c_row)
        if self.relu:
            for i in range(self.rows):
                kernel.relu(cols, c + i * self.c_row, 0, c + i * self.c_row)


cdef class BatchedGemm(Step):
    """c[i] = a[i] @ b[i] for each i of a batch.

    A task is a panel of one b, packed, times all rows of its a, which are copied before if they are not contiguous.

    Parameters
    ----------
    a, b, c : ndarray of shape (..., m, k), (..., k, n) and (..., m, n), float32
        Of the same axes before the last two. a and b have any strides, and may repeat matrices; rows of c are
        contiguous, and c overlaps neither a nor b.
    """

    cdef Matrix left, right
    cdef float *c
    cdef const int64_t *a_at
    cdef const int64_t *b_at
    cdef const int64_t *c_at
    cdef Py_ssize_t count, m, n, k, c_row, copy_offset
    cdef bint copies                                   # whether rows of a are copied

    def __init__(self, a, b, c):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "batched_gemm"
        batch = c.shape[:c.ndim - 2]
        self.m, self.n = c.shape[c.ndim - 2], c.shape[c.ndim - 1]
        self.k = a.shape[a.ndim - 1]
        self.left = Matrix(self.floats(a), a.strides[a.ndim - 2] // 4, a.strides[a.ndim - 1] // 4)
        self.right = Matrix(self.floats(b), b.strides[b.ndim - 2] // 4, b.strides[b.ndim - 1] // 4)
        self.c, self.c_row = self.floats(c, write=True), c.strides[c.ndim - 2] // 4
        self.a_at = self.labels(places(a.strides, batch))
        self.b_at = self.labels(places(b.strides, batch))
        self.c_at = self.labels(places(c.strides, batch))
        self.count = math.prod(batch) if self.m * self.n > 0 else 0
        width = min(kernel.vector * kernel.tile_vectors, ceil_div(self.n, kernel.vector) * kernel.vector)
        self.copy_offset = aligned(4 * width * self.k)
        self.copies = self.left.col != 1 and self.k > 1
        self.cost(2.0 * self.count * self.m * self.n * self.k,
                  4.0 * self.count * (self.m * self.k + self.k * self.n + self.m * self.n))
        self.need(0, self.copy_offset + (4 * self.m * self.k if self.copies else 0))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t panels = ceil_div(self.n, kernel.vector * kernel.tile_vectors), task
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(self.count * panels, schedule="static"):
                if self.goes_on():
                    self.multiply(kernel, task // panels, task % panels, self.own())
            nnp_restore_float_mode(mode)

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t panel, char *scratch) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, col = panel * width, row = self.left.row, r
        cdef int cols = <int> min(width, self.n - col)
        cdef const float *a = self.left.data + self.a_at[i]
        cdef float *packed = <float *> scratch
        cdef float *c = self.c + self.c_at[i] + col
        if self.k == 0:
            for r in range(self.m):
                memset(c + r * self.c_row, 0, 4 * cols)
            return
        kernel.pack_panel(self.k, cols, 1.0, self.right.data + self.b_at[i] + col * self.right.col, self.right.row,
                          self.right.col, packed)
        if self.copies:
            kernel.copy_matrix(self.m, self.k, a, row, self.left.col, <float *> (scratch + self.copy_offset), self.k)
            a, row = <const float *> (scratch + self.copy_offset), self.k
        kernel.gemm_rows(self.m, cols, self.k, a, row, packed, 0, NULL, NULL, 0, 0, c, self.c_row)


def places(strides, batch):
    """Where each matrix of a batch begins, in floats."""
    at = np.zeros(batch, np.int64)
    for axis, size in enumerate(batch):
        at += (np.arange(size) * (strides[axis] // 4)).reshape([-1 if i == axis else 1 for i in range(len(batch))])
    return at.reshape(-1)
