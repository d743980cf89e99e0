from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

def aligned_empty(nbytes: int) -> NDArray[np.uint8]: ...

class Step:
    name: str
    layer: str
    flops: float
    bytes: float
    shared_bytes: int
    thread_bytes: int
    most_threads: int
    workspace_bytes: int
    prepacked_bytes: int
    is_bound: bool
    is_prepacked: bool
    def bind(self, workspace: NDArray[np.uint8], threads: NDArray[np.uint8] | None = None) -> None: ...
    def prepack(self, memory: NDArray[np.uint8], fill: bool = True) -> None: ...
    def __call__(self) -> None: ...

class PythonStep(Step):
    def __init__(self, function: Callable[[], None], name: str, nbytes: float = 0) -> None: ...

class Program:
    steps: tuple[Step, ...]
    runs: int
    seconds: list[float]
    def __init__(self, steps: Iterable[Step]) -> None: ...
    def run(self) -> None: ...

recorders: list[Callable[[tuple[Step, ...], list[float]], None]]
