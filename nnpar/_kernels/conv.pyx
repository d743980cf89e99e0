"""Convolution by indirect im2col.

In channels-last memory a row of the im2col matrix is one run of `depth` floats per tap of the kernel, so the matrix
is never built: the tile reads its six rows through pointers, one per tap and pixel, and a row of zeros serves the
padding. Only the weights are packed. Where runs are too short for that (few input channels), the rows of a tile are
gathered into a buffer.

Forward and input gradient are one computation on different geometry. A pixel of the output at grid position (i, j) of a
phase reads, for tap t, the source pixel (i * step_h + tap_h[t], j * step_w + tap_w[t]):

- forward: one phase; step = stride, tap_h = kh * dilation - padding; depth = input channels of a group;
- input gradient: the input pixels of each remainder modulo the stride are a phase, and only the taps that reach it
  belong to it; step = 1; depth = output channels of a group.

The weight gradient is an outer product summed over pixels, dw[tap, ic, oc] = sum_p x[p at tap, ic] dy[p, oc]. The
pixels are cut into chunks, as many as the shape asks for, each with a partial sum of its own; the partials are added
in their order.
"""

import numpy

from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memset

from nnpar._kernels.csrc cimport (NNP_TILE_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode, nnp_segment)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    BLOCK_TILES = 16       # tiles of six pixels whose pointers are made at once: their source pixels stay in cache
    POINTERS = 16384       # of a block, at most: large kernels get smaller blocks
    GATHER_DEPTH = 8       # runs of this many floats or fewer are gathered
    FEW_TASKS = 16         # with fewer blocks of pixels than this, panels of output channels become tasks too
    STRIP_PIXELS = 256     # weight gradient: pixels that a tile sums in registers before it goes back to memory
    BLOCK_ROWS = 16 * NNP_TILE_ROWS  # weight gradient: input channels of a task
    CHUNK_TASKS = 64       # weight gradient: tasks that chunks of pixels should make
    CHUNK_BYTES = 16 << 20  # weight gradient: bytes of partial sums, at most


cdef struct Phase:
    Py_ssize_t rows, cols                                # grid of output pixels in an image
    Py_ssize_t out_h, out_w, out_step_h, out_step_w      # output pixel of grid position (0, 0), and its step
    Py_ssize_t first_tap, taps
    Py_ssize_t first_task, blocks


cdef class Geometry:
    """Shape of a convolution: the sizes that all three passes share. Checked by the caller.

    Parameters
    ----------
    input_shape, weight_shape : tuple
        (N, C, H, W) and (OC, C / groups, KH, KW).
    output_size : tuple
        (OH, OW).
    stride, padding, dilation : tuple
        (h, w); padding is that at the top and on the left.
    groups : int
    """

    cdef readonly Py_ssize_t n, c, h, w, oc, kh, kw, oh, ow, groups
    cdef readonly Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w
    cdef readonly double flops

    def __init__(self, input_shape, weight_shape, output_size, stride, padding, dilation, groups):
        self.n, self.c, self.h, self.w = input_shape
        self.oc, _, self.kh, self.kw = weight_shape
        self.oh, self.ow = output_size
        self.stride_h, self.stride_w = stride
        self.pad_h, self.pad_w = padding
        self.dilation_h, self.dilation_w = dilation
        self.groups = groups
        self.flops = 2.0 * self.n * self.oh * self.ow * self.oc * self.kh * self.kw * (self.c // groups)

    @property
    def bytes(self):
        """Of input, output and weights."""
        return 4.0 * (self.n * (self.h * self.w * self.c + self.oh * self.ow * self.oc)
                      + self.oc * self.c // self.groups * self.kh * self.kw)


cdef class IndirectConv(Step):
    """Common part of the forward pass and the input gradient: out = sum over taps of source pixels times weights."""

    cdef const float *source
    cdef const float *weight
    cdef const float *bias
    cdef float *out
    cdef Phase *phases
    cdef Py_ssize_t *tap                                 # (taps, 4): kh, kw, tap_h, tap_w; taps of a phase together
    cdef Py_ssize_t phase_count, taps, tasks
    cdef Py_ssize_t n, source_h, source_w, source_c, out_h, out_w, out_c, step_h, step_w
    cdef Py_ssize_t groups, depth, cols, kernel_area, kernel_w   # of a group: summed channels, output channels
    cdef Py_ssize_t weight_k, weight_n                   # strides of the weights along depth and cols
    cdef Py_ssize_t block_tiles, panel_groups
    cdef Py_ssize_t zero_offset, thread_offset, thread_bytes, rows_offset    # in the workspace
    cdef bint gather

    cdef int lay_out(self, Geometry s, list phases, list taps) except -1:
        """Fix the schedule: `phases` as tuples of Phase's first six fields and its taps' number; `taps` as rows of
        `tap`."""
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t panels = ceil_div(self.cols, kernel.vector * kernel.tile_vectors)
        cdef Py_ssize_t padded = ceil_div(self.cols, kernel.vector) * kernel.vector
        cdef Py_ssize_t i, first_tap = 0, blocks = 0, most_taps = max(phase[6] for phase in phases)
        table = numpy.array(taps, numpy.intp).reshape(-1, 4)
        records = numpy.zeros((len(phases), sizeof(Phase) // sizeof(Py_ssize_t)), numpy.intp)
        self.arrays += [table, records]
        self.tap = <Py_ssize_t *> <size_t> table.ctypes.data
        self.phases = <Phase *> <size_t> records.ctypes.data
        self.phase_count, self.taps = len(phases), len(taps)
        self.groups, self.n = s.groups, s.n
        self.kernel_area, self.kernel_w = s.kh * s.kw, s.kw
        self.gather = self.depth <= GATHER_DEPTH
        self.block_tiles = max(1, min(BLOCK_TILES, POINTERS // (NNP_TILE_ROWS * max(1, most_taps))))
        for i, phase in enumerate(phases):
            self.phases[i].rows, self.phases[i].cols = phase[0], phase[1]
            self.phases[i].out_h, self.phases[i].out_w = phase[2], phase[3]
            self.phases[i].out_step_h, self.phases[i].out_step_w = phase[4], phase[5]
            self.phases[i].taps, self.phases[i].first_tap = phase[6], first_tap
            self.phases[i].blocks = ceil_div(s.n * phase[0] * phase[1], NNP_TILE_ROWS * self.block_tiles)
            first_tap += phase[6]
            blocks += self.phases[i].blocks
        self.panel_groups = max(1, min(panels, FEW_TASKS // max(1, blocks * s.groups)))
        self.tasks = 0
        for i in range(self.phase_count):
            self.phases[i].first_task = self.tasks
            self.tasks += self.phases[i].blocks * s.groups * self.panel_groups
        self.cost(s.flops, s.bytes)
        self.zero_offset = aligned(4 * s.groups * self.taps * self.depth * padded)
        self.thread_offset = self.zero_offset + aligned(4 * self.depth)
        self.rows_offset = aligned(sizeof(float *) * NNP_TILE_ROWS * self.block_tiles * most_taps)
        self.thread_bytes = self.rows_offset
        if self.gather:
            self.thread_bytes += aligned(4 * NNP_TILE_ROWS * most_taps * self.depth)
        self.workspace_bytes = self.thread_offset + self.most_threads * self.thread_bytes
        return 0

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t packs = self.taps * self.groups * self.panels(kernel), task
        cdef nnp_float_mode mode = 0
        memset(self.workspace + self.zero_offset, 0, 4 * self.depth)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(packs, schedule="static"):
                self.pack(kernel, task)
            for task in prange(self.tasks, schedule="dynamic"):
                self.convolve(kernel, task, self.workspace + self.thread_offset + threadid() * self.thread_bytes)
            nnp_restore_float_mode(mode)

    cdef Py_ssize_t panels(self, const nnp_kernels *kernel) noexcept nogil:
        return ceil_div(self.cols, kernel.vector * kernel.tile_vectors)

    cdef int panel_cols(self, const nnp_kernels *kernel, Py_ssize_t panel) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        return <int> min(width, self.cols - panel * width)

    cdef float *packed(self, const nnp_kernels *kernel, Phase *phase, Py_ssize_t group,
                       Py_ssize_t panel) noexcept nogil:
        """Packed weights, (phase, group, panel, tap, depth, panel width)."""
        cdef Py_ssize_t padded = ceil_div(self.cols, kernel.vector) * kernel.vector
        cdef Py_ssize_t before = phase.first_tap * self.groups + group * phase.taps
        return (<float *> self.workspace + before * self.depth * padded
                + panel * kernel.vector * kernel.tile_vectors * phase.taps * self.depth)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t task) noexcept nogil:
        """One tap of one panel of one group."""
        cdef Py_ssize_t panels = self.panels(kernel), panel = task % panels, group = task // panels % self.groups
        cdef Py_ssize_t t = task // panels // self.groups, p = 0
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors, width
        cdef int cols = self.panel_cols(kernel, panel)
        cdef const float *w
        while p + 1 < self.phase_count and self.phases[p + 1].first_tap <= t:
            p += 1
        width = ceil_div(cols, kernel.vector) * kernel.vector
        w = (self.weight + group * self.group_stride() + col * self.weight_n
             + self.tap[4 * t] * self.kernel_w + self.tap[4 * t + 1])
        kernel.pack_panel(self.depth, cols, 1.0, w, self.weight_k, self.weight_n,
                          self.packed(kernel, &self.phases[p], group, panel)
                          + (t - self.phases[p].first_tap) * self.depth * width)

    cdef Py_ssize_t group_stride(self) noexcept nogil:
        """From a group's first weight to the next group's: both have depth * cols * KH * KW of them."""
        return self.depth * self.cols * self.kernel_area

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t task, char *scratch) noexcept nogil:
        """A block of pixels of a phase, for one group and one share of its panels."""
        cdef Py_ssize_t p = 0, block, group, share, panel, tile, first, last, pixels
        cdef Py_ssize_t panels = self.panels(kernel), tiles
        cdef Phase *phase
        cdef const float **pointers = <const float **> scratch
        cdef float *gathered = <float *> (scratch + self.rows_offset)
        cdef float *out[BLOCK_TILES * NNP_TILE_ROWS]
        while p + 1 < self.phase_count and self.phases[p + 1].first_task <= task:
            p += 1
        phase = &self.phases[p]
        task = task - phase.first_task
        block = task % phase.blocks
        group = task // phase.blocks % self.groups
        share = task // phase.blocks // self.groups
        first = panels * share // self.panel_groups
        last = panels * (share + 1) // self.panel_groups
        pixels = self.n * phase.rows * phase.cols - block * self.block_tiles * NNP_TILE_ROWS
        pixels = min(pixels, self.block_tiles * NNP_TILE_ROWS)
        tiles = ceil_div(pixels, NNP_TILE_ROWS)
        self.point(phase, group, block * self.block_tiles * NNP_TILE_ROWS, pixels, pointers, out)
        if self.gather:
            for tile in range(tiles):
                self.gather_rows(phase, pointers + tile * phase.taps * NNP_TILE_ROWS,
                                 min(NNP_TILE_ROWS, pixels - tile * NNP_TILE_ROWS), gathered)
                for panel in range(first, last):
                    self.tile(kernel, phase, group, panel, tile, pixels, NULL, gathered, out)
        else:
            for panel in range(first, last):
                for tile in range(tiles):
                    self.tile(kernel, phase, group, panel, tile, pixels, pointers, NULL, out)

    cdef void tile(self, const nnp_kernels *kernel, Phase *phase, Py_ssize_t group, Py_ssize_t panel, Py_ssize_t tile,
                   Py_ssize_t pixels, const float **pointers, const float *gathered, float **out) noexcept nogil:
        """Six pixels times a panel: through `pointers`, or from the six rows `gathered` if that is not NULL."""
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors, channel = group * self.cols + col, i
        cdef int rows = <int> min(NNP_TILE_ROWS, pixels - tile * NNP_TILE_ROWS)
        cdef const float *bias = self.bias + channel if self.bias != NULL else NULL
        cdef const float *a[NNP_TILE_ROWS]
        cdef float *c[NNP_TILE_ROWS]
        for i in range(rows):
            c[i] = out[tile * NNP_TILE_ROWS + i] + channel
        if gathered == NULL:
            kernel.gemm_tile(rows, self.panel_cols(kernel, panel), phase.taps, self.depth,
                             pointers + tile * phase.taps * NNP_TILE_ROWS, self.packed(kernel, phase, group, panel),
                             bias, 0, c)
        else:
            for i in range(rows):
                a[i] = gathered + i * phase.taps * self.depth
            kernel.gemm_tile(rows, self.panel_cols(kernel, panel), 1, phase.taps * self.depth, a,
                             self.packed(kernel, phase, group, panel), bias, 0, c)

    cdef void point(self, Phase *phase, Py_ssize_t group, Py_ssize_t first, Py_ssize_t pixels, const float **pointers,
                    float **out) noexcept nogil:
        """Where the taps of each pixel lie, pointers (tile, tap, 6), and where its result goes, out (pixel)."""
        cdef const float *zeros = <const float *> (self.workspace + self.zero_offset)
        cdef const float *image
        cdef const Py_ssize_t *tap
        cdef const float **at
        cdef Py_ssize_t area = phase.rows * phase.cols, n = first // area, i = first % area // phase.cols
        cdef Py_ssize_t j = first % phase.cols, pixel, t, h, w
        for pixel in range(pixels):
            image = self.source + n * self.source_h * self.source_w * self.source_c + group * self.depth
            at = pointers + pixel // NNP_TILE_ROWS * phase.taps * NNP_TILE_ROWS + pixel % NNP_TILE_ROWS
            tap = self.tap + 4 * phase.first_tap
            for t in range(phase.taps):
                h = i * self.step_h + tap[2]
                w = j * self.step_w + tap[3]
                if 0 <= h < self.source_h and 0 <= w < self.source_w:
                    at[0] = image + (h * self.source_w + w) * self.source_c
                else:
                    at[0] = zeros
                at += NNP_TILE_ROWS
                tap += 4
            out[pixel] = self.out + ((n * self.out_h + phase.out_h + i * phase.out_step_h) * self.out_w
                                     + phase.out_w + j * phase.out_step_w) * self.out_c
            j += 1
            if j == phase.cols:
                j = 0
                i += 1
                if i == phase.rows:
                    i = 0
                    n += 1

    cdef void gather_rows(self, Phase *phase, const float **pointers, Py_ssize_t rows, float *gathered) noexcept nogil:
        """gathered (rows, taps * depth) = the runs that `pointers` (tap, 6) names."""
        cdef Py_ssize_t i, t, k
        cdef const float *run
        for i in range(rows):
            for t in range(phase.taps):
                run = pointers[t * NNP_TILE_ROWS + i]
                for k in range(self.depth):
                    gathered[k] = run[k]
                gathered += self.depth


cdef class Conv2d(IndirectConv):
    """y = conv2d(x, w) + bias.

    Parameters
    ----------
    shape : Geometry
    x, y : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    w : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    bias : ndarray of shape (OC,), float32, contiguous, or None
    """

    def __init__(self, Geometry shape, x, w, bias, y):
        self.name = "conv2d"
        self.source, self.weight = self.floats(x), self.floats(w)
        self.bias = NULL if bias is None else self.floats(bias)
        self.out = self.floats(y, write=True)
        self.source_h, self.source_w, self.source_c = shape.h, shape.w, shape.c
        self.out_h, self.out_w, self.out_c = shape.oh, shape.ow, shape.oc
        self.step_h, self.step_w = shape.stride_h, shape.stride_w
        self.depth, self.cols = shape.c // shape.groups, shape.oc // shape.groups
        self.weight_k, self.weight_n = shape.kh * shape.kw, self.depth * shape.kh * shape.kw
        taps = [(kh, kw, kh * shape.dilation_h - shape.pad_h, kw * shape.dilation_w - shape.pad_w)
                for kh in range(shape.kh) for kw in range(shape.kw)]
        self.lay_out(shape, [(shape.oh, shape.ow, 0, 0, 1, 1, len(taps))], taps)


def _axis_phases(size, stride, pad, dilation, kernel):
    """Input positions by their remainder modulo the stride: (first position, count, [(k, offset of the output)])."""
    for remainder in range(min(stride, size)):
        taps = [(k, (remainder + pad - k * dilation) // stride) for k in range(kernel)
                if (remainder + pad - k * dilation) % stride == 0]
        yield remainder, (size - remainder + stride - 1) // stride, taps


cdef class Conv2dInputGrad(IndirectConv):
    """dx = the gradient of conv2d with respect to x; also the transposed convolution of dy.

    Parameters
    ----------
    shape : Geometry
    dy, dx : ndarray of shape (N, OC, OH, OW) and (N, C, H, W), float32, channels-last memory
    w : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    """

    def __init__(self, Geometry shape, dy, w, dx):
        self.name = "conv2d_input_grad"
        self.source, self.weight = self.floats(dy), self.floats(w)
        self.bias = NULL
        self.out = self.floats(dx, write=True)
        self.source_h, self.source_w, self.source_c = shape.oh, shape.ow, shape.oc
        self.out_h, self.out_w, self.out_c = shape.h, shape.w, shape.c
        self.step_h, self.step_w = 1, 1
        self.depth, self.cols = shape.oc // shape.groups, shape.c // shape.groups
        self.weight_k, self.weight_n = self.cols * shape.kh * shape.kw, shape.kh * shape.kw
        phases, taps = [], []
        for h0, rows, taps_h in _axis_phases(shape.h, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh):
            for w0, cols, taps_w in _axis_phases(shape.w, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw):
                phases.append((rows, cols, h0, w0, shape.stride_h, shape.stride_w, len(taps_h) * len(taps_w)))
                taps += [(kh, kw, off_h, off_w) for kh, off_h in taps_h for kw, off_w in taps_w]
        self.lay_out(shape, phases, taps)


cdef class Conv2dWeightGrad(Step):
    """dw = the gradient of conv2d with respect to w.

    Parameters
    ----------
    shape : Geometry
    x, dy : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    dw : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    """

    cdef Geometry s
    cdef const float *x
    cdef const float *dy
    cdef float *dw
    cdef Py_ssize_t depth, cols, taps                    # of a group: input channels, output channels; kernel positions
    cdef Py_ssize_t chunks, image_rows, strip_rows, row_blocks, tap_tasks
    cdef Py_ssize_t thread_offset, thread_bytes
    cdef bint gather

    def __init__(self, Geometry shape, x, dy, dw):
        self.name = "conv2d_weight_grad"
        self.s = shape
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.depth, self.cols, self.taps = shape.c // shape.groups, shape.oc // shape.groups, shape.kh * shape.kw
        self.gather = self.depth <= GATHER_DEPTH
        self.image_rows = shape.n * shape.oh
        self.strip_rows = max(1, STRIP_PIXELS // max(1, shape.ow))
        self.tap_tasks = 1 if self.gather else self.taps
        self.row_blocks = ceil_div(self.depth * (self.taps if self.gather else 1), BLOCK_ROWS)
        self.chunks = min(ceil_div(CHUNK_TASKS, max(1, shape.groups * self.tap_tasks * self.row_blocks)),
                          CHUNK_BYTES // max(1, 4 * self.partial_size()), ceil_div(self.image_rows, self.strip_rows))
        self.chunks = max(1, self.chunks)
        self.cost(shape.flops, shape.bytes)
        self.thread_offset = aligned(4 * self.chunks * self.partial_size())
        self.thread_bytes = max(aligned(sizeof(nnp_segment) * self.strip_rows), aligned(4 * self.cols))
        if self.gather:
            self.thread_bytes += aligned(4 * self.strip_rows * shape.ow * self.taps * self.depth)
        self.workspace_bytes = self.thread_offset + self.most_threads * self.thread_bytes

    cdef Py_ssize_t partial_size(self) noexcept nogil:
        """Floats of one partial sum, (group, tap, ic, oc)."""
        return self.s.groups * self.taps * self.depth * self.cols

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t tasks = self.chunks * self.s.groups * self.tap_tasks * self.row_blocks
        cdef Py_ssize_t sums = self.s.groups * self.taps * self.depth, task
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.workspace + self.thread_offset + threadid() * self.thread_bytes
            for task in prange(tasks, schedule="dynamic"):
                self.accumulate(kernel, task, scratch)
            for task in prange(sums, schedule="static"):
                self.reduce(kernel, task, <float *> scratch)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t task, char *scratch) noexcept nogil:
        """One chunk's partial sum for one group and, unless gathered, one tap, over one block of input channels."""
        cdef Py_ssize_t block = task % self.row_blocks, tap = task // self.row_blocks % self.tap_tasks
        cdef Py_ssize_t group = task // self.row_blocks // self.tap_tasks % self.s.groups
        cdef Py_ssize_t chunk = task // self.row_blocks // self.tap_tasks // self.s.groups
        cdef Py_ssize_t row = self.image_rows * chunk // self.chunks
        cdef Py_ssize_t end = self.image_rows * (chunk + 1) // self.chunks, rows
        cdef Py_ssize_t depth = self.depth * self.taps if self.gather else self.depth
        cdef Py_ssize_t first = block * BLOCK_ROWS, last = min(first + BLOCK_ROWS, depth), segments, a_step
        cdef nnp_segment *segment = <nnp_segment *> scratch
        cdef float *gathered = <float *> (scratch + aligned(sizeof(nnp_segment) * self.strip_rows))
        cdef float *partial = (<float *> self.workspace + chunk * self.partial_size()
                               + (group * self.taps + tap) * self.depth * self.cols)
        memset(partial + first * self.cols, 0, 4 * (last - first) * self.cols)
        while row < end:
            rows = min(self.strip_rows, end - row)
            if self.gather:
                self.gather_strip(group, row, rows, gathered)
                segment.a = gathered
                segment.b = self.dy + row * self.s.ow * self.s.oc + group * self.cols
                segment.length = rows * self.s.ow
                segments = 1
                a_step = depth
            else:
                segments = self.cut(group, tap, row, rows, segment)
                a_step = self.s.stride_w * self.s.c
            self.add_outer(kernel, segments, segment, a_step, first, last, partial)
            row += rows

    cdef void add_outer(self, const nnp_kernels *kernel, Py_ssize_t segments, const nnp_segment *segment,
                        Py_ssize_t a_step, Py_ssize_t first, Py_ssize_t last, float *partial) noexcept nogil:
        """partial (depth, oc), rows first to last, += the outer products of a strip."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, row = first, col
        while row < last:
            col = 0
            while col < self.cols:
                kernel.outer_tile(<int> min(NNP_TILE_ROWS, last - row), <int> min(width, self.cols - col), segments,
                                  segment, row, a_step, col, self.s.oc, partial + row * self.cols + col, self.cols)
                col += width
            row += NNP_TILE_ROWS

    cdef Py_ssize_t cut(self, Py_ssize_t group, Py_ssize_t tap, Py_ssize_t row, Py_ssize_t rows,
                        nnp_segment *segment) noexcept nogil:
        """Runs of output pixels in rows of dy whose input pixel at this tap lies inside the image; returns their
        number."""
        cdef Py_ssize_t offset_w = tap % self.s.kw * self.s.dilation_w - self.s.pad_w
        cdef Py_ssize_t offset_h = tap // self.s.kw * self.s.dilation_h - self.s.pad_h
        cdef Py_ssize_t low = ceil_div(-offset_w, self.s.stride_w) if offset_w < 0 else 0
        cdef Py_ssize_t high = 0 if self.s.w <= offset_w else min(self.s.ow, ceil_div(self.s.w - offset_w,
                                                                                      self.s.stride_w))
        cdef Py_ssize_t r, n, h, count = 0
        for r in range(row, row + rows):
            n = r // self.s.oh
            h = r % self.s.oh * self.s.stride_h + offset_h
            if 0 <= h < self.s.h and low < high:
                segment[count].a = (self.x
                                    + ((n * self.s.h + h) * self.s.w + low * self.s.stride_w + offset_w) * self.s.c
                                    + group * self.depth)
                segment[count].b = self.dy + (r * self.s.ow + low) * self.s.oc + group * self.cols
                segment[count].length = high - low
                count += 1
        return count

    cdef void gather_strip(self, Py_ssize_t group, Py_ssize_t row, Py_ssize_t rows, float *gathered) noexcept nogil:
        """gathered (pixels, taps * depth): explicit im2col of some rows of output pixels."""
        cdef Py_ssize_t r, ow, kh, kw, h, w, k
        cdef const float *image
        cdef const float *run
        for r in range(row, row + rows):
            image = self.x + r // self.s.oh * self.s.h * self.s.w * self.s.c + group * self.depth
            for ow in range(self.s.ow):
                for kh in range(self.s.kh):
                    h = r % self.s.oh * self.s.stride_h + kh * self.s.dilation_h - self.s.pad_h
                    for kw in range(self.s.kw):
                        w = ow * self.s.stride_w + kw * self.s.dilation_w - self.s.pad_w
                        if 0 <= h < self.s.h and 0 <= w < self.s.w:
                            run = image + (h * self.s.w + w) * self.s.c
                            for k in range(self.depth):
                                gathered[k] = run[k]
                        else:
                            for k in range(self.depth):
                                gathered[k] = 0.0
                        gathered += self.depth

    cdef void reduce(self, const nnp_kernels *kernel, Py_ssize_t task, float *total) noexcept nogil:
        """dw (group's oc, ic, tap) = the partials of one (group, tap, ic), added in the order of their chunks."""
        cdef Py_ssize_t group = task // (self.taps * self.depth), ic = task % self.depth
        cdef Py_ssize_t tap = task // self.depth % self.taps
        kernel.sum_rows(self.chunks, self.cols, <const float *> self.workspace + task * self.cols, self.partial_size(),
                        0, total)
        kernel.copy_matrix(self.cols, 1, total, 1, 1,
                           self.dw + (group * self.cols * self.depth + ic) * self.taps + tap, self.depth * self.taps)
