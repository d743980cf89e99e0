from nnpar._checks import Array
from nnpar._kernels.step import Step

def gemm_step(
    a: Array,
    b: Array,
    c: Array,
    bias: Array | None = None,
    relu: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    prepacked: bool = False,
) -> Step: ...

class BatchedGemm(Step):
    def __init__(self, a: Array, b: Array, c: Array) -> None: ...
