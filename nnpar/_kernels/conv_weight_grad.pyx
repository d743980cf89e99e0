"""The weight gradient of a convolution, as an outer product summed over pixels.

dw[tap, ic, oc] = sum_p x[p at tap, ic] dy[p, oc]. The pixels are cut into chunks, as many as the shape asks for, each
with a partial sum of its own; the partials are added in their order.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from nnpar._kernels.conv cimport Frame, Geometry, frame_row
from nnpar._kernels.csrc cimport (NNP_TILE_ROWS, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode, nnp_segment)
from nnpar._kernels.runtime cimport kernels, tile_rows
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    LINE = 16              # floats in a cache line
    STRIP_PIXELS = 64      # pixels that a tile sums in registers before it goes back to memory,
    PACKED_PIXELS = 128    # and as many if they are packed
    BLOCK_ROWS = 22 * NNP_TILE_ROWS  # input channels of a task,
    BLOCK_COLS = 256       # and its output channels: whole panels of any instruction set
    WIDE = 256             # with so many channels on both sides, a strip is packed: each float is used often enough
    CHUNK_TASKS = 32       # tasks that chunks of pixels should make
    REDUCE_ROWS = 256      # rows (input channel, position) of a panel that are added up at once
    CHUNK_BYTES = 16 << 20  # bytes of partial sums, at most


cdef Py_ssize_t append(nnp_segment *segment, Py_ssize_t count, const float *a, const float *b, Py_ssize_t length,
                       Py_ssize_t a_step, Py_ssize_t b_step) noexcept nogil:
    """One more of `count` segments, or a longer last one where it goes on there; returns their number."""
    cdef nnp_segment *last
    if count > 0:
        last = segment + count - 1
        if last.a + last.length * a_step == a and last.b + last.length * b_step == b:
            last.length += length
            return count
    segment[count].a, segment[count].b, segment[count].length = a, b, length
    return count + 1


cdef class Conv2dWeightGrad(Step):
    """dw = the gradient of conv2d with respect to w.

    Parameters
    ----------
    shape : Geometry
    x, dy : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    dw : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    """

    cdef const float *x
    cdef const float *dy
    cdef float *dw
    cdef Frame frame                                     # images to be framed, or NULL
    cdef Py_ssize_t groups, depth, cols, taps            # of a group: floats of a run, output channels; runs
    cdef Py_ssize_t channels, kernel_area                # depth * taps = channels * kernel_area
    cdef Py_ssize_t n, h, w, c, oh, ow, oc               # of the images, framed or not, and of dy
    cdef Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, taps_w
    cdef Py_ssize_t chunks, strip_rows, row_blocks, col_blocks, reduce_rows
    cdef Py_ssize_t x_ahead, dy_ahead                    # from a strip's floats to those of the next
    cdef bint packs
    cdef Py_ssize_t x_row                                # from channel to channel of a packed strip of x
    cdef Py_ssize_t frame_offset                                 # in the workspace

    def __init__(self, Geometry shape, x, dy, dw):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "conv2d_weight_grad"
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.n, self.h, self.w, self.c = shape.n, shape.h, shape.w, shape.c
        self.oh, self.ow, self.oc, self.groups = shape.oh, shape.ow, shape.oc, shape.groups
        self.stride_h, self.stride_w = shape.stride_h, shape.stride_w
        self.dilation_h, self.dilation_w = shape.dilation_h, shape.dilation_w
        self.pad_h, self.pad_w = shape.pad_h, shape.pad_w
        self.channels, self.cols = shape.c // shape.groups, shape.oc // shape.groups
        self.kernel_area = shape.kh * shape.kw
        merged = shape.merged(shape.c)
        self.depth, self.taps_w = self.channels * merged, shape.kw // merged
        self.taps = shape.kh * self.taps_w
        framed_bytes = 0
        if merged > 1 and (self.pad_h or self.pad_w):
            self.frame = Frame(self.x, self.n, self.h, self.w, self.c, self.pad_h, self.pad_w)
            self.h, self.w, self.pad_h, self.pad_w = self.h + 2 * self.pad_h, self.w + 2 * self.pad_w, 0, 0
            framed_bytes = aligned(4 * self.n * self.h * self.w * self.c)

        width = kernel.vector * kernel.tile_vectors
        self.packs = min(self.depth, self.cols) >= WIDE and self.ow <= PACKED_PIXELS
        self.strip_rows = max(1, (PACKED_PIXELS if self.packs else STRIP_PIXELS) // max(1, self.ow))
        self.x_ahead = self.strip_rows * self.stride_h * self.w * self.c
        self.dy_ahead = self.strip_rows * self.ow * self.oc
        self.x_row = LINE * (ceil_div(self.strip_rows * self.ow, LINE) | 1)
        self.row_blocks, self.col_blocks = ceil_div(self.depth, BLOCK_ROWS), ceil_div(self.cols, BLOCK_COLS)
        self.reduce_rows = max(1, min(REDUCE_ROWS // self.kernel_area, self.channels))
        wanted = ceil_div(CHUNK_TASKS, self.groups * self.taps * self.row_blocks * self.col_blocks)
        strips = ceil_div(self.n * self.oh, self.strip_rows)
        self.chunks = max(1, min(wanted, strips, CHUNK_BYTES // (4 * self.partial_size())))
        self.cost(shape.flops, shape.bytes)
        self.frame_offset = aligned(4 * self.chunks * self.partial_size())
        packed = BLOCK_ROWS * self.x_row + BLOCK_COLS * self.strip_rows * self.ow if self.packs else 0
        self.need(self.frame_offset + framed_bytes,
                  max(self.segment_bytes() + 4 * packed, 4 * self.reduce_rows * self.kernel_area * width))

    cdef Py_ssize_t partial_size(self) noexcept nogil:
        """Floats of one partial sum, (group, tap, depth, oc), which is (group, kh, kw, ic, oc)."""
        return self.groups * self.taps * self.depth * self.cols

    cdef Py_ssize_t segment_bytes(self) noexcept nogil:
        """Of the segments of a strip."""
        return aligned(sizeof(nnp_segment) * self.strip_rows)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t sums = (self.groups * ceil_div(self.channels, self.reduce_rows)
                                * ceil_div(self.cols, kernel.vector * kernel.tile_vectors)), task, share
        cdef Py_ssize_t framed_rows = self.n * self.h if self.frame.images != NULL else 0
        cdef char *scratch = NULL
        cdef nnp_float_mode mode = 0
        self.deal(self.chunks * self.groups * self.taps * self.row_blocks * self.col_blocks)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            scratch = self.own()
            for task in prange(framed_rows, schedule="static"):
                frame_row(kernel, &self.frame, task, <float *> (self.workspace + self.frame_offset))
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.accumulate(kernel, task, scratch)
                    task = self.take(share)
            for task in prange(sums, schedule="static"):
                if self.goes_on():
                    self.reduce(kernel, task, <float *> scratch)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t task, char *scratch) noexcept nogil:
        """One chunk's partial sum for one group and tap, over one block of the outer product."""
        cdef Py_ssize_t row_block = task % self.row_blocks, col_block = task // self.row_blocks % self.col_blocks
        cdef Py_ssize_t tap = task // self.row_blocks // self.col_blocks % self.taps
        cdef Py_ssize_t group = task // self.row_blocks // self.col_blocks // self.taps % self.groups
        cdef Py_ssize_t chunk = task // self.row_blocks // self.col_blocks // self.taps // self.groups
        cdef Py_ssize_t row = self.n * self.oh * chunk // self.chunks
        cdef Py_ssize_t end = self.n * self.oh * (chunk + 1) // self.chunks, rows, segments, i
        cdef Py_ssize_t ic = row_block * BLOCK_ROWS, oc = col_block * BLOCK_COLS
        cdef Py_ssize_t height = min(BLOCK_ROWS, self.depth - ic), width = min(BLOCK_COLS, self.cols - oc)
        cdef float *partial = (<float *> self.workspace + chunk * self.partial_size()
                               + ((group * self.taps + tap) * self.depth + ic) * self.cols + oc)
        cdef nnp_segment *segment = <nnp_segment *> scratch
        for i in range(height):
            memset(partial + i * self.cols, 0, 4 * width)
        while row < end:
            rows = min(self.strip_rows, end - row)
            segments = self.cut(group, tap, row, rows, ic, oc, segment)
            if self.packs:
                self.add_packed(kernel, segments, segment, height, width, <float *> (scratch + self.segment_bytes()),
                                partial)
            else:
                self.add_outer(kernel, segments, segment, height, width,
                               row + rows + self.strip_rows <= self.n * self.oh, partial)
            row += rows

    cdef void add_outer(self, const nnp_kernels *kernel, Py_ssize_t segments, const nnp_segment *segment,
                        Py_ssize_t height, Py_ssize_t width, bint ahead, float *partial) noexcept nogil:
        """partial (height, width), a block of (depth, oc), += the outer products of a strip. With `ahead`, each line of
        the next strip is asked for by one of the tiles: of x by those of the first panel, of dy by those of the first
        rows."""
        cdef Py_ssize_t panel = kernel.vector * kernel.tile_vectors, step = tile_rows(self.cols), col = 0, row, line
        cdef Py_ssize_t x_ahead, dy_ahead
        while col < width:
            row, line = 0, 0
            while row < height:
                x_ahead = self.x_ahead if ahead and col == 0 else 0
                dy_ahead = self.dy_ahead + line if ahead and line < panel else 0
                kernel.outer_tile(<int> min(step, height - row), <int> min(panel, width - col), segments, segment, row,
                                  self.stride_w * self.c, x_ahead, col, self.oc, dy_ahead,
                                  partial + row * self.cols + col, self.cols)
                row += step
                line += LINE
            col += panel

    cdef void add_packed(self, const nnp_kernels *kernel, Py_ssize_t segments, const nnp_segment *segment,
                         Py_ssize_t height, Py_ssize_t width, float *x, float *partial) noexcept nogil:
        """The same as a matrix product: x as (channels, pixels), dy in panels.

        Pixels of many channels lie on as many pages, and in few sets of a cache.
        """
        cdef Py_ssize_t panel = kernel.vector * kernel.tile_vectors, pixels = 0, col, s
        cdef float *dy = x + BLOCK_ROWS * self.x_row
        cdef int cols
        for s in range(segments):
            kernel.copy_matrix(height, segment[s].length, segment[s].a, 1, self.stride_w * self.c, x + pixels,
                               self.x_row)
            col = 0
            while col < width:
                cols = <int> min(panel, width - col)
                kernel.pack_panel(segment[s].length, cols, 1.0, segment[s].b + col, self.oc, 1,
                                  dy + col * self.strip_rows * self.ow
                                  + pixels * ceil_div(cols, kernel.vector) * kernel.vector)
                col += panel
            pixels += segment[s].length
        col = 0
        while col < width:
            kernel.gemm_rows(height, <int> min(panel, width - col), pixels, x, self.x_row,
                             dy + col * self.strip_rows * self.ow, 0, NULL, NULL, 0, 1, partial + col, self.cols)
            col += panel

    cdef Py_ssize_t cut(self, Py_ssize_t group, Py_ssize_t tap, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t ic,
                        Py_ssize_t oc, nnp_segment *segment) noexcept nogil:
        """Runs of output pixels in rows of dy whose input pixel at this tap lies inside the image, from
        channels ic and oc of the group; returns their number."""
        cdef const float *x = self.x
        cdef Py_ssize_t offset_w = tap % self.taps_w * self.dilation_w - self.pad_w
        cdef Py_ssize_t offset_h = tap // self.taps_w * self.dilation_h - self.pad_h
        cdef Py_ssize_t low = ceil_div(-offset_w, self.stride_w) if offset_w < 0 else 0
        cdef Py_ssize_t high = min(self.ow, ceil_div(max(self.w - offset_w, 0), self.stride_w))
        cdef Py_ssize_t r, n, h, count = 0
        if self.frame.images != NULL:
            x = <const float *> (self.workspace + self.frame_offset)
        for r in range(row, row + rows):
            n = r // self.oh
            h = r % self.oh * self.stride_h + offset_h
            if 0 <= h < self.h and low < high:
                count = append(segment, count, x + ((n * self.h + h) * self.w + low * self.stride_w + offset_w) * self.c
                               + group * self.channels + ic,
                               self.dy + (r * self.ow + low) * self.oc + group * self.cols + oc, high - low,
                               self.stride_w * self.c, self.oc)
        return count

    cdef void reduce(self, const nnp_kernels *kernel, Py_ssize_t task, float *sums) noexcept nogil:
        """dw of a group's block of input channels and panel of output channels: the partials added in the order of
        their chunks, as sums (ic, position, oc), which are then transposed."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, panels = ceil_div(self.cols, width)
        cdef Py_ssize_t col = task % panels * width, blocks = ceil_div(self.channels, self.reduce_rows)
        cdef Py_ssize_t ic = task // panels % blocks * self.reduce_rows, group = task // panels // blocks
        cdef Py_ssize_t rows = min(self.reduce_rows, self.channels - ic), cols = min(width, self.cols - col), i, p
        cdef const float *partials = (<const float *> self.workspace
                                      + (group * self.kernel_area * self.channels + ic) * self.cols + col)
        for i in range(rows):
            for p in range(self.kernel_area):
                kernel.sum_rows(self.chunks, cols, partials + (p * self.channels + i) * self.cols,
                                self.partial_size(), 0, sums + (i * self.kernel_area + p) * width)
        kernel.copy_matrix(cols, rows * self.kernel_area, sums, 1, width,
                           self.dw + ((group * self.cols + col) * self.channels + ic) * self.kernel_area,
                           self.channels * self.kernel_area)
