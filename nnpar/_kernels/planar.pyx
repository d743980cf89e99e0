"""The input gradient towards few channels, by planes.

With the channels of dx along the vectors of a tile, few channels leave most of each vector empty. So pixels go along
them: dy is turned into planes, one for each of its channels, framed by zeros on the left and right, and dx is made as
planes, too. A row of dy and a row kh of the kernel contribute to one row of dx

    sum over oc, kw of w[oc, c, kh, kw] dy[oc, column + offset of kw]

so a tile has the pairs (kh, c) as its rows, whose sums are added to the planes of dx. The rows of a plane follow each
other without gaps, so a vector may reach from one row into the next; what falls on the columns of the frame is left
out at the end, where the planes of dx are joined to pixels.

As in conv.pyx, the pixels of dx of each remainder modulo the stride are a phase: each kernel row belongs to one phase
of the rows, each kernel column to one of the columns.

A task is a band of rows of an image. It goes through the rows of dy that reach the band, some at a time: these are
turned, multiplied, and the rows of dx that no further row of dy reaches are finished. The rows of dy that reach a pixel
of dx are added in their order, with taps by rising offsets also within one product: wherever an image is cut into bands
and rows, and even if only a part of it is there, the bits are the same.
"""

import numpy

from cython.parallel cimport parallel, prange
from libc.string cimport memmove, memset

from nnpar._kernels.conv import axis_phases

from nnpar._kernels.conv cimport Geometry
from nnpar._kernels.csrc cimport (NNP_TILE_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_planes,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div, odd_lines

cdef enum:
    STEP_BYTES = 256 << 10  # of the planes of the rows of dy that are turned at once, if possible at most
    FEW_TASKS = 16         # with fewer images than this, they are cut into bands
    BAND_OVERLAPS = 8      # rows of a band, at least, for each row of dy that two bands read


cdef struct Phase:         # along one axis, the positions first + i * stride of dx, i < count, and the kernel's that
    Py_ssize_t first, count, first_tap, taps             # reach them


cdef struct Tap:           # kernel position k contributes dy[i + offset] to position i of its phase
    Py_ssize_t k, offset, phase


cdef class Axis:
    """Phases and taps of the rows or the columns."""

    cdef Phase *phases
    cdef Tap *taps
    cdef object arrays
    cdef Py_ssize_t phase_count, tap_count, grid, low, high  # most positions of a phase; offsets from low to high

    def __init__(self, size, stride, pad, dilation, kernel):
        phases, taps = [], []
        for first, count, reach in axis_phases(size, stride, pad, dilation, kernel):
            taps += sorted([(k, offset, len(phases)) for k, offset in reach], key=lambda tap: tap[1])
            phases.append((first, count, len(taps) - len(reach), len(reach)))
        self.arrays = numpy.array(phases, numpy.intp), numpy.array(taps, numpy.intp)
        self.phases = <Phase *> <size_t> self.arrays[0].ctypes.data
        self.taps = <Tap *> <size_t> self.arrays[1].ctypes.data
        self.phase_count, self.tap_count, self.grid = len(phases), len(taps), phases[0][1]
        self.low = min((offset for _, offset, _ in taps), default=0)
        self.high = max((offset for _, offset, _ in taps), default=0)

    def reaches_all(self, out):
        """Whether some position of dy, of `out`, reaches every position of dx."""
        return (all(self.phases[p].taps > 0 for p in range(self.phase_count))
                and self.high >= 0 and out - 1 - self.low >= self.grid - 1)


cdef class PlanarConv2dInputGrad(Step):
    """dx = the gradient of conv2d with respect to x; the parameters of Conv2dInputGrad."""

    cdef const float *dy
    cdef const float *w
    cdef float *dx
    cdef Axis rows, cols
    cdef Py_ssize_t *offset                              # of the taps of cols, in a plane
    cdef Py_ssize_t n, h, width, c, oh, ow, oc, kernel_w, kernel_area, stride_h, stride_w
    cdef Py_ssize_t halo, frame_w                        # rows beyond those of dy that these reach; columns of a plane
    cdef Py_ssize_t band, bands, step                    # rows of a phase in a band; rows of dy at once
    cdef Py_ssize_t plane, sums                          # floats of a plane of dy, and of dx
    cdef bint gaps                                       # whether there may be pixels that no tap reaches
    cdef Py_ssize_t sums_offset, to_offset               # in a thread's scratch memory

    def __init__(self, Geometry shape, dy, w, dx):
        self.name = "planar_conv2d_input_grad"
        self.dy, self.w, self.dx = self.floats(dy), self.floats(w), self.floats(dx, write=True)
        self.n, self.h, self.width, self.c = shape.n, shape.h, shape.w, shape.c
        self.oh, self.ow, self.oc = shape.oh, shape.ow, shape.oc
        self.kernel_w, self.kernel_area = shape.kw, shape.kh * shape.kw
        self.stride_h, self.stride_w = shape.stride_h, shape.stride_w
        self.rows = Axis(shape.h, shape.stride_h, shape.pad_h, shape.dilation_h, shape.kh)
        self.cols = Axis(shape.w, shape.stride_w, shape.pad_w, shape.dilation_w, shape.kw)
        self.gaps = not self.rows.reaches_all(self.oh) or any(
            self.cols.phases[p].taps == 0 for p in range(self.cols.phase_count))
        self.halo = self.rows.high - self.rows.low
        self.frame_w = self.cols.grid + self.cols.high - self.cols.low
        offsets = numpy.array([self.cols.taps[t].offset - self.cols.low for t in range(self.cols.tap_count)],
                              numpy.intp)
        self.arrays.append(offsets)
        self.offset = <Py_ssize_t *> <size_t> offsets.ctypes.data
        self.cost(shape.flops, shape.bytes)
        self.lay_out()

    cdef int lay_out(self) except -1:
        """Bands, steps and workspace."""
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t grid = self.rows.grid, planes = self.rows.phase_count * self.cols.phase_count * self.c
        cdef Py_ssize_t most = max(1, grid // (BAND_OVERLAPS * max(1, self.halo)))
        self.bands = min(most, ceil_div(FEW_TASKS, self.n))
        self.band = ceil_div(grid, self.bands)
        self.step = max(1, min(STEP_BYTES // (4 * self.oc * self.frame_w), self.band + self.halo, self.oh))
        self.plane = odd_lines(self.step * self.frame_w + kernel.vector)
        self.sums = odd_lines((self.step + self.halo) * self.frame_w)
        self.sums_offset = aligned(4 * self.oc * self.plane)
        self.to_offset = self.sums_offset + aligned(4 * planes * self.sums)
        self.need(4 * self.rows.tap_count * self.cols.tap_count * self.oc * self.c,
                  self.to_offset + sizeof(float *) * self.rows.tap_count * self.c)
        return 0

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task, share
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        self.deal(self.n * self.bands)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.own()
            memset(scratch, 0, 4 * self.oc * self.plane)
            for task in prange(self.oc, schedule="static"):
                self.pack(task)
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.convolve(kernel, task // self.bands, task % self.bands * self.band, scratch)
                    task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef float *packed(self, const Phase *phase) noexcept nogil:
        """Weights of a phase of the columns, (block of rows (kh, c), oc, kw, row of the block)."""
        return <float *> self.workspace + phase.first_tap * self.oc * self.rows.tap_count * self.c

    cdef void pack(self, Py_ssize_t k) noexcept nogil:
        """The weights of one channel of dy."""
        cdef Py_ssize_t count = self.rows.tap_count * self.c, blocks = ceil_div(count, NNP_TILE_ROWS)
        cdef Py_ssize_t p, b, t, row, first, end
        cdef Phase *phase
        cdef const float *w
        cdef float *to
        for p in range(self.cols.phase_count):
            phase = &self.cols.phases[p]
            for b in range(blocks):
                first, end = count * b // blocks, count * (b + 1) // blocks
                to = self.packed(phase) + (first * self.oc + k * (end - first)) * phase.taps
                for t in range(phase.first_tap, phase.first_tap + phase.taps):
                    w = self.w + k * self.c * self.kernel_area + self.cols.taps[t].k
                    for row in range(first, end):
                        to[0] = w[row % self.c * self.kernel_area + self.rows.taps[row // self.c].k * self.kernel_w]
                        to += 1

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t first,
                       char *scratch) noexcept nogil:
        """A band, from row `first` of the phases on."""
        cdef float *planes = <float *> scratch
        cdef float *sums = <float *> (scratch + self.sums_offset)
        cdef float **to = <float **> (scratch + self.to_offset)
        cdef Py_ssize_t end = min(first + self.band, self.rows.grid), planes_of_dx, rows, done, p
        cdef Py_ssize_t row = max(0, first + self.rows.low), last = min(self.oh, end + self.rows.high)
        planes_of_dx = self.rows.phase_count * self.cols.phase_count * self.c
        if self.gaps:
            self.clear(image, first, end)
        memset(sums, 0, 4 * planes_of_dx * self.sums)
        while row < last:
            rows = min(self.step, last - row)
            self.split(kernel, image, row, rows, planes)
            for p in range(self.cols.phase_count):
                self.multiply(kernel, p, rows, planes, sums, to)
            done = rows if row + rows < last else rows + self.halo
            done += row - self.rows.high
            self.join(kernel, image, max(first, row - self.rows.high), min(end, done), row - self.rows.high, sums)
            row += rows
            if row < last:
                for p in range(planes_of_dx):
                    memmove(sums + p * self.sums, sums + p * self.sums + rows * self.frame_w,
                            4 * self.halo * self.frame_w)
                    memset(sums + p * self.sums + self.halo * self.frame_w, 0, 4 * self.step * self.frame_w)

    cdef void clear(self, Py_ssize_t image, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
        """Zeros to a band of dx."""
        first *= self.stride_h
        memset(self.dx + (image * self.h + first) * self.width * self.c, 0,
               4 * (min(end * self.stride_h, self.h) - first) * self.width * self.c)

    cdef void split(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t row, Py_ssize_t rows,
                    float *planes) noexcept nogil:
        """Rows of dy to planes whose other columns are zeros already."""
        cdef Py_ssize_t left = max(0, self.cols.low), right = min(self.ow, self.cols.low + self.frame_w), i
        cdef const float *dy = self.dy + ((image * self.oh + row) * self.ow + left) * self.oc
        if left < right:
            for i in range(rows):
                kernel.split_planes(self.oc, right - left, dy + i * self.ow * self.oc,
                                    planes + i * self.frame_w + left - self.cols.low, self.plane)

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t p, Py_ssize_t rows, const float *planes, float *sums,
                       float **to) noexcept nogil:
        """What rows of dy contribute to a phase of the columns."""
        cdef Phase *phase = &self.cols.phases[p]
        cdef Py_ssize_t i, c
        cdef Tap *tap
        cdef nnp_planes s
        s.rows, s.depth, s.taps = self.rows.tap_count * self.c, self.oc, phase.taps
        s.x_stride, s.offset = self.plane, self.offset + phase.first_tap
        for i in range(self.rows.tap_count):
            tap = &self.rows.taps[i]
            for c in range(self.c):
                to[i * self.c + c] = (sums + ((tap.phase * self.cols.phase_count + p) * self.c + c) * self.sums
                                      + (self.rows.high - tap.offset) * self.frame_w)
        if phase.taps > 0:
            kernel.convolve_planes(&s, (rows - 1) * self.frame_w + phase.count, self.packed(phase), planes, to)

    cdef void join(self, const nnp_kernels *kernel, Py_ssize_t image, Py_ssize_t row, Py_ssize_t end, Py_ssize_t origin,
                   float *sums) noexcept nogil:
        """Rows of the phases that are finished, from `row` to `end`, to dx; the sums begin at row `origin`."""
        cdef Py_ssize_t i, p, q
        cdef Phase *rows
        cdef Phase *cols
        for i in range(row, end):
            for p in range(self.rows.phase_count):
                rows = &self.rows.phases[p]
                for q in range(self.cols.phase_count):
                    cols = &self.cols.phases[q]
                    if i < rows.count and rows.taps > 0 and cols.taps > 0:
                        kernel.join_planes(self.c, cols.count,
                                           sums + (p * self.cols.phase_count + q) * self.c * self.sums
                                           + (i - origin) * self.frame_w, self.sums,
                                           self.dx + ((image * self.h + rows.first + i * self.stride_h) * self.width
                                                      + cols.first) * self.c, self.stride_w * self.c)
