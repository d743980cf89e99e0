"""Tensor parallelism: dense layers of whose weights each process has a slice, after Shoeybi et al., arXiv:1909.08053.

With A split by columns of its output, B by rows of its input, and an f of each element between them::

    process r: h_r = f(x A_r^T + a_r)       x whole, h_r a slice of the features
               y   = sum_r h_r B_r^T + b     one sum over processes; backward, dx = sum_r dh_r A_r is the other
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import elementwise
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.step import PythonStep, Step
from nnpar._kernels.strided import StridedCopy
from nnpar.distributed.mesh import Place, axis_of
from nnpar.distributed.model_parallel import sum_step
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.dropout import Dropout
from nnpar.layers.linear import rows_of, weight_grad
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


COLUMN, ROW = "column", "row"


class TensorParallelLinear(Layer):
    """Dense layer whose weight is divided among processes: ``y = x @ weight.T + bias``, as :class:`nnpar.Linear`.

    Split by `column`, each process computes a slice of the outputs from the whole inputs; split by `row`, it takes a
    slice of the inputs, and the outputs are summed over processes. So two of them, with an activation between, need one
    message each way. All processes make and call it alike.

    Parameters
    ----------
    in_features, out_features : int
        Of the whole layer. They need not be divisible by the number of processes.
    bias : bool
    split : {"column", "row"}
    gather : bool
        Of a `column` split: whether all processes get the whole output.
    comm : Mesh or mpi4py.MPI.Comm, optional
        Those that share the layer: of a mesh the axis `tensor`; all processes by default.
    weight_init : callable, optional
        Shape of the whole weight to array; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray, float32
        This process's slice, of shape (out_features / P, in_features) or (out_features, in_features / P).
    bias : ndarray, float32, or None
        Of shape (out_features / P,); of a `row` split whole, (out_features,), the same in all processes.

    Raises
    ------
    ValueError
        If an argument is out of range, or there are less features than processes.

    Notes
    -----
    Each process draws the whole weight, takes that of process 0, and keeps its slice: P processes begin as one would.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ReLU, Sequential
    >>> from nnpar.distributed import TensorParallelLinear
    >>> model = Sequential(TensorParallelLinear(8, 32), ReLU(), TensorParallelLinear(32, 4, split="row"))
    >>> model(np.zeros((5, 8))).shape
    (5, 4)
    """

    channels_last = False
    weight = Parameter()
    bias = Parameter()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        split: str = COLUMN,
        gather: bool = False,
        comm: Place = None,
        *,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        who = type(self).__name__
        self.in_features = _checks.integer(in_features, who, "in_features", 1)
        self.out_features = _checks.integer(out_features, who, "out_features", 1)
        if split not in (COLUMN, ROW):
            raise ValueError(f"{who}: split: expected 'column' or 'row', got {split!r}")
        if gather and split == ROW:
            raise ValueError(f"{who}: gather: expected False with split='row', whose outputs are whole")
        self.split, self.gather, self._axis = split, bool(gather), axis_of(comm)
        name, features = ("out_features", out_features) if split == COLUMN else ("in_features", in_features)
        if features < self._axis.size:
            raise ValueError(
                f"{who}: {name}: expected at least {self._axis.size}, the number of processes, got {features}"
            )
        self._bounds = [features * rank // self._axis.size for rank in range(self._axis.size + 1)]
        whole = {"weight": new_parameter(weight_init, (self.out_features, self.in_features), who)}
        if bias:
            bias_init = initializers.bias_default(self.in_features)
            whole["bias"] = new_parameter(bias_init, (self.out_features,), who, "bias_init")
        self.trained_by = "TensorParallel" if self._axis.size > 1 else ""
        if self._axis.comm is not None and self._axis.size > 1:
            for array in whole.values():
                self._axis.comm.Bcast(array)
        self._arrays = {key: self.slice_of(key, array).copy() for key, array in whole.items()}

    @property
    def _own(self) -> slice:
        return slice(*self._bounds[self._axis.rank : self._axis.rank + 2])

    def is_split(self, attribute: str) -> bool:
        """Whether this process has a slice of that parameter."""
        return self._axis.size > 1 and (attribute == "weight" or self.split == COLUMN)

    def slice_of(self, attribute: str, whole: Array) -> Array:
        """What this process has of a whole parameter."""
        if not self.is_split(attribute):
            return whole
        own: Array = whole[self._own] if self.split == COLUMN else whole[:, self._own]
        return own

    def whole(self, attribute: str, own: Array) -> Array:
        """The whole parameter, or another array like it, from all processes, which call this together."""
        if self._axis.comm is None or not self.is_split(attribute):
            copy: Array = own.copy()
            return copy
        whole: Array = np.concatenate(self._axis.comm.allgather(own), axis=0 if self.split == COLUMN else 1)
        return whole

    def shape_of(self, attribute: str) -> Shape:
        """The shape of the whole parameter."""
        return (self.out_features, self.in_features) if attribute == "weight" else (self.out_features,)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        own = self._own.stop - self._own.start
        takes = own if self.split == ROW else self.in_features
        if len(input_shape) < 2 or input_shape[-1] != takes:
            hint = "; put a Flatten() before it" if math.prod(input_shape[1:]) == takes else ""
            part = f", {self.in_features} divided among processes" if takes < self.in_features else ""
            raise ValueError(
                f"{self.describe(name)}: input: expected shape (N, {takes}){part}, with or without axes between, got "
                f"{input_shape}{hint}"
            )
        return *input_shape[:-1], own if self.split == COLUMN and not self.gather else self.out_features

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=False)
        comm, x, y = self._axis.comm, rows_of(at.x), rows_of(at.y)
        if comm is None or self._axis.size == 1 or (self.split == COLUMN and not self.gather):
            at.step(
                gemm_step, x, self.weight.T, y, self.bias, writes=at.y, fuses=("relu",), prepacked=at.frozen
            )  # fmt: skip
            return
        # No ReLU may come before the sum; and processes whose slices differ in size may choose other values to compute
        # again, so that no message may be among them.
        if self.split == ROW:
            bias = self.bias if self._axis.rank == 0 else None
            at.step(gemm_step, x, self.weight.T, y, bias, prepacked=at.frozen)
            at.step(functools.partial(sum_step, comm), y, writes=at.y, repeatable=False)
            return
        own = Buffer((x.shape[0], len(self.weight)))
        at.step(gemm_step, x, self.weight.T, own, self.bias, prepacked=at.frozen)
        gather = functools.partial(_gather_step, comm, self._bounds)
        at.step(gather, own, Buffer((y.size,)), y, writes=at.y, repeatable=False)

    def backward(self, at: Lowering) -> None:
        comm, dy = self._axis.comm, rows_of(at.dy)
        if self.gather and self._axis.size > 1:
            own = Buffer((dy.shape[0], len(self.weight)))
            at.step(functools.partial(_columns_step, self._own), dy, own)
            dy = own
        at.step(weight_grad, dy, rows_of(at.x), at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, dy, at.gradients["bias"])
        if at.needs_dx:
            dx = at.x.like()
            at.step(gemm_step, dy, self.weight, rows_of(dx))
            if comm is not None and self._axis.size > 1 and self.split == COLUMN:
                at.step(functools.partial(sum_step, comm), dx, writes=dx, repeatable=False)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        if self._axis.size > 1:
            raise ValueError(
                f"{type(self).__name__}: a process has only a slice of it: save what "
                "nnpar.distributed.full_state_dict(model) gives, or a plain model that has loaded it"
            )
        return self._arguments()

    def _arguments(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "split": self.split,
            "gather": self.gather,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._arguments().items())})"


class TensorParallelDropout(Dropout):
    """Dropout between two dense layers that are divided among processes: zeros and scale as :class:`nnpar.Dropout`,
    with a draw of its own for the slice of each process.

    Which elements become zero depends on the number of processes, too.

    Parameters
    ----------
    p : float
        0 <= p < 1.
    comm : Mesh or mpi4py.MPI.Comm, optional
        As of the layer before.

    Raises
    ------
    ValueError
        If p is out of range.

    Examples
    --------
    >>> from nnpar.distributed import TensorParallelDropout
    >>> TensorParallelDropout(0.5)([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, p: float = 0.5, comm: Place = None) -> None:
        super().__init__(p)
        self._rank = axis_of(comm).rank

    def _arguments(self, at: Lowering, x: Buffer, y: Buffer) -> tuple[Any, ...]:
        *others, index = super()._arguments(at, x, y)
        return *others, index + (self._rank << 20)  # as a layer that a model has not: none has a million


def _gather_step(comm: Comm, bounds: list[int], own: Array, blocks: Array, y: Array) -> PythonStep:
    """The step y (rows, features) = the columns `own` of all processes, by way of `blocks`, one for each of them."""
    rows = len(y)
    counts = [rows * (stop - start) for start, stop in itertools.pairwise(bounds)]

    def run() -> None:
        comm.Allgatherv(own, [blocks, counts])
        for start, stop in itertools.pairwise(bounds):
            y[:, start:stop] = blocks[rows * start : rows * stop].reshape(rows, stop - start)

    return PythonStep(run, "gather from processes", 3.0 * y.nbytes)


def _columns_step(columns: slice, dy: Array, own: Array) -> Step:
    return StridedCopy(dy[:, columns], own)
