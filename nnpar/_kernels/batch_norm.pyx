"""Batch normalisation in two passes each way: sums over the pixels of each channel, then one over the elements.

Sums are of blocks of pixels, in double, and are put together in the order of the blocks. Their number depends on the
shape alone. The second pass goes backwards, over the pixels that the thread has summed: the last of them are still in
its cache. Where several processes normalise together, a Python function makes the sums theirs in between.
"""

import numpy

from cython.parallel cimport parallel, prange
from libc.math cimport sqrt
from libc.string cimport memcpy

from nnpar._kernels.csrc cimport nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_restore_float_mode
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    SUM_BLOCKS = 256       # partial sums, at most
    SUM_ELEMENTS = 32768   # elements of a partial sum, about
    SUM_PIXELS = 64        # and its pixels: it costs as much memory as four of them
    EVEN_BLOCKS = 4        # their number is a multiple, so that a few threads get as many each
    MERGE_CHANNELS = 256   # channels of a task that puts partial sums together
    ELEMENTS = 16384       # elements that the second pass goes forward, before it goes on with those before


cdef class Pixels(Step):
    """Common part.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W), float32, channels-last
    """

    cdef const float *x
    cdef Py_ssize_t size, pixels, channels

    def __init__(self, x):
        self.x, self.size, self.channels = self.floats(x), x.size, x.shape[1]
        self.pixels = self.size // max(1, self.channels)

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels) noexcept nogil:
        pass

    cdef void run_backwards(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
        """`part` for the pixels from `first` up to `end`, the last ones first."""
        cdef Py_ssize_t block = max(1, ELEMENTS // max(1, self.channels))
        while end > first:
            self.part(kernel, max(first, end - block), min(block, end - first))
            end -= block


cdef class Sums(Pixels):
    """Common part of the steps that sum over pixels: two doubles for each channel, of each block and of all."""

    cdef Py_ssize_t block, blocks, row
    cdef double count       # pixels, of all processes
    cdef object exchange, mine
    cdef double *shared     # the memory of `mine`: sums that go to `exchange` and come back

    def __init__(self, x):
        Pixels.__init__(self, x)
        self.count, self.shared = self.pixels, NULL
        few = self.pixels <= 2 * SUM_PIXELS or self.size <= SUM_ELEMENTS // EVEN_BLOCKS
        worth = min(self.size // SUM_ELEMENTS, self.pixels // SUM_PIXELS, SUM_BLOCKS - EVEN_BLOCKS) // EVEN_BLOCKS
        self.block = max(1, ceil_div(self.pixels, 1 if few else EVEN_BLOCKS * (1 + worth)))
        self.blocks = ceil_div(self.pixels, self.block)
        self.row = aligned(8 * self.channels) // 8
        self.need(16 * self.row * (self.blocks + 1))

    cdef share(self, exchange):
        """Have the sums made those of all processes by `exchange`, if it is given."""
        if exchange is not None:
            self.exchange, self.mine = exchange, numpy.zeros((2, self.channels))
            self.shared = self.doubles(self.mine)

    cdef double *sums(self, Py_ssize_t which) noexcept nogil:
        """The first (0) or second (1) sums: of all pixels, then of each block."""
        return <double *> self.workspace + which * self.row * (self.blocks + 1)

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        pass

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels, double *first,
                        double *second) noexcept nogil:
        pass

    cdef void sum_blocks(self, const nnp_kernels *kernel, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        cdef Py_ssize_t i, pixel
        for i in range(start, end):
            pixel = i * self.block
            self.sum_block(kernel, pixel, min(self.block, self.pixels - pixel), self.sums(0) + (i + 1) * self.row,
                           self.sums(1) + (i + 1) * self.row)

    cdef void finish(self, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        """What follows from the sums of some channels."""
        pass

    cdef void run_elements(self) noexcept nogil:
        """`part` for all pixels."""
        cdef const nnp_kernels *kernel = kernels()
        cdef int team = self.team(), share
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            for share in prange(team, schedule="static"):
                self.run_backwards(kernel, self.blocks * share // team * self.block,
                                   min(self.pixels, self.blocks * (share + 1) // team * self.block))
            nnp_restore_float_mode(mode)

    cdef bint run_exchange(self) noexcept nogil:
        """Make the sums those of all processes, and finish; whether that worked."""
        cdef Py_ssize_t nbytes = 8 * self.channels
        memcpy(self.shared, self.sums(0), nbytes)
        memcpy(self.shared + self.channels, self.sums(1), nbytes)
        self.call_exchange()
        if self.stopped:
            return False
        memcpy(self.sums(0), self.shared, nbytes)
        memcpy(self.sums(1), self.shared + self.channels, nbytes)
        self.finish(0, self.channels)
        return True

    # A function of its own: one that may take the lock is slow even where it does not.
    cdef void call_exchange(self) noexcept with gil:
        try:
            self.count = self.exchange(self.pixels, self.mine)
        except BaseException as error:
            self.error = error
            self.stopped = True

    cdef void run_sums(self, bint then_elements) noexcept nogil:
        """`sum_block` for each block, `merge` for all channels, `part` for all pixels. A thread has the same pixels
        both times."""
        cdef const nnp_kernels *kernel = kernels()
        cdef int team = self.team(), share
        cdef Py_ssize_t channel
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            for share in prange(team, schedule="static"):
                self.sum_blocks(kernel, self.blocks * share // team, self.blocks * (share + 1) // team)
            for channel in prange(0, self.channels, MERGE_CHANNELS, schedule="static"):
                self.merge(kernel, channel, min(MERGE_CHANNELS, self.channels - channel))
            if then_elements:
                for share in prange(team, schedule="static"):
                    self.run_backwards(kernel, self.blocks * share // team * self.block,
                                       min(self.pixels, self.blocks * (share + 1) // team * self.block))
            nnp_restore_float_mode(mode)


cdef class BatchStatistics(Sums):
    """mean, and invstd = 1 / sqrt(biased variance + eps), of each channel.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W), float32, channels-last
    mean, invstd : ndarray of shape (C,), float32
    eps : float
    running_mean, running_var : ndarray of shape (C,), float32, or None
        Become (1 - momentum) times themselves plus momentum times the mean and the unbiased variance; at least two
        pixels then.
    momentum : float
    exchange : callable, optional
        Given the number of pixels, and mean and biased variance, ndarray of shape (2, C), float64, makes these all
        processes', and returns their number of pixels.
    """

    cdef float *mean
    cdef float *invstd
    cdef float *running_mean
    cdef float *running_var
    cdef double eps, momentum

    def __init__(self, x, mean, invstd, double eps, running_mean, running_var, double momentum, exchange=None):
        Sums.__init__(self, x)
        self.name = "batch_norm2d_statistics"
        self.mean, self.invstd = self.floats(mean, write=True), self.floats(invstd, write=True)
        self.running_mean = NULL if running_mean is None else self.floats(running_mean, write=True)
        self.running_var = NULL if running_var is None else self.floats(running_var, write=True)
        self.eps, self.momentum = eps, momentum
        self.share(exchange)
        self.cost(4.0 * self.size, 4.0 * self.size)

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels, double *first,
                        double *second) noexcept nogil:
        kernel.channel_moments(pixels, self.channels, self.channels, self.x + pixel * self.channels, first, second)

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        cdef double *mean = self.sums(0) + channel
        cdef double *variance = self.sums(1) + channel
        kernel.merge_moments(self.blocks, self.block, self.pixels, channels, self.row, mean + self.row,
                             variance + self.row, mean, variance)
        if self.shared == NULL:
            self.finish(channel, channels)

    cdef void finish(self, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        cdef const double *mean = self.sums(0)
        cdef const double *variance = self.sums(1)
        cdef Py_ssize_t c
        for c in range(channel, channel + channels):
            self.mean[c] = <float> mean[c]
            self.invstd[c] = <float> (1.0 / sqrt(variance[c] + self.eps))
            if self.running_mean != NULL:
                move(self.running_mean + c, mean[c], self.momentum)
            if self.running_var != NULL:
                move(self.running_var + c, variance[c] * self.count / (self.count - 1.0), self.momentum)

    cdef void run(self) noexcept nogil:
        self.run_sums(False)
        if self.shared != NULL:
            self.run_exchange()


cdef void move(float *running, double value, double momentum) noexcept nogil:
    running[0] = <float> ((1.0 - momentum) * running[0] + momentum * value)


cdef class InverseDeviation(Step):
    """invstd = 1 / sqrt(var + eps); ndarrays of shape (C,), float32."""

    cdef const float *var
    cdef float *invstd
    cdef Py_ssize_t n
    cdef double eps

    def __init__(self, var, invstd, double eps):
        self.name = "inverse_deviation"
        self.var, self.invstd, self.n, self.eps = self.floats(var), self.floats(invstd, write=True), var.size, eps
        self.cost(3.0 * self.n, 8.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef Py_ssize_t c
        for c in range(self.n):
            self.invstd[c] = <float> (1.0 / sqrt(self.var[c] + self.eps))


cdef class FoldBatchNorm(Step):
    """Weights and bias of a convolution that normalises as well, from those of one that a batch normalisation follows.

    folded_weight[c] = weight[c] * s[c], folded_bias = (bias - mean) * s + beta, where s = gamma / sqrt(var + eps).

    Parameters
    ----------
    weight, folded_weight : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    bias : ndarray of shape (OC,), float32, or None for 0
    mean, var, gamma, beta, folded_bias : ndarray of shape (OC,), float32
    eps : float
    """

    cdef const float *weight
    cdef const float *bias
    cdef const float *mean
    cdef const float *var
    cdef const float *gamma
    cdef const float *beta
    cdef float *folded_weight
    cdef float *folded_bias
    cdef Py_ssize_t channels, size
    cdef double eps

    def __init__(self, weight, bias, mean, var, gamma, beta, double eps, folded_weight, folded_bias):
        self.name = "fold_batch_norm"
        self.weight, self.mean, self.var = self.floats(weight), self.floats(mean), self.floats(var)
        self.bias = NULL if bias is None else self.floats(bias)
        self.gamma, self.beta, self.eps = self.floats(gamma), self.floats(beta), eps
        self.folded_weight = self.floats(folded_weight, write=True)
        self.folded_bias = self.floats(folded_bias, write=True)
        self.channels = weight.shape[0]
        self.size = weight.size // max(1, self.channels)
        self.cost(weight.size, 8.0 * weight.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t c
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for c in prange(self.channels, schedule="static"):
                self.fold(kernel, c)
            nnp_restore_float_mode(mode)

    cdef void fold(self, const nnp_kernels *kernel, Py_ssize_t c) noexcept nogil:
        cdef double scale = self.gamma[c] / sqrt(self.var[c] + self.eps)
        memcpy(self.folded_weight + c * self.size, self.weight + c * self.size, 4 * self.size)
        kernel.scale(self.size, <float> scale, self.folded_weight + c * self.size)
        self.folded_bias[c] = <float> (((self.bias[c] if self.bias != NULL else 0.0) - self.mean[c]) * scale
                                       + self.beta[c])


cdef void affine(Py_ssize_t channels, const float *mean, const float *invstd, const float *gamma, const float *beta,
                 float *scale, float *shift) noexcept nogil:
    """x * scale + shift = (x - mean) * invstd * gamma + beta; gamma and beta may be NULL for 1 and 0."""
    cdef double factor
    cdef Py_ssize_t c
    for c in range(channels):
        factor = <double> invstd[c] * (gamma[c] if gamma != NULL else 1.0)
        scale[c] = <float> factor
        shift[c] = <float> ((beta[c] if beta != NULL else 0.0) - mean[c] * factor)


cdef class BatchNormalize(Pixels):
    """y = (x - mean) * invstd * gamma + beta, + residual, then max(y, 0) if relu.

    Parameters
    ----------
    x, y : ndarray of shape (N, C, H, W), float32, channels-last; y may be x
    residual : ndarray of the same shape, float32, channels-last, or None; y may be it
    mean, invstd : ndarray of shape (C,), float32
    gamma, beta : ndarray of shape (C,), float32, or None for 1 and 0
    relu : bool
    """

    cdef const float *mean
    cdef const float *invstd
    cdef const float *gamma
    cdef const float *beta
    cdef const float *residual
    cdef float *y
    cdef bint relu

    def __init__(self, x, mean, invstd, gamma, beta, residual, y, bint relu):
        Pixels.__init__(self, x)
        self.name = "batch_norm2d_normalize"
        self.mean, self.invstd = self.floats(mean), self.floats(invstd)
        self.gamma = NULL if gamma is None else self.floats(gamma)
        self.beta = NULL if beta is None else self.floats(beta)
        self.residual = NULL if residual is None else self.floats(residual)
        self.y, self.relu = self.floats(y, write=True), relu
        self.need(2 * aligned(4 * self.channels))
        self.cost((2.0 + relu + (residual is not None)) * self.size,
                  (8.0 if residual is None else 12.0) * self.size)

    cdef float *shift(self) noexcept nogil:
        return <float *> (self.workspace + aligned(4 * self.channels))

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels) noexcept nogil:
        cdef Py_ssize_t at = pixel * self.channels
        kernel.scale_shift(pixels, self.channels, self.x + at, <float *> self.workspace, self.shift(),
                           self.residual + at if self.residual != NULL else NULL, self.relu, self.y + at)

    cdef void run(self) noexcept nogil:
        cdef float *scale = <float *> self.workspace
        cdef float *shift = self.shift()
        cdef const nnp_kernels *kernel = kernels()
        cdef int team = self.team(), share
        cdef nnp_float_mode mode = 0
        affine(self.channels, self.mean, self.invstd, self.gamma, self.beta, scale, shift)
        with parallel(num_threads=team):
            mode = nnp_flush_denormals()
            for share in prange(team, schedule="static"):
                self.run_backwards(kernel, self.pixels * share // team, self.pixels * (share + 1) // team)
            nnp_restore_float_mode(mode)


cdef class BatchNormGrad(Sums):
    """Gradients of y = relu((x - mean) * invstd * gamma + beta + residual), mean and invstd those of x.

    With n pixels, g = dy where y > 0 and 0 elsewhere, and xhat = (x - mean) * invstd:
    dbeta = sum g, dgamma = sum g xhat, dx = gamma invstd (g - dbeta / n - xhat dgamma / n), dresidual = g.

    Parameters
    ----------
    dy, x : ndarray of shape (N, C, H, W), float32, channels-last
    y : ndarray of the same shape, or None without ReLU: then g = dy
    mean, invstd : ndarray of shape (C,), float32
    gamma : ndarray of shape (C,), float32, or None for 1
    dx : ndarray of x's shape, channels-last; may be dy
    dgamma, dbeta : ndarray of shape (C,), float32
    dresidual : ndarray of x's shape, channels-last, or None; may be dy
    beta : ndarray of shape (C,), float32, or None for 0
    relu_of_x : bool
        With ReLU and without residual: y, which is None then, is computed again from x, to the bit, since memory is
        slower than that.
    exchange : callable, optional
        Given the number of pixels, and sum g and sum g (x - mean), ndarray of shape (2, C), float64, makes these all
        processes', and returns their number of pixels. dgamma and dbeta stay this process's.
    """

    cdef const float *dy
    cdef const float *y
    cdef const float *beta
    cdef bint relu_of_x
    cdef const float *mean
    cdef const float *invstd
    cdef const float *gamma
    cdef float *dx
    cdef float *dgamma
    cdef float *dbeta
    cdef float *dresidual

    def __init__(self, dy, x, y, mean, invstd, gamma, dx, dgamma, dbeta, dresidual, beta=None, bint relu_of_x=False,
                 exchange=None):
        Sums.__init__(self, x)
        self.name = "batch_norm2d_grad"
        self.dy, self.y = self.floats(dy), NULL if y is None else self.floats(y)
        self.mean, self.invstd = self.floats(mean), self.floats(invstd)
        self.gamma = NULL if gamma is None else self.floats(gamma)
        self.dx, self.dresidual = self.floats(dx, write=True), NULL
        self.dgamma, self.dbeta = self.floats(dgamma, write=True), self.floats(dbeta, write=True)
        if dresidual is not None:
            self.dresidual = self.floats(dresidual, write=True)
        self.beta, self.relu_of_x = NULL if beta is None else self.floats(beta), relu_of_x
        self.share(exchange)
        # Sums of doubles lie before the three factors of the second pass, and before scale and shift.
        self.need(self.shared_bytes + 5 * aligned(4 * self.channels))
        arrays = 5 + 2 * (y is not None) + (dresidual is not None)
        self.cost(9.0 * self.size, 4.0 * arrays * self.size)

    cdef float *factors(self, Py_ssize_t which) noexcept nogil:
        """Of dy (0), of x (1), and what is added (2); scale (3) and shift (4) of y."""
        return <float *> (self.workspace + 16 * self.row * (self.blocks + 1) + which * aligned(4 * self.channels))

    cdef const float *y_at(self, Py_ssize_t pixel) noexcept nogil:
        return self.y + pixel * self.channels if self.y != NULL else NULL

    cdef const float *affine_of_y(self, Py_ssize_t which) noexcept nogil:
        return self.factors(3 + which) if self.relu_of_x else NULL

    cdef void sum_block(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels, double *first,
                        double *second) noexcept nogil:
        cdef Py_ssize_t at = pixel * self.channels
        kernel.channel_grad_sums(pixels, self.channels, self.channels, self.dy + at, self.x + at, self.y_at(pixel),
                                 self.affine_of_y(0), self.affine_of_y(1), self.mean, first, second)

    cdef void part(self, const nnp_kernels *kernel, Py_ssize_t pixel, Py_ssize_t pixels) noexcept nogil:
        cdef Py_ssize_t at = pixel * self.channels
        kernel.batch_norm_grad(pixels, self.channels, self.dy + at, self.x + at, self.y_at(pixel), self.affine_of_y(0),
                               self.affine_of_y(1), self.factors(0), self.factors(1), self.factors(2), self.dx + at,
                               self.dresidual + at if self.dresidual != NULL else NULL)

    cdef void merge(self, const nnp_kernels *kernel, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        cdef double *sum_dy = self.sums(0)
        cdef double *sum_product = self.sums(1)
        cdef Py_ssize_t c, block
        for c in range(channel, channel + channels):
            sum_dy[c] = sum_product[c] = 0.0
        for block in range(1, self.blocks + 1):
            for c in range(channel, channel + channels):
                sum_dy[c] += sum_dy[block * self.row + c]
                sum_product[c] += sum_product[block * self.row + c]
        for c in range(channel, channel + channels):
            self.dbeta[c] = <float> sum_dy[c]
            self.dgamma[c] = <float> (sum_product[c] * self.invstd[c])
        if self.shared == NULL:
            self.finish(channel, channels)

    cdef void finish(self, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
        cdef const double *sum_dy = self.sums(0)
        cdef const double *sum_product = self.sums(1)
        cdef double of_dy, of_x
        cdef Py_ssize_t c
        for c in range(channel, channel + channels):
            of_dy = <double> self.invstd[c] * (self.gamma[c] if self.gamma != NULL else 1.0)
            of_x = -of_dy * self.invstd[c] * self.invstd[c] * sum_product[c] / self.count
            self.factors(0)[c] = <float> of_dy
            self.factors(1)[c] = <float> of_x
            self.factors(2)[c] = <float> (-of_dy * sum_dy[c] / self.count - of_x * self.mean[c])

    cdef void run(self) noexcept nogil:
        if self.relu_of_x:
            affine(self.channels, self.mean, self.invstd, self.gamma, self.beta, self.factors(3), self.factors(4))
        self.run_sums(self.shared == NULL)
        if self.shared != NULL and self.run_exchange():
            self.run_elements()
