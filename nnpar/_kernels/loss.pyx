"""Softmax and losses: the mean over the batch, its gradient, and how many samples were classified right.

The loss of each task, a fixed number of samples or elements, is stored, and the losses are added in the order of the
tasks.
"""

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t, uint8_t

from nnpar._kernels.csrc cimport (NNP_SOFTMAX_SAMPLES, nnp_float_mode, nnp_flush_denormals, nnp_kernels,
                                  nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div


cdef enum:
    BLOCK = 4096           # elements of a task


cdef class Loss(Step):
    """Common part: `result`, ndarray of shape (2,), float64, gets the sum of the losses and the number of correct
    samples. A task is `size_of_task` of the `things`: samples or elements. Where a sample has `parts`, both are divided
    by their number."""

    cdef const float *prediction
    cdef float *grad
    cdef double *result
    cdef Py_ssize_t samples, size, things, size_of_task, tasks, parts

    def __init__(self, prediction, grad, result, things, size_of_task, parts=1):
        self.prediction = self.floats(prediction)
        self.grad = NULL if grad is None else self.floats(grad, write=True)
        self.result = self.doubles(result)
        self.samples = prediction.shape[0]
        self.size = prediction.size // max(1, self.samples)
        self.things, self.size_of_task, self.parts = things, size_of_task, parts
        self.tasks = ceil_div(self.things, self.size_of_task)
        self.workspace_bytes = aligned(8 * self.tasks) + aligned(self.tasks)
        self.cost(20.0 * prediction.size, 8.0 * prediction.size)

    cdef double one(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t n, uint8_t *correct) noexcept nogil:
        return 0.0

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *losses = <double *> self.workspace
        cdef uint8_t *correct = <uint8_t *> self.workspace + aligned(8 * self.tasks)
        cdef Py_ssize_t i, first
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                first = i * self.size_of_task
                losses[i] = self.one(kernel, first, min(self.size_of_task, self.things - first), correct + i)
            nnp_restore_float_mode(mode)
        self.result[0] = 0.0
        self.result[1] = 0.0
        for i in range(self.tasks):
            self.result[0] += losses[i]
            self.result[1] += correct[i]
        self.result[0] /= self.parts
        self.result[1] /= self.parts


cdef class SoftmaxCrossEntropy(Loss):
    """Losses -log softmax(logits)[label]; grad = (softmax(logits) - onehot) / N.

    Parameters
    ----------
    logits : ndarray of shape (N, K), float32, contiguous
        With `parts`, such as pixels, N counts them.
    labels : ndarray of shape (N,), int64, 0 <= label < K
    grad : ndarray of shape (N, K), float32, contiguous, or None
    result : ndarray of shape (2,), float64
    parts : int
        Of a sample: its loss is the mean of theirs, and it is correct in so far as they are.
    """

    cdef const int64_t *label

    def __init__(self, logits, labels, grad, result, parts=1):
        Loss.__init__(self, logits, grad, result, logits.shape[0], NNP_SOFTMAX_SAMPLES, parts)
        self.name = "cross_entropy"
        self.label = self.labels(labels)

    cdef double one(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t n, uint8_t *correct) noexcept nogil:
        cdef Py_ssize_t at = first * self.size
        return kernel.softmax_cross_entropy(n, self.size, self.prediction + at, self.label + first,
                                            1.0 / self.samples, self.grad + at if self.grad != NULL else NULL, correct)


cdef class SquaredError(Loss):
    """Losses mean((prediction - target)^2) of a sample; grad = 2 (prediction - target) / size.

    Parameters
    ----------
    prediction, target : ndarray of shape (N, ...), float32, one memory layout
    grad : ndarray of the same shape, float32, or None
    result : ndarray of shape (2,), float64
        result[1] stays 0.
    """

    cdef const float *target

    def __init__(self, prediction, target, grad, result):
        Loss.__init__(self, prediction, grad, result, prediction.size, BLOCK)
        self.name = "mse"
        self.target = self.floats(target)

    cdef double one(self, const nnp_kernels *kernel, Py_ssize_t first, Py_ssize_t n, uint8_t *correct) noexcept nogil:
        correct[0] = 0
        return kernel.squared_error(n, self.prediction + first, self.target + first, 2.0 / self.things,
                                    self.grad + first if self.grad != NULL else NULL) / self.size
