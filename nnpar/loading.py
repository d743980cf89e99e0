"""Models from files."""

from __future__ import annotations

import math
import os
from typing import Any

from nnpar import initializers
from nnpar.graph import Graph, Input
from nnpar.io import tensors
from nnpar.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Composite,
    Concat,
    Concatenate,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Upsample,
)
from nnpar.layers.composite import DESCRIPTION, VERSION

TYPES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Add,
        AvgPool2d,
        BatchNorm2d,
        Concatenate,
        Conv2d,
        Dropout,
        Flatten,
        GlobalAvgPool2d,
        Linear,
        MaxPool2d,
        ReLU,
        Upsample,
    )
}
COMPOSITES: dict[str, tuple[type[Composite], set[str], str]] = {
    "Sequential": (Sequential, {"layers"}, "list of layers"),
    "Residual": (Residual, {"body", "shortcut"}, "body and shortcut"),
    "Concat": (Concat, {"branches"}, "list of branches"),
    "Graph": (Graph, {"input_shape", "layers"}, "input shape and list of layers"),
}
DEEPEST = 32  # models within models: a file must not exhaust the stack


def load(path: str | os.PathLike[str]) -> Composite:
    """Read a model that ``model.save`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Sequential, Residual, Concat or Graph

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
        if not isinstance(model, Composite):
            raise ValueError(f"expected a model, such as a Sequential, got {type(model).__name__}")
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
    if name in COMPOSITES:
        if set(settings) != COMPOSITES[name][1] or depth >= DEEPEST:
            raise ValueError(f"expected a {name}'s {COMPOSITES[name][2]}")
        return _build_composite(name, settings, budget, depth + 1)
    if name not in TYPES:
        raise ValueError(f"unknown layer type {name[:60]!r}")
    if "weight_init" in settings:
        raise ValueError("unknown setting 'weight_init'")
    features = settings.get("num_features", 0)
    if TYPES[name] is BatchNorm2d and isinstance(features, int) and features > budget:
        raise ValueError(f"{features} features are more than the file holds")
    if TYPES[name] in (Conv2d, Linear):
        settings["weight_init"] = lambda shape: _zeros_within(shape, budget)
    return TYPES[name](**settings)


def _build_composite(name: str, settings: dict[str, Any], budget: int, depth: int) -> Layer:
    """A layer made of the layers that its settings describe."""

    def inner(description: Any) -> Layer:
        return _build(description, budget, depth)

    def inner_or_none(description: Any) -> Layer | None:
        return None if description is None else inner(description)

    if name == "Residual":
        return Residual(inner(settings["body"]), inner_or_none(settings["shortcut"]))
    parts = settings["branches" if name == "Concat" else "layers"]
    if not isinstance(parts, list):
        raise ValueError(f"expected a {name}'s {COMPOSITES[name][2]}")
    if name == "Concat":
        return Concat(*map(inner_or_none, parts))
    if name == "Sequential":
        return Sequential(*map(inner, parts))
    symbols = [Input(settings["input_shape"])]
    for part in parts:
        sources = part.get("inputs") if isinstance(part, dict) and set(part) == {"layer", "inputs"} else None
        if not isinstance(sources, list) or not all(type(i) is int and 0 <= i < len(symbols) for i in sources):
            raise ValueError(f"expected a Graph's layer and its inputs, got {str(part)[:60]}")
        symbols.append(inner(part["layer"])(*(symbols[i] for i in sources)))
    return Graph(symbols[0], symbols[-1])


def _zeros_within(shape: tuple[int, ...], budget: int) -> Any:
    if math.prod(shape) > budget:
        raise ValueError(f"weights of shape {shape} are more than the file holds")
    return initializers.zeros(shape)
