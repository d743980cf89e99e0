"""Depthwise convolution: as many groups as channels, each of one input and one output channel.

Forward and input gradient are one computation on different geometry, as in conv.pyx: output position i of a phase reads
source position i * step + start + k * dilation for each of the taps k of that phase, along each axis.

- forward: one phase; step = stride, start = -padding;
- input gradient: the input positions of each remainder modulo the stride are a phase, and only the taps that reach it
  belong to it; step = 1; the kernel backwards, so that the source goes forwards.

The weights are packed to (KH, KW, C). Channels go in blocks whose weights stay in the first-level cache. A task is one
or two rows of the output of a phase of an image, for one block.

The weight gradient dw[kh, kw, c] = sum_p x[p at (kh, kw), c] dy[p, c] is cut into chunks of rows, as many as the shape
asks for, each with a partial sum of its own; the partials are added in their order.
"""

from math import gcd

import numpy

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from nnpar._kernels.conv import axis_phases

from nnpar._kernels.conv cimport Geometry
from nnpar._kernels.csrc cimport (NNP_DEPTHWISE_ROWS, nnp_axis, nnp_depthwise, nnp_float_mode, nnp_flush_denormals,
                                  nnp_kernels, nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    LINE = 16              # floats of a cache line: blocks of channels begin at multiples of it
    BLOCK_BYTES = 12 << 10  # of the weights of a block of channels, if possible at most
    PACK_CHANNELS = 64     # channels whose weights are packed, or whose partial sums are added, by one task
    CHUNKS = 64            # weight gradient: chunks of rows, at most
    CHUNK_PIXELS = 8       # weight gradient: pixels of a chunk for each tap, at least: its partial sum costs little
    CHUNK_BYTES = 16 << 20  # weight gradient: bytes of partial sums, at most


cdef Py_ssize_t channels_of_block(Py_ssize_t c, Py_ssize_t taps) noexcept nogil:
    """How many channels a block has, but the last: all about as many."""
    cdef Py_ssize_t block = ceil_div(c, max(1, ceil_div(4 * c * taps, BLOCK_BYTES)))
    return ceil_div(block, LINE) * LINE


def _forward_axis(size, out, stride, pad, dilation, kernel):
    """The nnp_axis of the forward pass, and of the weight gradient."""
    return dict(out=out, source=size, taps=kernel, step=stride, start=-pad, dilation=dilation, kernel=0, kernel_step=1)


def _gradient_axes(size, out, stride, pad, dilation, kernel):
    """The nnp_axis of each phase of the input gradient; phase p is the input positions p, p + stride, ..."""
    common = gcd(stride, dilation)
    for _, count, taps in axis_phases(size, stride, pad, dilation, kernel):
        last, start = max(taps, default=(0, 0))
        yield dict(out=count, source=out, taps=len(taps), step=1, start=start, dilation=dilation // common,
                   kernel=last, kernel_step=-stride // common)


cdef class Depthwise(Step):
    """Common part of the forward pass and the input gradient: out = sum over taps of source pixels times weights."""

    cdef const float *source
    cdef const float *weight
    cdef const float *bias
    cdef bint relu
    cdef float *out
    cdef nnp_axis *axes_h                                # one of each phase
    cdef nnp_axis *axes_w
    cdef Py_ssize_t phases_h, phases_w                   # the outputs of a phase are so many rows, pixels apart
    cdef Py_ssize_t n, c, taps, kernel_w, block, blocks, bands
    cdef Py_ssize_t source_size, out_size, out_w         # floats of an image; pixels of a row

    cdef int lay_out(self, Geometry s, list axes_h, list axes_w, Py_ssize_t out_h, Py_ssize_t out_w,
                     bint prepacked=False) except -1:
        """Fix the schedule from the phases along each axis."""
        self.axes_h, self.axes_w = self.axes(axes_h), self.axes(axes_w)
        self.phases_h, self.phases_w = len(axes_h), len(axes_w)
        self.n, self.c, self.taps, self.kernel_w = s.n, s.c, s.kh * s.kw, s.kw
        self.block = channels_of_block(s.c, self.taps)
        self.blocks = ceil_div(s.c, self.block)
        self.bands = ceil_div(self.axes_h[0].out, NNP_DEPTHWISE_ROWS)   # no phase has more rows than the first
        self.source_size = self.axes_h[0].source * self.axes_w[0].source * s.c
        self.out_size, self.out_w = out_h * out_w * s.c, out_w
        self.cost(s.flops, s.bytes)
        self.prepacked_bytes = aligned(4 * self.taps * s.c) if prepacked else 0
        self.need(0 if prepacked else aligned(4 * self.taps * s.c))
        return 0

    cdef nnp_axis *axes(self, list values) except NULL:
        cdef nnp_axis *pointer
        memory = numpy.empty(len(values) * sizeof(nnp_axis), numpy.uint8)
        pointer = <nnp_axis *> self.octets(memory, write=True)
        for i, value in enumerate(values):
            pointer[i] = value
        return pointer

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t tasks = self.n * self.blocks * self.bands * self.phases_h, task
        cdef Py_ssize_t packs = 0 if self.prepacked_bytes > 0 else ceil_div(self.c, PACK_CHANNELS)
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(packs, schedule="static"):
                self.pack(kernel, task * PACK_CHANNELS)
            for task in prange(tasks, schedule="static"):
                if self.goes_on():
                    self.convolve(kernel, task)
            nnp_restore_float_mode(mode)

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task
        for task in range(ceil_div(self.c, PACK_CHANNELS)):
            self.pack(kernel, task * PACK_CHANNELS)

    cdef float *filters(self) noexcept nogil:
        """The packed weights."""
        return <float *> (self.prepacked if self.prepacked_bytes > 0 else self.workspace)

    cdef void pack(self, const nnp_kernels *kernel, Py_ssize_t c) noexcept nogil:
        """Packed weights (KH, KW, C), channels from c on."""
        kernel.copy_matrix(self.taps, min(PACK_CHANNELS, self.c - c), self.weight + c * self.taps, 1, self.taps,
                           self.filters() + c, self.c)

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t task) noexcept nogil:
        """A band of rows of a phase of an image, for one block of channels."""
        cdef Py_ssize_t phase_h = task % self.phases_h, row = task // self.phases_h % self.bands * NNP_DEPTHWISE_ROWS
        cdef Py_ssize_t c = task // self.phases_h // self.bands % self.blocks * self.block, phase_w
        cdef Py_ssize_t image = task // self.phases_h // self.bands // self.blocks, out
        cdef nnp_depthwise s
        s.h, s.pixel, s.kernel_w = self.axes_h[phase_h], self.c, self.kernel_w
        s.out_row, s.out_pixel = self.phases_h * self.out_w * self.c, self.phases_w * self.c
        if row >= s.h.out:
            return
        out = image * self.out_size + (row * self.phases_h + phase_h) * self.out_w * self.c + c
        for phase_w in range(self.phases_w):
            s.w = self.axes_w[phase_w]
            kernel.depthwise_rows(&s, min(self.block, self.c - c), row, <int> min(NNP_DEPTHWISE_ROWS, s.h.out - row),
                                  self.source + image * self.source_size + c, self.filters() + c,
                                  self.bias + c if self.bias != NULL else NULL, self.relu,
                                  self.out + out + phase_w * self.c)


cdef class DepthwiseConv2d(Depthwise):
    """y = conv2d(x, w) + bias, or the ReLU of it, for groups = C = OC.

    Parameters
    ----------
    shape : Geometry
    x, y : ndarray of shape (N, C, H, W) and (N, C, OH, OW), float32, channels-last memory
    w : ndarray of shape (C, 1, KH, KW), float32, contiguous
    bias : ndarray of shape (C,), float32, contiguous, or None
    relu : bool
    """

    def __init__(self, Geometry shape, x, w, bias, y, bint relu=False, bint prepacked=False):
        self.name = "depthwise_conv2d"
        self.source, self.weight, self.out = self.floats(x), self.weights(w), self.floats(y, write=True)
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu = relu
        rows = _forward_axis(shape.h, shape.oh, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh)
        cols = _forward_axis(shape.w, shape.ow, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw)
        self.lay_out(shape, [rows], [cols], shape.oh, shape.ow, prepacked)


cdef class DepthwiseConv2dInputGrad(Depthwise):
    """dx = the gradient of conv2d with respect to x for groups = C = OC.

    Parameters
    ----------
    shape : Geometry
    dy, dx : ndarray of shape (N, C, OH, OW) and (N, C, H, W), float32, channels-last memory
    w : ndarray of shape (C, 1, KH, KW), float32, contiguous
    """

    def __init__(self, Geometry shape, dy, w, dx):
        self.name = "depthwise_conv2d_input_grad"
        self.source, self.weight, self.out = self.floats(dy), self.floats(w), self.floats(dx, write=True)
        self.bias = NULL
        rows = _gradient_axes(shape.h, shape.oh, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh)
        cols = _gradient_axes(shape.w, shape.ow, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw)
        self.lay_out(shape, list(rows), list(cols), shape.h, shape.w)


cdef class DepthwiseConv2dWeightGrad(Step):
    """dw = the gradient of conv2d with respect to w for groups = C = OC.

    Parameters
    ----------
    shape : Geometry
    x, dy : ndarray of shape (N, C, H, W) and (N, C, OH, OW), float32, channels-last memory
    dw : ndarray of shape (C, 1, KH, KW), float32, contiguous
    """

    cdef const float *x
    cdef const float *dy
    cdef float *dw
    cdef nnp_depthwise s
    cdef Py_ssize_t n, c, taps, x_size, bands, block, blocks, chunks

    def __init__(self, Geometry shape, x, dy, dw):
        self.name = "depthwise_conv2d_weight_grad"
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.n, self.c, self.taps = shape.n, shape.c, shape.kh * shape.kw
        self.s.h = _forward_axis(shape.h, shape.oh, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh)
        self.s.w = _forward_axis(shape.w, shape.ow, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw)
        self.s.pixel, self.s.kernel_w = shape.c, shape.kw
        self.s.out_row, self.s.out_pixel = shape.ow * shape.c, shape.c
        self.block = channels_of_block(shape.c, self.taps)
        self.blocks = ceil_div(shape.c, self.block)
        self.bands, self.x_size = ceil_div(shape.oh, NNP_DEPTHWISE_ROWS), shape.h * shape.w * shape.c
        wanted = min(CHUNKS, shape.n * self.bands, shape.n * shape.oh * shape.ow // (CHUNK_PIXELS * self.taps))
        self.chunks = max(1, min(wanted, CHUNK_BYTES // (4 * self.taps * shape.c)))
        self.cost(shape.flops, shape.bytes)
        self.need(4 * self.chunks * self.taps * shape.c, 4 * self.taps * PACK_CHANNELS)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.own()
            for task in prange(self.chunks * self.blocks, schedule="static"):
                if self.goes_on():
                    self.accumulate(kernel, task // self.blocks, task % self.blocks * self.block)
            for task in prange(ceil_div(self.c, PACK_CHANNELS), schedule="static"):
                if self.goes_on():
                    self.reduce(kernel, task * PACK_CHANNELS, <float *> scratch)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t chunk, Py_ssize_t c) noexcept nogil:
        """One chunk's partial sum (KH, KW, C), for the block of channels from c on."""
        cdef Py_ssize_t all_bands = self.n * self.bands, band, row, image, t, channels = min(self.block, self.c - c)
        cdef float *partial = <float *> self.workspace + chunk * self.taps * self.c + c
        for t in range(self.taps):
            memset(partial + t * self.c, 0, 4 * channels)
        for band in range(all_bands * chunk // self.chunks, all_bands * (chunk + 1) // self.chunks):
            image, row = band // self.bands, band % self.bands * NNP_DEPTHWISE_ROWS
            kernel.depthwise_weight_grad_rows(&self.s, channels, row,
                                              <int> min(NNP_DEPTHWISE_ROWS, self.s.h.out - row),
                                              self.x + image * self.x_size + c,
                                              self.dy + (image * self.s.h.out + row) * self.s.out_row + c, partial)

    cdef void reduce(self, const nnp_kernels *kernel, Py_ssize_t c, float *total) noexcept nogil:
        """dw (C, KH, KW) = the partials, added in the order of their chunks; channels from c on."""
        cdef Py_ssize_t channels = min(PACK_CHANNELS, self.c - c), size = self.taps * self.c, t
        for t in range(self.taps):
            kernel.sum_rows(self.chunks, channels, <float *> self.workspace + t * self.c + c, size, 0,
                            total + t * PACK_CHANNELS)
        kernel.copy_matrix(channels, self.taps, total, 1, PACK_CHANNELS, self.dw + c * self.taps, self.taps)
