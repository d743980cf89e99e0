"""Max and average pooling, and upsampling.

A task is one row of an image: of the output forward, of the input for the gradient.
"""

from cython.parallel cimport parallel, prange
from libc.stdint cimport uint8_t

from nnpar._kernels.csrc cimport (nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_pool,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, streams

from nnpar.shapes import side_by_side


cdef class Pool(Step):
    """Common part of the steps.

    Parameters
    ----------
    x_shape, y_shape : tuple
        (N, C, H, W) and (N, C, OH, OW).
    window : nnpar.shapes.PoolWindow
        Of two axes.
    count_include_pad : bool
        For average pooling: divide by the whole window, not by its part inside the image.
    """

    cdef nnp_pool s
    cdef Py_ssize_t images, x_size, y_size

    def __init__(self, x_shape, y_shape, window, bint count_include_pad=True):
        self.images, self.s.channels, self.s.height, self.s.width = x_shape
        _, _, self.s.out_height, self.s.out_width = y_shape
        self.s.kernel_h, self.s.kernel_w = window.kernel_size
        self.s.stride_h, self.s.stride_w = window.stride
        self.s.dilation_h, self.s.dilation_w = window.dilation
        self.s.pad_h, self.s.pad_w = window.before
        self.s.end_h, self.s.end_w = window.after
        self.s.end_h += self.s.height
        self.s.end_w += self.s.width
        self.s.count_include_pad = count_include_pad
        self.s.sum = False
        self.s.stream = streams(self.images * self.s.height * self.s.width * self.s.channels)
        self.x_size = self.s.height * self.s.width * self.s.channels
        self.y_size = self.s.out_height * self.s.out_width * self.s.channels
        self.cost(<double> self.images * self.y_size * self.s.kernel_h * self.s.kernel_w,
                  4.0 * self.images * (self.x_size + self.y_size))

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        pass

    cdef void run_rows(self, Py_ssize_t rows) noexcept nogil:
        """`row` for each of `rows` rows of each image."""
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(self.images * rows, schedule="static"):
                self.row(kernel, task // rows, task % rows)
            nnp_restore_float_mode(mode)


cdef class MaxPool2d(Pool):
    """y = max_pool2d(x); argmax, uint8 of y's shape or None, gets the position in the window."""

    cdef const float *x
    cdef float *y
    cdef uint8_t *argmax

    def __init__(self, x, y, argmax, window):
        Pool.__init__(self, x.shape, y.shape, window)
        self.name = "max_pool2d"
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        self.argmax = NULL if argmax is None else self.octets(argmax, write=True)

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        cdef Py_ssize_t at = image * self.y_size + h * self.s.out_width * self.s.channels
        kernel.max_pool_row(&self.s, self.x + image * self.x_size, h, self.y + at,
                            self.argmax + at if self.argmax != NULL else NULL)

    cdef void run(self) noexcept nogil:
        self.run_rows(self.s.out_height)


cdef class MaxPool2dGrad(Pool):
    """dx = the gradient of max_pool2d, from the argmax of the forward pass."""

    cdef const float *dy
    cdef const uint8_t *argmax
    cdef float *dx

    def __init__(self, dy, argmax, dx, window):
        Pool.__init__(self, dx.shape, dy.shape, window)
        self.name = "max_pool2d_grad"
        self.dy, self.argmax, self.dx = self.floats(dy), self.octets(argmax), self.floats(dx, write=True)

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        kernel.max_pool_grad_row(&self.s, self.dy + image * self.y_size, self.argmax + image * self.y_size, h,
                                 self.dx + image * self.x_size + h * self.s.width * self.s.channels)

    cdef void run(self) noexcept nogil:
        self.run_rows(self.s.height)


cdef class AvgPool2d(Pool):
    """y = avg_pool2d(x)."""

    cdef const float *x
    cdef float *y

    def __init__(self, x, y, window, count_include_pad):
        Pool.__init__(self, x.shape, y.shape, window, count_include_pad)
        self.name = "avg_pool2d"
        self.x, self.y = self.floats(x), self.floats(y, write=True)

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        kernel.avg_pool_row(&self.s, self.x + image * self.x_size, h,
                            self.y + image * self.y_size + h * self.s.out_width * self.s.channels)

    cdef void run(self) noexcept nogil:
        self.run_rows(self.s.out_height)


cdef class AvgPool2dGrad(Pool):
    """dx = the gradient of avg_pool2d."""

    cdef const float *dy
    cdef float *dx

    def __init__(self, dy, dx, window, count_include_pad):
        Pool.__init__(self, dx.shape, dy.shape, window, count_include_pad)
        self.name = "avg_pool2d_grad"
        self.dy, self.dx = self.floats(dy), self.floats(dx, write=True)

    cdef void row(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t h) noexcept nogil:
        kernel.avg_pool_grad_row(&self.s, self.dy + image * self.y_size, h,
                                 self.dx + image * self.x_size + h * self.s.width * self.s.channels)

    cdef void run(self) noexcept nogil:
        self.run_rows(self.s.height)


cdef class Upsample2d(AvgPool2dGrad):
    """y = each pixel of x `scale` = (h, w) times: what sums of windows side by side have as their gradient."""

    def __init__(self, x, y, scale):
        AvgPool2dGrad.__init__(self, x, y, side_by_side(scale), True)
        self.name = "upsample2d"
        self.s.sum = True


cdef class Upsample2dGrad(AvgPool2d):
    """dx = the gradient of upsample2d: the sum of dy over the pixels that are copies of one."""

    def __init__(self, dy, dx, scale):
        AvgPool2d.__init__(self, dy, dx, side_by_side(scale), True)
        self.name = "upsample2d_grad"
        self.s.sum = True
