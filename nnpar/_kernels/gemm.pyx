"""Packed matrix multiply.

One operand, the right one, is packed into panels as wide as a tile; the other is read in place, row by row. The
problem is turned round, C^T = B^T A^T, where that copies less. Tasks are blocks of rows times panels; each element of
C is one chain of multiply-adds per block of DEPTH steps of the summed axis, blocks in order, so threads cannot change
it.
"""

from cython.parallel cimport parallel, prange

from nnpar._kernels.csrc cimport (NNP_TALL_ROWS, NNP_TILE_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels, tile_rows
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    # 64 columns of B, 1024 steps deep, are 256 KB: they stay in the second-level cache while rows of A go by, which
    # come in slowly: a tile needs 24 KB of A for 12,000 (AVX-512) or 24,000 (AVX2) cycles of work. See bench/README.md.
    DEPTH = 1024
    GROUP_COLS = 64
    BLOCK_ROWS = 16 * NNP_TILE_ROWS
    COPY_ROWS = 16         # rows of a task that copies: a strip of csrc's copy_matrix


cdef struct Matrix:        # rows x cols by strides, in floats
    const float *data
    Py_ssize_t row, col


cdef double cycles(Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t k, Py_ssize_t copied, int vector) noexcept:
    """Rough cost of a product: two vector multiply-adds a cycle over whole tiles, one for each float copied."""
    return <double> ceil_div(rows, NNP_TILE_ROWS) * NNP_TILE_ROWS * ceil_div(cols, vector) * k / 2 + copied


cdef class Gemm(Step):
    """c = alpha * a @ b + beta * c, plus bias on each row.

    Parameters
    ----------
    a, b : ndarray of shape (m, k) and (k, n), float32, any strides
    c : ndarray of shape (m, n), float32, rows contiguous; overlaps neither a nor b; not read if beta is 0
    bias : ndarray of shape (n,), float32, contiguous, optional; then beta must be 0
    """

    cdef Matrix left, right
    cdef const float *bias
    cdef float *c
    cdef Py_ssize_t rows, cols, k, c_row, m, n, tile_rows
    cdef float alpha, beta
    cdef bint turned, copy_left
    cdef Py_ssize_t left_offset, left_row, out_offset  # in the workspace, after the packed panels

    def __init__(self, a, b, c, bias=None, float alpha=1.0, float beta=0.0):
        cdef const nnp_kernels *kernel = kernels()
        cdef Matrix left, right
        if bias is not None and beta != 0.0:
            raise ValueError("Gemm: bias needs beta = 0")
        if c.shape[1] > 1 and c.strides[1] != 4:
            raise ValueError("Gemm: expected contiguous rows of c")
        self.name = "gemm"
        self.m, self.n, self.k = a.shape[0], b.shape[1], a.shape[1] if alpha != 0.0 else 0
        left = Matrix(self.floats(a), a.strides[0] // 4, a.strides[1] // 4)
        right = Matrix(self.floats(b), b.strides[0] // 4, b.strides[1] // 4)
        self.c = self.floats(c, write=True)
        self.c_row = c.strides[0] // 4
        self.bias = NULL if bias is None else self.floats(bias)
        self.alpha, self.beta = alpha, beta

        straight = cycles(self.m, self.n, self.k, self.k * (self.n + (self.m if left.col != 1 else 0)), kernel.vector)
        turned = cycles(self.n, self.m, self.k, self.k * (self.m + (self.n if right.row != 1 else 0))
                        + 2 * self.m * self.n, kernel.vector)
        self.turned = beta == 0.0 and turned < straight
        if self.turned:
            self.rows, self.cols = self.n, self.m
            self.left, self.right = Matrix(right.data, right.col, right.row), Matrix(left.data, left.col, left.row)
        else:
            self.rows, self.cols = self.m, self.n
            self.left, self.right = left, right
        self.tile_rows = tile_rows(self.cols)
        self.copy_left = self.left.col != 1 and self.k > 1
        padded = ceil_div(self.cols, kernel.vector) * kernel.vector
        self.left_offset = aligned(4 * self.k * padded)
        # Rows a cache line further apart than a round number: else a strip's 16 rows could share one set of the cache.
        self.left_row = aligned(4 * self.k) // 4 + 16
        self.out_offset = self.left_offset + (4 * self.rows * self.left_row if self.copy_left else 0)
        self.workspace_bytes = self.out_offset + (aligned(4 * self.rows * self.cols) if self.turned else 0)
        self.cost(2.0 * self.m * self.n * self.k, 4.0 * (self.m * self.k + self.k * self.n + self.m * self.n))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        cdef Py_ssize_t panels = ceil_div(self.cols, width), depth_blocks = max(ceil_div(self.k, DEPTH), 1)
        cdef Py_ssize_t copies = ceil_div(self.rows, COPY_ROWS), row_blocks = ceil_div(self.rows, BLOCK_ROWS)
        cdef Py_ssize_t turns = ceil_div(self.m, COPY_ROWS), group = max(1, GROUP_COLS // width)
        cdef bint scale = not self.turned and self.beta != 0.0 and self.beta != 1.0
        cdef Py_ssize_t task
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(panels * depth_blocks, schedule="dynamic"):
                self.pack(kernel, task % panels, task // panels)
            if self.copy_left:
                for task in prange(copies, schedule="dynamic"):
                    self.copy_rows(kernel, task * COPY_ROWS)
            if scale:
                for task in prange(self.m, schedule="static"):
                    kernel.scale(self.n, self.beta, self.c + task * self.c_row)
            for task in prange(row_blocks * ceil_div(panels, group), schedule="dynamic"):
                self.multiply(kernel, task % row_blocks * BLOCK_ROWS, task // row_blocks * group,
                              min((task // row_blocks + 1) * group, panels), depth_blocks)
            if self.turned:
                for task in prange(turns, schedule="static"):
                    self.turn_back(kernel, task * COPY_ROWS)
            nnp_restore_float_mode(mode)

    cdef int panel_cols(self, const nnp_kernels *kernel, Py_ssize_t panel) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        return <int> min(width, self.cols - panel * width)

    cdef float *packed(self, const nnp_kernels *kernel, Py_ssize_t panel, Py_ssize_t k) noexcept nogil:
        """Row k of a panel. All panels but the last are whole, so that they follow each other at k * width."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        cdef Py_ssize_t own = ceil_div(self.panel_cols(kernel, panel), kernel.vector) * kernel.vector
        return <float *> self.workspace + panel * width * self.k + k * own

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t panel, Py_ssize_t depth_block) noexcept nogil:
        cdef Py_ssize_t k = depth_block * DEPTH, col = panel * kernel.vector * kernel.tile_vectors
        kernel.pack_panel(min(DEPTH, self.k - k), self.panel_cols(kernel, panel), self.alpha,
                          self.right.data + k * self.right.row + col * self.right.col, self.right.row, self.right.col,
                          self.packed(kernel, panel, k))

    cdef void copy_rows(self, const nnp_kernels *kernel, Py_ssize_t row) noexcept nogil:
        kernel.copy_matrix(min(COPY_ROWS, self.rows - row), self.k, self.left.data + row * self.left.row,
                           self.left.row, self.left.col,
                           <float *> (self.workspace + self.left_offset) + row * self.left_row, self.left_row)

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t first_row, Py_ssize_t first_panel,
                       Py_ssize_t last_panel, Py_ssize_t depth_blocks) noexcept nogil:
        """All of the summed axis for a block of rows and a few panels, which stay in cache while the rows go by."""
        cdef Py_ssize_t block, panel, row, end = min(first_row + BLOCK_ROWS, self.rows)
        for block in range(depth_blocks):
            row = first_row
            while row < end:
                for panel in range(first_panel, last_panel):
                    self.tile(kernel, row, panel, block * DEPTH, block == depth_blocks - 1)
                row += self.tile_rows

    cdef void tile(self, const nnp_kernels *kernel, Py_ssize_t row, Py_ssize_t panel, Py_ssize_t k,
                   bint last) noexcept nogil:
        """A tile of rows times a panel, DEPTH steps of the summed axis from k."""
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors, i
        cdef int rows = <int> min(self.tile_rows, self.rows - row)
        cdef const float *left = self.left.data
        cdef Py_ssize_t left_row = self.left.row, out_row = self.c_row
        cdef float *out = self.c
        cdef const float *a[NNP_TALL_ROWS]
        cdef float *c[NNP_TALL_ROWS]
        cdef const float *bias = NULL
        cdef int accumulate = k > 0 or (self.beta != 0.0 and not self.turned)
        if self.copy_left:
            left, left_row = <const float *> (self.workspace + self.left_offset), self.left_row
        if self.turned:
            out, out_row = <float *> (self.workspace + self.out_offset), self.cols
        elif self.bias != NULL and last:
            bias = self.bias + col
        for i in range(rows):
            a[i] = left + (row + i) * left_row + k
            c[i] = out + (row + i) * out_row + col
        kernel.gemm_tile(rows, self.panel_cols(kernel, panel), 1, min(DEPTH, self.k - k), a, 0,
                         self.packed(kernel, panel, k), bias, accumulate, c)

    cdef void turn_back(self, const nnp_kernels *kernel, Py_ssize_t row) noexcept nogil:
        """Copy rows of c out of the transposed result (n, m), adding the bias."""
        cdef Py_ssize_t rows = min(COPY_ROWS, self.m - row), i
        cdef const float *out = <const float *> (self.workspace + self.out_offset) + row
        kernel.copy_matrix(rows, self.n, out, 1, self.m, self.c + row * self.c_row, self.c_row)
        if self.bias != NULL:
            for i in range(rows):
                kernel.sum_rows(1, self.n, self.bias, 0, 1, self.c + (row + i) * self.c_row)
