"""Convolution of few channels, whose images are put into a frame of zeros, a band of rows at a time.

In a frame every window lies inside. It is KH runs of KW * C floats, which begin one stride of pixels after those of the
pixel before: a tile needs no pointers, and a row of output pixels is one call. A band is small enough to stay in the
first-level cache, so framing costs little more than reading the image once.

    y[p, oc] = sum over (kh, kw, c) of window[p] w[oc]            dw[kh, kw, c, oc] = sum over p of window[p] dy[p, oc]

For the weight gradient the bands of all images are cut into chunks, as many as the shape asks for, each with a partial
sum of its own; the partials are added in their order.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from nnpar._kernels.conv cimport Geometry
from nnpar._kernels.csrc cimport (nnp_float_mode, nnp_flush_denormals, nnp_frame, nnp_kernels, nnp_restore_float_mode,
                                  nnp_segment)
from nnpar._kernels.runtime cimport kernels, tile_rows
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    BAND_BYTES = 48 << 10      # of a framed band, about
    STREAM_BYTES = 32 << 20    # an output so large is written past the caches
    FEW_TASKS = 16             # with fewer images than this, they are cut into more bands
    STRIP_BYTES = 16 << 10     # weight gradient: of dy, for the columns of a tile, that several tiles read, about
    CHUNKS = 64                # weight gradient: chunks of bands, at most
    CHUNK_BYTES = 16 << 20     # weight gradient: bytes of partial sums, at most


cdef class Framed(Step):
    """Common part: the sizes, and the frame of a band."""

    cdef const float *x
    cdef nnp_frame window
    cdef Py_ssize_t n, h, image_row, oh, ow, oc          # floats of a row of the image
    cdef Py_ssize_t channels, area, depth                # depth = area * channels, all of a window
    cdef Py_ssize_t row, left                            # floats of a framed row, and of those before the image
    cdef Py_ssize_t pad_h, stride_h, reach               # rows of a window
    cdef Py_ssize_t band, bands                          # rows of output in a band; bands of an image
    cdef Py_ssize_t frame_bytes                          # of a framed band

    cdef int measure(self, Geometry s) except -1:
        cdef Py_ssize_t rows
        self.n, self.h, self.image_row, self.oh, self.ow, self.oc = s.n, s.h, s.w * s.c, s.oh, s.ow, s.oc
        self.channels, self.area, self.depth = s.c, s.kh * s.kw, s.kh * s.kw * s.c
        self.row, self.left = (s.w + 2 * s.pad_w) * s.c, s.pad_w * s.c
        self.pad_h, self.stride_h, self.reach = s.pad_h, s.stride_h, (s.kh - 1) * s.dilation_h + 1
        self.window = nnp_frame(s.kh, s.kw * s.c, s.dilation_h * self.row, s.stride_w * s.c)
        rows = (BAND_BYTES // (4 * self.row) - self.reach) // self.stride_h + 1
        self.bands = max(ceil_div(self.oh, max(1, rows)), min(self.oh, ceil_div(FEW_TASKS, self.n)))
        self.band = ceil_div(self.oh, self.bands)
        self.bands = ceil_div(self.oh, self.band)
        self.frame_bytes = aligned(4 * self.row * ((self.band - 1) * self.stride_h + self.reach))
        self.cost(s.flops, s.bytes)
        return 0

    cdef Py_ssize_t put(self, Py_ssize_t task, float *framed) noexcept nogil:
        """Frame a band, number `task` of all images; returns its rows of output."""
        cdef Py_ssize_t first = task % self.bands * self.band, rows = min(self.band, self.oh - first), i
        cdef Py_ssize_t h = first * self.stride_h - self.pad_h
        cdef const float *image = self.x + task // self.bands * self.h * self.image_row
        for i in range(h, h + (rows - 1) * self.stride_h + self.reach):
            if 0 <= i < self.h:
                memset(framed, 0, 4 * self.left)
                memcpy(framed + self.left, image + i * self.image_row, 4 * self.image_row)
                memset(framed + self.left + self.image_row, 0, 4 * self.left)
            else:
                memset(framed, 0, 4 * self.row)
            framed += self.row
        return rows


cdef class FramedConv2d(Framed):
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
    cdef Py_ssize_t piece                                       # pixels of a row that go to memory at once

    def __init__(self, Geometry shape, x, w, bias, y, bint relu=False, bint prepacked=False):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "framed_conv2d"
        self.x, self.weight, self.y = self.floats(x), self.weights(w), self.floats(y, write=True)
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu = relu
        self.measure(shape)
        self.stream = 4 * self.n * self.oh * self.ow * self.oc >= STREAM_BYTES
        self.piece = tile_rows(self.oc) if self.stream else self.ow
        packed_bytes = aligned(4 * self.depth * ceil_div(self.oc, kernel.vector) * kernel.vector)
        self.prepacked_bytes = packed_bytes if prepacked else 0
        self.need(0 if prepacked else packed_bytes, self.frame_bytes + (4 * self.piece * self.oc if self.stream else 0))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t packs = 0 if self.prepacked_bytes > 0 else self.packs(kernel), task, share
        cdef nnp_float_mode mode = 0
        self.deal(self.n * self.bands)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(packs, schedule="static"):
                self.pack(kernel, task)
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.convolve(kernel, task, self.own())
                    task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef nnp_float_mode mode = nnp_flush_denormals()
        cdef Py_ssize_t task
        for task in range(self.packs(kernel)):
            self.pack(kernel, task)
        nnp_restore_float_mode(mode)

    cdef Py_ssize_t packs(self, const nnp_kernels *kernel) noexcept nogil:
        return self.area * ceil_div(self.oc, kernel.vector * kernel.tile_vectors)

    cdef float *filters(self) noexcept nogil:
        """The packed weights."""
        return <float *> (self.prepacked if self.prepacked_bytes > 0 else self.workspace)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t task) noexcept nogil:
        """One kernel position of one panel: the packed weights are (panel, position, c, panel width)."""
        cdef Py_ssize_t position = task % self.area, col = task // self.area * kernel.vector * kernel.tile_vectors
        cdef int cols = <int> min(kernel.vector * kernel.tile_vectors, self.oc - col)
        cdef Py_ssize_t width = ceil_div(cols, kernel.vector) * kernel.vector
        kernel.pack_panel(self.channels, cols, 1.0, self.weight + col * self.depth + position, self.area, self.depth,
                          self.filters() + col * self.depth + position * self.channels * width)

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t task, char *scratch) noexcept nogil:
        """A band."""
        cdef const float *framed = <const float *> scratch
        cdef float *piece = <float *> (scratch + self.frame_bytes)
        cdef Py_ssize_t rows = self.put(task, <float *> scratch), pixel, pixels, _
        cdef float *y = self.y + (task // self.bands * self.oh + task % self.bands * self.band) * self.ow * self.oc
        for _ in range(rows):
            pixel = 0
            while pixel < self.ow:
                pixels = min(self.piece, self.ow - pixel)
                if self.stream:
                    self.multiply(kernel, pixels, framed + pixel * self.window.a_step, piece)
                    kernel.copy_stream(pixels * self.oc, piece, y + pixel * self.oc)
                else:
                    self.multiply(kernel, pixels, framed, y)
                pixel += self.piece
            framed += self.stride_h * self.row
            y += self.ow * self.oc
        if self.stream:
            kernel.stream_fence()

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t pixels, const float *framed,
                       float *out) noexcept nogil:
        """out (pixels, oc) = the windows from `framed` on times all panels."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, col = 0
        while col < self.oc:
            kernel.framed_row(pixels, <int> min(width, self.oc - col), &self.window, framed,
                              self.filters() + col * self.depth,
                              self.bias + col if self.bias != NULL else NULL, self.relu, 0, out + col, self.oc)
            col += width


cdef class FramedConv2dWeightGrad(Framed):
    """dw = the gradient of conv2d with respect to w.

    Parameters
    ----------
    shape : Geometry
    x, dy : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    dw : ndarray of shape (OC, C, KH, KW), float32, contiguous
    """

    cdef const float *dy
    cdef float *dw
    cdef Py_ssize_t chunks, strip_rows, strip_cols       # pixels of dy that all tiles read before the next
    cdef Py_ssize_t segments_offset                     # in a thread's scratch memory

    def __init__(self, Geometry shape, x, dy, dw):
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, strip
        self.name = "framed_conv2d_weight_grad"
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.measure(shape)
        strip = max(1, STRIP_BYTES // (4 * min(width, self.oc)))
        self.strip_cols = ceil_div(self.ow, ceil_div(self.ow, strip))
        self.strip_rows = max(1, min(self.band, strip // self.ow))
        self.chunks = max(1, min(CHUNKS, self.n * self.bands, CHUNK_BYTES // (4 * self.depth * self.oc)))
        self.segments_offset = self.frame_bytes
        self.need(4 * self.chunks * self.depth * self.oc,
                  max(self.segments_offset + <Py_ssize_t> sizeof(nnp_segment) * self.strip_rows, 4 * self.area * width))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t sums = ceil_div(self.oc, kernel.vector * kernel.tile_vectors) * self.channels, task, share
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        self.deal(self.chunks)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.own()
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.accumulate(kernel, task, scratch)
                    task = self.take(share)
            for task in prange(sums, schedule="static"):
                if self.goes_on():
                    self.reduce(kernel, task % self.channels,
                                task // self.channels * kernel.vector * kernel.tile_vectors, <float *> scratch)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t chunk, char *scratch) noexcept nogil:
        """One chunk's partial sum, band after band, strip after strip."""
        cdef Py_ssize_t tasks = self.n * self.bands, task, rows, row, col, first
        cdef float *partial = <float *> self.workspace + chunk * self.depth * self.oc
        memset(partial, 0, 4 * self.depth * self.oc)
        for task in range(tasks * chunk // self.chunks, tasks * (chunk + 1) // self.chunks):
            rows = self.put(task, <float *> scratch)
            first = task // self.bands * self.oh + task % self.bands * self.band
            row = 0
            while row < rows:
                col = 0
                while col < self.ow:
                    self.add_outer(kernel, scratch, first, row, min(self.strip_rows, rows - row), col, partial)
                    col += self.strip_cols
                row += self.strip_rows

    cdef void add_outer(self, const nnp_kernels *kernel, char *scratch, Py_ssize_t first, Py_ssize_t row,
                        Py_ssize_t rows, Py_ssize_t col, float *partial) noexcept nogil:
        """partial (K, oc) += the outer products of a strip: rows of the band, which begins at row `first` of dy."""
        cdef nnp_segment *segment = <nnp_segment *> (scratch + self.segments_offset)
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, i
        for i in range(rows):
            segment[i].a = <float *> scratch + (row + i) * self.stride_h * self.row + col * self.window.a_step
            segment[i].b = self.dy + ((first + row + i) * self.ow + col) * self.oc
            segment[i].length = min(self.strip_cols, self.ow - col)
        col = 0
        while col < self.oc:
            kernel.framed_outer(<int> min(width, self.oc - col), &self.window, rows, segment, col, self.oc,
                                self.strip_rows * self.strip_cols * self.oc, partial + col, self.oc)
            col += width

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
