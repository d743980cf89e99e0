"""Activations, element by element, and softmax of rows."""

from cython.parallel cimport parallel, prange

from nnpar._kernels.csrc cimport (NNP_ABS, NNP_CLIP, NNP_ELU, NNP_ERF, NNP_EXP, NNP_GELU, NNP_GELU_TANH,
                                  NNP_HARDSIGMOID, NNP_HARDSWISH, NNP_LEAKY, NNP_LOG, NNP_MISH, NNP_RECIPROCAL,
                                  NNP_SCALE, NNP_SIGMOID, NNP_SILU, NNP_SOFTPLUS, NNP_SOFTSIGN, NNP_SQRT, NNP_TANH,
                                  NNP_THRESHOLD, NNP_SOFTMAX_SAMPLES, nnp_activation, nnp_float_mode,
                                  nnp_flush_denormals, nnp_kernels, nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step

cdef enum:
    BLOCK = 4096  # elements of a task

KINDS = {"abs": NNP_ABS, "clip": NNP_CLIP, "elu": NNP_ELU, "erf": NNP_ERF, "exp": NNP_EXP, "gelu": NNP_GELU,
         "gelu_tanh": NNP_GELU_TANH, "hardsigmoid": NNP_HARDSIGMOID, "hardswish": NNP_HARDSWISH, "leaky": NNP_LEAKY,
         "log": NNP_LOG, "mish": NNP_MISH, "reciprocal": NNP_RECIPROCAL, "scale": NNP_SCALE, "sigmoid": NNP_SIGMOID,
         "silu": NNP_SILU, "softplus": NNP_SOFTPLUS, "softsign": NNP_SOFTSIGN, "sqrt": NNP_SQRT, "tanh": NNP_TANH,
         "threshold": NNP_THRESHOLD}


cdef class Activation(Step):
    """y = f(x), arrays of one memory layout; y may be x. Kinds and constants: nnp_activation in csrc/kernels.h."""

    cdef const float *x
    cdef float *y
    cdef Py_ssize_t n
    cdef nnp_activation s

    def __init__(self, kind, x, y, float a=0.0, float b=0.0, float c=0.0):
        self.name = kind
        self.s.kind, self.s.a, self.s.b, self.s.c = KINDS[kind], a, b, c
        self.x, self.y, self.n = self.floats(x), self.floats(y, write=True), x.size
        self.cost(20.0 * self.n, 8.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                kernel.activation(self.s, min(BLOCK, self.n - i), self.x + i, self.y + i)
            nnp_restore_float_mode(mode)


cdef class ActivationGrad(Step):
    """dx = dy f'(x), where v is x or y, as the kind wants it; dx may be dy or v."""

    cdef const float *dy
    cdef const float *v
    cdef float *dx
    cdef Py_ssize_t n
    cdef nnp_activation s

    def __init__(self, kind, dy, v, dx, float a=0.0, float b=0.0, float c=0.0):
        self.name = f"{kind}_grad"
        self.s.kind, self.s.a, self.s.b, self.s.c = KINDS[kind], a, b, c
        self.dy, self.v, self.dx, self.n = self.floats(dy), self.floats(v), self.floats(dx, write=True), dy.size
        self.cost(20.0 * self.n, 12.0 * self.n)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.n, BLOCK, schedule="static"):
                kernel.activation_grad(self.s, min(BLOCK, self.n - i), self.dy + i, self.v + i, self.dx + i)
            nnp_restore_float_mode(mode)


cdef class PRelu(Step):
    """y = x where x > 0, else w x; x and y (rows, cols) in one memory layout, w one number for all or one for each
    column. y may be x."""

    cdef const float *x
    cdef const float *w
    cdef float *y
    cdef Py_ssize_t rows, cols, last
    cdef int step

    def __init__(self, x, w, y):
        self.name = "prelu"
        self.x, self.w, self.y = self.floats(x), self.floats(w), self.floats(y, write=True)
        self.cols = w.size if w.size > 1 else min(BLOCK, max(1, x.size))
        self.rows = -(-x.size // self.cols)
        self.last = x.size - (self.rows - 1) * self.cols
        self.step = w.size > 1
        self.cost(2.0 * x.size, 8.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.rows, schedule="static"):
                kernel.prelu(self.last if i == self.rows - 1 else self.cols, self.x + i * self.cols, self.w, self.step,
                             self.y + i * self.cols)
            nnp_restore_float_mode(mode)


cdef class PReluGrad(Step):
    """Gradients of PRelu: dx, which may be dy, and each element's part of that of w."""

    cdef const float *dy
    cdef const float *x
    cdef const float *w
    cdef float *dx
    cdef float *dw
    cdef Py_ssize_t rows, cols, last
    cdef int step

    def __init__(self, dy, x, w, dx, dw):
        self.name = "prelu_grad"
        self.dy, self.x, self.w = self.floats(dy), self.floats(x), self.floats(w)
        self.dx, self.dw = self.floats(dx, write=True), self.floats(dw, write=True)
        self.cols = w.size if w.size > 1 else min(BLOCK, max(1, x.size))
        self.rows = -(-x.size // self.cols)
        self.last = x.size - (self.rows - 1) * self.cols
        self.step = w.size > 1
        self.cost(3.0 * x.size, 16.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.rows, schedule="static"):
                kernel.prelu_grad(self.last if i == self.rows - 1 else self.cols, self.dy + i * self.cols,
                                  self.x + i * self.cols, self.w, self.step, self.dx + i * self.cols,
                                  self.dw + i * self.cols)
            nnp_restore_float_mode(mode)


cdef class SoftmaxRows(Step):
    """y (rows, cols) = softmax(x) of each row, or its logarithm; contiguous, y may be x."""

    cdef const float *x
    cdef float *y
    cdef Py_ssize_t rows, cols
    cdef bint log

    def __init__(self, x, y, bint log):
        self.name = "log_softmax" if log else "softmax"
        self.log = log
        self.x, self.y = self.floats(x), self.floats(y, write=True)
        self.cols = x.shape[x.ndim - 1]
        self.rows = x.size // max(1, self.cols)
        self.cost(10.0 * x.size, 8.0 * x.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i, at, n
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(0, self.rows, NNP_SOFTMAX_SAMPLES, schedule="static"):
                at = i * self.cols
                n = min(NNP_SOFTMAX_SAMPLES, self.rows - i)
                if self.log:
                    kernel.log_softmax(n, self.cols, self.x + at, self.y + at)
                else:
                    kernel.softmax(n, self.cols, self.x + at, self.y + at)
            nnp_restore_float_mode(mode)


cdef class SoftmaxRowsGrad(Step):
    """dx of dy and y = softmax(x), or its logarithm, each row by itself; contiguous, dx may be dy."""

    cdef const float *dy
    cdef const float *y
    cdef float *dx
    cdef Py_ssize_t rows, cols
    cdef bint log

    def __init__(self, dy, y, dx, bint log):
        self.name = "log_softmax_grad" if log else "softmax_grad"
        self.log = log
        self.dy, self.y, self.dx = self.floats(dy), self.floats(y), self.floats(dx, write=True)
        self.cols = y.shape[y.ndim - 1]
        self.rows = y.size // max(1, self.cols)
        self.cost(10.0 * y.size, 12.0 * y.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef Py_ssize_t i, at
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.rows, schedule="static"):
                at = i * self.cols
                if self.log:
                    kernel.log_softmax_grad(1, self.cols, self.dy + at, self.y + at, self.dx + at)
                else:
                    kernel.softmax_grad(1, self.cols, self.dy + at, self.y + at, 1.0, self.dx + at)
            nnp_restore_float_mode(mode)
