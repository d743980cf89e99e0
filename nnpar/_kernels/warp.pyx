"""Images moved, scaled, turned, recoloured and partly covered: one affine map of places and one of channels for each,
in one pass. A task is one image.
"""

from cython.parallel cimport parallel, prange
from libc.math cimport floor
from libc.stdint cimport uint8_t

from nnpar._kernels.csrc cimport nnp_float_mode, nnp_flush_denormals, nnp_restore_float_mode
from nnpar._kernels.step cimport Step

cdef enum:
    MOST_CHANNELS = 64


cdef class Warp(Step):
    """Pixel (i, j) of y is what x has at row m[0] i + m[1] j + m[2] and column m[3] i + m[4] j + m[5], between pixels
    by weights; outside of x, whose pixels reach half a pixel around their middles, it is zeros. Channels then are
    `colours` times it: y[c] = sum over k of colours[c][k] v[k] + colours[c][channels]; and what lies in the box is 0.

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

    cdef const char *x
    cdef char *y
    cdef const double *maps
    cdef const float *colours
    cdef const long long *boxes
    cdef Py_ssize_t images, channels, height, width, out_height, out_width
    cdef Py_ssize_t xs[4]
    cdef Py_ssize_t ys[4]
    cdef bint bytes_

    def __init__(self, x, y, maps, colours, boxes, bint threads=True):
        self.name = "warp"
        self.images, self.channels, self.height, self.width = x.shape
        _, _, self.out_height, self.out_width = y.shape
        if min(self.height, self.width) < 1:
            raise ValueError(f"warp: x: expected at least one pixel, got {x.shape}")
        if self.channels > MOST_CHANNELS:
            raise ValueError(f"warp: x: expected at most {MOST_CHANNELS} channels, got {self.channels}")
        if y.shape[:2] != x.shape[:2] or maps.shape != (self.images, 6) or boxes.shape != (self.images, 4):
            got = f"{y.shape}, {maps.shape}, {boxes.shape}"
            raise ValueError(f"warp: expected arrays for {self.images} images, got {got}")
        if colours.shape != (self.images, self.channels, self.channels + 1):
            raise ValueError(f"warp: expected colours of {self.channels} channels, got {colours.shape}")
        self.bytes_ = x.dtype == "uint8"
        self.x = <const char *> (<void *> self.octets(x) if self.bytes_ else <void *> self.floats(x))
        self.y = <char *> self.floats(y, write=True)
        self.maps, self.boxes = self.doubles(maps), <const long long *> self.labels(boxes)
        self.colours = self.floats(colours)
        for i in range(4):
            self.xs[i], self.ys[i] = x.strides[i], y.strides[i]
        self.cost(30.0 * y.size, 4.0 * (x.size + y.size))
        if not threads:
            self.most_threads = 1

    cdef void run(self) noexcept nogil:
        cdef Py_ssize_t image
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for image in prange(self.images, schedule="dynamic"):
                self.one(image)
            nnp_restore_float_mode(mode)

    cdef inline float at(self, const char *x, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
        x = x + min(row, self.height - 1) * self.xs[2] + min(col, self.width - 1) * self.xs[3]
        return <float> (<const uint8_t *> x)[0] if self.bytes_ else (<const float *> x)[0]

    cdef void one(self, Py_ssize_t image) noexcept nogil:
        cdef const double *m = self.maps + 6 * image
        cdef const float *colour = self.colours + image * self.channels * (self.channels + 1)
        cdef const long long *box = self.boxes + 4 * image
        cdef const char *x = self.x + image * self.xs[0]
        cdef char *y = self.y + image * self.ys[0]
        cdef float v[MOST_CHANNELS]
        cdef const float *of
        cdef Py_ssize_t i, j, c, k, row, col
        cdef double down, right, r, s
        cdef bint inside, between
        cdef float sum
        for i in range(self.out_height):
            for j in range(self.out_width):
                down, right = m[0] * i + m[1] * j + m[2], m[3] * i + m[4] * j + m[5]
                inside = -0.5 <= down <= self.height - 0.5 and -0.5 <= right <= self.width - 0.5
                if not inside:
                    down, right = 0.0, 0.0
                down, right = max(0.0, min(down, self.height - 1.0)), max(0.0, min(right, self.width - 1.0))
                row, col = <Py_ssize_t> floor(down), <Py_ssize_t> floor(right)
                r, s = down - row, right - col
                between = r != 0.0 or s != 0.0
                for c in range(self.channels):
                    v[c] = self.at(x + c * self.xs[1], row, col) if inside else 0.0
                    if inside and between:
                        v[c] = <float> (
                            (1.0 - r) * ((1.0 - s) * v[c] + s * self.at(x + c * self.xs[1], row, col + 1))
                            + r * ((1.0 - s) * self.at(x + c * self.xs[1], row + 1, col)
                                   + s * self.at(x + c * self.xs[1], row + 1, col + 1)))
                if box[0] <= i < box[0] + box[2] and box[1] <= j < box[1] + box[3]:
                    for c in range(self.channels):
                        (<float *> (y + c * self.ys[1] + i * self.ys[2] + j * self.ys[3]))[0] = 0.0
                    continue
                for c in range(self.channels):
                    of = colour + c * (self.channels + 1)
                    sum = of[self.channels]
                    for k in range(self.channels):
                        sum = sum + of[k] * v[k]
                    (<float *> (y + c * self.ys[1] + i * self.ys[2] + j * self.ys[3]))[0] = sum
