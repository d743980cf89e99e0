from collections.abc import Sequence

from nnpar._checks import Array
from nnpar._kernels.step import Step

ARITHMETIC: dict[str, int]

def joined(shape: Sequence[int], *strides: Sequence[int]) -> list[tuple[int, ...]]: ...

class StridedCopy(Step):
    def __init__(self, x: Array, y: Array) -> None: ...

class Fill(Step):
    def __init__(self, y: Array, value: float = 0.0) -> None: ...

class Arithmetic(Step):
    def __init__(self, kind: str, a: Array, b: Array, y: Array) -> None: ...

class SumAxes(Step):
    def __init__(self, x: Array, y: Array, factor: float = 1.0) -> None: ...
