import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array, Pair
from nnpar._kernels.step import Step
from nnpar.shapes import PoolWindow

class Pool(Step): ...

class MaxPool2d(Pool):
    def __init__(self, x: Array, y: Array, argmax: NDArray[np.uint8] | None, window: PoolWindow) -> None: ...

class MaxPool2dGrad(Pool):
    def __init__(self, dy: Array, argmax: NDArray[np.uint8], dx: Array, window: PoolWindow) -> None: ...

class AvgPool2d(Pool):
    def __init__(self, x: Array, y: Array, window: PoolWindow, count_include_pad: bool) -> None: ...

class AvgPool2dGrad(Pool):
    def __init__(self, dy: Array, dx: Array, window: PoolWindow, count_include_pad: bool) -> None: ...

class Upsample2d(AvgPool2dGrad):
    def __init__(self, x: Array, y: Array, scale: Pair) -> None: ...

class Upsample2dGrad(AvgPool2d):
    def __init__(self, dy: Array, dx: Array, scale: Pair) -> None: ...
