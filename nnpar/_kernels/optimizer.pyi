from collections.abc import Sequence

from nnpar._checks import Array
from nnpar._kernels.step import Step

class Update(Step): ...

class SGDUpdate(Update):
    def __init__(self, parameters: Array, gradients: Array, momentum_buffer: Array | None) -> None: ...
    def set(
        self,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        first_step: bool,
    ) -> None: ...

class AdamUpdate(Update):
    def __init__(self, parameters: Array, gradients: Array, exp_avg: Array, exp_avg_sq: Array) -> None: ...
    def set(
        self,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
        step: int,
    ) -> None: ...

class RMSpropUpdate(Update):
    def __init__(
        self, parameters: Array, gradients: Array, square: Array, mean: Array | None, buffer: Array | None
    ) -> None: ...
    def set(self, lr: float, alpha: float, eps: float, weight_decay: float, momentum: float) -> None: ...

class AdagradUpdate(Update):
    def __init__(self, parameters: Array, gradients: Array, total: Array) -> None: ...
    def set(self, lr: float, eps: float, weight_decay: float) -> None: ...

class LayerwiseUpdate(Update): ...

class LARSUpdate(LayerwiseUpdate):
    def __init__(
        self, parameters: Array, gradients: Array, arrays: Sequence[tuple[int, int, bool]], momentum_buffer: Array
    ) -> None: ...
    def set(self, lr: float, momentum: float, weight_decay: float, trust: float, eps: float) -> None: ...

class LAMBUpdate(LayerwiseUpdate):
    def __init__(
        self,
        parameters: Array,
        gradients: Array,
        arrays: Sequence[tuple[int, int, bool]],
        exp_avg: Array,
        exp_avg_sq: Array,
    ) -> None: ...
    def set(self, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int) -> None: ...

class ClipNorm(Update):
    norm: float
    def __init__(self, gradients: Array, most: float) -> None: ...

class ClipValue(Update):
    def __init__(self, gradients: Array, most: float) -> None: ...

class Scale(Update):
    def __init__(self, x: Array, y: Array) -> None: ...
    def by(self, factor: float) -> None: ...

class Average(Update):
    def __init__(self, average: Array, values: Array, decay: float) -> None: ...
    def begin(self, begun: bool) -> None: ...
