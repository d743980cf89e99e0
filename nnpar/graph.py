"""Models of any directed acyclic shape, written as functions of symbols."""

from __future__ import annotations

from typing import Any

from nnpar import _checks
from nnpar.layers.base import Layer
from nnpar.layers.composite import Composite, describe
from nnpar.layers.nodes import Symbol, Wiring, child
from nnpar.shapes import Shape

__all__ = ["Graph", "Input"]


def Input(shape: Shape) -> Symbol:  # noqa: N802
    """The input of a functional model.

    Parameters
    ----------
    shape : tuple of int
        Of one sample: (C, H, W) or (F,).

    Returns
    -------
    Symbol
        Layers called with it give symbols in turn; shapes are checked at once.

    Raises
    ------
    ValueError
        If it is no such shape.

    Examples
    --------
    >>> from nnpar import Conv2d, Input
    >>> Conv2d(3, 8, 3)(Input((3, 32, 32))).shape
    (8, 30, 30)
    """
    sizes = tuple(shape)
    if len(sizes) not in (1, 3):
        raise ValueError(f"Input: shape: expected (C, H, W) or (F,), got {sizes}")
    return Symbol(None, (), _checks.shape(sizes, "Input", "shape", len(sizes)))


class Graph(Composite):
    """The model that computes `output` from `input`. Layers are numbered in the order of their computation.

    Parameters
    ----------
    input : Symbol
        From :func:`Input`.
    output : Symbol

    Raises
    ------
    TypeError
        If they are no symbols.
    ValueError
        If the output does not depend on the input alone.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Add, Conv2d, Graph, Input, ReLU
    >>> x = Input((4, 8, 8))
    >>> y = ReLU()(Conv2d(4, 4, 3, padding=1)(x))
    >>> model = Graph(x, Add()(x, y))
    >>> model(np.zeros((2, 4, 8, 8))).shape
    (2, 4, 8, 8)
    """

    def __init__(self, input: Symbol, output: Symbol) -> None:
        for name, symbol in (("input", input), ("output", output)):
            if not isinstance(symbol, Symbol):
                raise TypeError(f"Graph: {name}: expected a symbol, got {type(symbol).__name__}")
        if input.layer is not None:
            raise ValueError("Graph: input: expected what Input() returned, got a layer's output")
        self._steps = _in_order(input, output)
        if not self._steps:
            raise ValueError("Graph: output: expected a layer's output, got the input itself")
        self.input_shape = input.shape
        super().__init__()

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        ends = list(inputs)
        for number, (layer, sources) in enumerate(self._steps):
            ends.append(layer.wire(wiring, child(name, str(number)), *(ends[source] for source in sources)))
        return ends[-1]

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if input_shape[1:] != self.input_shape:
            raise ValueError(
                f"{self.describe(name)}: input: expected shape (N, {', '.join(map(str, self.input_shape))}), "
                f"got {input_shape}"
            )
        return super().output_shape(input_shape, name)

    def settings(self) -> dict[str, Any]:
        return {
            "input_shape": self.input_shape,
            "layers": [{"layer": describe(layer), "inputs": sources} for layer, sources in self._steps],
        }

    def __repr__(self) -> str:
        lines = [
            f"  ({number}): {layer!r} of {', '.join('input' if i == 0 else str(i - 1) for i in sources)}"
            for number, (layer, sources) in enumerate(self._steps)
        ]
        return f"Graph({self.input_shape},\n" + "\n".join(line.replace("\n", "\n  ") for line in lines) + "\n)"


def _in_order(input: Symbol, output: Symbol) -> list[tuple[Layer, tuple[int, ...]]]:
    """Layers in an order of computation, with the places of what they read: 0 is the input, k the k-th layer."""
    places = {id(input): 0}
    steps: list[tuple[Layer, tuple[int, ...]]] = []
    waiting = [output]
    while waiting:
        symbol = waiting[-1]
        missing = [source for source in symbol.inputs if id(source) not in places]
        if id(symbol) in places:
            waiting.pop()
        elif symbol.layer is None:
            raise ValueError("Graph: output: depends on another input than the one given")
        elif missing:
            waiting += reversed(missing)
        else:
            steps.append((symbol.layer, tuple(places[id(source)] for source in symbol.inputs)))
            places[id(symbol)] = len(steps)
            waiting.pop()
    return steps
