"""Convolution of few channels by explicit im2col.

With few channels the runs of an im2col row are short, and reading them through pointers costs more than copying them.
So the rows of a block of output pixels, (pixels, K) with K = KH * KW * C, are written side by side into a buffer that
stays in the first-level cache, with zeros for what lies outside the image; the weights are packed as (K, OC). The
output is then one matrix product per block, and the weight gradient one outer product:

    y[p, oc] = sum_k col[p, k] w[k, oc]            dw[k, oc] = sum_p col[p, k] dy[p, oc]

Output pixels are numbered through all images, since y and dy are one matrix (N * OH * OW, OC). For the weight gradient
they are cut into chunks, as many as the shape asks for, each with a partial sum of its own; the partials are added in
their order.
"""

from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memset

from nnpar._kernels.conv cimport Geometry
from nnpar._kernels.csrc cimport (NNP_TALL_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_im2col, nnp_kernels,
                                  nnp_restore_float_mode, nnp_segment)
from nnpar._kernels.runtime cimport kernels, tile_rows
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    BLOCK_PIXELS = 96          # forward: output pixels of a task
    BLOCK_BYTES = 24 << 10     # forward: of the im2col rows of a task, about
    STRIP_PIXELS = 256         # weight gradient: pixels that a tile sums in registers, at most
    STRIP_BYTES = 64 << 10     # weight gradient: of the im2col rows and dy of a strip, about
    CHUNKS = 64                # weight gradient: chunks of pixels, at most
    CHUNK_BYTES = 16 << 20     # weight gradient: bytes of partial sums, at most


STREAM_BYTES = 32 << 20  # an output so large is written past the caches


cdef class Im2col(Step):
    """Common part: the sizes, and the im2col rows of some output pixels."""

    cdef const float *x
    cdef nnp_im2col window
    cdef Py_ssize_t oh, ow, oc, pixels, image            # pixels of the output, floats of an image
    cdef Py_ssize_t depth, ld                            # K, and the floats from row to row of the im2col matrix
    cdef Py_ssize_t channels, area                       # depth = area * channels

    cdef int measure(self, Geometry s) except -1:
        self.oh, self.ow, self.oc = s.oh, s.ow, s.oc
        self.channels, self.area = s.c, s.kh * s.kw
        self.depth, self.pixels, self.image = s.c * s.kh * s.kw, s.n * s.oh * s.ow, s.h * s.w * s.c
        self.ld = ceil_div(self.depth, kernels().vector) * kernels().vector
        self.window = nnp_im2col(s.h, s.w * s.c, s.kh, s.kw * s.c, s.dilation_h * s.w * s.c, s.stride_w * s.c,
                                 s.pad_w * s.c, self.ld, s.stride_h, s.pad_h, s.dilation_h)
        self.cost(s.flops, s.bytes)
        return 0

    cdef Py_ssize_t rows_bytes(self, const nnp_kernels *kernel, Py_ssize_t pixels):
        """Of the im2col rows of so many pixels, and the vector after them."""
        return aligned(4 * (pixels * self.ld + kernel.vector))

    cdef void write_rows(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t pixels,
                         float *col) noexcept nogil:
        """col (pixels, K), in rows of ld floats, of the output pixels from `first` on."""
        cdef Py_ssize_t area = self.oh * self.ow, n = first // area, h = first % area // self.ow
        cdef Py_ssize_t w = first % self.ow, count
        while pixels > 0:
            count = min(pixels, self.ow - w)
            kernel.im2col(&self.window, h, w, count, self.x + n * self.image, col)
            col += count * self.ld
            pixels -= count
            w = 0
            h += 1
            if h == self.oh:
                h = 0
                n += 1


cdef class Im2colConv2d(Im2col):
    """y = conv2d(x, w) + bias, or the ReLU of it.

    Parameters
    ----------
    shape : Geometry
    x, y : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    w : ndarray of shape (OC, C, KH, KW), float32, contiguous
    bias : ndarray of shape (OC,), float32, contiguous, or None
    relu : bool
    """

    cdef const float *weight
    cdef const float *bias
    cdef bint relu
    cdef float *y
    cdef bint stream
    cdef Py_ssize_t block, tile_rows
    cdef Py_ssize_t thread_offset, out_offset, thread_bytes     # in the workspace; in that of a thread

    def __init__(self, Geometry shape, x, w, bias, y, bint relu=False):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "im2col_conv2d"
        self.x, self.weight, self.y = self.floats(x), self.floats(w), self.floats(y, write=True)
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu = relu
        self.measure(shape)
        self.tile_rows = tile_rows(self.oc)
        self.block = min(BLOCK_PIXELS, BLOCK_BYTES // max(1, 4 * self.ld))
        self.block = self.tile_rows * max(1, self.block // self.tile_rows)
        self.stream = 4 * self.pixels * self.oc >= STREAM_BYTES
        self.thread_offset = aligned(4 * self.depth * ceil_div(self.oc, kernel.vector) * kernel.vector)
        self.out_offset = self.rows_bytes(kernel, self.block)
        self.thread_bytes = self.out_offset + (aligned(4 * self.tile_rows * self.oc) if self.stream else 0)
        self.workspace_bytes = self.thread_offset + self.most_threads * self.thread_bytes

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t packs = self.area * ceil_div(self.oc, kernel.vector * kernel.tile_vectors), task
        cdef Py_ssize_t blocks = ceil_div(self.pixels, self.block)
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(packs, schedule="static"):
                self.pack(kernel, task)
            for task in prange(blocks, schedule="dynamic"):
                self.convolve(kernel, task * self.block,
                              self.workspace + self.thread_offset + threadid() * self.thread_bytes)
            nnp_restore_float_mode(mode)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t task) noexcept nogil:
        """One kernel position of one panel: the packed weights are (panel, position, c, panel width)."""
        cdef Py_ssize_t position = task % self.area, col = task // self.area * kernel.vector * kernel.tile_vectors
        cdef int cols = <int> min(kernel.vector * kernel.tile_vectors, self.oc - col)
        cdef Py_ssize_t width = ceil_div(cols, kernel.vector) * kernel.vector
        kernel.pack_panel(self.channels, cols, 1.0, self.weight + col * self.depth + position, self.area, self.depth,
                          <float *> self.workspace + col * self.depth + position * self.channels * width)

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t first, char *scratch) noexcept nogil:
        """A block of output pixels."""
        cdef Py_ssize_t pixels = min(self.block, self.pixels - first), pixel = 0
        cdef float *col = <float *> scratch
        cdef float *tile = <float *> (scratch + self.out_offset)
        cdef float *y = self.y + first * self.oc
        cdef int rows
        self.write_rows(kernel, first, pixels, col)
        while pixel < pixels:
            rows = <int> min(self.tile_rows, pixels - pixel)
            if self.stream:
                self.multiply(kernel, rows, col + pixel * self.ld, tile)
                kernel.copy_stream(rows * self.oc, tile, y + pixel * self.oc)
            else:
                self.multiply(kernel, rows, col + pixel * self.ld, y + pixel * self.oc)
            pixel += self.tile_rows
        if self.stream:
            kernel.stream_fence()

    cdef void multiply(self, const nnp_kernels *kernel, int rows, const float *col, float *out) noexcept nogil:
        """out (rows, oc) = col (rows, K) times all panels."""
        cdef const float *a[NNP_TALL_ROWS]
        cdef float *c[NNP_TALL_ROWS]
        cdef Py_ssize_t i, channel = 0
        for i in range(rows):
            a[i] = col + i * self.ld
        while channel < self.oc:
            for i in range(rows):
                c[i] = out + i * self.oc + channel
            kernel.gemm_tile(rows, <int> min(kernel.vector * kernel.tile_vectors, self.oc - channel), 1, self.depth, a,
                             0, <float *> self.workspace + channel * self.depth,
                             self.bias + channel if self.bias != NULL else NULL, self.relu, 0, c)
            channel += kernel.vector * kernel.tile_vectors


cdef class Im2colConv2dWeightGrad(Im2col):
    """dw = the gradient of conv2d with respect to w.

    Parameters
    ----------
    shape : Geometry
    x, dy : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    dw : ndarray of shape (OC, C, KH, KW), float32, contiguous
    """

    cdef const float *dy
    cdef float *dw
    cdef bint turned                                     # partial sums are (OC, K), not (K, OC)
    cdef Py_ssize_t rows, cols                           # of a partial sum
    cdef Py_ssize_t chunks, strip, tile_rows
    cdef Py_ssize_t thread_offset, thread_bytes          # in the workspace

    def __init__(self, Geometry shape, x, dy, dw):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "im2col_conv2d_weight_grad"
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.measure(shape)
        # Vectors go along the axis that fills them better.
        self.turned = (self.oc * ceil_div(self.depth, kernel.vector) < self.depth * ceil_div(self.oc, kernel.vector))
        self.rows, self.cols = (self.oc, self.depth) if self.turned else (self.depth, self.oc)
        # Tiles of equal height: a low one has too few sums to keep the processor busy.
        self.tile_rows = ceil_div(self.rows, max(1, ceil_div(self.rows, tile_rows(self.cols))))
        self.strip = max(1, min(STRIP_PIXELS, STRIP_BYTES // (4 * (self.ld + self.oc))))
        self.chunks = max(1, min(CHUNKS, ceil_div(self.pixels, self.strip),
                                 CHUNK_BYTES // max(1, 4 * self.depth * self.oc)))
        self.thread_offset = aligned(4 * self.chunks * self.depth * self.oc)
        self.thread_bytes = max(self.rows_bytes(kernel, self.strip),
                                aligned(4 * max(self.area * kernel.vector * kernel.tile_vectors, self.depth)))
        self.workspace_bytes = self.thread_offset + self.most_threads * self.thread_bytes

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t panels = ceil_div(self.oc, kernel.vector * kernel.tile_vectors), task
        cdef Py_ssize_t sums = self.oc if self.turned else panels * self.channels
        cdef float *scratch = NULL
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = <float *> (self.workspace + self.thread_offset + threadid() * self.thread_bytes)
            for task in prange(self.chunks, schedule="dynamic"):
                self.accumulate(kernel, task, scratch)
            for task in prange(sums, schedule="static"):
                if self.turned:
                    self.reduce_turned(kernel, task, scratch)
                else:
                    self.reduce(kernel, task % self.channels,
                                task // self.channels * kernel.vector * kernel.tile_vectors, scratch)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t chunk, float *col) noexcept nogil:
        """One chunk's partial sum, strip after strip."""
        cdef Py_ssize_t pixel = self.pixels * chunk // self.chunks, end = self.pixels * (chunk + 1) // self.chunks
        cdef float *partial = <float *> self.workspace + chunk * self.depth * self.oc
        cdef nnp_segment strip
        memset(partial, 0, 4 * self.depth * self.oc)
        while pixel < end:
            strip.length = min(self.strip, end - pixel)
            self.write_rows(kernel, pixel, strip.length, col)
            strip.a, strip.b = col, self.dy + pixel * self.oc
            if self.turned:
                strip.a, strip.b = strip.b, strip.a
            self.add_outer(kernel, &strip, partial)
            pixel += strip.length

    cdef void add_outer(self, const nnp_kernels *kernel, const nnp_segment *strip, float *partial) noexcept nogil:
        """partial (rows, cols) += the outer products of a strip."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, row = 0, col
        cdef Py_ssize_t a_step = self.oc if self.turned else self.ld, b_step = self.ld if self.turned else self.oc
        while row < self.rows:
            col = 0
            while col < self.cols:
                kernel.outer_tile(<int> min(self.tile_rows, self.rows - row), <int> min(width, self.cols - col), 1,
                                  strip, row, a_step, col, b_step, partial + row * self.cols + col, self.cols)
                col += width
            row += self.tile_rows

    cdef void reduce(self, const nnp_kernels *kernel, Py_ssize_t channel, Py_ssize_t first,
                     float *sums) noexcept nogil:
        """dw of an input channel and a panel of output channels: the partials (position, channel, OC) added in the
        order of their chunks, then transposed."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, cols = min(width, self.oc - first), p
        cdef const float *partials = <const float *> self.workspace + channel * self.oc + first
        for p in range(self.area):
            kernel.sum_rows(self.chunks, cols, partials + p * self.channels * self.oc, self.depth * self.oc, 0,
                            sums + p * width)
        kernel.copy_matrix(cols, self.area, sums, 1, width, self.dw + first * self.depth + channel * self.area,
                           self.depth)

    cdef void reduce_turned(self, const nnp_kernels *kernel, Py_ssize_t oc, float *sums) noexcept nogil:
        """dw of an output channel: the partials (OC, position, channel) added in the order of their chunks, then
        transposed."""
        kernel.sum_rows(self.chunks, self.depth, <const float *> self.workspace + oc * self.depth,
                        self.depth * self.oc, 0, sums)
        kernel.copy_matrix(self.channels, self.area, sums, 1, self.channels, self.dw + oc * self.depth, self.area)
