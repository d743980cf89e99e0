"""A chain of layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nnpar.io import tensors
from nnpar.layers.base import Layer
from nnpar.shapes import Shape

DESCRIPTION = "nnpar"  # key of the metadata that holds the description
VERSION = 1


class Sequential(Layer):
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
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: expected layers, got {type(layer).__name__}")
        self.layers = layers
        self._arrays = {}
        seen: dict[int, str] = {}
        for name, leaf in self.leaves():
            if id(leaf) in seen:
                raise ValueError(
                    f"Sequential: layers {seen[id(leaf)]!r} and {name!r} are one object; "
                    "sharing weights is not supported"
                )
            seen[id(leaf)] = name

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        for number, layer in enumerate(self.layers):
            yield from layer.leaves(f"{prefix}.{number}" if prefix else str(number))

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        shape = input_shape
        for leaf_name, leaf in self.leaves(name):
            shape = leaf.output_shape(shape, leaf_name)
        return shape

    def settings(self) -> dict[str, Any]:
        return {"layers": [describe(layer) for layer in self.layers]}

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
        tensors.write(path, self.parameters(), {DESCRIPTION: json.dumps(description)})

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __repr__(self) -> str:
        lines = [f"  ({number}): {line}" for number, line in enumerate(map(repr, self.layers))]
        return "Sequential(\n" + "\n".join(line.replace("\n", "\n  ") for line in lines) + "\n)"


def describe(layer: Layer) -> dict[str, Any]:
    """A layer's type and settings, as JSON can hold them."""
    return {"type": type(layer).__name__, **layer.settings()}
