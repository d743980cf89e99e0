from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar.shapes import Conv2dShape

class Geometry:
    flops: float
    bytes: float
    def __init__(self, shape: Conv2dShape) -> None: ...

class Conv2d(Step):
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

class Conv2dInputGrad(Step):
    def __init__(self, shape: Geometry, dy: Array, w: Array, dx: Array) -> None: ...
