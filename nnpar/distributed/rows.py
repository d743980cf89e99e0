"""Row parallelism: images too large for one process, or too few for data parallelism, divided by their rows.

A convolution reads some rows beyond those that it writes. Each process gets them from its neighbours: of x before the
forward pass, of dy before that of the input's gradient (of which it computes its own rows, as the whole would)::

    rows a..b of y   from rows a-p..b+p of x       p = dilation * (kernel - 1) / 2
    rows a..b of dx  from rows a-p..b+p of dy
    dw               = sum over processes of what rows a..b of dy and a-p..b+p of x give
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnpar import _checks, convolution, initializers, shapes
from nnpar._checks import Array, IntOrPair, Padding
from nnpar._kernels import elementwise
from nnpar._kernels.step import PythonStep, Step
from nnpar._kernels.strided import StridedCopy
from nnpar.distributed.mesh import Axis, Place, axis_of
from nnpar.layers.base import Layer, images_only
from nnpar.layers.conv import Conv2d
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Conv2dShape, Shape

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

MULTIPLE = 8  # of rows: two tiles of Winograd's algorithm, so that they are the same tiles after a pooling, too


def rows_of(height: int, rank: int, size: int) -> slice:
    """Which rows of an image a process has: about as many as the others, from a multiple of 8 on; of 4, 2 or 1 where
    the image is too small for that.

    Parameters
    ----------
    height : int
        Of the image.
    rank, size : int
        The number of the process, and how many there are.

    Returns
    -------
    slice

    Raises
    ------
    ValueError
        If there are less rows than processes.

    Examples
    --------
    >>> from nnpar.distributed import rows_of
    >>> [rows_of(28, rank, 3) for rank in range(3)]
    [slice(0, 8, None), slice(8, 16, None), slice(16, 28, None)]
    """
    height = _checks.integer(height, "rows_of", "height", 1)
    if height < size:
        raise ValueError(f"rows_of: height: expected at least {size}, the number of processes, got {height}")
    multiple = MULTIPLE
    while -(-height // multiple) < size:
        multiple //= 2
    units = -(-height // multiple)
    start, stop = (min(height, multiple * (units * k // size)) for k in (rank, rank + 1))
    return slice(start, stop)


class Rows:
    """How images of a network are divided: the rows that each process has, after poolings too.

    Parameters
    ----------
    height : int
        Of the images that come into the network.
    factor : int
        By how much poolings have made them smaller.
    comm : Mesh or mpi4py.MPI.Comm, optional
        Those that share an image: of a mesh the axis `tensor`; all processes by default.

    Attributes
    ----------
    height : int
        Of the image after poolings.
    own : slice
        This process's rows of it.
    counts : list of int
        How many rows each process has.

    Raises
    ------
    ValueError
        If there are less rows than processes, or a window of the poolings would belong to two of them.

    Examples
    --------
    >>> from nnpar.distributed import Rows
    >>> rows = Rows(32)
    >>> rows.own, rows.pooled(2).own
    (slice(0, 32, None), slice(0, 16, None))
    """

    def __init__(self, height: int, factor: int = 1, comm: Place = None) -> None:
        self.axis = axis_of(comm)
        self.image_height, self.factor = height, _checks.integer(factor, "Rows", "factor", 1)
        stops = [rows_of(height, rank, self.axis.size).stop for rank in range(self.axis.size)]
        if any(stop % factor for stop in stops[:-1]):
            raise ValueError(
                f"Rows: factor: expected one that divides the rows of each process, which end at {stops}, got {factor}"
            )
        self.height = height // factor
        starts = [0, *(stop // factor for stop in stops)]
        self.counts = [b - a for a, b in itertools.pairwise(starts)]
        if min(self.counts) < 1:
            raise ValueError(f"Rows: factor: expected at least one row for each process, got {self.counts}")
        self.own = slice(starts[self.axis.rank], starts[self.axis.rank + 1])

    @classmethod
    def of(cls, value: Rows | int | Sequence[int]) -> Rows:
        """Rows as they are, or from a height, or (height, factor), over all processes.

        Raises
        ------
        TypeError
            If it is something else.
        """
        if isinstance(value, Rows):
            return value
        if isinstance(value, int):
            return cls(value)
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            return cls(value[0], value[1])
        raise TypeError(f"rows: expected Rows, a height or (height, factor), got {value!r}")

    def pooled(self, factor: int) -> Rows:
        """After a pooling, without overlap, that makes images smaller by a factor."""
        return Rows(self.image_height, self.factor * _checks.integer(factor, "Rows", "factor", 1), self.axis)

    @property
    def description(self) -> tuple[int, int]:
        """What `of` takes."""
        return self.image_height, self.factor

    def check(self, input_shape: Shape, who: str) -> None:
        """The input is this process's rows of a batch of images."""
        images_only(input_shape, who)
        count = self.own.stop - self.own.start
        if input_shape[2] != count:
            raise ValueError(
                f"{who}: input: expected {count} rows, of {self.height} divided among processes, got {input_shape[2]}"
            )

    def __repr__(self) -> str:
        return f"Rows({self.image_height}, factor={self.factor})"


AnyRows: TypeAlias = "Rows | int | Sequence[int]"


class RowsLayer(Layer):
    """Base of the layers between whole images and their rows."""

    channels_last = True
    scatters: bool  # whether outputs are rows, and inputs whole

    def __init__(self, rows: AnyRows) -> None:
        self.rows = Rows.of(rows)
        self._arrays = {}

    def settings(self) -> dict[str, Any]:
        return {"rows": self.rows.description}

    def forward(self, at: Lowering) -> None:
        shape = self.output_shape(at.x.shape, at.name)
        if self._pass(at):
            at.y = at.x
            return
        at.y = Buffer(shape)
        (self._take if self.scatters else self._gather)(at, at.x, at.y)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if self._pass(at):
            at.pass_back(at.dy, owned=at.owns_dy)
            return
        dx = at.x.like()
        (self._gather if self.scatters else self._take)(at, at.dy, dx)
        at.pass_back(dx)

    def _pass(self, at: Lowering) -> bool:
        """Whether one process alone has all rows already."""
        return at.x.shape[2] == self.rows.height and self.rows.axis.size == 1

    def _take(self, at: Lowering, images: Buffer, own: Buffer) -> None:
        at.step(functools.partial(_take_step, self.rows.own), images, own)

    def _gather(self, at: Lowering, own: Buffer, images: Buffer) -> None:
        comm = self.rows.axis.comm
        assert comm is not None
        step = functools.partial(_gather_step, comm, self.rows.counts)
        at.step(step, own, Buffer((images.size,)), images, writes=images, repeatable=False)


class ScatterRows(RowsLayer):
    """Takes this process's rows of images that all processes have.

    Parameters
    ----------
    rows : Rows, int or (int, int)
        How the images are divided; their height, or (height, factor), over all processes.

    Raises
    ------
    ValueError
        If there are less rows than processes; in use, if images have another height.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.distributed import ScatterRows
    >>> ScatterRows(32)(np.zeros((4, 3, 32, 32))).shape  # in one process
    (4, 3, 32, 32)
    """

    scatters = True

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        images_only(input_shape, self.describe(name))
        n, c, height, width = input_shape
        if height != self.rows.height:
            raise ValueError(f"{self.describe(name)}: input: expected height {self.rows.height}, got {height}")
        return n, c, self.rows.own.stop - self.rows.own.start, width


class GatherRows(RowsLayer):
    """Collects the rows of all processes: each gets the whole images.

    Parameters
    ----------
    rows : Rows, int or (int, int)
        See :class:`ScatterRows`.

    Raises
    ------
    ValueError
        If there are less rows than processes; in use, if the input is not this process's rows.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.distributed import GatherRows
    >>> GatherRows((32, 2))(np.zeros((4, 3, 16, 32))).shape  # in one process
    (4, 3, 16, 32)
    """

    scatters = False

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        self.rows.check(input_shape, self.describe(name))
        n, c, _, width = input_shape
        return n, c, self.rows.height, width


class RowParallelConv2d(Conv2d):
    """Convolution of images whose rows are divided among processes, with the bits of :class:`nnpar.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init
        See :class:`nnpar.Conv2d`; the stride is 1, and outputs have the height of the input, as with "same", the
        default, and kernels of odd height.
    rows : Rows, int or (int, int)
        How its images are divided, see :class:`ScatterRows`.

    Attributes
    ----------
    weight : ndarray of shape (out_channels, in_channels / groups, KH, KW), float32
        The same in all processes.
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together, or a process has less rows than its neighbours need.

    Notes
    -----
    Outputs and input gradients are the bits of the whole images' where each process has rows from a multiple of 4 on:
    `rows_of` sees to that for images of 8 rows or more for each process, up to one 2x2 pooling. After more of them,
    tiles of Winograd's algorithm may lie elsewhere, and differences are those of rounding. The weights' gradients of a
    process are those of its rows: :class:`nnpar.distributed.RowParallel` sums them.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.distributed import RowParallelConv2d
    >>> RowParallelConv2d(1, 8, 3, rows=32)(np.zeros((2, 1, 32, 32))).shape  # in one process
    (2, 8, 32, 32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: Padding | str = "same",
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rows: AnyRows,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            weight_init=weight_init,
        )  # fmt: skip
        who = type(self).__name__
        self.rows = Rows.of(rows)
        if self.stride != (1, 1):
            raise ValueError(f"{who}: stride: expected 1, got {self.stride}")
        self._halo = self._before[0]
        if self._framed or 2 * self._halo != self.dilation[0] * (self.kernel_size[0] - 1):
            raise ValueError(
                f"{who}: padding: expected as many rows before and after as keep the height, got kernel "
                f"{self.kernel_size}, dilation {self.dilation}, padding {self.padding}"
            )
        if self.rows.axis.size > 1:
            self.trained_by = "RowParallel"
            if min(self.rows.counts) < self._halo:
                raise ValueError(
                    f"{who}: rows: expected at least {self._halo} for each process, which its neighbours need, "
                    f"got {self.rows.counts}"
                )

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        self.rows.check(input_shape, self.describe(name))
        return super().output_shape(input_shape, name)

    def _shapes(self, x: Buffer, name: str) -> tuple[Conv2dShape, Conv2dShape, Conv2dShape]:
        """Of the convolution of whole images, which chooses the algorithm, of this process's rows with those of
        neighbours, and of one whose input's gradient is that of its rows.
        """
        n, c, height, width = x.shape
        extra = 2 * self._halo

        def shape(height: int, padding: int) -> Conv2dShape:
            return shapes.conv2d(
                (n, c, height, width), self.weight.shape, 1, (padding, self._before[1]), self.dilation, self.groups,
                self.describe(name),
            )  # fmt: skip

        return shape(self.rows.height, self._halo), shape(height + extra, 0), shape(height, extra)

    def _framed_rows(self, at: Lowering, x: Buffer) -> Buffer:
        """The rows between those of neighbours, or of zeros where there are none."""
        if not self._halo:
            return x
        n, c, height, width = x.shape
        frame, halos = (
            Buffer((n, c, height + 2 * self._halo, width)),
            Buffer((4, n, self._halo, width, c), channels_last=False),
        )
        at.step(functools.partial(_middle_step, self._halo), x, frame)
        exchange = functools.partial(_halo_step, self.rows.axis, self._halo)
        at.step(exchange, x, frame, halos, writes=frame, repeatable=False)
        return frame

    def forward(self, at: Lowering) -> None:
        if self.rows.axis.size == 1:
            super().forward(at)
            return
        whole, own, _ = self._shapes(at.x, at.name)
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        frame = at.saved["x"] = self._framed_rows(at, at.x)
        at.saved["call"] = at.step(
            functools.partial(_conv_step, whole, own), frame, at.y, at.frozen,
            writes=at.y, fuses=("relu", "norm"), weight=self.weight, bias=self.bias,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        if self.rows.axis.size == 1:
            super().backward(at)
            return
        whole, own, back = self._shapes(at.x, at.name)
        at.step(functools.partial(_weight_grad_step, whole, own), at.saved["x"], at.dy, at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.saved["call"].same_sums or at.dy, at.gradients["bias"])
        if at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(functools.partial(_input_grad_step, whole, back), self._framed_rows(at, at.dy), self.weight, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"rows": self.rows.description}


def _conv_step(
    whole: Conv2dShape, own: Conv2dShape, x: Array, y: Array, frozen: bool,
    weight: Array, bias: Array | None, relu: bool = False,
) -> Step:  # fmt: skip
    algorithm = convolution.choose(whole, "forward", frozen)
    return convolution.forward(own, x, weight, bias, y, relu, algorithm, frozen)


def _input_grad_step(whole: Conv2dShape, back: Conv2dShape, dy: Array, weight: Array, dx: Array) -> Step:
    return convolution.input_grad(back, dy, weight, dx, convolution.choose(whole, "input_grad"))


def _weight_grad_step(whole: Conv2dShape, own: Conv2dShape, x: Array, dy: Array, dw: Array) -> Step:
    return convolution.weight_grad(own, x, dy, dw, convolution.choose(whole, "weight_grad"))


def _take_step(rows: slice, images: Array, own: Array) -> Step:
    return StridedCopy(images[:, :, rows], own)


def _middle_step(halo: int, x: Array, frame: Array) -> Step:
    return StridedCopy(x, frame[:, :, halo:-halo])


def _lines(x: Array) -> Array:
    """(N, H, W, C), as images lie in memory."""
    lines: Array = np.moveaxis(x, 1, -1)
    return lines


def _gather_step(comm: Comm, counts: Sequence[int], own: Array, blocks: Array, images: Array) -> PythonStep:
    """The step that collects the rows `own` of all processes, by way of `blocks`, one for each of them."""
    to = _lines(images)
    n, _, width, channels = to.shape
    line = n * width * channels

    def run() -> None:
        comm.Allgatherv(_lines(own), [blocks, [line * count for count in counts]])
        start = 0
        for count in counts:
            block = blocks[line * start : line * (start + count)]
            to[:, start : start + count] = block.reshape(n, count, width, channels)
            start += count

    return PythonStep(run, "gather rows", 3.0 * images.nbytes)


def _halo_step(axis: Axis, halo: int, x: Array, frame: Array, halos: Array) -> PythonStep:
    """The step that sends the outer rows of x to the neighbours, and puts theirs around x in its frame.

    `halos` is of shape (4, N, halo, W, C): rows to the process before and to the one after, and theirs.
    """
    comm = axis.comm
    assert comm is not None
    from mpi4py import MPI

    first, last = axis.rank == 0, axis.rank == axis.size - 1
    before, after = (MPI.PROC_NULL if first else axis.rank - 1), (MPI.PROC_NULL if last else axis.rank + 1)
    lines, framed = _lines(x), _lines(frame)

    def run() -> None:
        halos[0], halos[1] = lines[:, :halo], lines[:, -halo:]
        comm.Sendrecv(halos[1], after, 0, halos[2], before, 0)
        comm.Sendrecv(halos[0], before, 1, halos[3], after, 1)
        framed[:, :halo] = 0.0 if first else halos[2]
        framed[:, -halo:] = 0.0 if last else halos[3]

    return PythonStep(run, "halo exchange", 4.0 * halos.nbytes)
