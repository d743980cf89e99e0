"""Images moved, scaled, turned, recoloured and partly covered: one affine map of places and one of channels for each,
in one pass. A task is one image.
"""

from cython.parallel cimport parallel, prange

from nnpar._kernels.csrc cimport (NNP_WARP_CHANNELS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode, nnp_warp)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step


cdef class Warp(Step):
    """Each image of y is one of x, as nnp_warp says.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W), uint8 or float32, of any strides
    y : ndarray of shape (N, C, OH, OW), float32, of any strides
    maps : ndarray of shape (N, 6), float64
    colours : ndarray of shape (N, C, C + 1), float32
    boxes : ndarray of shape (N, 4), int64
        First row, first column, rows, columns.
    threads : bool
    """

    cdef nnp_warp first  # image
    cdef Py_ssize_t images, out_height, x_image, y_image

    def __init__(self, x, y, maps, colours, boxes, bint threads=True):
        self.name = "warp"
        images, channels, height, width = x.shape
        self.images, self.out_height = images, y.shape[2]
        if min(height, width) < 1:
            raise ValueError(f"warp: x: expected at least one pixel, got {x.shape}")
        if channels > NNP_WARP_CHANNELS:
            raise ValueError(f"warp: x: expected at most {NNP_WARP_CHANNELS} channels, got {channels}")
        if y.shape[:2] != x.shape[:2] or maps.shape != (images, 6) or boxes.shape != (images, 4):
            got = f"{y.shape}, {maps.shape}, {boxes.shape}"
            raise ValueError(f"warp: expected arrays for {images} images, got {got}")
        if colours.shape != (images, channels, channels + 1):
            raise ValueError(f"warp: expected colours of {channels} channels, got {colours.shape}")
        w = &self.first
        w.bytes = x.dtype == "uint8"
        w.x = <const void *> self.octets(x) if w.bytes else <const void *> self.floats(x)
        w.y, w.map = self.floats(y, write=True), self.doubles(maps)
        w.colours, w.box = self.floats(colours), self.labels(boxes)
        w.channels, w.height, w.width, w.out_width = channels, height, width, y.shape[3]
        self.x_image, w.x_channel, w.x_row, w.x_col = x.strides
        self.y_image, w.y_channel, w.y_row, w.y_col = y.strides
        self.cost(30.0 * y.size, 4.0 * (x.size + y.size))
        if not threads:
            self.most_threads = 1

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t image
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for image in prange(self.images, schedule="dynamic"):
                self.one(kernel, image)
            nnp_restore_float_mode(mode)

    cdef void one(self, const nnp_kernels *kernel, Py_ssize_t image) noexcept nogil:
        cdef nnp_warp w = self.first
        cdef Py_ssize_t row
        w.x = <const char *> w.x + image * self.x_image
        w.y = <float *> (<char *> w.y + image * self.y_image)
        w.map, w.box = w.map + 6 * image, w.box + 4 * image
        w.colours = w.colours + image * w.channels * (w.channels + 1)
        for row in range(self.out_height):
            kernel.warp_row(&w, row)
