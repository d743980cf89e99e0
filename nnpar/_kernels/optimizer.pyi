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
