"""Optimizer updates: one pass over the flat buffer of all parameters."""

from cython.parallel cimport parallel, prange
from libc.math cimport isfinite, sqrt, sqrtf
from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

from nnpar._kernels.csrc cimport (NNP_CLIP, nnp_activation, nnp_adam, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode, nnp_sgd)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div

cdef enum:
    BLOCK = 4096           # parameters of a task


cdef class Update(Step):
    """Common part.

    Parameters
    ----------
    parameters, gradients : ndarray of shape (n,), float32
    """

    cdef float *w
    cdef const float *grad
    cdef Py_ssize_t n

    def __init__(self, parameters, gradients):
        self.w, self.grad, self.n = self.floats(parameters, write=True), self.floats(gradients), parameters.size

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        pass

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                self.block(kernel, i, min(BLOCK, self.n - i))
            nnp_restore_float_mode(mode)


cdef class SGDUpdate(Update):
    """One step of SGD; momentum_buffer, ndarray of shape (n,), float32, is None without momentum."""

    cdef nnp_sgd s
    cdef float *momentum_buffer

    def __init__(self, parameters, gradients, momentum_buffer):
        Update.__init__(self, parameters, gradients)
        self.name = "sgd"
        self.momentum_buffer = NULL if momentum_buffer is None else self.floats(momentum_buffer, write=True)
        self.cost(6.0 * self.n, (12.0 if momentum_buffer is None else 20.0) * self.n)

    def set(self, lr, momentum, dampening, weight_decay, nesterov, first_step):
        """Settings of the next run."""
        self.s = nnp_sgd(lr, momentum if self.momentum_buffer != NULL else 0.0, 1.0 - dampening, weight_decay,
                         nesterov, first_step)

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        kernel.sgd(n, self.s, self.w + i, self.grad + i,
                   self.momentum_buffer + i if self.momentum_buffer != NULL else NULL)


cdef class AdamUpdate(Update):
    """One step of Adam or AdamW; the moments are ndarrays of shape (n,), float32."""

    cdef nnp_adam s
    cdef float *exp_avg
    cdef float *exp_avg_sq

    def __init__(self, parameters, gradients, exp_avg, exp_avg_sq):
        Update.__init__(self, parameters, gradients)
        self.name = "adam"
        self.exp_avg, self.exp_avg_sq = self.floats(exp_avg, write=True), self.floats(exp_avg_sq, write=True)
        self.cost(12.0 * self.n, 28.0 * self.n)

    def set(self, lr, beta1, beta2, eps, weight_decay, decoupled, step):
        """Settings of the next run; `step` counts from 1."""
        self.s = nnp_adam(lr / (1.0 - beta1**step), (1.0 - beta2**step)**-0.5, beta1, 1.0 - beta1, beta2, 1.0 - beta2,
                          eps, 0.0 if decoupled else weight_decay, 1.0 - lr * weight_decay if decoupled else 1.0)

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        kernel.adam(n, self.s, self.w + i, self.grad + i, self.exp_avg + i, self.exp_avg_sq + i)


cdef class RMSpropUpdate(Update):
    """One step of RMSprop; the averages are ndarrays of shape (n,), float32, or None where they are not wanted."""

    cdef float lr, alpha, eps, weight_decay, momentum
    cdef float *square
    cdef float *mean
    cdef float *buffer

    def __init__(self, parameters, gradients, square, mean, buffer):
        Update.__init__(self, parameters, gradients)
        self.name = "rmsprop"
        self.square = self.floats(square, write=True)
        self.mean = NULL if mean is None else self.floats(mean, write=True)
        self.buffer = NULL if buffer is None else self.floats(buffer, write=True)
        self.cost(12.0 * self.n, (20.0 + 8.0 * (mean is not None) + 8.0 * (buffer is not None)) * self.n)

    def set(self, lr, alpha, eps, weight_decay, momentum):
        """Settings of the next run."""
        self.lr, self.alpha, self.eps, self.weight_decay, self.momentum = lr, alpha, eps, weight_decay, momentum

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i
        cdef float g, variance, fresh = 1.0 - self.alpha
        for i in range(start, start + n):
            g = self.grad[i] + self.weight_decay * self.w[i]
            self.square[i] = self.alpha * self.square[i] + fresh * g * g
            variance = self.square[i]
            if self.mean != NULL:
                self.mean[i] = self.mean[i] + fresh * (g - self.mean[i])
                variance = max(variance - self.mean[i] * self.mean[i], <float> 0.0)
            g = g / (sqrtf(variance) + self.eps)
            if self.buffer != NULL:
                g = self.momentum * self.buffer[i] + g
                self.buffer[i] = g
            self.w[i] -= self.lr * g


cdef class AdagradUpdate(Update):
    """One step of Adagrad; `total`, ndarray of shape (n,), float32, is the sum of the gradients' squares."""

    cdef float lr, eps, weight_decay
    cdef float *total

    def __init__(self, parameters, gradients, total):
        Update.__init__(self, parameters, gradients)
        self.name = "adagrad"
        self.total = self.floats(total, write=True)
        self.cost(8.0 * self.n, 20.0 * self.n)

    def set(self, lr, eps, weight_decay):
        """Settings of the next run."""
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i
        cdef float g
        for i in range(start, start + n):
            g = self.grad[i] + self.weight_decay * self.w[i]
            self.total[i] += g * g
            self.w[i] -= self.lr * g / (sqrtf(self.total[i]) + self.eps)


cdef class LayerwiseUpdate(Update):
    """Common part of LARS and LAMB: each parameter array has a factor of its own, the ratio of two norms.

    Parameters
    ----------
    parameters, gradients : ndarray of shape (n,), float32
    arrays : sequence of (start, size, adapted)
        Where each array lies, and whether it has weight decay and such a factor, or 1.
    """

    cdef const int64_t *start     # of each task: where its numbers begin, how many they are, and whose
    cdef const int64_t *size
    cdef const int64_t *owner
    cdef const int64_t *adapted
    cdef Py_ssize_t tasks, owners
    cdef float[BLOCK] zeros

    def __init__(self, parameters, gradients, arrays):
        Update.__init__(self, parameters, gradients)
        tasks = [(start + i, min(BLOCK, size - i), number) for number, (start, size, _) in enumerate(arrays)
                 for i in range(0, size, BLOCK)]
        start, size, owner = np.array(tasks, np.int64).reshape(-1, 3).T.copy()
        self.start, self.size, self.owner = self.labels(start), self.labels(size), self.labels(owner)
        self.adapted = self.labels(np.array([adapted for *_, adapted in arrays], np.int64))
        self.tasks, self.owners = len(tasks), len(arrays)
        self.need(2 * aligned(8 * self.tasks) + aligned(8 * self.owners))

    cdef double squares(self, const nnp_kernels *kernel, Py_ssize_t n, const float *x) noexcept nogil:
        return kernel.squared_error(n, x, self.zeros, 0.0, NULL)

    cdef double measure(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n, bint adapted) noexcept nogil:
        """The sum of the squares of a block of what shall be as long as the parameters."""
        return 0.0

    cdef double factor(self, double of_w, double of_other) noexcept nogil:
        """Out of the norms of the parameters and of the other."""
        return 1.0

    cdef void apply(self, Py_ssize_t i, Py_ssize_t n, bint adapted, float factor) noexcept nogil:
        pass

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *of_w = <double *> self.workspace
        cdef double *of_other = <double *> (self.workspace + aligned(8 * self.tasks))
        cdef double *factors = <double *> (self.workspace + 2 * aligned(8 * self.tasks))
        cdef double w, other
        cdef Py_ssize_t i, k = 0, owner
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                of_w[i] = self.squares(kernel, self.size[i], self.w + self.start[i])
                of_other[i] = self.measure(kernel, self.start[i], self.size[i], self.adapted[self.owner[i]])
            nnp_restore_float_mode(mode)
        for owner in range(self.owners):
            w, other = 0.0, 0.0
            while k < self.tasks and self.owner[k] == owner:
                w += of_w[k]
                other += of_other[k]
                k += 1
            factors[owner] = self.factor(sqrt(w), sqrt(other)) if self.adapted[owner] else 1.0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                self.apply(self.start[i], self.size[i], self.adapted[self.owner[i]], <float> factors[self.owner[i]])
            nnp_restore_float_mode(mode)


cdef class LARSUpdate(LayerwiseUpdate):
    """One step of LARS; momentum_buffer is an ndarray of shape (n,), float32."""

    cdef float lr, momentum, weight_decay
    cdef double trust, eps
    cdef float *buffer

    def __init__(self, parameters, gradients, arrays, momentum_buffer):
        LayerwiseUpdate.__init__(self, parameters, gradients, arrays)
        self.name = "lars"
        self.buffer = self.floats(momentum_buffer, write=True)
        self.cost(10.0 * self.n, 28.0 * self.n)

    def set(self, lr, momentum, weight_decay, trust, eps):
        """Settings of the next run."""
        self.lr, self.momentum, self.weight_decay, self.trust, self.eps = lr, momentum, weight_decay, trust, eps

    cdef double measure(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n, bint adapted) noexcept nogil:
        return self.squares(kernel, n, self.grad + i)

    cdef double factor(self, double of_w, double of_other) noexcept nogil:
        if of_w == 0.0 or of_other == 0.0:
            return 1.0
        return self.trust * of_w / (of_other + self.weight_decay * of_w + self.eps)

    cdef void apply(self, Py_ssize_t start, Py_ssize_t n, bint adapted, float factor) noexcept nogil:
        cdef float decay = self.weight_decay if adapted else 0.0, rate = self.lr * factor
        cdef Py_ssize_t i
        for i in range(start, start + n):
            self.buffer[i] = self.momentum * self.buffer[i] + rate * (self.grad[i] + decay * self.w[i])
            self.w[i] -= self.buffer[i]


cdef class LAMBUpdate(LayerwiseUpdate):
    """One step of LAMB; the moments are ndarrays of shape (n,), float32."""

    cdef float lr, beta1, beta2, eps, weight_decay, scale1, scale2
    cdef float *exp_avg
    cdef float *exp_avg_sq

    def __init__(self, parameters, gradients, arrays, exp_avg, exp_avg_sq):
        LayerwiseUpdate.__init__(self, parameters, gradients, arrays)
        self.name = "lamb"
        self.exp_avg, self.exp_avg_sq = self.floats(exp_avg, write=True), self.floats(exp_avg_sq, write=True)
        self.cost(25.0 * self.n, 40.0 * self.n)

    def set(self, lr, beta1, beta2, eps, weight_decay, step):
        """Settings of the next run; `step` counts from 1."""
        self.lr, self.beta1, self.beta2, self.eps, self.weight_decay = lr, beta1, beta2, eps, weight_decay
        self.scale1, self.scale2 = 1.0 / (1.0 - beta1**step), 1.0 / (1.0 - beta2**step)

    cdef void direction(self, Py_ssize_t start, Py_ssize_t n, bint adapted, float *r) noexcept nogil:
        cdef float decay = self.weight_decay if adapted else 0.0
        cdef Py_ssize_t i
        for i in range(n):
            r[i] = (self.exp_avg[start + i] * self.scale1 / (sqrtf(self.exp_avg_sq[start + i] * self.scale2) + self.eps)
                    + decay * self.w[start + i])

    cdef double measure(self, const nnp_kernels *kernel, Py_ssize_t start, Py_ssize_t n, bint adapted) noexcept nogil:
        cdef float[BLOCK] r
        cdef Py_ssize_t i
        for i in range(start, start + n):
            self.exp_avg[i] = self.beta1 * self.exp_avg[i] + (1.0 - self.beta1) * self.grad[i]
            self.exp_avg_sq[i] = self.beta2 * self.exp_avg_sq[i] + (1.0 - self.beta2) * self.grad[i] * self.grad[i]
        self.direction(start, n, adapted, r)
        return self.squares(kernel, n, r)

    cdef double factor(self, double of_w, double of_other) noexcept nogil:
        return 1.0 if of_w == 0.0 or of_other == 0.0 else of_w / of_other

    cdef void apply(self, Py_ssize_t start, Py_ssize_t n, bint adapted, float factor) noexcept nogil:
        cdef float[BLOCK] r
        cdef Py_ssize_t i
        self.direction(start, n, adapted, r)
        for i in range(n):
            self.w[start + i] -= self.lr * factor * r[i]


cdef class ClipNorm(Update):
    """Scale the gradients, if their Euclidean norm is above `most`, so that it is `most`.

    Attributes
    ----------
    norm : float
        Of the latest run, before it scaled them.
    """

    cdef readonly double norm
    cdef double most
    cdef float *gradients
    cdef float[BLOCK] zeros

    def __init__(self, gradients, double most):
        Update.__init__(self, gradients, gradients)
        self.name, self.most, self.gradients = "clip_norm", most, self.floats(gradients, write=True)
        self.need(aligned(8 * ceil_div(self.n, BLOCK)))
        self.cost(4.0 * self.n, 12.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *sums = <double *> self.workspace
        cdef double total = 0.0
        cdef Py_ssize_t i, tasks = ceil_div(self.n, BLOCK)
        for i in prange(tasks, schedule="static", num_threads=self.team()):
            sums[i] = kernel.squared_error(min(BLOCK, self.n - i * BLOCK), self.gradients + i * BLOCK, self.zeros, 0.0,
                                           NULL)
        for i in range(tasks):
            total += sums[i]
        self.norm = sqrt(total)
        if isfinite(self.norm) and self.norm > self.most:
            for i in prange(tasks, schedule="static", num_threads=self.team()):
                kernel.scale(min(BLOCK, self.n - i * BLOCK), <float> (self.most / (self.norm + 1e-6)),
                             self.gradients + i * BLOCK)


cdef class ClipValue(Update):
    """Gradients from -most to most."""

    cdef float most

    def __init__(self, gradients, float most):
        Update.__init__(self, gradients, gradients)
        self.name, self.most = "clip_value", most
        self.cost(self.n, 8.0 * self.n)

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        kernel.activation(nnp_activation(NNP_CLIP, -self.most, self.most, 0.0), n, self.w + i, self.w + i)


cdef class Scale(Update):
    """``y = factor * x``, which may be the same; flat arrays, float32."""

    cdef float factor

    def __init__(self, x, y):
        Update.__init__(self, y, x)
        self.name = "scale"
        self.cost(self.n, 8.0 * self.n)

    def by(self, double factor):
        """Run with this factor."""
        self.factor = <float> factor
        self()

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
        if self.w != self.grad:
            memcpy(self.w + i, self.grad + i, 4 * n)
        kernel.scale(n, self.factor, self.w + i)


cdef class Average(Update):
    """``average = decay * average + (1 - decay) * values``, at first ``average = values``; flat arrays, float32."""

    cdef float decay
    cdef bint begun

    def __init__(self, average, values, float decay):
        Update.__init__(self, average, values)
        self.name, self.decay = "average", decay
        self.cost(3.0 * self.n, 12.0 * self.n)

    def begin(self, bint begun):
        """Whether the next run moves an average that is there, or is the first."""
        self.begun = begun

    cdef void run(self) noexcept nogil:
        Update.run(self)
        self.begun = True

    cdef void block(self, const nnp_kernels *kernel, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i
        if not self.begun:
            memcpy(self.w + start, self.grad + start, 4 * n)
            return
        for i in range(start, start + n):
            self.w[i] += (1.0 - self.decay) * (self.grad[i] - self.w[i])
