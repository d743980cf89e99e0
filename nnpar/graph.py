"""Models of any directed acyclic shape, written as functions of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpar import _checks
from nnpar.layers.base import Layer
from nnpar.layers.composite import Composite, describe
from nnpar.layers.nodes import Node, Symbol, Wiring, child, input_numbers, output_shapes
from nnpar.shapes import Shape

__all__ = ["Graph", "Input"]


def Input(shape: Shape) -> Symbol:  # noqa: N802
    """The input of a functional model.

    Parameters
    ----------
    shape : tuple of int
        Of one sample: (C, H, W), (F,) or another.

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
    return Symbol(None, (), _checks.shape(sizes, "Input", "shape", len(sizes)))


class Graph(Composite):
    """The model that computes `output` from `input`. Layers are numbered in the order of their computation.

    Parameters
    ----------
    input : Symbol or sequence of Symbol
        From :func:`Input`.
    output : Symbol or sequence of Symbol
        A model with several outputs can predict; to be trained by a loss, or to be a part of another, it has one.

    Raises
    ------
    TypeError
        If they are no symbols.
    ValueError
        If an output does not depend on the inputs alone.

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

    def __init__(self, input: Symbol | Sequence[Symbol], output: Symbol | Sequence[Symbol]) -> None:
        inputs, outputs = _symbols(input, "input"), _symbols(output, "output")
        if any(symbol.layer is not None for symbol in inputs):
            raise ValueError("Graph: input: expected what Input() returned, got a layer's output")
        if len({id(symbol) for symbol in inputs}) < len(inputs):
            raise ValueError("Graph: input: expected each input once")
        self._steps, places = _in_order(inputs, outputs)
        self._outputs = tuple(places[id(symbol)] for symbol in outputs)
        if min(self._outputs) < len(inputs):
            raise ValueError("Graph: output: expected a layer's output, got the input itself")
        self.input_shapes = tuple(symbol.shape for symbol in inputs)
        self.input_count = len(inputs)
        super().__init__()

    @property
    def input_shape(self) -> Shape:
        """Shape of one sample of the first input."""
        return self.input_shapes[0]

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        if len(self._outputs) > 1:
            raise ValueError(
                f"{self.describe(name)}: expected a model with one output as part of another, got {len(self._outputs)}"
            )
        return self._wire(wiring, name, inputs)[self._outputs[0]]

    def _wire(self, wiring: Wiring, name: str, inputs: Sequence[int]) -> list[int]:
        """Add the layers; returns the numbers of the inputs and of each layer's output."""
        ends = list(inputs)
        for number, (layer, sources) in enumerate(self._steps):
            ends.append(layer.wire(wiring, child(name, str(number)), *(ends[source] for source in sources)))
        return ends

    def nodes(self, inputs: int | None = None) -> list[Node]:
        wiring = Wiring()
        self._wire(wiring, "", input_numbers(self.input_count))
        return wiring.nodes

    def output_nodes(self, nodes: Sequence[Node]) -> list[int]:
        ends = self._wire(Wiring(), "", input_numbers(self.input_count))
        return [ends[place] for place in self._outputs]

    def output_shapes(self, input_shapes: Sequence[Shape]) -> list[Shape]:
        self._check(input_shapes, "")
        nodes = self.nodes()
        shapes = output_shapes(nodes, input_shapes)
        return [shapes[number] for number in self.output_nodes(nodes)]

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        self._check(input_shapes, name)
        return super().merged_shape(input_shapes, name)

    def _check(self, input_shapes: Sequence[Shape], name: str) -> None:
        who = self.describe(name)
        if len(input_shapes) != self.input_count:
            raise ValueError(f"{who}: expected {self.input_count} inputs, got {len(input_shapes)}")
        for number, (got, expected) in enumerate(zip(input_shapes, self.input_shapes, strict=True)):
            if got[1:] != expected:
                which = f"input {number}" if self.input_count > 1 else "input"
                raise ValueError(f"{who}: {which}: expected shape (N, {', '.join(map(str, expected))}), got {got}")

    def settings(self) -> dict[str, Any]:
        return {
            "input_shapes": self.input_shapes,
            "layers": [{"layer": describe(layer), "inputs": sources} for layer, sources in self._steps],
            "outputs": self._outputs,
        }

    def __repr__(self) -> str:
        names = ["input"] if self.input_count == 1 else [f"input {k}" for k in range(self.input_count)]
        names += map(str, range(len(self._steps)))
        lines = [
            f"  ({number}): {layer!r} of {', '.join(names[i] for i in sources)}"
            for number, (layer, sources) in enumerate(self._steps)
        ]
        if self._outputs != (len(names) - 1,):
            lines.append(f"  outputs: {', '.join(names[i] for i in self._outputs)}")
        shapes = ", ".join(map(str, self.input_shapes))
        return f"Graph({shapes},\n" + "\n".join(line.replace("\n", "\n  ") for line in lines) + "\n)"


def _symbols(value: Any, name: str) -> list[Symbol]:
    """One symbol or several as a list."""
    symbols = list(value) if isinstance(value, (list, tuple)) else [value]
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise TypeError(f"Graph: {name}: expected a symbol, got {type(symbol).__name__}")
    if not symbols:
        raise ValueError(f"Graph: {name}: expected at least one symbol")
    return symbols


def _in_order(
    inputs: Sequence[Symbol], outputs: Sequence[Symbol]
) -> tuple[list[tuple[Layer, tuple[int, ...]]], dict[int, int]]:
    """Layers in an order of computation, with the places of what they read, and the place of each symbol: those of the
    inputs come first, then one for each layer.
    """
    places = {id(symbol): number for number, symbol in enumerate(inputs)}
    steps: list[tuple[Layer, tuple[int, ...]]] = []
    waiting = list(reversed(outputs))
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
            places[id(symbol)] = len(inputs) + len(steps)
            steps.append((symbol.layer, tuple(places[id(source)] for source in symbol.inputs)))
            waiting.pop()
    return steps, places
