"""What a layer is: parameters, a shape rule, and the steps that it lowers itself to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.elementwise import Position
from nnpar._kernels.step import Step
from nnpar.shapes import Shape


@dataclass
class Lowering:
    """A layer's place in one plan: its arrays, which its steps read and write.

    Attributes
    ----------
    name : str
        The layer's name in the model, for errors.
    index : int
        Its number in the model.
    x : ndarray
        Input of the layer; no other layer reads it, so it may be overwritten once this layer's backward pass needs it
        no more.
    training : bool
    position : Position
        Where training stands, for random numbers.
    y : ndarray
        Output; set by ``forward``. May be x itself.
    dy : ndarray
        Gradient of y, for ``backward``, which may overwrite it.
    needs_dx : bool
        Whether anything before this layer wants the gradient of x.
    dx : ndarray
        Gradient of x; set by ``backward``. May be dy itself.
    gradients : mapping
        Parameter name to the array that gets its gradient.
    saved : dict
        What ``forward`` keeps for ``backward``.
    """

    name: str
    index: int
    x: Array
    training: bool
    position: Position
    y: Array = field(init=False)
    dy: Array = field(init=False)
    needs_dx: bool = True
    dx: Array = field(init=False)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)


class Parameter:
    """An array that training changes, as an attribute of a layer. Assigning copies into the array, which stays where
    it is: plans point at it.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        return layer._arrays.get(self.name)

    def __set__(self, layer: Any, value: ArrayLike) -> None:
        who = type(layer).__name__
        current = layer._arrays.get(self.name)
        if current is None:
            raise AttributeError(f"{who}: {self.name}: this layer was made without it")
        array = _checks.floats(value, who, self.name, current.ndim)
        _checks.same_shape(array, current.shape, who, self.name)
        current[...] = array


class Layer:
    """Base of all layers.

    A subclass names its parameters as class attributes of type :class:`Parameter`, fills ``self._arrays``, and
    implements ``output_shape``, ``forward``, ``backward`` and ``settings``. It has no numerics of its own: its steps
    do the work.
    """

    _arrays: dict[str, Array]

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        """Shape of the output for an input of `input_shape`, both with the batch axis.

        Raises
        ------
        ValueError
            If the layer cannot take such an input; the error names the layer as `name`.
        """
        raise NotImplementedError

    def forward(self, at: Lowering) -> list[Step]:
        """Set ``at.y`` and return the steps that compute it."""
        raise NotImplementedError

    def backward(self, at: Lowering) -> list[Step]:
        """Set ``at.dx`` if it is needed, and return the steps that compute it and the parameters' gradients."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The arguments that make this layer again, as JSON can hold them."""
        raise NotImplementedError

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Layers without layers inside, in order, with their names."""
        yield prefix, self

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
        return {
            f"{prefix}.{name}" if prefix else name: array
            for prefix, layer in self.leaves()
            for name, array in layer._arrays.items()
        }

    @property
    def parameter_count(self) -> int:
        """How many numbers training changes."""
        return sum(array.size for array in self.parameters().values())

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters by name."""
        return {name: array.copy() for name, array in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters in, by name. All differences are reported at once, and then nothing is changed.

        Parameters
        ----------
        state : mapping of str to array_like

        Raises
        ------
        ValueError
            If names are missing or unknown, or shapes or dtypes do not fit.
        """
        own = self.parameters()
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

    def __call__(self, x: ArrayLike) -> Array:
        """Output for a batch, computed as in prediction (dropout passes its input on).

        Parameters
        ----------
        x : array_like of shape (N, C, H, W) or (N, F)

        Returns
        -------
        ndarray, float32

        Raises
        ------
        ValueError
            If the layer cannot take such an input.
        """
        from nnpar.plan import Plan

        values = _checks.floats(x, type(self).__name__, "x", (2, 4))
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
