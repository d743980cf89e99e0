"""Losses: their sum over the batch, the gradient of their mean, and how many samples were classified right.

The loss of each task, a fixed number of samples or elements, is stored, and the losses are added in the order of the
tasks. All write `result`, ndarray of shape (4,), float64: the weighted sum of the samples' losses, the number of
correct samples, the sum of the weights, and the number of samples that count.
"""

from cython.parallel cimport parallel, prange
from libc.math cimport fabs, log1p
from libc.stdint cimport int64_t, uint8_t

from nnpar._kernels.csrc cimport (NNP_LOG, NNP_SIGMOID, NNP_SOFTMAX_SAMPLES, NNP_SOFTPLUS, nnp_activation,
                                  nnp_float_mode, nnp_flush_denormals, nnp_kernels, nnp_restore_float_mode)
from nnpar._kernels.runtime cimport kernels
from nnpar._kernels.step cimport Step, aligned, ceil_div


cdef enum:
    BLOCK = 4096           # elements of a task
    PIECE = 256            # of them, for which functions are computed at once
    SQUARED
    ABSOLUTE
    HUBER
    LOGISTIC
    DIVERGENCE

KINDS = {"mse": SQUARED, "l1": ABSOLUTE, "huber": HUBER, "bce_with_logits": LOGISTIC, "kl_div": DIVERGENCE}


cdef four(result):
    if result.shape != (4,):
        raise ValueError(f"result: expected shape (4,), got {result.shape}")
    return result


cdef class Loss(Step):
    """Common part of the losses without weights. A task is `size_of_task` of the `things`: samples or elements. Where a
    sample has `parts`, losses and the number of correct ones are divided by their number."""

    cdef const float *prediction
    cdef float *grad
    cdef double *result
    cdef Py_ssize_t samples, size, things, size_of_task, tasks, parts

    def __init__(self, prediction, grad, result, things, size_of_task, parts=1):
        self.prediction = self.floats(prediction)
        self.grad = NULL if grad is None else self.floats(grad, write=True)
        self.result = self.doubles(four(result))
        self.samples = prediction.shape[0]
        self.size = prediction.size // max(1, self.samples)
        self.things, self.size_of_task, self.parts = things, size_of_task, parts
        self.tasks = ceil_div(self.things, self.size_of_task)
        self.need(aligned(8 * self.tasks) + aligned(self.tasks))
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
        self.result[2] = self.samples / <double> self.parts
        self.result[3] = self.result[2]


cdef class SoftmaxCrossEntropy(Loss):
    """Losses -log softmax(logits)[label]; grad = (softmax(logits) - onehot) / N.

    Parameters
    ----------
    logits : ndarray of shape (N, K), float32, contiguous
        With `parts`, such as pixels, N counts them.
    labels : ndarray of shape (N,), int64, 0 <= label < K
    grad : ndarray of shape (N, K), float32, contiguous, or None
    result : ndarray of shape (4,), float64
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
    result : ndarray of shape (4,), float64
        Of it, result[1] becomes 0.
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


cdef class WeightedCrossEntropy(Step):
    """Cross-entropy with weights of classes and of samples, labels that do not count, and smoothed labels.

    A row's loss is ``sum over k of c[k] * -log softmax(logits)[k]`` with ``c[k] = smoothing * w[k] / K``, and ``(1 -
    smoothing) * w[label]`` more for the label; it is multiplied by the weight s of its sample. The mean is the sum of
    the losses over the sum of ``s * w[label]``.

    Parameters
    ----------
    logits : ndarray of shape (N, K), float32, contiguous
    labels : ndarray of shape (N,), int64, 0 <= label < K, or `ignored`
    grad : ndarray of shape (N, K), float32, contiguous, or None
    result : ndarray of shape (4,), float64
    parts : int
        Rows of a sample.
    class_weights : ndarray of shape (K,), float32
    sample_weights : ndarray of shape (N / parts,), float32, or None
    ignored : int
    smoothing : float
    """

    cdef const float *logits
    cdef const int64_t *label
    cdef float *grad
    cdef double *result
    cdef const float *class_weight
    cdef const float *sample_weight
    cdef Py_ssize_t rows, classes, parts, tasks
    cdef int64_t ignored
    cdef double smoothing, smooth_total

    def __init__(self, logits, labels, grad, result, Py_ssize_t parts, class_weights, sample_weights, int64_t ignored,
                 double smoothing):
        self.name = "cross_entropy"
        self.rows, self.classes = logits.shape
        self.logits, self.label, self.result = self.floats(logits), self.labels(labels), self.doubles(four(result))
        self.grad = NULL if grad is None else self.floats(grad, write=True)
        self.class_weight = self.floats(class_weights)
        self.sample_weight = NULL if sample_weights is None else self.floats(sample_weights)
        self.parts, self.ignored, self.smoothing = parts, ignored, smoothing / self.classes
        self.smooth_total = self.smoothing * float(class_weights.sum(dtype="d"))
        self.tasks = ceil_div(self.rows, NNP_SOFTMAX_SAMPLES)
        # Losses, weights, correct and counted rows of each task, and softmax where no gradient has room for it.
        self.need(4 * aligned(8 * self.tasks) + (aligned(4 * logits.size) if grad is None else 0))
        self.cost(30.0 * logits.size, 8.0 * logits.size)

    cdef double *of_tasks(self, int what) noexcept nogil:
        return <double *> (self.workspace + what * aligned(8 * self.tasks))

    cdef double weight(self, Py_ssize_t row) noexcept nogil:
        """Of a row's label and sample; 0 if it does not count."""
        if self.label[row] == self.ignored:
            return 0.0
        cdef double w = self.class_weight[self.label[row]]
        return w if self.sample_weight == NULL else w * self.sample_weight[row // self.parts]

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *weights = self.of_tasks(1)
        cdef Py_ssize_t i, k, row
        cdef nnp_float_mode mode = 0
        with parallel(num_threads=self.team()):
            for i in prange(self.tasks, schedule="static"):
                weights[i] = 0.0
                for row in range(i * NNP_SOFTMAX_SAMPLES, min(self.rows, (i + 1) * NNP_SOFTMAX_SAMPLES)):
                    weights[i] = weights[i] + self.weight(row)
        self.total(1, 2)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                self.task(kernel, i, 1.0 / self.result[2] if self.result[2] > 0.0 else 0.0)
            nnp_restore_float_mode(mode)
        self.total(0, 0)
        self.total(2, 1)
        self.total(3, 3)
        for k in range(4):
            self.result[k] /= self.parts

    cdef void total(self, int what, int where) noexcept nogil:
        cdef const double *parts = self.of_tasks(what)
        cdef Py_ssize_t i
        self.result[where] = 0.0
        for i in range(self.tasks):
            self.result[where] += parts[i]

    cdef void task(self, const nnp_kernels *kernel, Py_ssize_t i, double scale) noexcept nogil:
        cdef Py_ssize_t first = i * NNP_SOFTMAX_SAMPLES, n = min(NNP_SOFTMAX_SAMPLES, self.rows - first), row
        cdef float *p = self.grad if self.grad != NULL else <float *> self.of_tasks(4)
        cdef double loss = 0.0, correct = 0.0, counted = 0.0
        cdef bint right = False
        kernel.softmax(n, self.classes, self.logits + first * self.classes, p + first * self.classes)
        for row in range(first, first + n):
            loss = loss + self.row(row, p + row * self.classes, scale, &right)
            correct = correct + (right and self.label[row] != self.ignored)
            counted = counted + (self.label[row] != self.ignored)
        self.of_tasks(0)[i] = loss
        self.of_tasks(2)[i] = correct
        self.of_tasks(3)[i] = counted

    cdef double row(self, Py_ssize_t row, float *p, double scale, bint *right) noexcept nogil:
        """The loss of a row, of which p is the softmax, which becomes the gradient."""
        cdef const float *z = self.logits + row * self.classes
        cdef int64_t label = self.label[row]
        cdef Py_ssize_t k, largest = 0
        cdef double rest = 0.0, smooth = 0.0, sample = 1.0, own, log_sum, slope, smooth_rest
        if label == self.ignored:
            if self.grad != NULL:
                for k in range(self.classes):
                    p[k] = 0.0
            return 0.0
        if self.sample_weight != NULL:
            sample = self.sample_weight[row // self.parts]
        for k in range(self.classes):
            if p[k] > p[largest]:
                largest = k
        for k in range(self.classes):
            rest = rest + (p[k] if k != largest else 0.0)
        right[0] = largest == label
        # log of the sum of exp(z), with all digits where the largest class has nearly all of it.
        log_sum = z[largest] + log1p(rest / p[largest])
        own = (1.0 - self.smoothing * self.classes) * self.class_weight[label]
        if self.smoothing > 0.0:
            for k in range(self.classes):
                smooth = smooth + self.class_weight[k] * (log_sum - z[k])
        if self.grad != NULL:
            slope = (own + self.smooth_total) * sample * scale
            for k in range(self.classes):
                if k != label:
                    p[k] = <float> (p[k] * slope - self.smoothing * self.class_weight[k] * sample * scale)
            # Of the label: 1 - p is the others' sum.
            if right[0]:
                slope = -slope * (rest if rest < 0.5 else 1.0 - p[label])
            else:
                slope = slope * (p[label] - 1.0)
            smooth_rest = self.smooth_total - self.smoothing * self.class_weight[label]
            p[label] = <float> (slope + smooth_rest * sample * scale)
        return sample * (own * (log_sum - z[label]) + self.smoothing * smooth)


cdef class SoftCrossEntropy(Step):
    """Cross-entropy with probabilities as targets; a sample's loss is multiplied by its weight, and the mean is over
    the sum of these: weights of classes change losses only.

    Parameters
    ----------
    logits, targets : ndarray of shape (N, K), float32, contiguous
    grad : ndarray of shape (N, K), float32, contiguous, or None
    result : ndarray of shape (4,), float64
    parts : int
        Rows of a sample.
    class_weights : ndarray of shape (K,), float32
    sample_weights : ndarray of shape (N / parts,), float32, or None
    smoothing : float
    """

    cdef const float *logits
    cdef const float *target
    cdef float *grad
    cdef double *result
    cdef const float *class_weight
    cdef const float *sample_weight
    cdef Py_ssize_t rows, classes, parts, tasks
    cdef double smoothing

    def __init__(self, logits, targets, grad, result, Py_ssize_t parts, class_weights, sample_weights,
                 double smoothing):
        self.name = "cross_entropy"
        self.rows, self.classes = logits.shape
        self.logits, self.target, self.result = self.floats(logits), self.floats(targets), self.doubles(four(result))
        self.grad = NULL if grad is None else self.floats(grad, write=True)
        self.class_weight = self.floats(class_weights)
        self.sample_weight = NULL if sample_weights is None else self.floats(sample_weights)
        self.parts, self.smoothing = parts, smoothing
        self.tasks = ceil_div(self.rows, NNP_SOFTMAX_SAMPLES)
        self.need(2 * aligned(8 * self.tasks))  # losses, and numbers of correct rows
        self.cost(40.0 * logits.size, 12.0 * logits.size)

    cdef double weight(self, Py_ssize_t row) noexcept nogil:
        return 1.0 if self.sample_weight == NULL else self.sample_weight[row // self.parts]

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *losses = <double *> self.workspace
        cdef double *correct = <double *> (self.workspace + aligned(8 * self.tasks))
        cdef double weights = 0.0
        cdef Py_ssize_t i, row
        cdef nnp_float_mode mode = 0
        for row in range(self.rows):
            weights += self.weight(row)
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                self.task(kernel, i, 1.0 / weights if weights > 0.0 else 0.0, losses + i, correct + i)
            nnp_restore_float_mode(mode)
        self.result[0] = 0.0
        self.result[1] = 0.0
        for i in range(self.tasks):
            self.result[0] += losses[i]
            self.result[1] += correct[i]
        self.result[0] /= self.parts
        self.result[1] /= self.parts
        self.result[2] = weights / self.parts
        self.result[3] = self.rows / <double> self.parts

    cdef void task(self, const nnp_kernels *kernel, Py_ssize_t task, double scale, double *loss,
                   double *correct) noexcept nogil:
        cdef Py_ssize_t row, at
        cdef int right = 0
        loss[0] = 0.0
        correct[0] = 0.0
        for row in range(task * NNP_SOFTMAX_SAMPLES, min(self.rows, (task + 1) * NNP_SOFTMAX_SAMPLES)):
            at = row * self.classes
            loss[0] += self.weight(row) * kernel.soft_cross_entropy(
                self.classes, self.logits + at, self.target + at, self.class_weight, self.smoothing,
                self.weight(row) * scale, self.grad + at if self.grad != NULL else NULL, &right)
            correct[0] += right


cdef class ElementwiseLoss(Step):
    """Losses of each element; that of a sample is their mean, of the divergence their sum, times the sample's weight.

    With d = prediction - target: ``d^2``, ``|d|``, Huber's ``d^2 / 2`` up to `delta` and ``delta (|d| - delta / 2)``
    beyond; the logistic loss ``(1 - t) softplus(x) + w t softplus(-x)``, which counts elements on the target's side as
    correct; and the divergence ``t (log(t) - x)`` of logarithms x.

    Parameters
    ----------
    kind : {"mse", "l1", "huber", "bce_with_logits", "kl_div"}
    prediction, target : ndarray of shape (N, ...), float32, one memory layout
    grad : ndarray of the same shape and layout, float32, or None
    result : ndarray of shape (4,), float64
    sample_weights : ndarray of shape (N,), float32, or None
    delta : float
    positive : ndarray of shape (C,), float32, or None
        The weights w, where elements of one class are C apart in memory.
    """

    cdef const float *prediction
    cdef const float *target
    cdef float *grad
    cdef double *result
    cdef const float *sample_weight
    cdef const float *positive
    cdef Py_ssize_t samples, size, tasks, classes
    cdef int kind
    cdef double delta

    def __init__(self, kind, prediction, target, grad, result, sample_weights=None, double delta=1.0, positive=None):
        self.name, self.kind, self.delta = kind, KINDS[kind], delta
        self.prediction, self.target = self.floats(prediction), self.floats(target)
        self.grad = NULL if grad is None else self.floats(grad, write=True)
        self.result = self.doubles(four(result))
        self.sample_weight = NULL if sample_weights is None else self.floats(sample_weights)
        self.positive = NULL if positive is None else self.floats(positive)
        self.classes = 1 if positive is None else positive.size
        self.samples = prediction.shape[0]
        self.size = prediction.size // max(1, self.samples)
        self.tasks = ceil_div(prediction.size, BLOCK)
        self.need(2 * aligned(8 * self.tasks))
        self.cost(20.0 * prediction.size, 12.0 * prediction.size)

    cdef void run(self) noexcept nogil:
        cdef const nnp_kernels *kernel = kernels()
        cdef double *losses = <double *> self.workspace
        cdef double *correct = <double *> (self.workspace + aligned(8 * self.tasks))
        cdef double parts = 1.0 if self.kind == DIVERGENCE else <double> self.size, weights = 0.0
        cdef Py_ssize_t i
        cdef nnp_float_mode mode = 0
        for i in range(self.samples):
            weights += 1.0 if self.sample_weight == NULL else self.sample_weight[i]
        with parallel(num_threads=self.team()):
            mode = nnp_flush_denormals()
            for i in prange(self.tasks, schedule="static"):
                self.task(kernel, i, 1.0 / (weights * parts) if weights > 0.0 else 0.0, losses + i, correct + i)
            nnp_restore_float_mode(mode)
        self.result[0] = 0.0
        self.result[1] = 0.0
        for i in range(self.tasks):
            self.result[0] += losses[i]
            self.result[1] += correct[i]
        self.result[0] /= parts
        self.result[1] /= self.size
        self.result[2] = weights
        self.result[3] = self.samples

    cdef void task(self, const nnp_kernels *kernel, Py_ssize_t task, double scale, double *loss,
                   double *correct) noexcept nogil:
        cdef Py_ssize_t at = task * BLOCK, end = min(self.samples * self.size, at + BLOCK), n
        cdef double weight = 1.0
        loss[0] = 0.0
        correct[0] = 0.0
        while at < end:
            n = min(PIECE, end - at)
            if self.sample_weight != NULL:
                n = min(n, self.size - at % self.size)
                weight = self.sample_weight[at // self.size]
            loss[0] += weight * self.piece(kernel, at, n, weight * scale, correct)
            at += n

    cdef double piece(self, const nnp_kernels *kernel, Py_ssize_t at, Py_ssize_t n, double scale,
                      double *correct) noexcept nogil:
        """The sum of some losses, and their gradient times `scale`."""
        cdef float[PIECE] slope
        cdef float *grad = self.grad + at if self.grad != NULL else slope
        if self.kind == LOGISTIC:
            return self.logistic(kernel, at, n, scale, grad, correct)
        if self.kind == DIVERGENCE:
            return self.divergence(kernel, at, n, scale, grad)
        return self.distance(at, n, scale, grad)

    cdef double distance(self, Py_ssize_t at, Py_ssize_t n, double scale, float *grad) noexcept nogil:
        cdef const float *x = self.prediction + at
        cdef const float *t = self.target + at
        cdef double loss = 0.0, d, size
        cdef Py_ssize_t k
        for k in range(n):
            d = <double> x[k] - t[k]
            size = fabs(d)
            if self.kind == SQUARED:
                loss += d * d
                d = 2.0 * d
            elif self.kind == HUBER and not size > self.delta:
                loss += 0.5 * d * d
            elif self.kind == HUBER:
                loss += self.delta * (size - 0.5 * self.delta)
                d = self.delta if d > 0.0 else -self.delta
            else:
                loss += size
                d = 1.0 if d > 0.0 else -1.0 if d < 0.0 else d
            grad[k] = <float> (d * scale)
        return loss

    cdef double logistic(self, const nnp_kernels *kernel, Py_ssize_t at, Py_ssize_t n, double scale, float *grad,
                         double *correct) noexcept nogil:
        cdef const float *x = self.prediction + at
        cdef const float *t = self.target + at
        cdef float[PIECE] sigmoid
        cdef float[PIECE] soft
        cdef double loss = 0.0, w = 1.0
        cdef Py_ssize_t k
        kernel.activation(nnp_activation(NNP_SIGMOID, 0.0, 0.0, 0.0), n, x, sigmoid)
        for k in range(n):
            soft[k] = -x[k] if x[k] > 0.0 else x[k]
        kernel.activation(nnp_activation(NNP_SOFTPLUS, 1.0, 20.0, 0.0), n, soft, soft)
        for k in range(n):
            if self.positive != NULL:
                w = self.positive[(at + k) % self.classes]
            loss += (1.0 - t[k]) * (soft[k] + (x[k] if x[k] > 0.0 else 0.0))
            loss += w * t[k] * (soft[k] - (x[k] if x[k] < 0.0 else 0.0))
            grad[k] = <float> (((1.0 - t[k] + w * t[k]) * sigmoid[k] - w * t[k]) * scale)
            correct[0] += (x[k] > 0.0) == (t[k] > 0.5)
        return loss

    cdef double divergence(self, const nnp_kernels *kernel, Py_ssize_t at, Py_ssize_t n, double scale,
                           float *grad) noexcept nogil:
        cdef const float *x = self.prediction + at
        cdef const float *t = self.target + at
        cdef float[PIECE] logs
        cdef double loss = 0.0
        cdef Py_ssize_t k
        kernel.activation(nnp_activation(NNP_LOG, 0.0, 0.0, 0.0), n, t, logs)
        for k in range(n):
            loss += (t[k] * logs[k] if t[k] > 0.0 else 0.0) - <double> t[k] * x[k]
            grad[k] = <float> (-t[k] * scale)
        return loss
