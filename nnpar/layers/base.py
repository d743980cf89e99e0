"""What a layer is: parameters, a shape rule, and the steps that it lowers itself to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks
from nnpar._checks import Array
from nnpar.layers.lowering import Lowering
from nnpar.layers.nodes import INPUT, Node, Symbol, Wiring, child
from nnpar.shapes import Shape


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


class Layer:
    """Base of all layers.

    A subclass names its parameters as class attributes of type :class:`Parameter`, fills ``self._arrays``, and
    implements ``output_shape``, ``forward``, ``backward`` and ``settings``. It has no numerics of its own: its steps
    do the work. A layer made of layers implements ``wire`` instead.
    """

    _arrays: dict[str, Array]
    _statistics: Mapping[str, Array] = MappingProxyType({})

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

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        """Add what this layer consists of to a model's nodes, reading nodes `inputs`; returns the output's number."""
        return wiring.add(name, self, *inputs)

    def nodes(self) -> list[Node]:
        """The layer as nodes, the last of which gives the output."""
        wiring = Wiring()
        self.wire(wiring, "", INPUT)
        return wiring.nodes

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

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters and statistics in, by name. All differences are reported at once, and then nothing is
        changed.

        Parameters
        ----------
        state : mapping of str to array_like

        Raises
        ------
        ValueError
            If names are missing or unknown, or shapes or dtypes do not fit.
        """
        own = self.state()
        given = {name: np.asarray(value) for name, value in state.items()}
        problems = [f"missing {name} {own[name].shape}" for name in own if name not in given]
        for name, array in given.items():
            if name not in own:
                problems.append(f"unknown {name} {array.shape}")
            elif array.shape != own[name].shape:
                problems.append(f"{name}: expected shape {own[name].shape}, got {array.shape}")
            elif array.dtype.kind not in "fiub":
                problems.append(f"{name}: expected real numbers, got dtype {array.dtype}")
        if problems:
            raise ValueError(f"{type(self).__name__}.load_state_dict: " + "; ".join(problems))
        for name, array in given.items():
            own[name][...] = array

    @overload
    def __call__(self, *inputs: Symbol) -> Symbol: ...
    @overload
    def __call__(self, *inputs: ArrayLike) -> Array: ...
    def __call__(self, *inputs: Any) -> Any:
        """Output for a batch, computed as in prediction (dropout passes its input on).

        Parameters
        ----------
        *inputs : array_like of shape (N, C, H, W) or (N, F)
            One, but for layers that join several. Or symbols, see :class:`nnpar.Input`: then the output is one, too.

        Returns
        -------
        ndarray, float32

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

        if len(inputs) != 1:
            raise TypeError(f"{who}: expected one array, got {len(inputs)}")
        values = _checks.floats(inputs[0], who, "x", (2, 4))
        plan = Plan(self, values.shape, training=False)
        np.copyto(plan.x, values)
        plan.run_forward()
        return plan.y

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
        return f"{type(self).__name__}({arguments})"


def images_only(input_shape: Shape, who: str) -> None:
    """The input is a batch of images."""
    if len(input_shape) != 4:
        raise ValueError(f"{who}: input: expected shape (N, C, H, W), got {input_shape}")
