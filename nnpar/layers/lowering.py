"""How layers write down what a plan will run, before there is memory for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnpar._checks import Array
from nnpar._kernels.elementwise import Position, Transpose
from nnpar._kernels.step import Step
from nnpar.shapes import Shape


class Buffer:
    """A value in a plan: an array that does not exist yet.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    of : Buffer, optional
        Another view of the same memory.
    channels_last : bool, optional
        Of three axes or more: whether (N, C, ...) lies in memory as (N, ..., C), or in the order of the axes. By
        default the first for images, which have four axes.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: DTypeLike = np.float32,
        of: Buffer | None = None,
        channels_last: bool | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.memory: Buffer = self if of is None else of.memory
        self.channels_last = len(shape) == 4 if channels_last is None else channels_last

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self.size * self.dtype.itemsize

    def like(self) -> Buffer:
        """A new value of the same shape, dtype and memory layout."""
        return Buffer(self.shape, self.dtype, channels_last=self.channels_last)

    def view(self, shape: Shape, channels_last: bool | None = None) -> Buffer:
        """The same memory, read in another shape and layout."""
        return Buffer(shape, self.dtype, self, channels_last)

    def lies_as(self, channels_last: bool) -> bool:
        """Whether the memory is that of the layout given: in few axes, or with one channel or pixel, both are one."""
        return self.channels_last == channels_last or len(self.shape) < 3 or 1 in (self.shape[1], self._pixels)

    @property
    def _pixels(self) -> int:
        return math.prod(self.shape[2:])

    def array(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        """The array, at the beginning of `memory`."""
        flat: NDArray[Any] = memory[: self.nbytes].view(self.dtype)
        if not self.channels_last or len(self.shape) < 3:
            return flat.reshape(self.shape)
        n, c, *pixels = self.shape
        return np.moveaxis(flat.reshape(n, *pixels, c), -1, 1)


def relayout(x: Array, y: Array) -> Step:
    """The step that copies x (N, C, ...) to y of the same shape, one of which is channels-last, the other not."""
    n, c, pixels = *x.shape[:2], math.prod(x.shape[2:])
    if x.flags.c_contiguous:
        return Transpose(x.reshape(n, c, pixels), np.moveaxis(y, 1, -1).reshape(n, pixels, c))
    return Transpose(np.moveaxis(x, 1, -1).reshape(n, pixels, c), y.reshape(n, c, pixels))


@dataclass(eq=False)
class Call:
    """A step to be made: ``make(*arguments, **options)``, once its buffers are arrays.

    Attributes
    ----------
    layer : str
        For whom.
    make, arguments, options
        Buffers among them become arrays.
    fuses : frozenset of str
        What a layer that follows may still make part of it: ``"relu"``, ``"residual"``, ``"norm"`` (new weights).
    grad_of_relu : bool
        Whether the backward pass of this step's layer takes the gradient of a fused ReLU upon itself.
    node : int
        The layer's number in the model.
    once : bool
        Whether it need not run again while weights stay as they are.
    fused_input, residual_node, residual_needs_gradient
        Of an addition that was fused: which of its inputs this step writes, the node of the other, and whether
        that wants a gradient, for which this step's layer then cares.
    writes : Buffer, optional
        A buffer that it changes, besides those of which it is the first to know.
    repeatable : bool
        Whether it may run again and leave the same behind.
    again : bool
        Whether the backward pass runs it to have once more what the forward pass had.
    ends_with_relu : bool
        Whether what it writes went through a ReLU last, its own or a fused one.
    masked : bool
        Whether the gradient of what it writes is 0 already wherever that ReLU gave 0.
    same_sums : Buffer, optional
        If masked: what is smaller than that gradient, and has the same sum in each channel.
    """

    layer: str
    make: Callable[..., Step]
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    fuses: frozenset[str] = frozenset()
    grad_of_relu: bool = False
    node: int = -1
    once: bool = False
    fused_input: int = -1
    residual_node: int | None = None
    residual_needs_gradient: bool = False
    writes: Buffer | None = None
    repeatable: bool = True
    again: bool = False
    ends_with_relu: bool = False
    masked: bool = False
    same_sums: Buffer | None = None

    def buffers(self) -> list[Buffer]:
        """All buffers that the step reads or writes."""
        return [value for value in (*self.arguments, *self.options.values()) if isinstance(value, Buffer)]


class Together(Protocol):
    """Sums of the batch normalisation over several processes: changes them in place, and returns the number of all
    their pixels.
    """

    def moments(self, pixels: int, sums: NDArray[np.float64]) -> float:
        """Of mean and biased variance, (2, C)."""
        ...

    def slopes(self, pixels: int, sums: NDArray[np.float64]) -> float:
        """Of the sums of the gradient, and of its product with what x is above the mean, (2, C)."""
        ...


@dataclass
class Lowering:
    """A node's place in one plan: its buffers, and where its steps go.

    Attributes
    ----------
    name : str
        The layer's name in the model, for errors.
    index : int
        The node's number in the model.
    inputs : tuple of Buffer
        In the memory layout that the layer wants, see `lay_out`.
    together : Together, optional
        Who makes sums over the batch those of several processes.
    sources : tuple of Buffer
        The same as those before it left them.
    input_nodes : tuple of int
        The nodes that they come from.
    owned : tuple of bool
        For each input: nobody else reads it, so that it may be overwritten once this layer's backward pass needs it
        no more.
    training : bool
    frozen : bool
        Whether weights stay as they are: then they are packed once.
    position : Position
        Where training stands, for random numbers.
    calls : list of Call
        The plan's, in order; `step` appends.
    writers : dict
        Identity of a buffer's memory to the step that wrote it last, of those into which another layer may fuse.
    read_again : dict
        Identity of a buffer's memory to what of it some backward pass reads: see `reads_y`.
    y : Buffer
        Output; set by ``forward``. May be an input that is owned.
    reads_y : {"", "sign", "values"}
        What the backward pass reads of y: nothing, whether it is positive, or all; set by ``forward``. Layers that
        follow do not overwrite what is read.
    dy : Buffer
        Gradient of y, for ``backward``.
    owns_dy : bool
        Whether ``backward`` may overwrite it.
    needs : tuple of bool
        For each input, whether anything before it wants its gradient.
    contributions : list of (int, Buffer, bool)
        What ``backward`` passed back: a node, what adds to its output's gradient, and whether that may be overwritten.
    gradients : mapping
        Parameter name to the array that gets its gradient.
    saved : dict
        What ``forward`` keeps for ``backward``.
    """

    name: str
    index: int
    inputs: tuple[Buffer, ...]
    input_nodes: tuple[int, ...]
    owned: tuple[bool, ...]
    training: bool
    frozen: bool
    position: Position
    calls: list[Call]
    writers: dict[int, Call]
    read_again: dict[int, str]
    together: Together | None = None
    sources: tuple[Buffer, ...] = ()
    reads_y: str = ""
    y: Buffer = field(init=False)
    dy: Buffer = field(init=False)
    owns_dy: bool = True
    needs: tuple[bool, ...] = ()
    contributions: list[tuple[int, Buffer, bool]] = field(default_factory=list)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)

    @property
    def x(self) -> Buffer:
        """The only input, or the first."""
        return self.inputs[0]

    @property
    def needs_dx(self) -> bool:
        """Whether the gradient of any input is wanted."""
        return any(self.needs)

    def step(
        self,
        make: Callable[..., Step],
        *arguments: Any,
        writes: Buffer | None = None,
        fuses: tuple[str, ...] = (),
        grad_of_relu: bool = False,
        once: bool = False,
        repeatable: bool = True,
        **options: Any,
    ) -> Call:
        """Append a step; `writes` names the buffer whose last word it is, if others write it as well or a layer that
        follows may fuse into it.
        """
        call = Call(
            self.name, make, arguments, options, frozenset(fuses), grad_of_relu, self.index,
            once=once, writes=writes, repeatable=repeatable,
        )  # fmt: skip
        self.calls.append(call)
        if writes is not None:
            self.writers[id(writes.memory)] = call
        return call

    def lay_out(self, channels_last: bool | None) -> None:
        """Bring all inputs into one memory layout: the one given, or that of the first."""
        self.sources = self.inputs
        wanted = self.x.channels_last if channels_last is None else channels_last
        inputs = tuple(self._in_layout(x, wanted) for x in self.inputs)
        self.owned = tuple(
            own or x.memory is not source.memory for own, x, source in zip(self.owned, inputs, self.inputs, strict=True)
        )
        self.inputs = inputs

    def _in_layout(self, x: Buffer, channels_last: bool) -> Buffer:
        """The same values with memory in that layout: x itself, another view of it, or a copy."""
        if x.channels_last == channels_last:
            return x
        if x.lies_as(channels_last):
            return x.view(x.shape, channels_last)
        y = Buffer(x.shape, x.dtype, channels_last=channels_last)
        self.step(relayout, x, y)
        return y

    def fuse_relu(self) -> Call | None:
        """Let the step that wrote x apply the ReLU; None if it cannot."""
        call = self.writers.get(id(self.x.memory))
        if call is None or not self.owned[0] or "relu" not in call.fuses:
            return None
        call.options["relu"] = True
        call.fuses = frozenset()
        call.ends_with_relu = True
        return call

    def mask_gradient(self) -> Call | None:
        """Take the gradient of the ReLU that x comes from upon this layer; None if there is none, or others read x."""
        call = self.writers.get(id(self.x.memory))
        if call is None or not self.owned[0] or not call.ends_with_relu:
            return None
        call.masked = True
        return call

    def fuse_norm(self) -> Call | None:
        """The convolution that wrote x, if a batch normalisation may change its weights; None if not."""
        call = self.writers.get(id(self.x.memory))
        return call if call is not None and self.owned[0] and "norm" in call.fuses else None

    def step_before(self, call: Call, make: Callable[..., Step], *arguments: Any, once: bool = False) -> None:
        """Insert a step before one that is there."""
        self.calls.insert(self.calls.index(call), Call(self.name, make, arguments, node=self.index, once=once))

    def fuse_residual(self) -> Call | None:
        """Let the step that wrote one of two inputs add the other; None if neither can."""
        for number, other in ((0, 1), (1, 0)):
            call = self.writers.get(id(self.inputs[number].memory))
            # The other input must be there before that step, and take its gradient after it.
            if call is None or not self.owned[number] or "residual" not in call.fuses:
                continue
            before = self.input_nodes[other] < call.node and self.inputs[other].memory is self.sources[other].memory
            if before and self.inputs[other].memory is not self.inputs[number].memory:
                call.options["residual"] = self.inputs[other]
                call.fuses -= {"residual"}
                call.fused_input, call.residual_node = number, self.input_nodes[other]
                return call
        return None

    def overwritable(self, number: int = 0, keeps_sign: bool = False) -> Buffer:
        """Input `number` itself if it is owned and no backward pass reads of it what will be lost, else a new buffer
        like it. `keeps_sign` says that what is positive stays so, or gets no gradient, and the rest stays as it is.
        """
        x = self.inputs[number]
        read = self.read_again.get(id(x.memory), "") if self.training else ""
        lost = read == "values" or (read == "sign" and not keeps_sign)
        return x.like() if lost or not self.owned[number] else x

    def overwritable_dy(self) -> Buffer:
        """The gradient of y itself if it is owned, else a new buffer like it."""
        return self.dy if self.owns_dy else self.dy.like()

    def pass_back(self, dx: Buffer, number: int = 0, owned: bool = True) -> None:
        """`dx` is, or adds to, the gradient of input `number`; its reader may overwrite it if it is owned. It may have
        either memory layout.
        """
        gradient = self._in_layout(dx, self.sources[number].channels_last)
        self.contributions.append((self.input_nodes[number], gradient, owned or gradient.memory is not dx.memory))
