"""Models from files."""

from __future__ import annotations

import math
import os
from typing import Any

from nnpar import initializers
from nnpar.io import tensors
from nnpar.layers.activation import ReLU
from nnpar.layers.base import Layer
from nnpar.layers.conv import Conv2d
from nnpar.layers.dropout import Dropout
from nnpar.layers.flatten import Flatten
from nnpar.layers.linear import Linear
from nnpar.layers.pooling import AvgPool2d, MaxPool2d
from nnpar.layers.sequential import DESCRIPTION, VERSION, Sequential

TYPES: dict[str, type[Layer]] = {
    cls.__name__: cls for cls in (AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU)
}
DEEPEST = 32  # models within models: a file must not exhaust the stack


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a model that ``model.save`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or not a model of nnpar.

    Examples
    --------
    >>> import tempfile
    >>> import nnpar
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nnpar.Sequential(nnpar.Linear(2, 1)).save(f"{folder}/model.safetensors")
    ...     print(nnpar.load(f"{folder}/model.safetensors"))
    Sequential(
      (0): Linear(in_features=2, out_features=1, bias=True)
    )
    """
    import json

    state, metadata = tensors.read(path)
    try:
        if DESCRIPTION not in metadata:
            raise ValueError("expected a model saved by nnpar, got a file without its description")
        description = json.loads(metadata[DESCRIPTION])
        if not isinstance(description, dict) or description.get("version") != VERSION:
            raise ValueError(f"expected a description of version {VERSION}, got {str(description)[:60]}")
        budget = sum(array.size for array in state.values())
        model = _build(description.get("model"), budget, 0)
        if not isinstance(model, Sequential):
            raise ValueError(f"expected a Sequential, got {type(model).__name__}")
        model.load_state_dict(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    return model


def _build(description: Any, budget: int, depth: int) -> Layer:
    """The layer that a description names. `budget`: how many weights the file holds, so that sizes in the description
    alone cannot make it allocate more.
    """
    if not isinstance(description, dict) or not isinstance(description.get("type"), str):
        raise ValueError(f"expected a layer's description, got {str(description)[:60]}")
    settings = {key: value for key, value in description.items() if key != "type"}
    name = description["type"]
    if name == "Sequential":
        if set(settings) != {"layers"} or not isinstance(settings["layers"], list) or depth >= DEEPEST:
            raise ValueError("expected a Sequential's list of layers")
        return Sequential(*(_build(inner, budget, depth + 1) for inner in settings["layers"]))
    if name not in TYPES:
        raise ValueError(f"unknown layer type {name[:60]!r}")
    if "weight_init" in settings:
        raise ValueError("unknown setting 'weight_init'")
    if TYPES[name] in (Conv2d, Linear):
        settings["weight_init"] = lambda shape: _zeros_within(shape, budget)
    return TYPES[name](**settings)


def _zeros_within(shape: tuple[int, ...], budget: int) -> Any:
    if math.prod(shape) > budget:
        raise ValueError(f"weights of shape {shape} are more than the file holds")
    return initializers.zeros(shape)
