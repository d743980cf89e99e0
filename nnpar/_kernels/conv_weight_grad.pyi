from nnpar._checks import Array
from nnpar._kernels.conv import Geometry
from nnpar._kernels.step import Step

class Conv2dWeightGrad(Step):
    def __init__(self, shape: Geometry, x: Array, dy: Array, dw: Array) -> None: ...
