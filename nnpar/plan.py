"""A model lowered for one input shape: the list of its steps, and the arrays that they read and write."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nnpar import arrays
from nnpar._checks import Array
from nnpar._kernels.elementwise import Position
from nnpar._kernels.step import Program, Step
from nnpar.layers.base import Layer, Lowering
from nnpar.shapes import Shape


class Plan:
    """Steps of a model for batches of one shape, forward and, in training, backward.

    Parameters
    ----------
    model : Layer
    input_shape : tuple
        (N, C, H, W) or (N, F).
    training : bool
        Whether dropout acts and the backward pass is wanted.
    gradients : mapping of str to ndarray, optional
        For each parameter the array that gets its gradient; new arrays otherwise.
    position : Position, optional
        Where training stands, for dropout.
    needs_dx : bool
        Whether the gradient of the input is wanted.

    Attributes
    ----------
    x, y : ndarray
        Input, to be filled before a run, and output. A run may overwrite x.
    dy, dx : ndarray
        In training: gradient of y, to be filled before the backward pass, and of x (None unless wanted).
    gradients : dict of str to ndarray
    forward_steps, backward_steps : list of Step

    Raises
    ------
    ValueError
        If the model cannot take such an input; the error names the layer.
    """

    def __init__(
        self,
        model: Layer,
        input_shape: Shape,
        *,
        training: bool,
        gradients: Mapping[str, Array] | None = None,
        position: Position | None = None,
        needs_dx: bool = False,
    ) -> None:
        model.output_shape(input_shape)
        self.x = arrays.empty(input_shape)
        self.gradients: dict[str, Array] = dict(gradients or {})
        self.forward_steps: list[Step] = []
        self.backward_steps: list[Step] = []
        self.dx: Array | None = None
        places = self._lower_forward(model, training, position or Position())
        self.y = places[-1][1].y
        if training:
            self.dy = arrays.empty(self.y.shape)
            self._lower_backward(places, needs_dx)
        self._programs: dict[str, Program] = {}

    def _lower_forward(self, model: Layer, training: bool, position: Position) -> list[tuple[Layer, Lowering]]:
        places: list[tuple[Layer, Lowering]] = []
        x = self.x
        for index, (name, layer) in enumerate(model.leaves()):
            at = Lowering(name, index, x, training, position)
            self.forward_steps += layer.forward(at)
            places.append((layer, at))
            x = at.y
        return places

    def _lower_backward(self, places: list[tuple[Layer, Lowering]], needs_dx: bool) -> None:
        has_parameters = [bool(layer._arrays) for layer, _ in places]
        dy = self.dy
        for number, (layer, at) in reversed(list(enumerate(places))):
            at.dy = dy
            at.needs_dx = needs_dx or any(has_parameters[:number])
            at.gradients = {key: self._gradient(at.name, key, array) for key, array in layer._arrays.items()}
            if not at.needs_dx and not has_parameters[number]:
                return
            self.backward_steps += layer.backward(at)
            if at.needs_dx:
                dy = at.dx
        self.dx = dy if needs_dx else None

    def _gradient(self, prefix: str, attribute: str, parameter: Array) -> Array:
        name = f"{prefix}.{attribute}" if prefix else attribute
        return self.gradients.setdefault(name, np.empty_like(parameter))

    def run_forward(self) -> None:
        """Compute y from x."""
        self._run("forward", self.forward_steps)

    def run_backward(self) -> None:
        """Compute dx and the gradients from dy, after `run_forward`; dy may be overwritten."""
        self._run("backward", self.backward_steps)

    def _run(self, name: str, steps: list[Step]) -> None:
        if name not in self._programs:
            self._programs[name] = Program(steps)
        self._programs[name].run()
