from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.step import Step

Exchange = Callable[[int, NDArray[np.float64]], float]

class Pixels(Step): ...
class Sums(Pixels): ...

class BatchStatistics(Sums):
    def __init__(
        self,
        x: Array,
        mean: Array,
        invstd: Array,
        eps: float,
        running_mean: Array | None,
        running_var: Array | None,
        momentum: float,
        exchange: Exchange | None = ...,
    ) -> None: ...

class InverseDeviation(Step):
    def __init__(self, var: Array, invstd: Array, eps: float) -> None: ...

class FoldBatchNorm(Step):
    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        folded_weight: Array,
        folded_bias: Array,
    ) -> None: ...

class BatchNormalize(Pixels):
    def __init__(
        self,
        x: Array,
        mean: Array,
        invstd: Array,
        gamma: Array | None,
        beta: Array | None,
        residual: Array | None,
        y: Array,
        relu: bool,
    ) -> None: ...

class BatchNormGrad(Sums):
    def __init__(
        self,
        dy: Array,
        x: Array,
        y: Array | None,
        mean: Array,
        invstd: Array,
        gamma: Array | None,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
        dresidual: Array | None,
        beta: Array | None = ...,
        relu_of_x: bool = ...,
        exchange: Exchange | None = ...,
    ) -> None: ...
