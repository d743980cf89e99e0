from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.step import Step

class Loss(Step): ...

class SoftmaxCrossEntropy(Loss):
    def __init__(
        self, logits: Array, labels: NDArray[Any], grad: Array | None, result: NDArray[np.float64], parts: int = 1
    ) -> None: ...

class SquaredError(Loss):
    def __init__(
        self, prediction: Array, target: NDArray[Any], grad: Array | None, result: NDArray[np.float64]
    ) -> None: ...

class WeightedCrossEntropy(Step):
    def __init__(
        self,
        logits: Array,
        labels: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        parts: int,
        class_weights: Array,
        sample_weights: Array | None,
        ignored: int,
        smoothing: float,
    ) -> None: ...

class SoftCrossEntropy(Step):
    def __init__(
        self,
        logits: Array,
        targets: Array,
        grad: Array | None,
        result: NDArray[np.float64],
        parts: int,
        class_weights: Array,
        sample_weights: Array | None,
        smoothing: float,
    ) -> None: ...

class ElementwiseLoss(Step):
    def __init__(
        self,
        kind: str,
        prediction: Array,
        target: Array,
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
        delta: float = 1.0,
        positive: Array | None = None,
    ) -> None: ...
