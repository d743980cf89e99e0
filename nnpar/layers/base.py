"""What a layer is: parameters, a shape rule, and the steps that it lowers itself to."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks
from nnpar._checks import Array
from nnpar.initializers import Initializer
from nnpar.io import tensors
from nnpar.layers.lowering import Lowering
from nnpar.layers.nodes import INPUT, Node, Symbol, Wiring, child, input_numbers
from nnpar.shapes import Shape

# While a file is read: how many numbers its description may still make room for.
_room: ContextVar[list[int] | None] = ContextVar("room", default=None)


@contextmanager
def without_initial_values(most: int) -> Iterator[None]:
    """Within it, new parameters are zeros, and have `most` numbers in all: for layers that a file describes, whose
    values follow, and whose sizes cannot be trusted.
    """
    token = _room.set([most])
    try:
        yield
    finally:
        _room.reset(token)


def new_parameter(initializer: Initializer, shape: Shape, who: str, name: str = "weight_init") -> Array:
    """A parameter's or statistic's array: what an initialiser, perhaps a user's own, makes for `shape`, checked and
    copied. All layers make their arrays here.

    Parameters
    ----------
    initializer : callable
        Shape to array.
    shape : tuple of int
    who, name : str
        The layer and the argument that an error names.

    Raises
    ------
    ValueError
        If the array has another shape, or a file's description wants more numbers than the file holds.
    """
    shape = _checks.shape(shape, who, "weight", len(shape))
    room = _room.get()
    if room is not None:
        room[0] -= math.prod(shape)
        if room[0] < 0:
            raise ValueError(f"{who}: weights of shape {shape} are more than the file holds")
        return np.zeros(shape, np.float32)
    array: Array = _checks.floats(initializer(shape), who, name, len(shape))
    _checks.same_shape(array, shape, who, name)
    copy: Array = array.copy()
    return copy


class Parameter:
    """An array that training changes, as an attribute of a layer. Assigning copies into the array, which stays where
    it is: plans point at it.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        return self._store(layer).get(self.name)

    def _store(self, layer: Any) -> Mapping[str, Array]:
        store: Mapping[str, Array] = layer._arrays
        return store

    def __set__(self, layer: Any, value: ArrayLike) -> None:
        who = type(layer).__name__
        current = self._store(layer).get(self.name)
        if current is None:
            raise AttributeError(f"{who}: {self.name}: this layer was made without it")
        array = _checks.floats(value, who, self.name, current.ndim)
        _checks.same_shape(array, current.shape, who, self.name)
        current[...] = array


class Statistic(Parameter):
    """An array that belongs to a layer's state, but that no gradient changes."""

    def _store(self, layer: Any) -> Mapping[str, Array]:
        store: Mapping[str, Array] = layer._statistics
        return store


class IncompatibleKeys(NamedTuple):
    """What :meth:`Layer.load_state_dict` found to be missing and unknown."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _as_arrays(state: Any, who: str) -> dict[str, NDArray[Any]]:
    """Arrays by name, out of a mapping or a file; Python's own numbers as float64."""
    if isinstance(state, (str, os.PathLike)):
        return tensors.read(state)[0]
    if not isinstance(state, Mapping):
        raise TypeError(f"{who}: expected arrays by name, or the path of a file, got {type(state).__name__}")
    arrays = {name: np.asarray(value) for name, value in state.items()}
    # An integer array is a quantised weight without its scale; a list of integers is just written so.
    lists = [name for name, value in state.items() if isinstance(value, (int, float, list, tuple))]
    return arrays | {name: arrays[name].astype(np.float64) for name in lists if arrays[name].dtype.kind in "iub"}


def _counts_batches(name: str, array: NDArray[Any], own: Mapping[str, Array]) -> bool:
    """Whether this is the counter of PyTorch's batch normalisation, beside a running mean of ours."""
    place, _, last = name.rpartition(".")
    return (
        last == "num_batches_tracked"
        and child(place, "running_mean") in own
        and array.shape == ()
        and array.dtype.kind == "i"
    )


class Layer:
    """Base of all layers.

    A subclass names its parameters as class attributes of type :class:`Parameter`, fills ``self._arrays``, and
    implements ``output_shape``, ``forward``, ``backward`` and ``settings``. It has no numerics of its own: its steps
    do the work. A layer made of layers implements ``wire`` instead.
    """

    _arrays: dict[str, Array]
    _statistics: Mapping[str, Array] = MappingProxyType({})

    input_count: int = 1  # how many inputs it has, unless it is told
    trained_by: str = ""  # the Parallel of a Trainer that it needs, where this process has only a part of it
    # The memory layout that inputs of three axes or more get, and their gradients may have: True for (N, ..., C), False
    # for the order of the axes, None for any, but all alike.
    channels_last: bool | None = None

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        """Shape of the output for an input of `input_shape`, both with the batch axis.

        Raises
        ------
        ValueError
            If the layer cannot take such an input; the error names the layer as `name`.
        """
        raise NotImplementedError

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        """The same for a layer that may have several inputs."""
        if len(input_shapes) != 1:
            raise ValueError(f"{self.describe(name)}: expected one input, got {len(input_shapes)}")
        return self.output_shape(input_shapes[0], name)

    def output_shapes(self, input_shapes: Sequence[Shape]) -> list[Shape]:
        """Shapes of all outputs, of which most layers have one."""
        return [self.merged_shape(input_shapes)]

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        """Add what this layer consists of to a model's nodes, reading nodes `inputs`; returns the output's number."""
        return wiring.add(name, self, *inputs)

    def nodes(self, inputs: int | None = None) -> list[Node]:
        """The layer as nodes. If it takes any number of inputs, they are `inputs`."""
        wiring = Wiring()
        self.wire(wiring, "", *input_numbers(inputs or self.input_count))
        return wiring.nodes

    def output_nodes(self, nodes: Sequence[Node]) -> list[int]:
        """The numbers of those of its nodes that give the outputs."""
        return [len(nodes) - 1]

    def check_values(self, values: Array, name: str = "") -> None:
        """Look at the numbers of an input of the model that this layer reads: most layers take any.

        Raises
        ------
        ValueError
            If there are some that it cannot take.
        """

    def forward(self, at: Lowering) -> None:
        """Set ``at.y``, and write down the steps that compute it with ``at.step``."""
        raise NotImplementedError

    def backward(self, at: Lowering) -> None:
        """Write down the steps that compute the gradients of the parameters and, if it is needed, of the input, which
        ``at.pass_back`` takes.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The arguments that make this layer again, as JSON can hold them."""
        raise NotImplementedError

    def describe(self, name: str) -> str:
        """The layer in an error message, such as ``layer '0' (Conv2d)``."""
        return f"layer {name!r} ({type(self).__name__})" if name else type(self).__name__

    def parameters(self) -> dict[str, Array]:
        """Names, as PyTorch gives them, and arrays of all parameters.

        Returns
        -------
        dict of str to ndarray of float32
            The arrays themselves: changing them changes the layer.
        """
        return {child(node.name, name): array for node in self.nodes() for name, array in node.layer._arrays.items()}

    def state(self) -> dict[str, Array]:
        """The parameters, and statistics such as a batch normalisation's, by name: the arrays themselves."""
        return {
            child(node.name, name): array
            for node in self.nodes()
            for name, array in {**node.layer._arrays, **node.layer._statistics}.items()
        }

    @property
    def parameter_count(self) -> int:
        """How many numbers training changes."""
        return sum(array.size for array in self.parameters().values())

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and statistics by name."""
        return {name: array.copy() for name, array in self.state().items()}

    def load_state_dict(
        self, state_dict: Mapping[str, ArrayLike] | str | os.PathLike[str], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy parameters and statistics in, by name. All differences are reported at once, and then nothing is
        changed.

        Numbers of other floating-point types become float32. PyTorch's ``num_batches_tracked`` of batch normalisations
        is passed over: the statistics move by a fixed momentum.

        Parameters
        ----------
        state_dict : mapping of str to array_like, or path-like
            Or a safetensors file with such arrays, as ``safetensors.torch.save_file(model.state_dict(), path)`` writes
            it.
        strict : bool
            Whether missing and unknown names are errors.

        Returns
        -------
        IncompatibleKeys
            The names that were missing and unknown.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If names are missing or unknown, shapes or dtypes do not fit, or the file is damaged.

        Examples
        --------
        >>> from nnpar import Linear
        >>> layer = Linear(2, 1)
        >>> layer.load_state_dict({"weight": [[1.0, 2.0]]}, strict=False)
        IncompatibleKeys(missing_keys=['bias'], unexpected_keys=[])
        >>> layer.load_state_dict({"weight": [[1.0, 2.0, 3.0]], "bias": [0.0]})
        Traceback (most recent call last):
        ValueError: Linear.load_state_dict: weight: expected shape (1, 2), got (1, 3)
        """
        own = self.state()
        given = _as_arrays(state_dict, f"{type(self).__name__}.load_state_dict")
        for name in [name for name in given if _counts_batches(name, given[name], own)]:
            del given[name]
        keys = IncompatibleKeys([n for n in own if n not in given], [n for n in given if n not in own])
        problems: list[str] = []
        if strict:
            problems += [f"missing {name} {own[name].shape}" for name in keys.missing_keys]
            problems += [f"unknown {name} {given[name].shape}" for name in keys.unexpected_keys]
        common = [name for name in own if name in given]
        for name in common:
            if given[name].shape != own[name].shape:
                problems.append(f"{name}: expected shape {own[name].shape}, got {given[name].shape}")
            elif given[name].dtype.kind != "f":
                problems.append(f"{name}: expected floating-point numbers, got dtype {given[name].dtype}")
        if problems:
            raise ValueError(f"{type(self).__name__}.load_state_dict: " + "; ".join(problems))
        with np.errstate(over="ignore"):
            for name in common:
                own[name][...] = given[name]
        return keys

    @overload
    def __call__(self, *inputs: Symbol) -> Symbol: ...
    @overload
    def __call__(self, *inputs: ArrayLike) -> Array: ...
    def __call__(self, *inputs: Any) -> Any:
        """Output for a batch, computed as in prediction (dropout passes its input on).

        Parameters
        ----------
        *inputs : array_like of shape (N, C, H, W), (N, F) or another that the layer takes
            One, but for layers that join several. Or symbols, see :class:`nnpar.Input`: then the output is one, too.

        Returns
        -------
        ndarray, float32
            For a model of several outputs, a tuple of them.

        Raises
        ------
        ValueError
            If the layer cannot take such an input.
        """
        who = type(self).__name__
        if any(isinstance(x, Symbol) for x in inputs):
            for x in inputs:
                if not isinstance(x, Symbol):
                    raise TypeError(f"{who}: expected symbols only, got {type(x).__name__}")
            return Symbol(self, inputs, self.merged_shape([(1, *x.shape) for x in inputs])[1:])
        from nnpar.plan import Plan

        values = [_checks.batch(x, who, "x") for x in inputs]
        plan = Plan(self, [x.shape for x in values], training=False)
        check_values(choosy(plan.nodes), values)
        for x, given in zip(plan.inputs, values, strict=True):
            np.copyto(x, given)
        plan.run_forward()
        return plan.outputs if len(plan.outputs) > 1 else plan.y

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({arguments})"


def choosy(nodes: Sequence[Node]) -> list[Node]:
    """The nodes whose layers cannot take any numbers, for `check_values`."""
    return [node for node in nodes if type(node.layer).check_values is not Layer.check_values]


def check_values(nodes: Sequence[Node], inputs: Sequence[Array]) -> None:
    """The numbers of all inputs are such as the layers of these nodes, which read them, can take.

    Raises
    ------
    ValueError
        If not; the error names the layer.
    """
    for node in nodes:
        for number in node.inputs:
            if number <= INPUT:
                node.layer.check_values(inputs[INPUT - number], node.name)


AXES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def check_axes(input_shape: Shape, axes: int, who: str) -> None:
    """The input is a batch of sequences, images or volumes, which have so many axes."""
    if len(input_shape) != 2 + axes:
        raise ValueError(f"{who}: input: expected shape {AXES[axes]}, got {input_shape}")


def images_only(input_shape: Shape, who: str) -> None:
    """The input is a batch of images."""
    check_axes(input_shape, 2, who)
