"""A model as nodes: what every composition of layers comes down to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nnpar.shapes import Shape

if TYPE_CHECKING:
    from nnpar.layers.base import Layer

INPUT = -1  # in place of a node's number: the model's input; of several, number k is INPUT - k


class Node(NamedTuple):
    """One layer without layers inside, and the numbers of the nodes before it that it reads (or inputs)."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]


class Wiring:
    """Nodes in the order of their computation, as layers add them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, name: str, layer: Layer, *inputs: int) -> int:
        """A new node; returns its number."""
        self.nodes.append(Node(name, layer, inputs))
        return len(self.nodes) - 1


@dataclass(frozen=True, eq=False)
class Symbol:
    """What a layer makes of other symbols: a value of a functional model before there are numbers.

    Attributes
    ----------
    layer : Layer or None
        None for a model's input.
    inputs : tuple of Symbol
    shape : tuple of int
        Of one sample, such as (C, H, W) or (F,).
    """

    layer: Layer | None
    inputs: tuple[Symbol, ...]
    shape: Shape


def child(prefix: str, name: str) -> str:
    """Name of a layer within a layer."""
    return f"{prefix}.{name}" if prefix else name


def input_numbers(count: int) -> tuple[int, ...]:
    """What stands for `count` inputs in place of nodes' numbers."""
    return tuple(INPUT - k for k in range(count))


def output_shapes(nodes: Sequence[Node], input_shapes: Sequence[Shape]) -> list[Shape]:
    """Output shape of each node, for batches of `input_shapes`, one for each input.

    Raises
    ------
    ValueError
        If a layer cannot take its input; the error names it.
    """
    shapes: list[Shape] = []
    for node in nodes:
        inputs = [shapes[number] if number >= 0 else input_shapes[INPUT - number] for number in node.inputs]
        shapes.append(node.layer.merged_shape(inputs, node.name))
    return shapes
