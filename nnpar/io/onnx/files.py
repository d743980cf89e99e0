"""ONNX files: read with distrust, so that what follows need not fear functions, external data or sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

MOST_BYTES = 2**31 - 1  # protobuf's own limit
MOST_NODES = 2**16


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in a file, checked, with external data brought in.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or reads data from outside of its folder.
    """
    name = os.fspath(path)
    if not os.path.lexists(name):
        raise FileNotFoundError(f"{name}: no such file")
    if not os.path.isfile(name):
        raise ValueError(f"{name}: expected a file, got a folder, a pipe or a link to nowhere")
    if os.path.getsize(name) > MOST_BYTES:
        raise ValueError(f"{name}: expected at most 2 GiB; larger weights belong into external data")
    with open(name, "rb") as file:
        content = file.read(MOST_BYTES)
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"not a whole ONNX file: {error}") from error
    return check(model, os.path.dirname(os.path.abspath(name)))


def check(model: onnx.ModelProto, folder: str | None = None) -> onnx.ModelProto:
    """The model with its own functions put in place, if it is sound; external data come from `folder`.

    Raises
    ------
    ValueError
        If it is not, or has external data without a folder.
    """
    _bound_functions(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    tensors = list(model.graph.initializer)
    for tensor in _attribute_tensors(model.graph.node):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("expected external data of initialisers only, got a node's")
    if model.graph.sparse_initializer:
        raise ValueError(f"sparse initialiser {model.graph.sparse_initializer[0].values.name!r} is not supported")
    budget = MOST_BYTES
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            budget -= _bring_in(tensor, folder, budget)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(str(error).strip().split("\n")[0]) from error
    return model


def array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """A tensor's numbers.

    Raises
    ------
    ValueError
        If its sizes do not fit them.
    """
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"tensor {tensor.name!r}: expected sizes of at least 0, got {shape}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"tensor {tensor.name!r}: external data are not supported here")
    try:
        numbers = onnx.numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"tensor {tensor.name!r}: {error}") from error
    if numbers.shape != shape:
        raise ValueError(f"tensor {tensor.name!r}: expected shape {shape}, got {numbers.shape}")
    return np.asarray(numbers)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in _nested(nodes):
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs]:
                yield from _nested(graph.node)


def _bound_functions(model: onnx.ModelProto) -> None:
    """Functions that call functions that call functions may be more nodes than there is memory for."""
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto], above: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in _nested(nodes):
            key = (node.domain, node.op_type)
            if key in above:
                raise ValueError(f"function {key[1]!r} calls itself")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*above, key))
            total += 1 + sizes.get(key, 0)
            if total > MOST_NODES:
                raise ValueError(f"expected at most {MOST_NODES} nodes")
        return total

    size(model.graph.node, ())


def _bring_in(tensor: onnx.TensorProto, folder: str | None, budget: int) -> int:
    """Read a tensor's external data, of at most `budget` bytes, from a file in the folder itself or below it; returns
    how many there were.
    """
    who = f"tensor {tensor.name!r}: external data"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ValueError(f"{who}: there is no folder to read {location!r} from")
    path = os.path.join(folder, location)
    plain = bool(location) and "\0" not in location and not os.path.isabs(location)
    if not plain or os.path.realpath(path) != os.path.join(os.path.realpath(folder), os.path.normpath(location)):
        raise ValueError(f"{who}: expected a path within the model's folder, without links, got {location!r}")
    if not os.path.isfile(path):
        raise ValueError(f"{who}: no such file: {location!r}")
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"{who}: expected sizes of at least 0, got {shape}")
    expected = math.prod(shape) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
    if length != expected or offset < 0 or offset + length > os.path.getsize(path) or length > budget:
        raise ValueError(f"{who}: expected {expected} bytes, got {length} at {offset} of {location!r}")
    with open(path, "rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return length
