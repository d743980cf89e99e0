"""Steps on arrays of any strides: copies, arithmetic with broadcasting, and sums over axes.

What a step works on is a view: permuted, sliced, reversed, or repeated by strides of 0. Axes are first ordered by where
they lie in the result's memory, and joined where all arrays go on from one into the next; then rows along the last axis
are done one by one, and threads share the rows.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from nnpar._kernels.csrc cimport (NNP_ADD, NNP_DIV, NNP_DROP, NNP_EQUAL, NNP_KEEP, NNP_LESS, NNP_LESS_EQUAL, NNP_MAX,
                                  NNP_MIN, NNP_MUL, NNP_SHARE, NNP_SUB, nnp_float_mode, nnp_flush_denormals,
                                  nnp_kernels, nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    MOST_AXES = 10
    BLOCK = 4096     # elements of a task, about
    TURN = 256       # columns of a matrix that is transposed
    THIN = 4         # rows and columns of such a matrix, at least, or else
    LONG = 16        # rows of a copy element by element, at least, if there are as many
    CHUNKS = 64      # partial sums, at most: their number depends on the shape alone
    CHUNK = 16384    # elements of a partial sum, at least

ARITHMETIC = {
    "add": NNP_ADD, "sub": NNP_SUB, "mul": NNP_MUL, "div": NNP_DIV, "max": NNP_MAX, "min": NNP_MIN, "less": NNP_LESS,
    "less_equal": NNP_LESS_EQUAL, "equal": NNP_EQUAL, "keep": NNP_KEEP, "drop": NNP_DROP, "share": NNP_SHARE,
}


def joined(shape, *strides):
    """The axes of arrays of one shape, those of size 1 left out, in the order of the first array's strides, and joined
    where that can be.

    Parameters
    ----------
    shape : tuple of int
    *strides : tuple of int
        In elements, for each array.

    Returns
    -------
    list of tuple
        (size, stride of the first array, stride of the second, ...), the last axis innermost.
    """
    axes = [axis for axis in zip(shape, *strides, strict=True) if axis[0] != 1]
    axes.sort(key=lambda axis: [-abs(stride) for stride in axis[1:]])
    result = []
    last = None
    for axis in axes:
        if last is not None and all(a == axis[0] * b for a, b in zip(last[1:], axis[1:], strict=True)):
            axis = (result.pop()[0] * axis[0], *axis[1:])
        result.append(axis)
        last = axis
    return result or [(1, *(0 for _ in strides))]


def _steps(array):
    return tuple(stride // 4 for stride in array.strides)


cdef struct Axes:
    # Up to three arrays; the last axis is that of a row.
    Py_ssize_t count
    Py_ssize_t size[MOST_AXES]
    Py_ssize_t step[3][MOST_AXES]


cdef int fill(Axes *s, axes) except -1:
    if len(axes) > MOST_AXES:
        raise ValueError(f"expected arrays of at most {MOST_AXES} axes that cannot be joined, got {len(axes)}")
    s.count = len(axes)
    for i, axis in enumerate(axes):
        s.size[i] = axis[0]
        for k, step in enumerate(axis[1:]):
            s.step[k][i] = step
    return 0


cdef Py_ssize_t rows_of(const Axes *s) noexcept nogil:
    cdef Py_ssize_t i, rows = 1
    for i in range(s.count - 1):
        rows *= s.size[i]
    return rows


cdef struct Walk:
    # A place of the first axes, and where it lies in each array.
    Py_ssize_t at[3]
    Py_ssize_t index[MOST_AXES]


cdef Walk begin(const Axes *s, Py_ssize_t axes, Py_ssize_t number) noexcept nogil:
    """The place of that number."""
    cdef Walk walk
    cdef Py_ssize_t i, k
    for k in range(3):
        walk.at[k] = 0
    for i in range(axes - 1, -1, -1):
        walk.index[i] = number % s.size[i]
        number //= s.size[i]
        for k in range(3):
            walk.at[k] += walk.index[i] * s.step[k][i]
    return walk


cdef void go_on(const Axes *s, Py_ssize_t axes, Walk *walk) noexcept nogil:
    """To the next place."""
    cdef Py_ssize_t i, k
    for i in range(axes - 1, -1, -1):
        walk.index[i] += 1
        if walk.index[i] < s.size[i]:
            for k in range(3):
                walk.at[k] += s.step[k][i]
            return
        walk.index[i] = 0
        for k in range(3):
            walk.at[k] -= (s.size[i] - 1) * s.step[k][i]


cdef class Strided(Step):
    """Common part of the steps that go over all elements: a task is `block` rows, of each `width` elements."""

    cdef Axes s
    cdef Py_ssize_t rows, cols, block, width

    cdef share(self, axes, size, Py_ssize_t width):
        fill(&self.s, axes)
        self.cols = self.s.size[self.s.count - 1]
        self.rows = rows_of(&self.s) if size else 0
        self.width = max(1, min(width, self.cols))
        self.block = max(1, BLOCK // self.width)

    cdef void some(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t col,
                   Py_ssize_t cols) noexcept nogil:
        pass

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t across = ceil_div(self.cols, self.width), task, row, col
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(ceil_div(self.rows, self.block) * across, schedule="static"):
                row, col = task // across * self.block, task % across * self.width
                self.some(kernel, row, min(self.block, self.rows - row), col, min(self.width, self.cols - col))
            nnp_restore_float_mode(mode)


def _rows(axes, cols):
    """The number of the axis that makes, with one of `cols` elements, the matrix to copy: that along which x lies, else
    the innermost one that is long enough."""
    inwards = range(len(axes))
    along = [i for i in inwards if axes[i][2] == 1 and min(axes[i][0], cols) >= THIN]
    long = [i for i in inwards if axes[i][0] >= LONG]
    return max(along or long or inwards)


cdef class StridedCopy(Strided):
    """y = x, arrays of one shape and any strides that do not overlap; x may repeat elements, y not."""

    cdef const float *x
    cdef float *y

    def __init__(self, x, y):
        self.name = "copy"
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        axes = joined(y.shape, _steps(y), _steps(x))
        *others, last = axes
        cols, to, by = last
        if to == 1 and by != 1 and others:
            rows = others.pop(_rows(others, cols))
            axes = [*others, rows, last]
        # Where x does not go along with y, a task has several rows, so that lines of x are read whole.
        self.share([(1, 0, 0), *axes] if to == 1 else [*axes, (1, 1, 1)], y.size, BLOCK if by == 1 else TURN)
        self.cost(0, 8.0 * y.size)

    cdef void some(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t col,
                   Py_ssize_t cols) noexcept nogil:
        """Rows that follow each other along the last axis but one are a matrix."""
        cdef Py_ssize_t last = self.s.count - 1, down = last - 1, size = self.s.size[down], count
        cdef Py_ssize_t to = self.s.step[0][down], by = self.s.step[1][down], across = self.s.step[1][last]
        cdef const float *x = self.x + col * across
        cdef Walk walk = begin(&self.s, down, first // size)
        first %= size
        while rows > 0:
            count = min(rows, size - first)
            kernel.copy_matrix(count, cols, x + walk.at[1] + first * by, by, across,
                               self.y + walk.at[0] + first * to + col, to)
            go_on(&self.s, down, &walk)
            rows -= count
            first = 0


cdef class Fill(Step):
    """y = value, a contiguous array."""

    cdef float *y
    cdef Py_ssize_t n
    cdef float value

    def __init__(self, y, float value=0.0):
        self.name = "fill"
        self.y, self.n, self.value = self.floats(y, write=True), y.size, value
        self.cost(0, 4.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef Py_ssize_t i, k
        with parallel(num_threads=self.team()):
            for i in prange(0, self.n, BLOCK, schedule="static"):
                for k in range(i, min(i + BLOCK, self.n)):
                    self.y[k] = self.value


cdef class Arithmetic(Strided):
    """y = a op b, arrays of one shape (views that repeat elements where they are broadcast).

    Parameters
    ----------
    kind : str
        A key of ARITHMETIC: see nnp_arithmetic in csrc/kernels.h.
    a, b, y : ndarray, float32
        y repeats none; it may be a or b.
    """

    cdef const float *a
    cdef const float *b
    cdef float *y
    cdef int kind

    def __init__(self, kind, a, b, y):
        self.name, self.kind = kind, ARITHMETIC[kind]
        self.a, self.b, self.y = self.floats(a), self.floats(b), self.floats(y, write=True)
        self.share(joined(y.shape, _steps(y), _steps(a), _steps(b)), y.size, BLOCK)
        self.cost(y.size, 12.0 * y.size)

    cdef void some(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t col,
                   Py_ssize_t cols) noexcept nogil:
        cdef Py_ssize_t i, last = self.s.count - 1
        cdef Walk walk = begin(&self.s, last, first)
        cdef Py_ssize_t *at = walk.at
        cdef Py_ssize_t to = self.s.step[0][last], a = self.s.step[1][last], b = self.s.step[2][last]
        for _row in range(rows):
            if to == 1 and 0 <= a <= 1 and 0 <= b <= 1:
                kernel.arithmetic(self.kind, cols, self.a + at[1] + col * a, a, self.b + at[2] + col * b, b,
                                  self.y + at[0] + col)
            else:
                for i in range(col, col + cols):
                    kernel.arithmetic(self.kind, 1, self.a + at[1] + i * a, 0, self.b + at[2] + i * b, 0,
                                      self.y + at[0] + i * to)
            go_on(&self.s, last, &walk)


cdef class SumAxes(Step):
    """y = factor times the sum of x over some axes.

    A sum over many elements is cut into chunks by the shape, whose partial sums are added in order.

    Parameters
    ----------
    x : ndarray, float32, of any strides
    y : ndarray, float32
        Contiguous in some order of its axes; of x's number of axes, with size 1 where x is summed.
    factor : float
    """

    cdef const float *x
    cdef float *y
    cdef Axes kept, summed
    cdef Py_ssize_t outputs, cols, blocks, terms, chunk, chunks
    cdef float factor

    def __init__(self, x, y, float factor=1.0):
        self.name, self.factor = "sum", factor
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        axes = list(zip(x.shape, _steps(y), _steps(x), y.shape, strict=True))
        summed = [axis for axis in axes if axis[3] != axis[0]]
        kept = [axis for axis in axes if axis[3] == axis[0]]
        kept = joined([axis[0] for axis in kept], [axis[1] for axis in kept], [axis[2] for axis in kept])
        # The last kept axis, if it is contiguous in both arrays, is a row of sums.
        *others, last = kept
        self.cols = 1
        if last[1:] == (1, 1):
            self.cols, kept = last[0], others
        self.blocks = ceil_div(self.cols, BLOCK)
        fill(&self.kept, [*kept, (1, 0, 0)])
        fill(&self.summed, joined([axis[0] for axis in summed], [axis[2] for axis in summed]))
        self.outputs = rows_of(&self.kept) * self.blocks if y.size else 0
        self.terms = rows_of(&self.summed) * self.summed.size[self.summed.count - 1]
        self.chunks = max(1, min(CHUNKS // max(1, self.outputs), self.terms * min(self.cols, BLOCK) // CHUNK))
        self.chunk = ceil_div(max(1, self.terms), self.chunks)
        self.chunks = max(1, ceil_div(self.terms, self.chunk))
        self.need(self.outputs * self.chunks * aligned(4 * min(self.cols, BLOCK)))
        self.cost(x.size, 4.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t task
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for task in prange(self.outputs * self.chunks, schedule="static"):
                if self.goes_on():
                    self.partial(kernel, task // self.chunks, task % self.chunks)
            for task in prange(self.outputs, schedule="static"):
                self.total(kernel, task)
            nnp_restore_float_mode(mode)

    cdef float *partials(self, Py_ssize_t output, Py_ssize_t chunk) noexcept nogil:
        cdef Py_ssize_t size = aligned(4 * min(self.cols, BLOCK))
        return <float *> (self.workspace + (output * self.chunks + chunk) * size)

    cdef Walk row(self, Py_ssize_t output, Py_ssize_t *cols) noexcept nogil:
        """Where a row of sums, or its part, begins, and how long it is."""
        cdef Py_ssize_t first = output % self.blocks * BLOCK
        cdef Walk walk = begin(&self.kept, self.kept.count - 1, output // self.blocks)
        walk.at[0] += first
        walk.at[1] += first
        cols[0] = min(BLOCK, self.cols - first)
        return walk

    cdef void partial(self, const nnp_kernels *kernel, Py_ssize_t output, Py_ssize_t chunk) noexcept nogil:
        """The sums of a chunk's terms, run by run along the last summed axis."""
        cdef float *out = self.partials(output, chunk)
        cdef Py_ssize_t last = self.summed.count - 1, n = self.summed.size[last], by = self.summed.step[0][last]
        cdef Py_ssize_t first = chunk * self.chunk, left = min(self.terms, first + self.chunk) - first, run, cols
        cdef const float *x = self.x + self.row(output, &cols).at[1]
        cdef const float *start
        cdef Walk walk
        cdef double sum = 0.0
        memset(out, 0, 4 * cols)
        if left <= 0:
            return
        walk = begin(&self.summed, last, first // n)
        first %= n
        while left > 0:
            run = min(n - first, left)
            start = x + walk.at[0] + first * by
            if cols > 1:
                kernel.sum_rows(run, cols, start, by, 1, out)
            else:
                sum = sum + kernel.sum_strided(run, start, by)
            go_on(&self.summed, last, &walk)
            left -= run
            first = 0
        if cols == 1:
            out[0] = <float> sum

    cdef void total(self, const nnp_kernels *kernel, Py_ssize_t output) noexcept nogil:
        cdef Py_ssize_t cols, size = aligned(4 * min(self.cols, BLOCK)) // 4
        cdef float *y = self.y + self.row(output, &cols).at[0]
        kernel.sum_rows(self.chunks, cols, self.partials(output, 0), size, 0, y)
        kernel.scale(cols, self.factor, y)
