from nnpar._checks import Array
from nnpar._kernels.conv import Geometry
from nnpar._kernels.step import Step

class Depthwise(Step): ...

class DepthwiseConv2d(Depthwise):
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

class DepthwiseConv2dInputGrad(Depthwise):
    def __init__(self, shape: Geometry, dy: Array, w: Array, dx: Array) -> None: ...

class DepthwiseConv2dWeightGrad(Step):
    def __init__(self, shape: Geometry, x: Array, dy: Array, dw: Array) -> None: ...
