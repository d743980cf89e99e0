from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar.resampling import Taps

class Resample(Step):
    def __init__(self, x: Array, y: Array, rows: Taps | None, columns: Taps | None) -> None: ...
