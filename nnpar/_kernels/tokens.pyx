"""Attention, and tables of vectors.

A task of attention is one head of one sample, or if there are fewer than threads, some of its queries, where that
divides no sum. It goes through the queries a block at a time: their scores with all keys
stay in cache until they have become probabilities and these have weighted the values. No scores are kept for the
backward pass, which computes them again, to the bit.
"""

from cython.parallel cimport parallel, prange
from libc.math cimport sqrt
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from nnpar._kernels.csrc cimport (NNP_SOFTMAX_SAMPLES, nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_philox,
                                  nnp_restore_float_mode)
from nnpar._kernels.elementwise cimport Position
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    QUERIES = 48           # of a block
    COLUMNS = 64           # of a table, of a task that adds to it
    ROWS = 16              # that a task gathers
    ELEMENTS = 4096        # of a task that adds


cdef struct Heads:         # (samples, tokens, heads * size): floats from sample to sample, and from token to token
    float *data
    Py_ssize_t sample, token


cdef class AttentionStep(Step):
    """Common part: P = softmax(Q K^T / sqrt(d)) of each head of d features, of which dropout then keeps some.

    Parameters
    ----------
    q : ndarray of shape (N, T, E), float32, features contiguous
    k, v : ndarray of shape (N, S, E), float32, features contiguous
    heads : int
        A divisor of E.
    causal : bool
        Whether query t sees the keys up to t only.
    p : float
        Probability that dropout zeroes an element of P, 0 <= p < 1.
    position : Position
    layer : int
    """

    cdef Heads q, k, v
    cdef Py_ssize_t samples, queries, keys, heads, size, padded
    cdef bint causal, drops, divides  # whether threads may share the queries of a head
    cdef Position position
    cdef uint32_t threshold, layer
    cdef float factor, scale

    def __init__(self, q, k, v, Py_ssize_t heads, bint causal, double p, Position position, layer):
        cdef const nnp_kernels *kernel = kernels()
        self.q, self.k, self.v = self.of_heads(q, False), self.of_heads(k, False), self.of_heads(v, False)
        self.samples, self.queries, self.keys = q.shape[0], q.shape[1], k.shape[1]
        self.heads, self.size, self.causal = heads, q.shape[2] // heads, causal
        self.padded = ceil_div(self.size, kernel.vector) * kernel.vector
        self.scale = <float> (1.0 / sqrt(<double> self.size))
        self.drops, self.position, self.layer = p > 0.0, position, layer & 0xFFFFFFFF
        self.threshold = <uint32_t> min(round(p * 2**32), 2**32 - 1)
        self.factor = <float> (1.0 / (1.0 - p))

    cdef Heads of_heads(self, array, bint write) except *:
        return Heads(self.floats(array, write), array.strides[0] // 4, array.strides[1] // 4)

    cdef void head(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                   Py_ssize_t end, char *own) noexcept nogil:
        """Queries `first` to `end` of a head."""
        pass

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t team = self.team(), heads = self.samples * self.heads, parts = 1, task, share
        cdef nnp_float_mode mode = 0
        if self.divides:
            parts = min(ceil_div(self.queries, QUERIES), ceil_div(team, max(1, heads)))
        self.deal(heads * parts)
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            for share in prange(self.shares, schedule="static"):
                task = self.take(share)
                while task >= 0:
                    self.part(kernel, task // parts, task % parts, parts, self.own())
                    task = self.take(share)
            nnp_restore_float_mode(mode)

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t head, Py_ssize_t part, Py_ssize_t parts,
                   char *own) noexcept nogil:
        cdef Py_ssize_t blocks = ceil_div(self.queries, QUERIES)
        self.head(kernel, head // self.heads, head % self.heads, blocks * part // parts * QUERIES,
                  min(self.queries, blocks * (part + 1) // parts * QUERIES), own)

    cdef float *at(self, Heads *x, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t token) noexcept nogil:
        return x.data + sample * x.sample + token * x.token + head * self.size

    cdef Py_ssize_t score_bytes(self) noexcept nogil:
        return aligned(4 * min(QUERIES, self.queries) * self.keys)

    cdef Py_ssize_t across_bytes(self) noexcept nogil:
        """Of a head's packed transpose, (size, keys)."""
        cdef Py_ssize_t vector = kernels().vector
        return aligned(4 * self.size * ceil_div(self.keys, vector) * vector)

    cdef Py_ssize_t down_bytes(self) noexcept nogil:
        """Of a head, packed, (keys, size)."""
        return aligned(4 * self.keys * self.padded)

    cdef void pack_across(self, const nnp_kernels *kernel, const float *x, Py_ssize_t step, float alpha,
                          float *packed) noexcept nogil:
        """Panels of alpha * X^T, where X (keys, size) has rows `step` apart."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, i = 0
        while i < self.keys:
            kernel.pack_panel(self.size, <int> min(width, self.keys - i), alpha, x + i * step, 1, step,
                              packed + i * self.size)
            i += width

    cdef void pack_down(self, const nnp_kernels *kernel, const float *x, Py_ssize_t step, float *packed) noexcept nogil:
        """Panels of X."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, i = 0
        while i < self.size:
            kernel.pack_panel(self.keys, <int> min(width, self.size - i), 1.0, x + i, step, 1, packed + i * self.keys)
            i += width

    cdef void multiply(self, const nnp_kernels *kernel, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth,
                       const float *a, Py_ssize_t a_step, const float *packed, float *c,
                       Py_ssize_t c_step) noexcept nogil:
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, i = 0
        while i < cols:
            kernel.gemm_rows(rows, <int> min(width, cols - i), depth, a, a_step, packed + i * depth, 0, NULL, NULL, 0,
                             0, c + i, c_step)
            i += width

    cdef void probabilities(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                            Py_ssize_t rows, const float *packed, float *p) noexcept nogil:
        """P (rows, keys) of some queries, before dropout; `packed` has the scaled keys."""
        cdef Py_ssize_t i = 0, seen
        self.multiply(kernel, rows, self.keys, self.size, self.at(&self.q, sample, head, first), self.q.token, packed,
                      p, self.keys)
        if not self.causal:
            while i < rows:
                kernel.softmax(min(NNP_SOFTMAX_SAMPLES, rows - i), self.keys, p + i * self.keys, p + i * self.keys)
                i += NNP_SOFTMAX_SAMPLES
            return
        for i in range(rows):
            seen = min(first + i + 1, self.keys)
            kernel.softmax(1, seen, p + i * self.keys, p + i * self.keys)
            memset(p + i * self.keys + seen, 0, 4 * (self.keys - seen))

    cdef void drop(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                   Py_ssize_t rows, const float *x, float *y) noexcept nogil:
        """Dropout of some queries of a head, whose random numbers have a key of their own."""
        cdef nnp_philox at = self.position.at
        at.sample += <uint32_t> sample
        at.layer = self.layer
        at.key[1] ^= <uint32_t> (head * ceil_div(self.queries, QUERIES) + first // QUERIES)
        kernel.dropout(rows * self.keys, x, at, self.threshold, self.factor, y)


cdef class Attention(AttentionStep):
    """y = P V of each head, where P = softmax(Q K^T / sqrt(d)), after dropout.

    Parameters
    ----------
    q, k, v, heads, causal, p, position, layer
        See `AttentionStep`.
    y : ndarray of shape (N, T, E), float32, features contiguous
    """

    cdef Heads y

    def __init__(self, q, k, v, y, heads, causal, p, position, layer):
        AttentionStep.__init__(self, q, k, v, heads, causal, p, position, layer)
        self.name = "attention"
        self.y, self.divides = self.of_heads(y, True), True
        self.cost(4.0 * q.size * self.keys, 8.0 * (q.size + k.size))
        self.need(0, self.score_bytes() + self.across_bytes() + self.down_bytes())

    cdef void head(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                   Py_ssize_t end, char *own) noexcept nogil:
        cdef float *p = <float *> own
        cdef float *keys = <float *> (own + self.score_bytes())
        cdef float *values = <float *> (own + self.score_bytes() + self.across_bytes())
        cdef Py_ssize_t rows
        self.pack_across(kernel, self.at(&self.k, sample, head, 0), self.k.token, self.scale, keys)
        self.pack_down(kernel, self.at(&self.v, sample, head, 0), self.v.token, values)
        while first < end:
            rows = min(QUERIES, end - first)
            self.probabilities(kernel, sample, head, first, rows, keys, p)
            if self.drops:
                self.drop(kernel, sample, head, first, rows, p, p)
            self.multiply(kernel, rows, self.size, self.keys, p, self.keys, values,
                          self.at(&self.y, sample, head, first), self.y.token)
            first += QUERIES


cdef class AttentionGrad(AttentionStep):
    """Gradients of `Attention`: with D the dropout, dV = D(P)^T dY, dP = D(dY V^T),
    dS = P (dP - the sum of dP P over keys) / sqrt(d), dQ = dS K, dK = dS^T Q.

    Parameters
    ----------
    dy : ndarray of shape (N, T, E), float32, features contiguous
    q, k, v, heads, causal, p, position, layer
        See `AttentionStep`.
    dq, dk, dv : ndarray of the shapes of q, k and v, float32, features contiguous
    """

    cdef Heads dy, dq, dk, dv

    def __init__(self, dy, q, k, v, dq, dk, dv, heads, causal, p, position, layer):
        AttentionStep.__init__(self, q, k, v, heads, causal, p, position, layer)
        self.name = "attention_grad"
        self.dy, self.dq = self.of_heads(dy, False), self.of_heads(dq, True)
        self.dk, self.dv = self.of_heads(dk, True), self.of_heads(dv, True)
        self.cost(10.0 * q.size * self.keys, 16.0 * (q.size + k.size))
        self.need(0, (2 + self.drops) * self.score_bytes() + 2 * self.across_bytes() + self.down_bytes())

    cdef void head(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                   Py_ssize_t end, char *own) noexcept nogil:
        cdef Py_ssize_t token
        cdef float *keys = <float *> own
        cdef float *values = <float *> (own + self.across_bytes())
        cdef float *rows_of_keys = <float *> (own + 2 * self.across_bytes())
        cdef char *scores = own + 2 * self.across_bytes() + self.down_bytes()
        self.pack_across(kernel, self.at(&self.k, sample, head, 0), self.k.token, self.scale, keys)
        self.pack_across(kernel, self.at(&self.v, sample, head, 0), self.v.token, 1.0, values)
        self.pack_down(kernel, self.at(&self.k, sample, head, 0), self.k.token, rows_of_keys)
        for token in range(self.keys):
            memset(self.at(&self.dk, sample, head, token), 0, 4 * self.size)
            memset(self.at(&self.dv, sample, head, token), 0, 4 * self.size)
        while first < end:
            self.block(kernel, sample, head, first, min(QUERIES, end - first), keys, values, rows_of_keys, scores)
            first += QUERIES

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t head, Py_ssize_t first,
                    Py_ssize_t rows, const float *keys, const float *values, const float *rows_of_keys,
                    char *scores) noexcept nogil:
        cdef float *p = <float *> scores
        cdef float *dp = <float *> (scores + self.score_bytes())
        cdef float *kept = <float *> (scores + 2 * self.score_bytes()) if self.drops else p
        cdef float *dy = self.at(&self.dy, sample, head, first)
        self.probabilities(kernel, sample, head, first, rows, keys, p)
        if self.drops:
            self.drop(kernel, sample, head, first, rows, p, kept)
        self.add_outer(kernel, rows, kept, dy, self.dy.token, self.at(&self.dv, sample, head, 0), self.dv.token)
        self.multiply(kernel, rows, self.keys, self.size, dy, self.dy.token, values, dp, self.keys)
        if self.drops:
            self.drop(kernel, sample, head, first, rows, dp, dp)
        kernel.softmax_grad(rows, self.keys, dp, p, self.scale, dp)
        self.multiply(kernel, rows, self.size, self.keys, dp, self.keys, rows_of_keys,
                      self.at(&self.dq, sample, head, first), self.dq.token)
        self.add_outer(kernel, rows, dp, self.at(&self.q, sample, head, first), self.q.token,
                       self.at(&self.dk, sample, head, 0), self.dk.token)

    cdef void add_outer(self, const nnp_kernels *kernel, Py_ssize_t rows, const float *a, const float *b,
                        Py_ssize_t b_step, float *c, Py_ssize_t c_step) noexcept nogil:
        """C (keys, size) += A^T B, with A (rows, keys)."""
        cdef Py_ssize_t width = kernel.vector * kernel.tile_vectors, i = 0
        while i < self.size:
            kernel.outer_rows(self.keys, <int> min(width, self.size - i), rows, a, self.keys, b + i, b_step, c + i,
                              c_step)
            i += width


cdef class Table(Step):
    """Common part of the steps that read or change rows of a table (rows, cols) by number: ndarray of any shape,
    float32, contiguous, whole numbers. One that is none, or out of range, stands for the nearest, a NaN for 0."""

    cdef const float *index
    cdef Py_ssize_t count, rows, cols

    cdef Py_ssize_t row(self, Py_ssize_t i) noexcept nogil:
        cdef float index = self.index[i]
        if not index > 0.0:
            return 0
        return <Py_ssize_t> index if index < <float> self.rows else self.rows - 1


cdef class Gather(Table):
    """y[i] = table[index[i]].

    Parameters
    ----------
    index : ndarray of n numbers, see `Table`
    table : ndarray of shape (rows, cols), float32, contiguous
    y : ndarray of n * cols numbers, float32, contiguous
    """

    cdef const float *table
    cdef float *y

    def __init__(self, index, table, y):
        self.name = "gather"
        self.index, self.table, self.y = self.floats(index), self.floats(table), self.floats(y, write=True)
        self.count, self.rows, self.cols = index.size, table.shape[0], table.shape[1]
        self.cost(0, 8.0 * y.size)

    cdef void run(self) noexcept nogil:
        cdef Py_ssize_t i
        with parallel(num_threads=self.team()):
            for i in prange(self.count, schedule="static", chunksize=ROWS):
                memcpy(self.y + i * self.cols, self.table + self.row(i) * self.cols, 4 * self.cols)


cdef class GatherGrad(Table):
    """dtable[r] = the sum of dy[i] over all i with index[i] = r, in their order, but 0 for the row `without`.

    Parameters
    ----------
    dy : ndarray of n * cols numbers, float32, contiguous
    index : ndarray of n numbers, see `Table`
    dtable : ndarray of shape (rows, cols), float32, contiguous
    without : int
        -1 for no row.
    """

    cdef const float *dy
    cdef float *dtable
    cdef Py_ssize_t without

    def __init__(self, dy, index, dtable, Py_ssize_t without):
        self.name = "gather_grad"
        self.dy, self.index, self.dtable = self.floats(dy), self.floats(index), self.floats(dtable, write=True)
        self.count, self.rows, self.cols = index.size, dtable.shape[0], dtable.shape[1]
        self.without = without
        self.cost(dy.size, 12.0 * dy.size + 4.0 * dtable.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.rows, schedule="static"):
                memset(self.dtable + i * self.cols, 0, 4 * self.cols)
            for i in prange(0, self.cols, COLUMNS, schedule="static"):
                self.add(kernel, i, min(COLUMNS, self.cols - i))
            nnp_restore_float_mode(mode)

    cdef void add(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t cols) noexcept nogil:
        cdef Py_ssize_t i, row
        cdef float *to
        for i in range(self.count):
            row = self.row(i)
            if row != self.without:
                to = self.dtable + row * self.cols + first
                kernel.add(cols, to, self.dy + i * self.cols + first, 0, to)
