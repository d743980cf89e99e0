"""Normalisations within a sample: of rows, of groups of channels, and by the channels nearby.

Sums over a sample are in double. Those over samples, of gamma and beta, are of blocks whose number depends on the shape
alone, in double, and are added in the order of the blocks.
"""

from cython.parallel cimport parallel, prange
from libc.math cimport sqrt
from libc.string cimport memset

from nnpar._kernels.csrc cimport (nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_response,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    ELEMENTS = 4096        # of a task
    SUM_ELEMENTS = 16384   # of a partial sum, about
    SUM_BLOCKS = 64        # partial sums, at most
    SUM_ROWS = 4           # rows of a partial sum, at least, or
    SUM_PIXELS = 64        # pixels
    MERGE_COLS = 1024      # columns of a task that puts partial sums together


cdef class RowNorm(Step):
    """y = (x - mean) * invstd * gamma + beta of each row, with its own mean and invstd = 1 / sqrt(var + eps); mean is 0
    unless centred.

    Parameters
    ----------
    x, y : ndarray of shape (rows, cols), float32, contiguous; y may be x
    gamma, beta : ndarray of shape (cols,), float32
    eps : float
    mean, invstd : ndarray of shape (rows,), float32
    centred : bool
    """

    cdef const float *x
    cdef const float *gamma
    cdef const float *beta
    cdef float *mean
    cdef float *invstd
    cdef float *y
    cdef Py_ssize_t rows, cols, block
    cdef double eps
    cdef bint centred

    def __init__(self, x, gamma, beta, double eps, bint centred, mean, invstd, y):
        self.name = "layer_norm" if centred else "rms_norm"
        self.x, self.gamma, self.beta = self.floats(x), self.floats(gamma), self.floats(beta)
        self.mean, self.invstd = self.floats(mean, write=True), self.floats(invstd, write=True)
        self.y, self.eps, self.centred = self.floats(y, write=True), eps, centred
        self.rows, self.cols = x.shape
        self.block = max(1, ELEMENTS // max(1, self.cols))
        self.cost(8.0 * x.size, 8.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.rows, self.block, schedule="static"):
                kernel.row_norm(min(self.block, self.rows - i), self.cols, self.x + i * self.cols, self.gamma,
                                self.beta, self.eps, self.centred, self.mean + i, self.invstd + i,
                                self.y + i * self.cols)
            nnp_restore_float_mode(mode)


cdef class RowNormGrad(Step):
    """Gradients of `RowNorm`: with g = dy gamma and xhat = (x - mean) invstd, dx = invstd (g - mean of g - xhat * mean
    of g xhat), of each row, without the mean of g unless centred; dgamma = sum of dy xhat, dbeta = sum of dy over rows.

    Parameters
    ----------
    dy, x, dx : ndarray of shape (rows, cols), float32, contiguous; dx may be dy
    mean, invstd : ndarray of shape (rows,), float32
    gamma, dgamma, dbeta : ndarray of shape (cols,), float32; no dgamma or dbeta if None
    centred : bool
    """

    cdef const float *dy
    cdef const float *x
    cdef const float *mean
    cdef const float *invstd
    cdef const float *gamma
    cdef float *dx
    cdef float *dgamma
    cdef float *dbeta
    cdef Py_ssize_t rows, cols, block, blocks, row
    cdef bint centred

    def __init__(self, dy, x, mean, invstd, gamma, bint centred, dx, dgamma, dbeta):
        self.name = "layer_norm_grad" if centred else "rms_norm_grad"
        self.dy, self.x, self.gamma = self.floats(dy), self.floats(x), self.floats(gamma)
        self.mean, self.invstd = self.floats(mean), self.floats(invstd)
        self.dx, self.centred = self.floats(dx, write=True), centred
        self.dgamma = NULL if dgamma is None else self.floats(dgamma, write=True)
        self.dbeta = NULL if dbeta is None else self.floats(dbeta, write=True)
        self.rows, self.cols = x.shape
        self.block = max(SUM_ROWS, SUM_ELEMENTS // max(1, self.cols), ceil_div(self.rows, SUM_BLOCKS))
        self.blocks = ceil_div(self.rows, self.block)
        self.row = aligned(4 * self.cols) // 4
        self.need(16 * self.row * self.blocks)
        self.cost(14.0 * x.size, 12.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i, c
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.blocks, schedule="static"):
                self.one(kernel, i)
            for c in prange(0, self.cols, MERGE_COLS, schedule="static"):
                self.merge(c, min(MERGE_COLS, self.cols - c), 0, self.dgamma)
                self.merge(c, min(MERGE_COLS, self.cols - c), 1, self.dbeta)
            nnp_restore_float_mode(mode)

    cdef double *sums(self, Py_ssize_t block, Py_ssize_t which) noexcept nogil:
        return <double *> self.workspace + (2 * block + which) * self.row

    cdef void one(self, const nnp_kernels *kernel, Py_ssize_t block) noexcept nogil:
        cdef Py_ssize_t first = block * self.block, at = first * self.cols
        memset(self.sums(block, 0), 0, 16 * self.row)
        kernel.row_norm_grad(min(self.block, self.rows - first), self.cols, self.dy + at, self.x + at,
                             self.mean + first, self.invstd + first, self.gamma, self.centred, self.dx + at,
                             self.sums(block, 0), self.sums(block, 1))

    cdef void merge(self, Py_ssize_t first, Py_ssize_t cols, Py_ssize_t which, float *to) noexcept nogil:
        cdef double *total = self.sums(0, which)
        cdef double *part
        cdef Py_ssize_t block, c
        if to == NULL:
            return
        for block in range(1, self.blocks):
            part = self.sums(block, which)
            for c in range(first, first + cols):
                total[c] += part[c]
        for c in range(first, first + cols):
            to[c] = <float> total[c] if self.rows > 0 else 0.0


cdef class Groups(Step):
    """Common part of the normalisations of groups of channels: two doubles for each channel, of each block of pixels of
    a sample and of all of them; five floats for each channel of a sample, which the pass over its elements reads.

    Parameters
    ----------
    x : ndarray of shape (N, C, ...), float32, channels-last
    groups : int
    """

    cdef const float *x
    cdef float *mean
    cdef float *invstd
    cdef const float *gamma
    cdef const float *beta
    cdef Py_ssize_t samples, channels, pixels, groups, of_group, block, blocks, row

    def __init__(self, x, Py_ssize_t groups, mean, invstd, gamma, beta, bint write):
        self.x, self.samples, self.channels = self.floats(x), x.shape[0], x.shape[1]
        self.mean, self.invstd = self.floats(mean, write=write), self.floats(invstd, write=write)
        self.gamma = NULL if gamma is None else self.floats(gamma)
        self.beta = NULL if beta is None else self.floats(beta)
        self.pixels = x.size // max(1, self.samples * self.channels)
        self.groups, self.of_group = groups, self.channels // groups
        self.block = max(SUM_PIXELS, SUM_ELEMENTS // self.channels, ceil_div(self.pixels, SUM_BLOCKS))
        self.blocks = ceil_div(self.pixels, self.block)
        self.row = aligned(8 * self.channels) // 8
        self.need(self.samples * (16 * self.row * (self.blocks + 1) + 20 * self.row))

    cdef double *sums(self, Py_ssize_t sample, Py_ssize_t which) noexcept nogil:
        """The first (0) or second (1) sums of a sample: of all pixels, then of each block."""
        return <double *> self.workspace + (2 * sample + which) * self.row * (self.blocks + 1)

    cdef float *factors(self, Py_ssize_t sample, Py_ssize_t which) noexcept nogil:
        cdef float *first = <float *> (<double *> self.workspace + 2 * self.samples * self.row * (self.blocks + 1))
        return first + (5 * sample + which) * self.row

    cdef void affine(self, Py_ssize_t sample, float *scale, float *shift) noexcept nogil:
        """x * scale + shift = (x - mean) * invstd * gamma + beta."""
        cdef Py_ssize_t c, group
        cdef double factor
        for c in range(self.channels):
            group = sample * self.groups + c // self.of_group
            factor = <double> self.invstd[group] * (self.gamma[c] if self.gamma != NULL else 1.0)
            scale[c] = <float> factor
            shift[c] = <float> ((self.beta[c] if self.beta != NULL else 0.0) - self.mean[group] * factor)

    cdef void begin(self, Py_ssize_t sample) noexcept nogil:
        pass

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels,
                        double *first, double *second) noexcept nogil:
        pass

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t sample) noexcept nogil:
        pass

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels) noexcept nogil:
        pass

    cdef void one_sum(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t block) noexcept nogil:
        cdef Py_ssize_t first = block * self.block
        self.sum_block(kernel, sample, (sample * self.pixels + first) * self.channels,
                       min(self.block, self.pixels - first), self.sums(sample, 0) + (block + 1) * self.row,
                       self.sums(sample, 1) + (block + 1) * self.row)

    cdef void one_part(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t block) noexcept nogil:
        cdef Py_ssize_t first = block * self.block
        self.part(kernel, sample, (sample * self.pixels + first) * self.channels,
                  min(self.block, self.pixels - first))

    cdef void whole(self, const nnp_kernels *kernel, Py_ssize_t sample) noexcept nogil:
        """All passes over a sample, the second backwards: the last pixels are still in the cache."""
        cdef Py_ssize_t block
        self.begin(sample)
        for block in range(self.blocks):
            self.one_sum(kernel, sample, block)
        self.merge(kernel, sample)
        for block in range(self.blocks):
            self.one_part(kernel, sample, self.blocks - 1 - block)

    cdef void run_groups(self) noexcept nogil:
        """A thread has whole samples, if there are enough of them; else all threads share the blocks of all."""
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t team = self.team(), i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            if self.samples % team == 0 or self.samples >= 4 * team or self.blocks == 1:
                for i in prange(self.samples, schedule="static"):
                    self.whole(kernel, i)
            else:
                for i in prange(self.samples, schedule="static"):
                    self.begin(i)
                for i in prange(self.samples * self.blocks, schedule="static"):
                    self.one_sum(kernel, i // self.blocks, i % self.blocks)
                for i in prange(self.samples, schedule="static"):
                    self.merge(kernel, i)
                for i in prange(self.samples * self.blocks, schedule="static"):
                    self.one_part(kernel, i // self.blocks, i % self.blocks)
            nnp_restore_float_mode(mode)


cdef class GroupNorm(Groups):
    """y = (x - mean) * invstd * gamma + beta, then max(y, 0) if relu, with the mean and invstd = 1 / sqrt(var + eps) of
    each group of channels of each sample.

    Parameters
    ----------
    x, y : ndarray of shape (N, C, ...), float32, channels-last; y may be x
    groups : int
        A divisor of C.
    gamma, beta : ndarray of shape (C,), float32, or None for 1 and 0
    eps : float
    mean, invstd : ndarray of shape (N, groups), float32
    relu : bool
    """

    cdef float *y
    cdef double eps
    cdef bint relu

    def __init__(self, x, Py_ssize_t groups, gamma, beta, double eps, mean, invstd, y, bint relu=False):
        Groups.__init__(self, x, groups, mean, invstd, gamma, beta, True)
        self.name = "group_norm"
        self.y, self.eps, self.relu = self.floats(y, write=True), eps, relu
        self.cost((6.0 + relu) * x.size, 12.0 * x.size)

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels,
                        double *first, double *second) noexcept nogil:
        kernel.channel_moments(pixels, self.channels, self.channels, self.x + at, first, second)

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t sample) noexcept nogil:
        cdef double *means = self.sums(sample, 0)
        cdef double *variances = self.sums(sample, 1)
        cdef double mean, variance
        cdef Py_ssize_t group, c
        kernel.merge_moments(self.blocks, self.block, self.pixels, self.channels, self.row, means + self.row,
                             variances + self.row, means, variances)
        for group in range(self.groups):
            mean = variance = 0.0
            for c in range(group * self.of_group, (group + 1) * self.of_group):
                mean = mean + means[c]
            mean = mean / self.of_group
            for c in range(group * self.of_group, (group + 1) * self.of_group):
                variance = variance + variances[c] + (means[c] - mean) * (means[c] - mean)
            self.mean[sample * self.groups + group] = <float> mean
            self.invstd[sample * self.groups + group] = <float> (1.0 / sqrt(variance / self.of_group + self.eps))
        self.affine(sample, self.factors(sample, 0), self.factors(sample, 1))

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels) noexcept nogil:
        kernel.scale_shift(pixels, self.channels, self.x + at, self.factors(sample, 0), self.factors(sample, 1), NULL,
                           self.relu, self.y + at)

    cdef void run(self) noexcept nogil:
        self.run_groups()


cdef class GroupNormGrad(Groups):
    """Gradients of `GroupNorm`. With g = dy where y > 0, or all of dy without ReLU, and n elements in a group:
    dbeta = sum g, dgamma = sum g xhat, dx = invstd (gamma g - (sum of gamma g) / n - xhat (sum of gamma g xhat) / n).

    Parameters
    ----------
    dy, x, dx : ndarray of shape (N, C, ...), float32, channels-last; dx may be dy
    groups : int
    mean, invstd : ndarray of shape (N, groups), float32
    gamma, beta : ndarray of shape (C,), float32, or None for 1 and 0
    dgamma, dbeta : ndarray of shape (C,), float32, or None
    relu : bool
        y is computed again from x, to the bit.
    """

    cdef const float *dy
    cdef float *dx
    cdef float *dgamma
    cdef float *dbeta
    cdef bint relu

    def __init__(self, dy, x, Py_ssize_t groups, mean, invstd, gamma, beta, dx, dgamma, dbeta, bint relu=False):
        Groups.__init__(self, x, groups, mean, invstd, gamma, beta, False)
        self.name = "group_norm_grad"
        self.dy, self.dx, self.relu = self.floats(dy), self.floats(dx, write=True), relu
        self.dgamma = NULL if dgamma is None else self.floats(dgamma, write=True)
        self.dbeta = NULL if dbeta is None else self.floats(dbeta, write=True)
        # A float mean for each channel, for channel_grad_sums, lies after all else.
        self.need(self.shared_bytes + 4 * self.samples * self.row)
        self.cost(9.0 * x.size, 20.0 * x.size)

    cdef float *means(self, Py_ssize_t sample) noexcept nogil:
        return self.factors(self.samples, 0) + sample * self.row

    cdef const float *affine_of_y(self, Py_ssize_t sample, Py_ssize_t which) noexcept nogil:
        return self.factors(sample, 3 + which) if self.relu else NULL

    cdef void begin(self, Py_ssize_t sample) noexcept nogil:
        cdef Py_ssize_t c
        for c in range(self.channels):
            self.means(sample)[c] = self.mean[sample * self.groups + c // self.of_group]
        if self.relu:
            self.affine(sample, self.factors(sample, 3), self.factors(sample, 4))

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels,
                        double *first, double *second) noexcept nogil:
        kernel.channel_grad_sums(pixels, self.channels, self.channels, self.dy + at, self.x + at, NULL,
                                 self.affine_of_y(sample, 0), self.affine_of_y(sample, 1), self.means(sample), first,
                                 second)

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t sample) noexcept nogil:
        cdef double *sum_dy = self.sums(sample, 0)
        cdef double *sum_product = self.sums(sample, 1)
        cdef double n = <double> self.of_group * self.pixels, weight, total, product, invstd, of_x
        cdef Py_ssize_t group, c, block
        memset(sum_dy, 0, 8 * self.channels)
        memset(sum_product, 0, 8 * self.channels)
        for block in range(1, self.blocks + 1):
            for c in range(self.channels):
                sum_dy[c] += sum_dy[block * self.row + c]
                sum_product[c] += sum_product[block * self.row + c]
        for group in range(self.groups):
            total = product = 0.0
            for c in range(group * self.of_group, (group + 1) * self.of_group):
                weight = self.gamma[c] if self.gamma != NULL else 1.0
                total = total + weight * sum_dy[c]
                product = product + weight * sum_product[c]
            invstd = self.invstd[sample * self.groups + group]
            of_x = -invstd * invstd * invstd * product / n
            for c in range(group * self.of_group, (group + 1) * self.of_group):
                self.factors(sample, 0)[c] = <float> (invstd * (self.gamma[c] if self.gamma != NULL else 1.0))
                self.factors(sample, 1)[c] = <float> of_x
                self.factors(sample, 2)[c] = <float> (-invstd * total / n - of_x * self.means(sample)[c])

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t sample, Py_ssize_t at, Py_ssize_t pixels) noexcept nogil:
        kernel.batch_norm_grad(pixels, self.channels, self.dy + at, self.x + at, NULL, self.affine_of_y(sample, 0),
                               self.affine_of_y(sample, 1), self.factors(sample, 0), self.factors(sample, 1),
                               self.factors(sample, 2), self.dx + at, NULL)

    cdef void run(self) noexcept nogil:
        cdef Py_ssize_t sample, c
        cdef double dgamma, dbeta
        self.run_groups()
        for c in range(self.channels):
            dgamma = dbeta = 0.0
            for sample in range(self.samples):
                dbeta = dbeta + self.sums(sample, 0)[c]
                dgamma = dgamma + self.sums(sample, 1)[c] * self.invstd[sample * self.groups + c // self.of_group]
            if self.dgamma != NULL:
                self.dgamma[c] = <float> dgamma
            if self.dbeta != NULL:
                self.dbeta[c] = <float> dbeta


cdef class LocalResponse(Step):
    """y = x * (k + scale * the sum of x^2 over the channels nearby)^-beta, or with dy the gradient of that.

    Parameters
    ----------
    x, y : ndarray of shape (N, C, ...), float32, channels-last; y may be x
    before, after : int
        Channels c - before to c + after are near c.
    scale, beta, k : float
    dy : ndarray of x's shape, channels-last, or None
        Then y gets the gradient of x, and may be dy.
    """

    cdef const float *x
    cdef const float *dy
    cdef float *y
    cdef nnp_response response
    cdef Py_ssize_t pixels, channels, block

    def __init__(self, x, y, Py_ssize_t before, Py_ssize_t after, float scale, float beta, float k, dy=None):
        self.name = "local_response_norm" if dy is None else "local_response_norm_grad"
        self.x, self.y, self.channels = self.floats(x), self.floats(y, write=True), x.shape[1]
        self.dy = NULL if dy is None else self.floats(dy)
        self.pixels = x.size // max(1, self.channels)
        self.response = nnp_response(before, after, scale, beta, k)
        self.block = max(1, ELEMENTS // max(1, self.channels))
        self.cost((before + after + 20.0) * x.size, (8.0 if dy is None else 12.0) * x.size)
        self.need(0, 12 * self.channels)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.pixels, self.block, schedule="static"):
                self.some(kernel, i, min(self.block, self.pixels - i),
                          <float *> self.own())
            nnp_restore_float_mode(mode)

    cdef void some(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels, float *scratch) noexcept nogil:
        cdef Py_ssize_t at = pixel * self.channels
        if self.dy == NULL:
            kernel.local_response(pixels, self.channels, &self.response, self.x + at, scratch, self.y + at)
        else:
            kernel.local_response_grad(pixels, self.channels, &self.response, self.dy + at, self.x + at, scratch,
                                       self.y + at)
