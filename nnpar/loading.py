"""Models from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnpar import layers
from nnpar.graph import Graph, Input
from nnpar.io import tensors
from nnpar.layers import Composite, Concat, CustomLayer, Layer, Residual, Sequential
from nnpar.layers.base import without_initial_values
from nnpar.layers.composite import DESCRIPTION, VERSION
from nnpar.layers.nodes import Symbol

TYPES: dict[str, type[Layer]] = {
    name: cls
    for name, cls in vars(layers).items()
    if isinstance(cls, type)
    and issubclass(cls, Layer)
    and cls not in (Layer, Composite, CustomLayer, Sequential, Residual, Concat)
}
COMPOSITES: dict[str, tuple[type[Composite], set[str], str]] = {
    "Sequential": (Sequential, {"layers"}, "list of layers"),
    "Residual": (Residual, {"body", "shortcut"}, "body and shortcut"),
    "Concat": (Concat, {"branches"}, "list of branches"),
    "Graph": (Graph, {"input_shapes", "layers", "outputs"}, "input shapes, list of layers and outputs"),
}
DEEPEST = 32  # models within models: a file must not exhaust the stack
LONGEST = 2**22  # characters of a description: JSON takes thirty times its length when it is read


def load(path: str | os.PathLike[str], layers: Sequence[type[Layer]] = ()) -> Composite:
    """Read a model that ``model.save`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like
    layers : sequence of classes
        The user's own layers that it may hold, and those of :mod:`nnpar.distributed`.

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

    for layer in layers:
        if not isinstance(layer, type) or not issubclass(layer, Layer):
            raise TypeError(f"load: layers: expected classes of layers, got {layer!r}")
    types = TYPES | {layer.__name__: layer for layer in layers}
    state, metadata = tensors.read(path)
    try:
        if DESCRIPTION not in metadata:
            raise ValueError(
                "expected a model saved by nnpar, got a file without its description; "
                "weights alone go into a model by its load_state_dict(path)"
            )
        if len(metadata[DESCRIPTION]) > LONGEST:
            raise ValueError(f"expected a description of at most {LONGEST} characters")
        description = json.loads(metadata[DESCRIPTION])
        if not isinstance(description, dict) or description.get("version") != VERSION:
            raise ValueError(f"expected a description of version {VERSION}, got {str(description)[:60]}")
        # Twice as many numbers as there are, and some, so that a few that are missing are named.
        with without_initial_values(2 * sum(array.size for array in state.values()) + 2**16):
            model = _build(description.get("model"), types, 0)
        if not isinstance(model, Composite):
            raise ValueError(f"expected a model, such as a Sequential, got {type(model).__name__}")
        model.load_state_dict(state)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    return model


def _build(description: Any, types: Mapping[str, type[Layer]], depth: int) -> Layer:
    """The layer that a description names."""
    if not isinstance(description, dict) or not isinstance(description.get("type"), str):
        raise ValueError(f"expected a layer's description, got {str(description)[:60]}")
    settings = {key: value for key, value in description.items() if key != "type"}
    name = description["type"]
    if name in COMPOSITES:
        if set(settings) != COMPOSITES[name][1] or depth >= DEEPEST:
            raise ValueError(f"expected a {name}'s {COMPOSITES[name][2]}")
        return _build_composite(name, settings, types, depth + 1)
    if name not in types:
        raise ValueError(f"unknown layer type {name[:60]!r}")
    for key in settings:
        if key.endswith("_init"):
            raise ValueError(f"unknown setting {key[:60]!r}")
    return types[name](**settings)


def _build_composite(name: str, settings: dict[str, Any], types: Mapping[str, type[Layer]], depth: int) -> Layer:
    """A layer made of the layers that its settings describe."""

    def inner(description: Any) -> Layer:
        return _build(description, types, depth)

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
    return _build_graph(settings, inner)


def _build_graph(settings: dict[str, Any], inner: Callable[[Any], Layer]) -> Graph:
    inputs = [Input(shape) for shape in _list(settings["input_shapes"], "input shapes")]
    symbols = list(inputs)
    for part in _list(settings["layers"], "layers"):
        if not isinstance(part, dict) or set(part) != {"layer", "inputs"}:
            raise ValueError(f"expected a Graph's layer and its inputs, got {str(part)[:60]}")
        symbols.append(inner(part["layer"])(*_picked(symbols, part["inputs"])))
    return Graph(inputs, _picked(symbols, settings["outputs"]))


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected a Graph's list of {what}, got {str(value)[:60]}")
    return value


def _picked(symbols: list[Symbol], places: Any) -> list[Symbol]:
    """The symbols with the numbers given."""
    if not isinstance(places, list) or not all(type(i) is int and 0 <= i < len(symbols) for i in places):
        raise ValueError(f"expected a Graph's layer and its inputs, got {str(places)[:60]}")
    return [symbols[i] for i in places]
