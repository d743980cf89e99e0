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
