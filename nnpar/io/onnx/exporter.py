"""nnpar's models as ONNX graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nnpar.io import tensors
from nnpar.layers import Layer
from nnpar.layers.nodes import INPUT, Node, child, output_shapes
from nnpar.shapes import Shape

OPSET = 21
IR_VERSION = 10


class Emitter:
    """One layer on its way to nodes: what a function in `emitters` reads, and how it adds nodes.

    Attributes
    ----------
    inputs : list of str
        Names of the values that the layer reads.
    input_shapes : list of tuple of int
        For one sample, with the batch axis.
    """

    def __init__(self, node: Node, inputs: list[str], input_shapes: list[Shape]) -> None:
        self.inputs, self.input_shapes = inputs, input_shapes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._node = node

    def parameter(self, name: str, array: NDArray[Any] | None = None) -> str:
        """An initialiser under its state-dict name: the layer's own array of that name, or the one given."""
        full = child(self._node.name, name)
        array = getattr(self._node.layer, name) if array is None else array
        if all(tensor.name != full for tensor in self.initializers):
            self.initializers.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), full))
        return full

    def parameters(self, *names: str) -> list[str]:
        """Those of some parameters that the layer has."""
        return [self.parameter(name) for name in names if getattr(self._node.layer, name) is not None]

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """An initialiser that is no parameter."""
        return self.parameter(name, np.array(value, dtype))

    def emit(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; returns the name of its first output, and further ones end in ``:1``, ``:2``."""
        name = f"{self._node.name or 'model'}/{len(self.nodes)}"
        names = [name, *(f"{name}:{k}" for k in range(1, outputs))]
        self.nodes.append(onnx.helper.make_node(operator, inputs, names, name=name, **attributes))
        return name


def to_proto(model: Layer, input_shape: Shape | Sequence[Shape] | None = None) -> onnx.ModelProto:
    """The model as ONNX has it; see :func:`save`."""
    from nnpar.io.onnx.emitters import EMITTERS

    shapes = [(1, *shape) for shape in _shapes(model, input_shape)]
    nodes = model.nodes(len(shapes))
    missing = [node.layer.describe(node.name) for node in nodes if type(node.layer) not in EMITTERS]
    if missing:
        raise ValueError(f"onnx.save: layers without a form in ONNX: {', '.join(missing)}")
    sizes = output_shapes(nodes, shapes)
    input_names = ["input"] if len(shapes) == 1 else [f"input{k}" for k in range(len(shapes))]
    names: list[str] = []
    graph = onnx.GraphProto(name=type(model).__name__)
    for node in nodes:
        emitter = Emitter(
            node,
            [names[k] if k >= 0 else input_names[INPUT - k] for k in node.inputs],
            [sizes[k] if k >= 0 else shapes[INPUT - k] for k in node.inputs],
        )
        names.append(EMITTERS[type(node.layer)](emitter, node.layer))
        graph.node.extend(emitter.nodes)
        graph.initializer.extend(emitter.initializers)
    ends = model.output_nodes(nodes)
    output_names = ["output"] if len(ends) == 1 else [f"output{k}" for k in range(len(ends))]
    for name, end in zip(output_names, ends, strict=True):
        graph.node.append(onnx.helper.make_node("Identity", [names[end]], [name], name=name))
    graph.input.extend(_value(name, shape) for name, shape in zip(input_names, shapes, strict=True))
    graph.output.extend(_value(name, sizes[end]) for name, end in zip(output_names, ends, strict=True))
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nnpar"
    )


def _value(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape[1:]])


def _shapes(model: Layer, given: Sequence[Any] | None) -> list[Shape]:
    """Shapes of one sample of each input."""
    if given is None:
        known: tuple[Shape, ...] | None = getattr(model, "input_shapes", None)
        if known is None:
            raise ValueError("onnx.save: input_shape: expected the shape of one sample, such as (C, H, W), got None")
        return list(known)
    return [tuple(given)] if all(isinstance(size, int) for size in given) else [tuple(shape) for shape in given]


def save(model: Layer, path: str | os.PathLike[str], input_shape: Shape | Sequence[Shape] | None = None) -> None:
    """Write a model as an ONNX file, for prediction with any size of the batch.

    Parameters and statistics are initialisers under their names in ``model.state_dict()``. The file appears whole or
    not at all, and has passed ONNX's checker.

    Parameters
    ----------
    model : Layer
    path : str or path-like
    input_shape : tuple of int, or sequence of them, optional
        Of one sample of each input; a Graph knows its own.

    Raises
    ------
    ValueError
        If layers have no form in ONNX (the error names them), the input's shape is missing or does not fit, or the file
        would be larger than 2 GiB.
    OSError
        If it cannot be written; then an old file is as it was.

    Examples
    --------
    >>> import tempfile
    >>> import onnx
    >>> import nnpar.io.onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nnpar.io.onnx.save(nnpar.zoo.lenet5(), f"{folder}/lenet5.onnx", (1, 28, 28))
    ...     print(onnx.load(f"{folder}/lenet5.onnx").graph.initializer[0].name)
    0.weight
    """
    if not isinstance(model, Layer):
        raise TypeError(f"onnx.save: model: expected a layer, got {type(model).__name__}")
    proto = to_proto(model, input_shape)
    if proto.ByteSize() >= 2**31:
        raise ValueError("onnx.save: a model of 2 GiB or more does not fit into a file")
    onnx.checker.check_model(proto, full_check=True)
    tensors.replace(path, proto.SerializeToString())
