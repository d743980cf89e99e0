"""Weighted sums along one or two axes: resampling, padding, selecting.

A task is one row of the result: rows of the image summed, which stay in the cache, and then the columns of that.
"""

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t

from nnpar._kernels.csrc cimport nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_restore_float_mode
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step

cdef struct Table:
    const int64_t *first
    const int64_t *index
    const float *weight


cdef class Resample(Step):
    """y = the weighted sums of x along two axes that tables give.

    Parameters
    ----------
    x, y : ndarray of shape (images, rows, columns, channels), float32, contiguous
    rows, columns : nnpar.resampling.Taps or None
        None leaves an axis as it is.
    """

    cdef const float *x
    cdef float *y
    cdef Table rows, columns
    cdef bint sums_rows, sums_columns
    cdef Py_ssize_t images, height, width, out_height, out_width, channels, scratch

    def __init__(self, x, y, rows, columns):
        self.name = "resample"
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        self.images, self.height, self.width, self.channels = x.shape
        _, self.out_height, self.out_width, _ = y.shape
        self.sums_rows, self.sums_columns = rows is not None, columns is not None
        terms = 0.0
        if self.sums_rows:
            self.rows = Table(self.labels(rows.first), self.labels(rows.index), self.floats(rows.weight))
            terms += <double> rows.index.size * self.width
        if self.sums_columns:
            self.columns = Table(self.labels(columns.first), self.labels(columns.index), self.floats(columns.weight))
            terms += <double> columns.index.size * self.out_height
        self.cost(2.0 * self.images * terms * self.channels, 4.0 * (x.size + y.size))
        if self.sums_rows and self.sums_columns:
            self.need(0, 4 * self.width * self.channels)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(self.images * self.out_height, schedule="static"):
                self.row(kernel, task // self.out_height, task % self.out_height)
            nnp_restore_float_mode(mode)

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        cdef Py_ssize_t row = self.width * self.channels, out_row = self.out_width * self.channels
        cdef const float *x = self.x + image * self.height * row
        cdef float *y = self.y + (image * self.out_height + h) * out_row
        cdef float *sums = y
        if self.sums_rows:
            if self.sums_columns:
                sums = <float *> self.own()
            kernel.weighted_rows(1, row, self.rows.first + h, self.rows.index, self.rows.weight, x, sums)
            x = sums
        else:
            x = x + h * row
        if self.sums_columns:
            kernel.weighted_rows(self.out_width, self.channels, self.columns.first, self.columns.index,
                                 self.columns.weight, x, y)
