"""Convolution by indirect im2col.

In channels-last memory a row of the im2col matrix is one run of `depth` floats per tap of the kernel, so the matrix
is never built: the tile reads its six rows through pointers, one per tap and pixel, and a row of zeros serves the
padding. Only the weights are packed. Where runs are short (few input channels), the images are copied into a frame of
zeros first: then the taps of a kernel row are one run of KW * C floats, from any pixel.

Forward and input gradient are one computation on different geometry. A pixel of the output at grid position (i, j) of a
phase reads, for tap t, the source pixel (i * step_h + tap_h[t], j * step_w + tap_w[t]):

- forward: one phase; step = stride, tap_h = kh * dilation - padding; depth = input channels of a group;
- input gradient: the input pixels of each remainder modulo the stride are a phase, and only the taps that reach it
  belong to it; step = 1; depth = output channels of a group. Phases that no tap reaches are zeros.

A task is a block of grid positions, in all phases: they read the same source pixels and write neighbours.
"""

import numpy

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from nnpar._kernels.csrc cimport (NNP_TALL_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels, tile_rows
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    BLOCK_PIXELS = 192     # pixels whose pointers are made at once: their source pixels stay in cache
    POINTERS = 16384       # of a block, at most: large kernels get smaller blocks
    PACK_FLOATS = 9216     # of a panel packed by a task: 16 input channels of 3x3 positions, 64 columns wide
    FEW_CHANNELS = 16      # with so many or fewer, the taps of a kernel row are merged into one run,
    SHORT_RUN = 8          # but forward and to the input, if kernel rows are short, only with so many: framing costs
    SHORT_ROW = 3          # more than it saves otherwise
    FEW_TASKS = 32         # with fewer blocks of pixels than this, panels of output channels become tasks too


cdef void frame_row(const nnp_kernels *kernel, Frame *f, Py_ssize_t row, float *framed) noexcept nogil:
    """One row of the framed images, of n * (h + 2 pad_h)."""
    cdef Py_ssize_t size = (f.w + 2 * f.pad_w) * f.c, h = row % (f.h + 2 * f.pad_h) - f.pad_h
    cdef Py_ssize_t n = row // (f.h + 2 * f.pad_h)
    framed += row * size
    memset(framed, 0, 4 * size)
    if 0 <= h < f.h:
        kernel.copy_matrix(1, f.w * f.c, f.images + (n * f.h + h) * f.w * f.c, 0, 1, framed + f.pad_w * f.c, 0)


cdef struct Phase:
    Py_ssize_t rows, cols                                # grid of output pixels in an image
    Py_ssize_t out_h, out_w                              # output pixel of grid position (0, 0)
    Py_ssize_t first_tap, taps
    Py_ssize_t top, bottom, left, right                  # smallest and largest tap_h and tap_w


cdef class Geometry:
    """Shape of a convolution: the sizes that all three passes share. Checked by the caller.

    Parameters
    ----------
    shape : nnpar.shapes.Conv2dShape
    """

    def __init__(self, shape):
        self.n, self.c, self.h, self.w = shape.input_shape
        self.oc, _, self.kh, self.kw = shape.weight_shape
        self.oh, self.ow = shape.output_size
        self.stride_h, self.stride_w = shape.stride
        self.pad_h, self.pad_w = shape.padding
        self.dilation_h, self.dilation_w = shape.dilation
        self.groups = shape.groups
        self.flops = 2.0 * self.n * self.oh * self.ow * self.oc * self.kh * self.kw * (self.c // self.groups)

    @property
    def bytes(self):
        """Of input, output and weights."""
        return 4.0 * (self.n * (self.h * self.w * self.c + self.oh * self.ow * self.oc)
                      + self.oc * self.c // self.groups * self.kh * self.kw)

    cdef Py_ssize_t merged(self, Py_ssize_t channels) noexcept:
        """Taps in a run of images with so many channels: a whole row of the kernel where there are few, else one."""
        return self.kw if channels <= FEW_CHANNELS and self.groups == 1 and self.dilation_w == 1 else 1


cdef Py_ssize_t merged_taps(Geometry shape, Py_ssize_t channels):
    """Taps in a run of source images with so many channels."""
    return shape.merged(channels) if channels <= SHORT_RUN or shape.kw > SHORT_ROW else 1


cdef class IndirectConv(Step):
    """Common part of the forward pass and the input gradient: out = sum over taps of source pixels times weights."""

    cdef const float *source
    cdef const float *weight
    cdef const float *bias
    cdef bint relu
    cdef float *out
    cdef Phase *phases
    cdef Frame frame                                     # source images to be framed, or NULL
    cdef Py_ssize_t *tap                                 # (taps, 3): tap_h, tap_w, and what they add to an address
    cdef Py_ssize_t *position                            # (taps * merged, 2): kh, kw in the order of packed weights
    cdef Py_ssize_t phase_count, taps, tasks
    cdef Py_ssize_t n, source_h, source_w, source_c, out_h, out_w, out_c, step_h, step_w
    cdef Py_ssize_t groups, depth, cols                  # of a group: floats of a run, output channels
    cdef Py_ssize_t merged, channels, kernel_area, kernel_w   # depth = merged * channels
    cdef Py_ssize_t weight_k, weight_n                   # strides of the weights along channels and cols
    cdef Py_ssize_t grid_h, grid_w, out_step_h, out_step_w    # grid of the largest phase; its step in output pixels
    cdef bint gaps                                       # some output pixels belong to no phase: zeros
    cdef Py_ssize_t tile_rows, block, blocks, panel_groups    # pixels of a tile, of a block of tiles
    cdef Py_ssize_t pack_rows                            # channels that a task packs
    cdef Py_ssize_t zero_offset, frame_offset           # in the workspace

    cdef int lay_out(self, Geometry s, list phases, list taps, list positions, bint prepacked=False) except -1:
        """Fix the schedule: `phases` as tuples of Phase's first four fields and its taps' number; `taps` as (tap_h,
        tap_w) and `positions` as rows of `position`, phase after phase."""
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, panels = ceil_div(self.cols, width)
        cdef Py_ssize_t padded = ceil_div(self.cols, kernel.vector) * kernel.vector
        cdef Py_ssize_t i, first_tap = 0, most_taps = max((phase[4] for phase in phases), default=0), pixels
        table = numpy.array([(h, w, (h * self.source_w + w) * self.source_c) for h, w in taps], numpy.intp)
        order = numpy.array(positions, numpy.intp).reshape(-1, 2)
        records = numpy.zeros((len(phases), sizeof(Phase) // sizeof(Py_ssize_t)), numpy.intp)
        self.arrays += [table, order, records]
        self.position = <Py_ssize_t *> <size_t> order.ctypes.data
        self.tap = <Py_ssize_t *> <size_t> table.ctypes.data
        self.phases = <Phase *> <size_t> records.ctypes.data
        self.phase_count, self.taps = len(phases), len(taps)
        self.groups, self.n = s.groups, s.n
        self.kernel_area, self.kernel_w = s.kh * s.kw, s.kw
        self.merged = len(positions) // max(1, len(taps))
        self.channels = self.depth // max(1, self.merged)
        self.tile_rows = tile_rows(self.cols)
        for i, phase in enumerate(phases):
            self.phases[i].rows, self.phases[i].cols = phase[0], phase[1]
            self.phases[i].out_h, self.phases[i].out_w = phase[2], phase[3]
            self.phases[i].taps, self.phases[i].first_tap = phase[4], first_tap
            reach = taps[first_tap:first_tap + phase[4]]
            self.phases[i].top, self.phases[i].left = min(reach)[0], min(w for _, w in reach)
            self.phases[i].bottom, self.phases[i].right = max(reach)[0], max(w for _, w in reach)
            first_tap += phase[4]
        pixels = s.n * self.grid_h * self.grid_w
        most = self.tile_rows * max(1, min(BLOCK_PIXELS, POINTERS // max(1, most_taps)) // self.tile_rows)
        self.block = ceil_div(ceil_div(pixels, max(1, ceil_div(pixels, most))), self.tile_rows) * self.tile_rows
        self.blocks = ceil_div(pixels, max(1, self.block))
        self.panel_groups = max(1, min(panels, FEW_TASKS // max(1, self.blocks * s.groups)))
        self.pack_rows = max(1, PACK_FLOATS // (self.kernel_area * width))
        self.cost(s.flops, s.bytes)
        packed_bytes = aligned(4 * s.groups * self.taps * self.depth * padded)
        self.prepacked_bytes = packed_bytes if prepacked else 0
        self.zero_offset = 0 if prepacked else packed_bytes
        self.frame_offset = self.zero_offset + aligned(4 * self.depth)
        frame_bytes = 4 * s.n * self.source_h * self.source_w * self.source_c if self.frame.images != NULL else 0
        self.scratch_bytes = aligned(4 * self.pack_rows * self.kernel_area * width)
        self.need(self.frame_offset + frame_bytes,
                  max(<Py_ssize_t> sizeof(float *) * self.block * most_taps, self.scratch_bytes))
        return 0

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t packs = 0 if self.prepacked_bytes > 0 else self.packs(kernel), task, share
        cdef Py_ssize_t framed_rows = self.n * self.source_h if self.frame.images != NULL else 0
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        memset(self.workspace + self.zero_offset, 0, 4 * self.depth)
        self.deal(self.blocks * self.groups * self.panel_groups)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.own()
            for task in prange(packs, schedule="static"):
                self.pack(kernel, task, <float *> scratch)
            for task in prange(framed_rows, schedule="static"):
                frame_row(kernel, &self.frame, task, <float *> (self.workspace + self.frame_offset))
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.convolve(kernel, task, <const float **> scratch)
                    task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef nnp_float_mode mode = nnp_flush_denormals()
        cdef Py_ssize_t task
        for task in range(self.packs(kernel)):
            self.pack(kernel, task, <float *> scratch)
        nnp_restore_float_mode(mode)

    cdef Py_ssize_t packs(self, const nnp_kernels *kernel) noexcept nogil:
        return ceil_div(self.channels, self.pack_rows) * self.groups * self.panels(kernel)

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
        cdef float *first = <float *> (self.prepacked if self.prepacked_bytes > 0 else self.workspace)
        return (first + before * self.depth * padded
                + panel * kernel.vector * kernel.tile_vectors * phase.taps * self.depth)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t task, float *rows) noexcept nogil:
        """Some channels of one panel of one group: their weights, read once, are made rows (channel, position, panel
        width), which then go to their places."""
        cdef Py_ssize_t panels = self.panels(kernel), panel = task % panels, group = task // panels % self.groups
        cdef Py_ssize_t first = task // panels // self.groups * self.pack_rows, area = self.kernel_area
        cdef Py_ssize_t count = min(self.pack_rows, self.channels - first), p, t, at, k
        cdef int cols = self.panel_cols(kernel, panel)
        cdef Py_ssize_t width = ceil_div(cols, kernel.vector) * kernel.vector
        cdef const float *w = (self.weight + group * self.group_stride() + first * self.weight_k
                               + panel * kernel.vector * kernel.tile_vectors * self.weight_n)
        cdef float *to
        if area == 1 and self.taps == 1:
            kernel.pack_panel(count, cols, 1.0, w, self.weight_k, self.weight_n,
                              self.packed(kernel, self.phases, group, panel) + first * width)
            return
        if self.weight_k == area:
            kernel.pack_panel(count * area, cols, 1.0, w, 1, self.weight_n, rows)
        else:
            for k in range(count):
                kernel.pack_panel(area, cols, 1.0, w + k * self.weight_k, 1, self.weight_n, rows + k * area * width)
        for p in range(self.phase_count):
            to = self.packed(kernel, &self.phases[p], group, panel) + first * width
            for t in range(self.phases[p].taps * self.merged):
                at = self.phases[p].first_tap * self.merged + t
                at = self.position[2 * at] * self.kernel_w + self.position[2 * at + 1]
                kernel.copy_matrix(count, width, rows + at * width, area * width, 1, to + t * self.channels * width,
                                   width)

    cdef Py_ssize_t group_stride(self) noexcept nogil:
        """From a group's first weight to the next group's: each has channels * cols * KH * KW of them."""
        return self.channels * self.cols * self.kernel_area

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t task, const float **pointers) noexcept nogil:
        """A block of grid positions, for one group and one share of its panels."""
        cdef Py_ssize_t panels = self.panels(kernel), width = kernel.vector * kernel.tile_vectors
        cdef Py_ssize_t block = task % self.blocks, group = task // self.blocks % self.groups
        cdef Py_ssize_t share = task // self.blocks // self.groups
        cdef Py_ssize_t first = panels * share // self.panel_groups, last = panels * (share + 1) // self.panel_groups
        cdef Py_ssize_t start = block * self.block, panel, p, pixels
        cdef Py_ssize_t positions = min(self.n * self.grid_h * self.grid_w - start, self.block)
        cdef float *out[BLOCK_PIXELS]
        if self.gaps:
            self.clear(start, positions, group * self.cols + first * width,
                       min(self.cols, last * width) - first * width)
        for p in range(self.phase_count):
            pixels = self.point(&self.phases[p], group, start, positions, pointers, out)
            for panel in range(first, last):
                self.multiply(kernel, &self.phases[p], group, panel, pixels, pointers, out)

    cdef void clear(self, Py_ssize_t first, Py_ssize_t positions, Py_ssize_t channel,
                    Py_ssize_t channels) noexcept nogil:
        """Zeros into some channels of all output pixels at these grid positions."""
        cdef Py_ssize_t area = self.grid_h * self.grid_w, n = first // area, i = first % area // self.grid_w
        cdef Py_ssize_t step_h = self.out_step_h, step_w = self.out_step_w, j = first % self.grid_w, end, h, w, last
        cdef float *row
        while positions > 0:
            end = min(self.grid_w, j + positions)
            positions -= end - j
            last = min(self.out_w, end * step_w)
            for h in range(i * step_h, min(self.out_h, (i + 1) * step_h)):
                row = self.out + (n * self.out_h + h) * self.out_w * self.out_c + channel
                if channels == self.out_c:
                    memset(row + j * step_w * self.out_c, 0, 4 * (last - j * step_w) * self.out_c)
                else:
                    for w in range(j * step_w, last):
                        memset(row + w * self.out_c, 0, 4 * channels)
            j = 0
            i += 1
            if i == self.grid_h:
                i = 0
                n += 1

    cdef void multiply(self, const nnp_kernels *kernel, Phase *phase, Py_ssize_t group, Py_ssize_t panel,
                       Py_ssize_t pixels, const float **pointers, float **out) noexcept nogil:
        """Pixels times a panel."""
        cdef Py_ssize_t channel = group * self.cols + panel * kernel.vector * kernel.tile_vectors, i
        cdef Py_ssize_t taps = phase.taps, depth = self.depth, height = self.tile_rows, pixel = 0
        cdef const float *weights = self.packed(kernel, phase, group, panel)
        cdef const float *bias = self.bias + channel if self.bias != NULL else NULL
        cdef int cols = self.panel_cols(kernel, panel), rows
        cdef float *c[NNP_TALL_ROWS]
        while pixel < pixels:
            rows = <int> min(height, pixels - pixel)
            for i in range(rows):
                c[i] = out[pixel + i] + channel
            kernel.gemm_tile(rows, cols, taps, depth, pointers + pixel * taps, height, weights, bias, self.relu, 0, c)
            pixel += height

    cdef Py_ssize_t point(self, Phase *phase, Py_ssize_t group, Py_ssize_t first, Py_ssize_t positions,
                          const float **pointers, float **out) noexcept nogil:
        """Where the taps of a phase's pixels at these grid positions lie, pointers (tile, tap, tile_rows), and where
        their results go, out (pixel). Returns the number of pixels."""
        cdef const float *zeros = <const float *> (self.workspace + self.zero_offset)
        cdef const float *source = self.source
        cdef const float *pixel
        cdef const Py_ssize_t *tap = self.tap + 3 * phase.first_tap
        cdef Py_ssize_t taps = phase.taps, height = self.tile_rows, source_h = self.source_h, source_w = self.source_w
        cdef Py_ssize_t top = -phase.top, bottom = source_h - phase.bottom
        cdef Py_ssize_t left = -phase.left, right = source_w - phase.right
        cdef Py_ssize_t step = self.out_step_w * self.out_c
        cdef Py_ssize_t area = self.grid_h * self.grid_w, n = first // area, i = first % area // self.grid_w
        cdef Py_ssize_t j = first % self.grid_w, end, t, h, w, row = 0, pixels = 0
        cdef float *to
        if self.frame.images != NULL:
            source = <const float *> (self.workspace + self.frame_offset)
        while positions > 0:
            # The rest of a row of the grid, or of the block; a phase may lack the last row and column.
            end = min(self.grid_w, j + positions)
            positions -= end - j
            end = min(end, phase.cols) if i < phase.rows else j
            h = i * self.step_h
            to = self.out + ((n * self.out_h + phase.out_h + i * self.out_step_h) * self.out_w
                             + phase.out_w) * self.out_c
            while j < end:
                w = j * self.step_w
                pixel = source + ((n * source_h + h) * source_w + w) * self.source_c + group * self.depth
                if top <= h < bottom and left <= w < right:
                    for t in range(taps):
                        pointers[t * height] = pixel + tap[3 * t + 2]
                else:
                    for t in range(taps):
                        if 0 <= h + tap[3 * t] < source_h and 0 <= w + tap[3 * t + 1] < source_w:
                            pointers[t * height] = pixel + tap[3 * t + 2]
                        else:
                            pointers[t * height] = zeros
                out[pixels] = to + j * step
                pixels += 1
                j += 1
                row += 1
                pointers += 1
                if row == height:
                    row = 0
                    pointers += (taps - 1) * height
            j = 0
            i += 1
            if i == self.grid_h:
                i = 0
                n += 1
        return pixels


cdef class Conv2d(IndirectConv):
    """y = conv2d(x, w) + bias, or the ReLU of it.

    Parameters
    ----------
    shape : Geometry
    x, y : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    w : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    bias : ndarray of shape (OC,), float32, contiguous, or None
    relu : bool
    """

    def __init__(self, Geometry shape, x, w, bias, y, bint relu=False, bint prepacked=False):
        self.name = "conv2d"
        self.source, self.weight = self.floats(x), self.weights(w)
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu = relu
        self.out = self.floats(y, write=True)
        self.source_h, self.source_w, self.source_c = shape.h, shape.w, shape.c
        self.out_h, self.out_w, self.out_c = shape.oh, shape.ow, shape.oc
        self.step_h, self.step_w = shape.stride_h, shape.stride_w
        self.grid_h, self.grid_w, self.out_step_h, self.out_step_w = shape.oh, shape.ow, 1, 1
        channels, merged = shape.c // shape.groups, merged_taps(shape, shape.c)
        self.depth, self.cols = channels * merged, shape.oc // shape.groups
        self.weight_k, self.weight_n = shape.kh * shape.kw, channels * shape.kh * shape.kw
        pad_h, pad_w = shape.pad_h, shape.pad_w
        if merged > 1 and (pad_h or pad_w):
            self.frame = Frame(self.source, shape.n, shape.h, shape.w, shape.c, pad_h, pad_w)
            self.source_h, self.source_w = shape.h + 2 * pad_h, shape.w + 2 * pad_w
            pad_h = pad_w = 0
        positions = [(kh, kw) for kh in range(shape.kh) for kw in range(shape.kw)]
        taps = [(kh * shape.dilation_h - pad_h, kw * shape.dilation_w - pad_w) for kh, kw in positions[::merged]]
        self.lay_out(shape, [(shape.oh, shape.ow, 0, 0, len(taps))], taps, positions, prepacked)


def axis_phases(size, stride, pad, dilation, kernel):
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
        self.out_step_h, self.out_step_w = shape.stride_h, shape.stride_w
        self.grid_h, self.grid_w = ceil_div(shape.h, shape.stride_h), ceil_div(shape.w, shape.stride_w)
        self.depth, self.cols = shape.oc // shape.groups, shape.c // shape.groups
        self.weight_k, self.weight_n = self.cols * shape.kh * shape.kw, shape.kh * shape.kw
        pad_h, pad_w = shape.dilation_h * (shape.kh - 1) - shape.pad_h, shape.dilation_w * (shape.kw - 1) - shape.pad_w
        if shape.stride_h == shape.stride_w == 1 and min(pad_h, pad_w) >= 0 and merged_taps(shape, shape.oc) > 1:
            self.lay_out_rows(shape, pad_h, pad_w)
            return
        phases, taps, positions = [], [], []
        for h0, rows, taps_h in axis_phases(shape.h, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh):
            for w0, cols, taps_w in axis_phases(shape.w, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw):
                if not taps_h or not taps_w:
                    self.gaps = True
                    continue
                phases.append((rows, cols, h0, w0, len(taps_h) * len(taps_w)))
                taps += [(off_h, off_w) for _, off_h in taps_h for _, off_w in taps_w]
                positions += [(kh, kw) for kh, _ in taps_h for kw, _ in taps_w]
        self.lay_out(shape, phases, taps, positions)

    cdef int lay_out_rows(self, Geometry shape, Py_ssize_t pad_h, Py_ssize_t pad_w) except -1:
        """With stride 1 and few channels of dy: a convolution of dy, framed by zeros, with the kernel turned round."""
        self.frame = Frame(self.source, shape.n, shape.oh, shape.ow, shape.oc, pad_h, pad_w)
        self.source_h, self.source_w = shape.oh + 2 * pad_h, shape.ow + 2 * pad_w
        self.depth *= shape.kw
        positions = [(kh, kw) for kh in range(shape.kh) for kw in reversed(range(shape.kw))]
        taps = [((shape.kh - 1 - kh) * shape.dilation_h, 0) for kh in range(shape.kh)]
        self.lay_out(shape, [(shape.h, shape.w, 0, 0, len(taps))], taps, positions)
        return 0
