"""The input gradient towards few channels, by columns of dy.

A pixel of dy contributes to KW neighbouring pixels in each of KH rows of dx. In channels-last memory those of one row
lie side by side, so a vector holds kernel columns and channels together, and is full with few channels, too:

    dx[h, ow ... ow + KW - 1, :] += sum over kh, oc of dy[h + pad - kh, ow, oc] w[oc, :, kh, :]

A column of dy, `ow`, is the left matrix of one such product: row h of a tile is row h of dx. The columns follow each
other; their results overlap and are added in that order to rows of sums, as wide as dx with its padding. Zeros above
and below dy make all windows alike, as in framed.pyx.

A task is a band of rows of an image. Stride 1, no dilation.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from nnpar._kernels.conv cimport Geometry
from nnpar._kernels.csrc cimport nnp_float_mode, nnp_flush_denormals, nnp_frame, nnp_kernels, nnp_restore_float_mode
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div, odd_lines

cdef enum:
    BAND_BYTES = 32 << 10  # of the rows of dy that a band reads, about: they stay in the first-level cache
    FEW_TASKS = 16         # with fewer images than this, they are cut into more bands


cdef class ScatterConv2dInputGrad(Step):
    """dx = the gradient of conv2d with respect to x; the parameters of Conv2dInputGrad."""

    cdef const float *dy
    cdef const float *w
    cdef float *dx
    cdef nnp_frame window
    cdef Py_ssize_t n, h, image_row, c, oh, ow, oc, kh, kw, pad_h, pad_w
    cdef Py_ssize_t cols, row, sums                      # kw * c; floats of a framed row of dy, of a row of sums
    cdef Py_ssize_t band, bands                          # rows of dx in a band; bands of an image
    cdef Py_ssize_t sums_offset                          # in a thread's scratch memory

    def __init__(self, Geometry shape, dy, w, dx):
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t rows
        self.name = "scatter_conv2d_input_grad"
        self.dy, self.w, self.dx = self.floats(dy), self.floats(w), self.floats(dx, write=True)
        self.n, self.h, self.image_row, self.c = shape.n, shape.h, shape.w * shape.c, shape.c
        self.oh, self.ow, self.oc, self.kh, self.kw = shape.oh, shape.ow, shape.oc, shape.kh, shape.kw
        self.pad_h, self.pad_w = shape.pad_h, shape.pad_w
        self.cols, self.row = self.kw * self.c, odd_lines(self.ow * self.oc)
        self.sums = (self.ow + self.kw - 1) * self.c
        self.window = nnp_frame(self.kh, self.oc, self.row, self.row)
        rows = max(1, BAND_BYTES // (4 * self.row) - self.kh + 1)
        self.bands = max(ceil_div(self.h, rows), min(self.h, ceil_div(FEW_TASKS, self.n)))
        self.band = ceil_div(self.h, self.bands)
        self.bands = ceil_div(self.h, self.band)
        self.cost(shape.flops, shape.bytes)
        self.sums_offset = aligned(4 * (self.band + self.kh - 1) * self.row)
        self.need(4 * self.kh * self.oc * ceil_div(self.cols, kernel.vector) * kernel.vector,
                  self.sums_offset + 4 * self.band * self.sums)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task, share
        cdef nnp_float_mode mode = 0
        self.deal(self.n * self.bands)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(self.kh * self.oc, schedule="static"):
                self.pack(kernel, task)
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.convolve(kernel, task // self.bands, task % self.bands * self.band, self.own())
                    task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t task) noexcept nogil:
        """One row of all panels, (panel, kernel row from the last on, oc, panel width): kernel columns and channels."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, area = self.kh * self.kw, col = 0, padded, j
        cdef const float *w = self.w + task % self.oc * self.c * area + (self.kh - 1 - task // self.oc) * self.kw
        cdef float *to
        while col < self.cols:
            padded = ceil_div(min(width, self.cols - col), kernel.vector) * kernel.vector
            to = <float *> self.workspace + col * self.kh * self.oc + task * padded
            for j in range(padded):
                to[j] = w[(col + j) % self.c * area + (col + j) // self.c] if col + j < self.cols else 0.0
            col += width

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t first,
                       char *scratch) noexcept nogil:
        """A band, from row `first` of dx on."""
        cdef float *framed = <float *> scratch
        cdef float *sums = <float *> (scratch + self.sums_offset)
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, rows = min(self.band, self.h - first), i, ow, col
        self.frame(image, first + self.pad_h - (self.kh - 1), rows + self.kh - 1, framed)
        memset(sums, 0, 4 * rows * self.sums)
        for ow in range(self.ow):
            col = 0
            while col < self.cols:
                kernel.framed_row(rows, <int> min(width, self.cols - col), &self.window, framed + ow * self.oc,
                                  <float *> self.workspace + col * self.kh * self.oc, NULL, 0, 1,
                                  sums + ow * self.c + col, self.sums)
                col += width
        for i in range(rows):
            memcpy(self.dx + (image * self.h + first + i) * self.image_row, sums + i * self.sums + self.pad_w * self.c,
                   4 * self.image_row)

    cdef void frame(self, Py_ssize_t image, Py_ssize_t row, Py_ssize_t rows, float *framed) noexcept nogil:
        """Rows of dy, and zeros where there are none."""
        cdef Py_ssize_t i
        for i in range(row, row + rows):
            if 0 <= i < self.oh:
                memcpy(framed, self.dy + (image * self.oh + i) * self.ow * self.oc, 4 * self.ow * self.oc)
            else:
                memset(framed, 0, 4 * self.ow * self.oc)
            framed += self.row
