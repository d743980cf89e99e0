from nnpar._checks import Array
from nnpar._kernels.conv import Geometry
from nnpar._kernels.step import Step

class ScatterConv2dInputGrad(Step):
    def __init__(self, shape: Geometry, dy: Array, w: Array, dx: Array) -> None: ...
