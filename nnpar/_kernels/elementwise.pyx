"""Steps limited by memory: element by element, layout changes, and sums over all axes but the channels."""

from cython.parallel cimport parallel, prange
from libc.stdint cimport uint32_t

from nnpar._kernels.csrc cimport nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_philox, nnp_restore_float_mode
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div, streams

cdef enum:
    BLOCK = 4096           # elements of a task: 16 KB of each array
    TURN_ROWS = 4096       # of a block that is transposed at once
    TURN_COLS = 256
    SUM_BLOCKS = 256       # partial sums of a reduction, at most: their number depends on the shape alone
    SUM_ROWS = 64          # rows of a partial sum, at least
    SUM_ELEMENTS = 16384   # and its elements


cdef class Relu(Step):
    """y = max(x, 0), NaN kept; arrays of one memory layout, y may be x."""

    cdef const float *x
    cdef float *y
    cdef Py_ssize_t n
    cdef bint stream

    def __init__(self, x, y):
        self.name = "relu"
        self.x, self.y, self.n = self.floats(x), self.floats(y, write=True), x.size
        self.stream = streams(self.n) and self.y != self.x
        self.cost(self.n, 8.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                kernel.relu(min(BLOCK, self.n - i), self.x + i, self.stream, self.y + i)
            nnp_restore_float_mode(mode)


cdef class ReluGrad(Step):
    """dx = dy where y > 0, else 0; arrays of one memory layout, dx may be dy."""

    cdef const float *dy
    cdef const float *y
    cdef float *dx
    cdef Py_ssize_t n
    cdef bint stream

    def __init__(self, dy, y, dx):
        self.name = "relu_grad"
        self.dy, self.y, self.dx, self.n = self.floats(dy), self.floats(y), self.floats(dx, write=True), dy.size
        self.stream = streams(self.n) and self.dx != self.dy
        self.cost(self.n, 12.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                kernel.relu_grad(min(BLOCK, self.n - i), self.dy + i, self.y + i, self.stream, self.dx + i)
            nnp_restore_float_mode(mode)


cdef class Add(Step):
    """y = a + b, or the ReLU of it; arrays of one memory layout, y may be a or b."""

    cdef const float *a
    cdef const float *b
    cdef float *y
    cdef Py_ssize_t n
    cdef bint relu

    def __init__(self, a, b, y, bint relu=False):
        self.name = "add"
        self.a, self.b, self.y, self.n = self.floats(a), self.floats(b), self.floats(y, write=True), a.size
        self.relu = relu
        self.cost((1.0 + relu) * self.n, 12.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                kernel.add(min(BLOCK, self.n - i), self.a + i, self.b + i, self.relu, self.y + i)
            nnp_restore_float_mode(mode)


cdef class CopyChannels(Step):
    """Some channels of y = some of x, for images (N, C, H, W) in channels-last memory, or rows (N, C).

    Parameters
    ----------
    x, y : ndarray, float32, alike but for the channels
    x_first, y_first, channels : int
    """

    cdef const float *x
    cdef float *y
    cdef Py_ssize_t pixels, channels, x_step, y_step, block

    def __init__(self, x, y, Py_ssize_t x_first, Py_ssize_t y_first, Py_ssize_t channels):
        self.name = "copy_channels"
        self.x, self.y = self.floats(x) + x_first, self.floats(y, write=True) + y_first
        self.x_step, self.y_step, self.channels = x.shape[1], y.shape[1], channels
        self.pixels = x.size // max(1, self.x_step)
        self.block = max(1, BLOCK // max(1, channels))
        self.cost(0, 8.0 * self.pixels * channels)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        with parallel(num_threads=self.team()):
            for i in prange(0, self.pixels, self.block, schedule="static"):
                kernel.copy_matrix(min(self.block, self.pixels - i), self.channels, self.x + i * self.x_step,
                                   self.x_step, 1, self.y + i * self.y_step, self.y_step)


cdef class Position:
    """Where training stands, for random numbers: the seed, the epoch and the global index of the batch's first
    sample."""

    def __init__(self, seed=0):
        self.at.key[0] = <uint32_t> (seed & 0xFFFFFFFF)
        self.at.key[1] = <uint32_t> (seed >> 32 & 0xFFFFFFFF)
        self.move(0, 0)

    def move(self, epoch, sample):
        """Go to a sample of an epoch, both counted from 0 modulo 2**32."""
        self.at.epoch = <uint32_t> (epoch & 0xFFFFFFFF)
        self.at.sample = <uint32_t> (sample & 0xFFFFFFFF)


cdef class Dropout(Step):
    """y = x / (1 - p) where the sample's generator keeps the element, else 0; on dy it is its own gradient.

    Parameters
    ----------
    x, y : ndarray of shape (N, ...), float32, one memory layout; y may be x
    p : float
        Probability of a zero, 0 <= p < 1.
    position : Position
        Read when the step runs.
    layer : int
        Distinguishes the layers of a model.
    channels : int
        If not 0, the elements lie in rows of so many, the pixels of channels-last images, which all keep the same.
    """

    cdef const float *x
    cdef float *y
    cdef Position position
    cdef Py_ssize_t samples, size, row
    cdef uint32_t threshold, layer
    cdef float factor

    def __init__(self, x, y, double p, Position position, layer, Py_ssize_t channels=0):
        self.name = "dropout"
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        self.position, self.layer = position, layer & 0xFFFFFFFF
        self.samples = x.shape[0]
        self.size = x.size // max(1, self.samples)
        self.row = channels if channels > 0 else max(1, self.size)
        self.threshold = <uint32_t> min(round(p * 2**32), 2**32 - 1)
        self.factor = <float> (1.0 / (1.0 - p))
        self.cost(20.0 * x.size, 8.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.samples, schedule="static"):
                self.one(kernel, i)
            nnp_restore_float_mode(mode)

    cdef void one(self, const nnp_kernels *kernel, Py_ssize_t sample) noexcept nogil:
        cdef nnp_philox at = self.position.at
        cdef Py_ssize_t i = sample * self.size, end = i + self.size
        at.sample += <uint32_t> sample
        at.layer = self.layer
        while i < end:
            kernel.dropout(self.row, self.x + i, at, self.threshold, self.factor, self.y + i)
            i += self.row


cdef class Transpose(Step):
    """out (N, cols, rows) = x (N, rows, cols), both contiguous: between channels-last and channels-first images."""

    cdef const float *x
    cdef float *out
    cdef Py_ssize_t images, rows, cols

    def __init__(self, x, out):
        self.name = "transpose"
        self.x, self.out = self.floats(x), self.floats(out, write=True)
        self.images, self.rows, self.cols = x.shape
        self.cost(0, 8.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t across = ceil_div(self.cols, TURN_COLS), blocks = across * ceil_div(self.rows, TURN_ROWS), i
        with parallel(num_threads=self.team()):
            for i in prange(self.images * blocks, schedule="static"):
                self.block(kernel, i // blocks, i % blocks // across * TURN_ROWS, i % across * TURN_COLS)

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
        cdef Py_ssize_t at = image * self.rows * self.cols
        kernel.turn(min(TURN_ROWS, self.rows - row), min(TURN_COLS, self.cols - col),
                    self.x + at + row * self.cols + col, self.cols, self.out + at + col * self.rows + row, self.rows)


cdef class BiasGrad(Step):
    """db (C) = the sum over rows of dy (rows, C), contiguous: partial sums of blocks of rows, added in their order."""

    cdef const float *dy
    cdef float *db
    cdef Py_ssize_t rows, channels, block, blocks

    def __init__(self, dy, db):
        self.name = "bias_grad"
        self.dy, self.db, self.channels = self.floats(dy), self.floats(db, write=True), db.size
        self.rows = dy.size // max(1, self.channels)
        self.block = max(SUM_ROWS, ceil_div(self.rows, SUM_BLOCKS), SUM_ELEMENTS // max(1, self.channels))
        self.blocks = ceil_div(self.rows, self.block)
        self.need(self.blocks * aligned(4 * self.channels))
        self.cost(dy.size, 4.0 * dy.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t size = aligned(4 * self.channels) // 4, i
        cdef float *partial = <float *> self.workspace
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.blocks, schedule="static"):
                kernel.sum_rows(min(self.block, self.rows - i * self.block), self.channels,
                                self.dy + i * self.block * self.channels, self.channels, 0, partial + i * size)
            nnp_restore_float_mode(mode)
        mode = nnp_flush_denormals()
        kernel.sum_rows(self.blocks, self.channels, partial, size, 0, self.db)
        nnp_restore_float_mode(mode)
