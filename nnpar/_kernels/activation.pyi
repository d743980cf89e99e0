from nnpar._checks import Array
from nnpar._kernels.step import Step

KINDS: dict[str, int]

class Activation(Step):
    def __init__(self, kind: str, x: Array, y: Array, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> None: ...

class ActivationGrad(Step):
    def __init__(
        self, kind: str, dy: Array, v: Array, dx: Array, a: float = 0.0, b: float = 0.0, c: float = 0.0
    ) -> None: ...

class PRelu(Step):
    def __init__(self, x: Array, w: Array, y: Array) -> None: ...

class PReluGrad(Step):
    def __init__(self, dy: Array, x: Array, w: Array, dx: Array, dw: Array) -> None: ...

class SoftmaxRows(Step):
    def __init__(self, x: Array, y: Array, log: bool) -> None: ...

class SoftmaxRowsGrad(Step):
    def __init__(self, dy: Array, y: Array, dx: Array, log: bool) -> None: ...
