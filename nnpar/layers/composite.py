"""Layers made of layers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nnpar.io import tensors
from nnpar.layers.base import Layer
from nnpar.layers.merging import Add, Concatenate
from nnpar.layers.nodes import Wiring, child, input_numbers, output_shapes
from nnpar.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESCRIPTION = "nnpar"  # key of the metadata that holds the description
VERSION = 1


class Composite(Layer):
    """Base of the layers that are made of others. Each layer is in a model once: weights are not shared."""

    def __init__(self) -> None:
        self._arrays = {}
        seen: dict[int, str] = {}
        for node in self.nodes():
            if id(node.layer) in seen:
                raise ValueError(
                    f"{type(self).__name__}: layers {seen[id(node.layer)]!r} and {node.name!r} are one object; "
                    "sharing weights is not supported"
                )
            seen[id(node.layer)] = node.name

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self.merged_shape([input_shape], name)

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        if len(input_shapes) != self.input_count:
            raise ValueError(f"{self.describe(name)}: expected {self.input_count} inputs, got {len(input_shapes)}")
        wiring = Wiring()
        self.wire(wiring, name, *input_numbers(self.input_count))
        return output_shapes(wiring.nodes, input_shapes)[-1]

    def summary(self, *input_shapes: Shape) -> str:
        """A table of the layers: output shape, parameters, work and memory, for one sample in training.

        Parameters
        ----------
        *input_shapes : tuple of int
            Of one sample, such as (C, H, W) or (F,), for each input.

        Returns
        -------
        str
            To be printed.

        Raises
        ------
        ValueError
            If the model cannot take such an input.

        Examples
        --------
        >>> from nnpar import Linear, ReLU, Sequential
        >>> print(Sequential(Linear(4, 3), ReLU(), Linear(3, 2)).summary((4,)))
        layer                    type                 output shape       parameters      MFLOP
        0                        Linear               (3,)                       15      0.000
        1                        ReLU                 (3,)                        0      0.000
        2                        Linear               (2,)                        8      0.000
        23 parameters, 0.000 MFLOP forward; in training 0.00 MB of activations and gradients for each sample
        """
        from nnpar.plan import Plan

        batch = 2  # one sample is too few for batch normalisation
        shapes = [(batch, *shape) for shape in input_shapes]
        nodes = self.nodes()
        plan = Plan(self, shapes, training=True)
        work = plan.flops_forward()
        lines = [f"{'layer':<24} {'type':<20} {'output shape':<18} {'parameters':>10} {'MFLOP':>10}"]
        for node, output in zip(nodes, output_shapes(nodes, shapes), strict=True):
            count = sum(array.size for array in node.layer._arrays.values())
            name, flops = type(node.layer).__name__, work.get(node.name, 0.0) / batch / 1e6
            lines.append(f"{node.name:<24} {name:<20} {output[1:]!s:<18} {count:>10,} {flops:>10.3f}")
        total = sum(work.values()) / batch / 1e6
        lines.append(
            f"{self.parameter_count:,} parameters, {total:.3f} MFLOP forward; in training "
            f"{plan.memory.arena / batch / 1e6:.2f} MB of activations and gradients for each sample"
        )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None, input_shape: Shape | None = None) -> Figure:
        """Draw the layers and what flows between them.

        Parameters
        ----------
        path : path-like, optional
            File to save the picture in as well; its suffix tells the format (``.png``, ``.svg``, ``.pdf``).
        input_shape : tuple of int, optional
            Of one sample, such as (C, H, W) or (F,), so that output shapes are shown; a `Graph` knows its own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If the model cannot take such an input.
        """
        from nnpar import plots
        from nnpar.plots import graph

        figure = graph.graph(self, [input_shape] if input_shape else getattr(self, "input_shapes", None))
        if path is not None:
            plots.save(figure, path)
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: parameters, and the layers' description in the metadata.

        The file appears whole or not at all: an old one stays until the new one is safe on the disk.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If it cannot be written; then an old file is as it was.
        """
        import json

        description = {"version": VERSION, "model": describe(self)}
        tensors.write(path, self.state(), {DESCRIPTION: json.dumps(description)})


def layers_only(layers: tuple[Any, ...], who: str) -> None:
    """Every argument is a layer."""
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"{who}: expected layers, got {type(layer).__name__}")


def describe(layer: Layer) -> dict[str, Any]:
    """A layer's type and settings, as JSON can hold them."""
    return {"type": type(layer).__name__, **layer.settings()}


def indented(name: str, parts: list[tuple[str, Layer]]) -> str:
    """``name(...)`` with a line for each part."""
    lines = [f"  ({key}): {layer!r}" for key, layer in parts]
    return f"{name}(\n" + "\n".join(line.replace("\n", "\n  ") for line in lines) + "\n)"


class Sequential(Composite):
    """Layers one after the other; parameters are named as in PyTorch's ``nn.Sequential``: ``0.weight``, ``0.bias``, ...

    Parameters
    ----------
    *layers : Layer
        Each once; a Sequential may hold others.

    Raises
    ------
    TypeError
        If one is not a layer.
    ValueError
        If there is none, or one occurs twice.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 10))
    >>> model(np.zeros((5, 1, 8, 8))).shape
    (5, 10)
    >>> list(model.parameters())
    ['1.weight', '1.bias']
    """

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ValueError("Sequential: expected at least one layer")
        layers_only(layers, "Sequential")
        self.layers = layers
        super().__init__()

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        (last,) = inputs
        for number, layer in enumerate(self.layers):
            last = layer.wire(wiring, child(name, str(number)), last)
        return last

    def settings(self) -> dict[str, Any]:
        return {"layers": [describe(layer) for layer in self.layers]}

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __repr__(self) -> str:
        return indented("Sequential", [(str(number), layer) for number, layer in enumerate(self.layers)])


class Residual(Composite):
    """``body(x) + shortcut(x)``: He, Zhang, Ren, Sun, arXiv:1512.03385.

    Parameters
    ----------
    body : Layer
    shortcut : Layer, optional
        x itself by default. Its output has the body's shape.

    Raises
    ------
    TypeError
        If one is not a layer.
    ValueError
        If both are one layer; later, if their outputs differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Conv2d, Residual
    >>> Residual(Conv2d(4, 4, 3, padding=1))(np.zeros((1, 4, 5, 5))).shape
    (1, 4, 5, 5)
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        layers_only((body,) if shortcut is None else (body, shortcut), "Residual")
        self.body, self.shortcut = body, shortcut
        self._add = Add()
        super().__init__()

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        (x,) = inputs
        shortcut = x if self.shortcut is None else self.shortcut.wire(wiring, child(name, "shortcut"), x)
        return wiring.add(child(name, "add"), self._add, self.body.wire(wiring, child(name, "body"), x), shortcut)

    def settings(self) -> dict[str, Any]:
        return {"body": describe(self.body), "shortcut": None if self.shortcut is None else describe(self.shortcut)}

    def __repr__(self) -> str:
        parts = [("body", self.body)] + ([] if self.shortcut is None else [("shortcut", self.shortcut)])
        return indented("Residual", parts)


class Concat(Composite):
    """What several layers make of one input, side by side along the channels (or features): Inception, DenseNet.

    Parameters
    ----------
    *branches : Layer or None
        Two at least; None stands for the input itself. Their outputs differ in the number of channels at most.

    Raises
    ------
    TypeError
        If one is not a layer.
    ValueError
        If there are fewer than two, or one occurs twice; later, if their outputs do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Concat, Conv2d
    >>> Concat(None, Conv2d(4, 2, 1))(np.zeros((1, 4, 5, 5))).shape
    (1, 6, 5, 5)
    """

    def __init__(self, *branches: Layer | None) -> None:
        if len(branches) < 2:
            raise ValueError(f"Concat: expected at least two branches, got {len(branches)}")
        layers_only(tuple(branch for branch in branches if branch is not None), "Concat")
        self.branches = branches
        self._join = Concatenate()
        super().__init__()

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        (x,) = inputs
        ends = [
            x if branch is None else branch.wire(wiring, child(name, str(number)), x)
            for number, branch in enumerate(self.branches)
        ]
        return wiring.add(child(name, "concat"), self._join, *ends)

    def settings(self) -> dict[str, Any]:
        return {"branches": [None if branch is None else describe(branch) for branch in self.branches]}

    def __repr__(self) -> str:
        parts = [(str(number), branch) for number, branch in enumerate(self.branches) if branch is not None]
        return indented("Concat", parts)
