"""Optimizer updates: one pass over the flat buffer of all parameters."""

from cython.parallel cimport parallel, prange

from nnpar._kernels.csrc cimport (nnp_adam, nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_restore_float_mode,
                                  nnp_sgd)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step

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
