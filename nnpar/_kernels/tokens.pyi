from nnpar._checks import Array
from nnpar._kernels.elementwise import Position
from nnpar._kernels.step import Step

class AttentionStep(Step): ...

class Attention(AttentionStep):
    def __init__(
        self,
        q: Array,
        k: Array,
        v: Array,
        y: Array,
        heads: int,
        causal: bool,
        p: float,
        position: Position,
        layer: int,
    ) -> None: ...

class AttentionGrad(AttentionStep):
    def __init__(
        self,
        dy: Array,
        q: Array,
        k: Array,
        v: Array,
        dq: Array,
        dk: Array,
        dv: Array,
        heads: int,
        causal: bool,
        p: float,
        position: Position,
        layer: int,
    ) -> None: ...

class Table(Step): ...

class Gather(Table):
    def __init__(self, index: Array, table: Array, y: Array) -> None: ...

class GatherGrad(Table):
    def __init__(self, dy: Array, index: Array, dtable: Array, without: int) -> None: ...
