from nnpar._checks import Array
from nnpar._kernels.conv import Geometry
from nnpar._kernels.step import Step

class WinogradConv2d(Step):
    def __init__(
        self,
        shape: Geometry,
        x: Array,
        w: Array,
        bias: Array | None,
        y: Array,
        relu: bool = False,
        prepacked: bool = False,
    ) -> None: ...

class WinogradConv2dInputGrad(Step):
    def __init__(self, shape: Geometry, dy: Array, w: Array, dx: Array) -> None: ...

class WinogradConv2dWeightGrad(Step):
    def __init__(self, shape: Geometry, x: Array, dy: Array, dw: Array) -> None: ...
