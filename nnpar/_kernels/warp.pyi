from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.step import Step

class Warp(Step):
    def __init__(
        self,
        x: NDArray[Any],
        y: Array,
        maps: NDArray[np.float64],
        colours: Array,
        boxes: NDArray[np.int64],
        threads: bool = True,
    ) -> None: ...
