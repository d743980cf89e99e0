"""Convolution by Winograd's F(4x4, 3x3) and F(4x4, 5x5): 3x3 or 5x5 filters, stride 1, no dilation, no groups.

The image is cut into tiles of 4x4 outputs, which need 6x6 inputs, or 8x8. Transformed (csrc/tiles/winograd.h), a tile
is 36 or 64 rows of channels, and the convolution is as many matrix products, one for each position k of the inputs:

    forward          m[k] (tile, oc) = v[k] (tile, ic) u[k] (ic, oc)         v from x, u from w, y from m
    input gradient   the same from dy to dx, the filter turned round
    weight gradient  du[k] (ic, oc)  = v[k]^T (ic, tile) z[k] (tile, oc)     z from dy, dw from du

Tiles are taken in blocks. Where u stays in the second-level cache, a block is a task: its transforms and products are
done by one thread, with v and m of its own. Otherwise, with many channels or few tiles, all threads share a block, and
the tasks are tiles in the transforms, positions and channels in the products: the same for a thread in every block, so
that its part of u or du stays in its second-level cache. If one block is all there is, u of many channels would be used
only once: it never goes to memory, but is made and used piece by piece. There the weight gradient's v and z lie in
strips of the channels that are used together, so that each product reads one run of memory.

v and m of the forward pass and the input gradient lie in strips of NNP_STRIP channels, (strip, tile, position,
NNP_STRIP), which the transforms write and read in one run, and the products in rows that are a constant apart. While
these compute, they ask for what is far away: the filters that come next, the source of the next block, and the pixels
that the results of this one will go to.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from nnpar._kernels.csrc cimport (NNP_STRIP, NNP_TILE_ROWS, NNP_TILE_STEP, nnp_float_mode,
                                  nnp_flush_denormals, nnp_kernels, nnp_patch, nnp_products, nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div, odd_lines

cdef enum:
    LINE = 16              # floats in a cache line
    STREAM_ROWS = 64       # rows of filters that a thread transforms and uses at once, where they are used once,
    STREAM_COLS = 64       # and their columns: 36 x 64 x 64 floats stay in its second-level cache
    FILTER_TAPS = 9 * 16   # taps of the filters transformed at once: 9 x 16 x 64 floats stay in the first-level cache
    OWN_TILES = 24         # tiles of a block that a thread has for itself, where u stays in its second-level cache,
    NEAR_BYTES = 1 << 20   # which it does up to this size
    FAR_TILES = 48         # the same where u comes from further away
    OWN_RUN = 4            # such blocks in a row that a thread takes, so that it knows what it reads next
    OWN_BYTES = 10 << 20   # of transformed filters: with more, threads share blocks, and so each read of the filters;
    FEW_TILES = 16         # with fewer tiles for each thread, too
    STREAM_BYTES = 4 << 20  # of transformed filters: with more, they are not kept if there is one block
    SHARED_TILES = 128     # tiles of a block that all threads share
    SUM_TILES = 64         # weight gradient: tiles of a block that a thread has for itself, at most,
    SHARED_SUM_TILES = 96  # and of one that all threads share,
    STREAM_SUM_TILES = 128  # unless there are no more than these: then they are one block
    SUM_ROWS = 3 * NNP_TILE_ROWS  # weight gradient: input channels that are transformed back at once
    STREAM_SUM_ROWS = 8 * NNP_TILE_ROWS  # the same where their sums never go to memory
    BLOCK_ROWS = 16 * NNP_TILE_ROWS  # weight gradient: input channels of a task
    CHUNKS = 8             # weight gradient: of blocks, with sums of their own, which go through memory once
    CHUNK_BYTES = 16 << 20  # weight gradient: of all these sums; with more, the threads share one chunk


cdef Py_ssize_t padded_row(Py_ssize_t floats) noexcept nogil:
    """Floats of a row of which a tile reads one panel: beyond that an odd number of lines, for the same reason."""
    cdef Py_ssize_t lines = ceil_div(floats, LINE)
    return LINE * (lines | 1 if lines > 4 else lines)


cdef struct Grid:          # tiles of a batch of images
    int size               # of a tile of inputs, along an axis
    Py_ssize_t positions   # of it
    Py_ssize_t taps        # of a filter
    Py_ssize_t rows, cols, tiles
    Py_ssize_t in_h, in_w, in_c, out_h, out_w, out_c, pad_h, pad_w


cdef Grid make_grid(Py_ssize_t kernel, Py_ssize_t n, Py_ssize_t in_h, Py_ssize_t in_w, Py_ssize_t in_c,
                    Py_ssize_t out_h, Py_ssize_t out_w, Py_ssize_t out_c, Py_ssize_t pad_h,
                    Py_ssize_t pad_w) noexcept:
    cdef Grid g
    g.size, g.positions, g.taps = <int> kernel + 3, (kernel + 3) * (kernel + 3), kernel * kernel
    g.rows, g.cols = ceil_div(out_h, 4), ceil_div(out_w, 4)
    g.tiles = n * g.rows * g.cols
    g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c = in_h, in_w, in_c, out_h, out_w, out_c
    g.pad_h, g.pad_w = pad_h, pad_w
    return g


cdef nnp_patch patch(Py_ssize_t image, Py_ssize_t h, Py_ssize_t w, int size, Py_ssize_t height, Py_ssize_t width,
                     Py_ssize_t channels) noexcept nogil:
    """The pixels from (h, w) of an image of a batch, a square of `size`, and which of them lie inside."""
    cdef nnp_patch p
    p.row_stride, p.col_stride = width * channels, channels
    p.first = (image * height + h) * p.row_stride + w * channels
    p.top, p.left = <int> min(max(-h, 0), size), <int> min(max(-w, 0), size)
    p.bottom, p.right = <int> max(min(height - h, size), 0), <int> max(min(width - w, size), 0)
    return p


cdef nnp_patch input_patch(const Grid *g, Py_ssize_t tile) noexcept nogil:
    return patch(tile // (g.rows * g.cols), tile // g.cols % g.rows * 4 - g.pad_h, tile % g.cols * 4 - g.pad_w,
                 g.size, g.in_h, g.in_w, g.in_c)


cdef nnp_patch output_patch(const Grid *g, Py_ssize_t tile) noexcept nogil:
    return patch(tile // (g.rows * g.cols), tile // g.cols % g.rows * 4, tile % g.cols * 4, 4, g.out_h, g.out_w,
                 g.out_c)


cdef class WinogradConv(Step):
    """Common part of the forward pass and the input gradient.

    Parameters
    ----------
    shape : Geometry
        Of a convolution that `fits`.
    """

    cdef const float *source
    cdef const float *weight
    cdef const float *bias
    cdef bint relu
    cdef float *out
    cdef Grid grid
    cdef Py_ssize_t weight_k, weight_n                   # strides of the filters along source and output channels
    cdef bint turned                                     # filters turned round by 180 degrees
    cdef bint shared, streamed
    cdef Py_ssize_t block, blocks, blocks_together       # tiles of a block; blocks of a task
    cdef Py_ssize_t filter_rows                          # source channels whose filters are transformed at once
    cdef Py_ssize_t u_rows, u_stride, tile_step, strip, m_offset
    cdef Py_ssize_t v_offset                             # in the workspace, if shared

    cdef int lay_out(self, double flops, double nbytes, bint prepacked) except -1:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t depth = self.grid.in_c, cols = self.grid.out_c
        self.cost(flops, nbytes)
        self.divide(4 * self.grid.positions * depth * cols, prepacked)
        self.filter_rows = FILTER_TAPS // self.grid.taps
        padded = ceil_div(cols, kernel.vector) * kernel.vector
        self.u_rows = STREAM_ROWS if self.streamed else depth
        self.u_stride = odd_lines(self.u_rows * (STREAM_COLS if self.streamed else padded))
        self.tile_step = NNP_TILE_STEP(self.grid.positions)
        self.strip = odd_lines(self.block * self.tile_step)
        self.m_offset = self.strip * ceil_div(depth, NNP_STRIP)
        u_bytes = aligned(4 * self.grid.positions * self.u_stride)
        v_bytes = aligned(4 * (self.m_offset + self.strip * ceil_div(cols, NNP_STRIP)))
        taps_bytes = self.scratch_bytes = aligned(4 * FILTER_TAPS * kernel.vector * kernel.tile_vectors)
        self.prepacked_bytes = u_bytes if prepacked else 0
        self.v_offset = 0 if self.streamed or prepacked else u_bytes
        if self.streamed:
            own_bytes = u_bytes + taps_bytes
        else:
            own_bytes = taps_bytes if self.shared else max(v_bytes, taps_bytes)
        self.need(self.v_offset + (v_bytes if self.shared else 0), own_bytes)
        return 0

    cdef void divide(self, Py_ssize_t filter_bytes, bint prepacked) noexcept:
        """Blocks, for so many bytes of transformed filters; they change no bit, so the number of threads may count."""
        cdef Py_ssize_t tiles = self.grid.tiles, threads = self.most_threads
        cdef Py_ssize_t own = OWN_TILES if filter_bytes <= NEAR_BYTES else FAR_TILES
        self.streamed = filter_bytes > STREAM_BYTES and tiles <= SHARED_TILES and not prepacked
        self.shared = self.streamed or filter_bytes > OWN_BYTES or (threads > 1 and tiles < FEW_TILES * threads)
        if self.shared:
            self.block = min(SHARED_TILES, tiles)
        else:
            self.block = ceil_div(tiles, threads * ceil_div(tiles, threads * own))
        self.blocks = ceil_div(tiles, self.block)
        self.blocks_together = min(OWN_RUN, max(1, self.blocks // (OWN_RUN * threads)))

    cdef void pack_weights(self, char *scratch) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t panels = self.panels(kernel), task
        cdef nnp_float_mode mode = nnp_flush_denormals()
        for task in range(panels * ceil_div(self.grid.in_c, self.filter_rows)):
            self.transform_filters(kernel, task // panels * self.filter_rows, self.grid.in_c, task % panels,
                                   <float *> self.prepacked, 0, 0, <float *> scratch)
        nnp_restore_float_mode(mode)

    cdef Py_ssize_t panels(self, const nnp_kernels *kernel) noexcept nogil:
        return ceil_div(self.grid.out_c, kernel.vector * kernel.tile_vectors)

    cdef float *filters(self) noexcept nogil:
        """u, whole."""
        return <float *> (self.prepacked if self.prepacked_bytes > 0 else self.workspace)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, panels = self.panels(kernel), filter_tasks = 0
        cdef Py_ssize_t group = max(1, STREAM_COLS // width), task, b, first, count, share
        cdef float *own = NULL
        cdef float *u = self.filters()
        cdef float *v = <float *> (self.workspace + self.v_offset)
        cdef float *m = v + self.m_offset
        cdef nnp_float_mode mode = 0
        if not self.streamed and self.prepacked_bytes == 0:
            filter_tasks = panels * ceil_div(self.grid.in_c, self.filter_rows)
        self.deal(ceil_div(self.blocks, self.blocks_together))
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            own = <float *> self.own()
            for task in prange(filter_tasks, schedule="static"):
                self.transform_filters(kernel, task // panels * self.filter_rows, self.grid.in_c, task % panels, u, 0,
                                       0, own)
            if self.shared:
                for b in range(self.blocks):
                    first = b * self.block
                    count = min(self.block, self.grid.tiles - first)
                    for task in prange(count, schedule="static"):
                        self.transform_tile(kernel, first + task, v + task * self.tile_step)
                    if self.streamed:
                        for task in prange(ceil_div(panels, group), schedule="dynamic"):
                            if self.goes_on():
                                self.stream(kernel, task * group, min(panels, (task + 1) * group), count, v, own)
                    else:
                        for task in prange(self.grid.positions * panels, schedule="static"):
                            if self.goes_on():
                                self.multiply(kernel, task // panels, 1, task % panels, count, v, u, 0, 0,
                                              self.grid.in_c, NULL, 0)
                    for task in prange(count, schedule="static"):
                        self.finish_tile(kernel, first + task, m + task * self.tile_step)
            else:
                for share in prange(self.shares, schedule="static"):
                    task = self.take(share)
                    while task >= 0:
                        self.convolve(kernel, task * self.blocks_together, panels, own)
                        task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef int panel_cols(self, const nnp_kernels *kernel, Py_ssize_t panel) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors
        return <int> min(width, self.grid.out_c - panel * width)

    cdef void transform_filters(self, const nnp_kernels *kernel, Py_ssize_t row, Py_ssize_t end, Py_ssize_t panel,
                                float *u, Py_ssize_t first_row, Py_ssize_t first_panel, float *taps) noexcept nogil:
        """filter_rows source channels, of those before `end`, and a panel of output channels of u (position, panel,
        source channel, width), which begins at first_row and first_panel."""
        cdef Py_ssize_t rows = min(self.filter_rows, end - row), area = self.grid.taps, i
        cdef Py_ssize_t panel_width = kernel.vector * kernel.tile_vectors, col = panel * panel_width
        cdef int cols = self.panel_cols(kernel, panel)
        cdef Py_ssize_t width = ceil_div(cols, kernel.vector) * kernel.vector
        cdef Py_ssize_t last = (area - 1) * width
        u += (panel - first_panel) * panel_width * self.u_rows + (row - first_row) * width
        if self.turned:
            if cols < width:
                memset(taps, 0, 4 * area * rows * width)
            for i in range(rows):
                kernel.copy_matrix(area, cols, self.weight + (row + i) * self.weight_k + col * area, 1, area,
                                   taps + area * width * i, width)
                kernel.winograd_weight(self.grid.size, width, taps + area * width * i + last, -width, u + i * width,
                                       self.u_stride)
        else:
            kernel.pack_panel(area * rows, cols, 1.0, self.weight + row * area + col * self.weight_n, 1, self.weight_n,
                              taps)
            for i in range(rows):
                kernel.winograd_weight(self.grid.size, width, taps + area * width * i, width, u + i * width,
                                       self.u_stride)

    cdef void convolve(self, const nnp_kernels *kernel, Py_ssize_t block, Py_ssize_t panels, float *v) noexcept nogil:
        """A run of blocks of tiles, with v, then m, of this thread."""
        cdef Py_ssize_t b
        for b in range(block, min(block + self.blocks_together, self.blocks)):
            self.convolve_block(kernel, b * self.block, panels, v)

    cdef void convolve_block(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t panels,
                             float *v) noexcept nogil:
        cdef Py_ssize_t count = min(self.block, self.grid.tiles - first), i, k, panel
        cdef Py_ssize_t together = 1 if panels > 1 else self.grid.size
        cdef Py_ssize_t calls = self.grid.positions // together * panels
        cdef const float *ask = NULL
        cdef Py_ssize_t bytes = 0
        cdef float *m = v + self.m_offset
        for i in range(count):
            self.transform_tile(kernel, first + i, v + i * self.tile_step)
        for i in range(calls):
            k, panel = i // panels * together, i % panels
            bytes = self.soon(first, count, i, calls, &ask)
            self.multiply(kernel, k, together, panel, count, v, self.filters(), 0, 0, self.grid.in_c, ask, bytes)
        for i in range(count):
            self.finish_tile(kernel, first + i, m + i * self.tile_step)

    cdef Py_ssize_t soon(self, Py_ssize_t first, Py_ssize_t count, Py_ssize_t i, Py_ssize_t calls,
                         const float **start) noexcept nogil:
        """Bytes that part i of the products of a block asks for, and where they start: about the pixels of the next
        block's source, then those of this block's output."""
        cdef Py_ssize_t half = calls // 2, pixels, channels
        cdef double tile
        if i < half:
            pixels, channels = self.grid.in_h * self.grid.in_w, self.grid.in_c
            first += count
            start[0] = self.source
        else:
            pixels, channels = self.grid.out_h * self.grid.out_w, self.grid.out_c
            start[0] = self.out
            i, half = i - half, calls - half
        if first >= self.grid.tiles:
            return 0
        tile = <double> (pixels * channels) / (self.grid.rows * self.grid.cols)
        start[0] += <Py_ssize_t> (tile * (first + count * i / <double> half))
        return <Py_ssize_t> (4 * tile * count / half)

    cdef void transform_tile(self, const nnp_kernels *kernel, Py_ssize_t tile, float *v) noexcept nogil:
        cdef nnp_patch p = input_patch(&self.grid, tile)
        kernel.winograd_input_strips(self.grid.size, self.grid.in_c, &p, self.source, v, self.strip)

    cdef void finish_tile(self, const nnp_kernels *kernel, Py_ssize_t tile, const float *m) noexcept nogil:
        cdef nnp_patch p = output_patch(&self.grid, tile)
        kernel.winograd_output(self.grid.size, self.grid.out_c, &p, m, self.strip, self.bias, self.relu, self.out)

    cdef void stream(self, const nnp_kernels *kernel, Py_ssize_t first_panel, Py_ssize_t last_panel, Py_ssize_t tiles,
                     float *v, float *u) noexcept nogil:
        """All m of a few panels: some rows of their filters at a time are transformed and used at once, since there is
        no second block of tiles that would use them again."""
        cdef Py_ssize_t row = 0, end, r, panel, k
        while row < self.grid.in_c:
            end = min(row + STREAM_ROWS, self.grid.in_c)
            for panel in range(first_panel, last_panel):
                r = row
                while r < end:
                    self.transform_filters(kernel, r, end, panel, u, row, first_panel,
                                           u + self.grid.positions * self.u_stride)
                    r += self.filter_rows
            for k in range(self.grid.positions):
                for panel in range(first_panel, last_panel):
                    self.multiply(kernel, k, 1, panel, tiles, v, u, row, first_panel, end - row, NULL, 0)
            row = end

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t k, Py_ssize_t positions, Py_ssize_t panel,
                       Py_ssize_t tiles, float *v, const float *u, Py_ssize_t row, Py_ssize_t first_panel,
                       Py_ssize_t rows, const float *ask, Py_ssize_t ask_bytes) noexcept nogil:
        """m[k] of a panel of output channels = v[k] u[k], or += it after the first of the rows of u, for some positions
        from k on; what lies at `ask` is wanted soon."""
        cdef Py_ssize_t col = panel * kernel.vector * kernel.tile_vectors
        cdef float *m = v + self.m_offset + col // NNP_STRIP * self.strip + col % NNP_STRIP
        cdef nnp_products s
        s.positions, s.tiles, s.depth = positions, tiles, rows
        s.tile_step, s.v_strip, s.m_strip, s.u_step = self.tile_step, self.strip, self.strip, self.u_stride
        s.accumulate = row > 0
        s.ask, s.ask_bytes = ask, ask_bytes
        u += k * self.u_stride + (panel - first_panel) * kernel.vector * kernel.tile_vectors * self.u_rows
        kernel.winograd_products(&s, self.panel_cols(kernel, panel),
                                 v + row // NNP_STRIP * self.strip + k * NNP_STRIP, u, m + k * NNP_STRIP)


cdef class WinogradConv2d(WinogradConv):
    """y = conv2d(x, w) + bias, or the ReLU of it; the parameters of Conv2d."""

    def __init__(self, shape, x, w, bias, y, bint relu=False, bint prepacked=False):
        self.name = "winograd_conv2d"
        self.source, self.weight = self.floats(x), self.weights(w)
        self.bias = NULL if bias is None else self.floats(bias)
        self.relu = relu
        self.out = self.floats(y, write=True)
        self.grid = make_grid(shape.kh, shape.n, shape.h, shape.w, shape.c, shape.oh, shape.ow, shape.oc, shape.pad_h,
                              shape.pad_w)
        self.weight_k, self.weight_n, self.turned = self.grid.taps, self.grid.taps * shape.c, False
        self.lay_out(shape.flops, shape.bytes, prepacked)


cdef class WinogradConv2dInputGrad(WinogradConv):
    """dx = the gradient of conv2d with respect to x; the parameters of Conv2dInputGrad."""

    def __init__(self, shape, dy, w, dx):
        self.name = "winograd_conv2d_input_grad"
        self.source, self.weight = self.floats(dy), self.floats(w)
        self.bias = NULL
        self.out = self.floats(dx, write=True)
        self.grid = make_grid(shape.kh, shape.n, shape.oh, shape.ow, shape.oc, shape.h, shape.w, shape.c,
                              shape.kh - 1 - shape.pad_h, shape.kh - 1 - shape.pad_w)
        self.weight_k, self.weight_n, self.turned = self.grid.taps * shape.c, self.grid.taps, True
        self.lay_out(shape.flops, shape.bytes, False)


cdef class WinogradConv2dWeightGrad(Step):
    """dw = the gradient of conv2d with respect to w; the parameters of Conv2dWeightGrad.

    Chunks of blocks have sums of their own, which are added in the order of the chunks; how many there are the shape
    decides. With many channels there is one, shared by all threads.
    """

    cdef const float *x
    cdef const float *dy
    cdef float *dw
    cdef Grid grid
    cdef bint shared, streamed
    cdef Py_ssize_t block, blocks, chunks                # tiles of a block
    cdef Py_ssize_t v_row, v_stride, z_row, z_stride, du_stride, sums_stride
    cdef Py_ssize_t v_strip, z_strip                     # channels that lie together, see transform
    cdef Py_ssize_t z_offset, sum_rows
    cdef Py_ssize_t v_offset                             # in the workspace, after the chunks' du, if shared

    def __init__(self, shape, x, dy, dw):
        cdef const nnp_kernels *kernel = kernels()
        self.name = "winograd_conv2d_weight_grad"
        self.x, self.dy, self.dw = self.floats(x), self.floats(dy), self.floats(dw, write=True)
        self.grid = make_grid(shape.kh, shape.n, shape.h, shape.w, shape.c, shape.oh, shape.ow, shape.oc, shape.pad_h,
                              shape.pad_w)
        self.du_stride = odd_lines(self.grid.in_c * self.grid.out_c)
        chunk_bytes = 4 * self.grid.positions * self.du_stride
        self.shared = CHUNKS * chunk_bytes > CHUNK_BYTES
        self.streamed = self.shared and self.grid.tiles <= STREAM_SUM_TILES
        most = STREAM_SUM_TILES if self.streamed else SHARED_SUM_TILES if self.shared else SUM_TILES
        self.block = ceil_div(self.grid.tiles, ceil_div(self.grid.tiles, most))
        self.blocks = ceil_div(self.grid.tiles, self.block)
        self.chunks = 1 if self.shared else min(CHUNKS, self.blocks)
        self.sum_rows = STREAM_SUM_ROWS if self.streamed else SUM_ROWS
        self.v_strip = STREAM_SUM_ROWS if self.streamed else self.grid.in_c
        self.z_strip = STREAM_COLS if self.streamed else self.grid.out_c
        self.v_row, self.z_row = padded_row(self.v_strip), padded_row(self.z_strip)
        self.v_stride, self.z_stride = odd_lines(self.block * self.v_row), odd_lines(self.block * self.z_row)
        self.z_offset = self.grid.positions * self.v_stride * ceil_div(self.grid.in_c, self.v_strip)
        self.cost(shape.flops, shape.bytes)
        width = kernel.vector * kernel.tile_vectors
        z_strips = ceil_div(self.grid.out_c, self.z_strip)
        v_bytes = aligned(4 * (self.z_offset + self.grid.positions * self.z_stride * z_strips))
        self.sums_stride = odd_lines(self.sum_rows * width)
        sums_bytes = aligned(4 * (self.grid.taps * self.sum_rows * width + self.grid.positions * self.sums_stride))
        self.v_offset = 0 if self.streamed else aligned(self.chunks * chunk_bytes)
        self.need(self.v_offset + (v_bytes if self.shared else 0),
                  sums_bytes if self.shared else max(v_bytes, sums_bytes))

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t row_blocks = ceil_div(self.grid.in_c, BLOCK_ROWS), task, b, start, count, share
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, row_tasks = ceil_div(self.grid.in_c, self.sum_rows)
        cdef Py_ssize_t finish_tasks = row_tasks * ceil_div(self.grid.out_c, width)
        cdef float *own = NULL
        cdef float *du = <float *> self.workspace
        cdef float *v = <float *> (self.workspace + self.v_offset)
        cdef nnp_float_mode mode = 0
        self.deal(self.chunks)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            own = <float *> self.own()
            if self.shared:
                for b in range(self.blocks):
                    start = b * self.block
                    count = min(self.block, self.grid.tiles - start)
                    for task in prange(count, schedule="static"):
                        self.transform(kernel, start + task, task, v)
                    if not self.streamed:
                        for task in prange(self.grid.positions * row_blocks, schedule="static"):
                            if self.goes_on():
                                self.multiply_rows(kernel, task // row_blocks, task % row_blocks, count, v, start == 0,
                                                   du)
            else:
                for share in prange(self.shares, schedule="static"):
                    task = self.take(share)
                    while task >= 0:
                        self.accumulate(kernel, task, row_blocks, own)
                        task = self.take(share)
            for task in prange(finish_tasks, schedule="dynamic"):
                if self.goes_on():
                    self.finish(kernel, task % row_tasks * self.sum_rows, task // row_tasks, v, own)
            nnp_restore_float_mode(mode)

    cdef void accumulate(self, const nnp_kernels *kernel, Py_ssize_t chunk, Py_ssize_t row_blocks,
                         float *v) noexcept nogil:
        """du of a chunk of the blocks, with v, then z, of this thread."""
        cdef Py_ssize_t first = self.blocks * chunk // self.chunks, end = self.blocks * (chunk + 1) // self.chunks
        cdef Py_ssize_t count, b, i
        cdef float *du = <float *> self.workspace + chunk * self.grid.positions * self.du_stride
        for b in range(first, end):
            count = min(self.block, self.grid.tiles - b * self.block)
            for i in range(count):
                self.transform(kernel, b * self.block + i, i, v)
            for i in range(self.grid.positions * row_blocks):
                self.multiply_rows(kernel, i // row_blocks, i % row_blocks, count, v, b == first, du)

    cdef void transform(self, const nnp_kernels *kernel, Py_ssize_t tile, Py_ssize_t i, float *v) noexcept nogil:
        """v and z of a tile, at place i of its block: (strip of channels, position, tile, channel)."""
        cdef nnp_patch x = input_patch(&self.grid, tile), dy = output_patch(&self.grid, tile)
        cdef float *z = v + self.z_offset + i * self.z_row
        cdef Py_ssize_t c = 0
        v += i * self.v_row
        while c < self.grid.in_c:
            kernel.winograd_input(self.grid.size, min(self.v_strip, self.grid.in_c - c), &x, self.x + c, v,
                                  self.v_stride)
            c += self.v_strip
            v += self.grid.positions * self.v_stride
        c = 0
        while c < self.grid.out_c:
            kernel.winograd_output_grad(self.grid.size, min(self.z_strip, self.grid.out_c - c), &dy, self.dy + c, z,
                                        self.z_stride)
            c += self.z_strip
            z += self.grid.positions * self.z_stride

    cdef void multiply_rows(self, const nnp_kernels *kernel, Py_ssize_t k, Py_ssize_t row_block, Py_ssize_t tiles,
                            const float *v, bint fresh, float *du) noexcept nogil:
        """du[k] (ic, oc) += v[k]^T z[k], BLOCK_ROWS rows of it; du is cleared before if fresh."""
        cdef Py_ssize_t cols = self.grid.out_c, first = row_block * BLOCK_ROWS
        cdef Py_ssize_t rows = min(BLOCK_ROWS, self.grid.in_c - first)
        du += k * self.du_stride + first * cols
        if fresh:
            memset(du, 0, 4 * rows * cols)
        self.multiply(kernel, k, first, rows, 0, cols, tiles, v, du, cols)

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t k, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
                       Py_ssize_t cols, Py_ssize_t tiles, const float *v, float *du, Py_ssize_t du_row) noexcept nogil:
        """du += v[k]^T z[k], those rows and columns of it, which lie in one strip."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, j = 0
        cdef const float *z = v + self.z_offset
        v += (row // self.v_strip * self.grid.positions + k) * self.v_stride + row % self.v_strip
        z += (col // self.z_strip * self.grid.positions + k) * self.z_stride + col % self.z_strip
        while j < cols:
            kernel.outer_rows(rows, <int> min(width, cols - j), tiles, v, self.v_row, z + j, self.z_row, du + j, du_row)
            j += width

    cdef void finish(self, const nnp_kernels *kernel, Py_ssize_t row, Py_ssize_t panel, const float *v,
                     float *taps) noexcept nogil:
        """dw of sum_rows input channels and a panel of output channels: from v and z if all tiles are in one block, or
        from the du of the chunks."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, area = self.grid.taps, i, k
        cdef Py_ssize_t rows = min(self.sum_rows, self.grid.in_c - row)
        cdef Py_ssize_t cols = min(width, self.grid.out_c - panel * width)
        cdef float *sums = taps + area * self.sum_rows * width
        cdef const float *du = sums
        cdef Py_ssize_t du_row = width, du_stride = self.sums_stride
        if self.streamed:
            memset(sums, 0, 4 * self.grid.positions * du_stride)
            for k in range(self.grid.positions):
                self.multiply(kernel, k, row, rows, panel * width, cols, self.block, v, sums + k * du_stride, width)
        else:
            du = <const float *> self.workspace + row * self.grid.out_c + panel * width
            if self.chunks == 1:
                du_row, du_stride = self.grid.out_c, self.du_stride
            else:
                for k in range(self.grid.positions):
                    for i in range(rows):
                        kernel.sum_rows(self.chunks, cols, du + k * self.du_stride + i * self.grid.out_c,
                                        self.grid.positions * self.du_stride, 0, sums + k * du_stride + i * width)
                du = sums
        for i in range(rows):
            kernel.winograd_weight_grad(self.grid.size, cols, du + i * du_row, du_stride, taps + area * i * width,
                                        width)
        kernel.copy_matrix(cols, area * rows, taps, 1, width,
                           self.dw + (panel * width * self.grid.in_c + row) * area, area * self.grid.in_c)
