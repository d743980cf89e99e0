from nnpar._checks import Array
from nnpar._kernels.step import Step

class RowNorm(Step):
    def __init__(
        self, x: Array, gamma: Array, beta: Array, eps: float, centred: bool, mean: Array, invstd: Array, y: Array
    ) -> None: ...

class RowNormGrad(Step):
    def __init__(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        invstd: Array,
        gamma: Array,
        centred: bool,
        dx: Array,
        dgamma: Array | None,
        dbeta: Array | None,
    ) -> None: ...

class Groups(Step): ...

class GroupNorm(Groups):
    def __init__(
        self,
        x: Array,
        groups: int,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        mean: Array,
        invstd: Array,
        y: Array,
        relu: bool = False,
    ) -> None: ...

class GroupNormGrad(Groups):
    def __init__(
        self,
        dy: Array,
        x: Array,
        groups: int,
        mean: Array,
        invstd: Array,
        gamma: Array | None,
        beta: Array | None,
        dx: Array,
        dgamma: Array | None,
        dbeta: Array | None,
        relu: bool = False,
    ) -> None: ...

class LocalResponse(Step):
    def __init__(
        self,
        x: Array,
        y: Array,
        before: int,
        after: int,
        scale: float,
        beta: float,
        k: float,
        dy: Array | None = None,
    ) -> None: ...
