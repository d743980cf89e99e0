"""ONNX graphs as models of nnpar's layers."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray

from nnpar.graph import Graph, Input
from nnpar.io.onnx import files, folding
from nnpar.layers import Dropout, Layer
from nnpar.layers.nodes import Symbol
from nnpar.shapes import Shape

LARGEST_VALUE = 2**38  # numbers of one value: a terabyte
TRIALS = (2, 3)  # sizes of a batch whose size is free: what differs between them follows the batch
OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Known:
    """A value that does not depend on the inputs' numbers: an array for each trial size of the batch."""

    arrays: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Data:
    """A value that does, with its shape for each trial size of the batch. Whole numbers are indices."""

    symbol: Symbol
    shapes: tuple[Shape, ...]
    whole: bool = False

    @property
    def shape(self) -> Shape:
        return self.shapes[0]


Value = Known | Data | None  # None: an optional input or output that is not there


@dataclass(frozen=True)
class Imported:
    """A model, and where the outputs come from: from its output of a number, or they are arrays.

    Attributes
    ----------
    model : Graph or None
        None if no output depends on the inputs' numbers.
    inputs : tuple of str
        Names of the model's inputs.
    outputs : tuple of int or array
    """

    model: Graph | None
    inputs: tuple[str, ...]
    outputs: tuple[int | NDArray[Any], ...]


class UnsupportedError(ValueError):
    """What a node wants, and nnpar cannot do."""


class Op:
    """One node on its way to layers: what a function in `operators` reads, and how it adds layers.

    Each method raises :class:`UnsupportedError` if the node has something else than the caller can use.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Value],
        version: int,
        trials: int,
        alone: Sequence[bool] = (),
        fold: bool = False,
    ) -> None:
        self.node, self.inputs, self.version, self.trials = node, inputs, version, trials
        self.alone = alone  # for each input, whether nothing else reads it: then the layer before may become another
        self.fold = fold  # whether batch normalisations are to become part of other layers
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self._unread = set(self._attributes)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; text as str."""
        self._unread.discard(name)
        value = self._attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def expect(self, name: str, default: Any, *values: Any) -> None:
        """An attribute of which only the default and some values are supported."""
        value = self.attribute(name, default)
        if value not in (default, *values):
            raise UnsupportedError(f"{name}={value!r}")

    def all_read(self) -> None:
        """Each attribute was looked at."""
        if self._unread:
            raise UnsupportedError(f"attribute {', '.join(sorted(self._unread))}")

    def has(self, number: int) -> bool:
        """Whether there is an input of that number."""
        return number < len(self.inputs) and self.inputs[number] is not None

    def wants_output(self, number: int) -> bool:
        """Whether somebody may read an output."""
        return number < len(self.node.output) and bool(self.node.output[number])

    def data(self, number: int = 0) -> Data:
        """An input that is data of float32."""
        value = self.inputs[number] if number < len(self.inputs) else None
        if not isinstance(value, Data) or value.whole:
            raise UnsupportedError(f"input {number}: expected float32 data that depend on the model's inputs")
        return value

    def known(self, number: int) -> NDArray[Any]:
        """An input that does not depend on the inputs, nor on the batch."""
        value = self.inputs[number] if number < len(self.inputs) else None
        if not isinstance(value, Known):
            raise UnsupportedError(f"input {number}: expected a constant, got data that depend on the model's inputs")
        if any(not np.array_equal(array, value.arrays[0]) for array in value.arrays[1:]):
            raise UnsupportedError(f"input {number}: depends on the batch's size")
        return value.arrays[0]

    def weights(self, number: int, shape: Shape | None = None) -> NDArray[np.float32]:
        """A constant input in float32, of that shape."""
        array = self.known(number)
        if array.dtype != np.float32:
            raise UnsupportedError(f"input {number}: expected float32, got {array.dtype}")
        if shape is not None and array.shape != shape:
            raise ValueError(f"input {number}: expected shape {shape}, got {array.shape}")
        return array

    def integers(self, number: int, attribute: str, default: Any = None) -> Any:
        """Integers that are an attribute in old versions, and a constant input in new ones."""
        if self.has(number):
            return [int(i) for i in self.known(number).reshape(-1)]
        return self.attribute(attribute, default)

    def axis(self, value: int, rank: int) -> int:
        """An axis from 0, of one that may count from the end."""
        if not -rank <= value < rank:
            raise ValueError(f"axis: expected less than {rank}, got {value}")
        return value % rank

    def emit(self, layer: Layer, *inputs: Data) -> Data:
        """The layer's output."""
        shapes = tuple(layer.merged_shape([x.shapes[t] for x in inputs]) for t in range(self.trials))
        if any(math.prod(shape) >= LARGEST_VALUE for shape in shapes):
            raise ValueError(f"an output of shape {shapes[0]} is too large")
        return Data(Symbol(layer, tuple(x.symbol for x in inputs), shapes[0][1:]), shapes)


class Importer:
    """Turns one checked model into layers.

    Parameters
    ----------
    proto : onnx.ModelProto
    constants : mapping of str to array
        Inputs whose numbers are known.
    shapes : mapping of str to tuple of int
        Of inputs that the file gives no sizes for, or others.
    fold : bool
        Whether batch normalisations become part of convolutions.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        constants: Mapping[str, NDArray[Any]] | None = None,
        shapes: Mapping[str, tuple[int | None, ...]] | None = None,
        fold: bool = False,
    ) -> None:
        from nnpar.io.onnx.operators import OPERATORS

        self._operators: Mapping[str, Callable[[Op], Value | list[Value]]] = OPERATORS
        proto = _with_functions_inlined(proto, OPERATORS.keys() | folding.OPERATORS)
        self.graph = proto.graph
        self._opsets = {opset.domain: opset.version for opset in proto.opset_import}
        self._version = next((self._opsets[d] for d in OWN_DOMAINS if d in self._opsets), 1)
        self._fold = folding.Folder(self._opsets)
        self._values: dict[str, Value] = {}
        readers = Counter(name for node in self.graph.node for name in node.input)
        readers.update(value.name for value in self.graph.output)
        self._read_once = {name for name, count in readers.items() if count == 1}
        self._fold_norms = fold
        self._problems: list[str] = []
        self._failed: set[str] = set()
        constants = constants or {}
        known = {tensor.name: files.array(tensor) for tensor in self.graph.initializer} | dict(constants)
        sizes = {
            value.name: _input_shape(value, (shapes or {}).get(value.name))
            for value in self.graph.input
            if value.name not in known
        }
        self._trials = TRIALS if any(shape[0] is None for shape in sizes.values()) else (0,)
        self._values |= {name: Known((array,) * len(self._trials)) for name, array in known.items()}
        self._inputs = {value.name: self._input(value, sizes[value.name]) for value in self.graph.input
                        if value.name in sizes}  # fmt: skip
        self._values |= self._inputs

    def _input(self, value: onnx.ValueInfoProto, shape: tuple[int | None, ...]) -> Data:
        kind = value.type.tensor_type.elem_type
        if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            raise UnsupportedError(
                f"input {value.name!r}: expected float32, got {onnx.TensorProto.DataType.Name(kind)}"
            )
        rest = tuple(size or 0 for size in shape[1:])
        shapes = tuple((batch if shape[0] is None else shape[0], *rest) for batch in self._trials)
        return Data(Input(rest), shapes, kind != onnx.TensorProto.FLOAT)

    def run(self) -> Imported:
        """Build the model.

        Raises
        ------
        ValueError
            If there are nodes that are not supported; it names all.
        """
        for number, node in enumerate(self.graph.node):
            self._node(node, number)
        if self._problems:
            raise ValueError("not supported: " + "; ".join(self._problems))
        outputs: list[int | NDArray[Any]] = []
        symbols: list[Symbol] = []
        for output in self.graph.output:
            value = self._values[output.name]
            if isinstance(value, Data):
                if value.symbol.layer is None:  # a model's output is a layer's
                    value = Data(Symbol(Dropout(0.0), (value.symbol,), value.symbol.shape), value.shapes)
                outputs.append(len(symbols))
                symbols.append(value.symbol)
            elif isinstance(value, Known):
                outputs.append(value.arrays[0])
        if not symbols:
            return Imported(None, (), tuple(outputs))
        model = Graph([x.symbol for x in self._inputs.values()], symbols)
        return Imported(model, tuple(self._inputs), tuple(outputs))

    def _node(self, node: onnx.NodeProto, number: int) -> None:
        """Compute a node or add its layers; a problem is noted, and what reads the node's outputs passes over."""
        failed = any(name in self._failed for name in node.input)
        try:
            operator = self._operators.get(node.op_type) if node.domain in OWN_DOMAINS else None
            foldable = node.domain in OWN_DOMAINS and node.op_type in folding.OPERATORS
            if operator is None and not foldable:
                raise UnsupportedError("this operator")
            if not failed:
                outputs = self._outputs(node, operator, foldable)
                self._values |= dict(zip(node.output, outputs, strict=False))
                return
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            name = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} (node {number})"
            self._problems.append(f"{name}: {error}")
        self._failed |= {name for name in node.output if name}

    def _outputs(
        self, node: onnx.NodeProto, operator: Callable[[Op], Value | list[Value]] | None, foldable: bool
    ) -> Sequence[Value]:
        inputs = [self._values[name] if name else None for name in node.input]
        if foldable and not any(isinstance(value, Data) for value in inputs):
            return self._folded(node, inputs)
        if operator is None:
            raise UnsupportedError("of data that depend on the model's inputs")
        alone = [name in self._read_once for name in node.input]
        op = Op(node, inputs, self._version, len(self._trials), alone, self._fold_norms)
        value = operator(op)
        op.all_read()
        outputs = value if isinstance(value, list) else [value]
        if any(op.wants_output(k) and (k >= len(outputs) or outputs[k] is None) for k in range(len(node.output))):
            raise UnsupportedError(f"more than {len(outputs)} output")
        return outputs

    def _folded(self, node: onnx.NodeProto, inputs: Sequence[Value]) -> list[Value]:
        """Known outputs of known inputs."""
        results: list[list[NDArray[Any]]] = []
        arrays = [value.arrays if isinstance(value, Known) else (None,) * len(self._trials) for value in inputs]
        for number, each in enumerate(zip(*arrays, strict=True) if arrays else [()] * len(self._trials)):
            same = number > 0 and all(x is values[0] for x, values in zip(each, arrays, strict=True))
            results.append(results[0] if same else self._fold(node, each))
        found = iter(Known(tuple(each)) for each in zip(*results, strict=True))
        return [next(found) if name else None for name in node.output]


def _with_functions_inlined(proto: onnx.ModelProto, own: set[str]) -> onnx.ModelProto:
    """Operators that nnpar lacks, and that ONNX defines by others, replaced by these."""
    version = next((opset.version for opset in proto.opset_import if opset.domain in OWN_DOMAINS), 1)
    missing = set()
    for node in proto.graph.node:
        if node.domain in OWN_DOMAINS and node.op_type not in own and onnx.defs.has(node.op_type):
            try:
                schema = onnx.defs.get_schema(node.op_type, version)
            except onnx.defs.SchemaError:
                continue
            if schema.has_function or schema.has_context_dependent_function:
                missing.add(("", node.op_type))
    if not missing:
        return proto
    try:
        return onnx.inliner.inline_selected_functions(proto, sorted(missing), inline_schema_functions=True)
    except RuntimeError:  # types that the definition needs are not known: then they are not supported
        return proto


def _input_shape(value: onnx.ValueInfoProto, given: tuple[int | None, ...] | None) -> tuple[int | None, ...]:
    """Sizes of an input; None for the batch's, if it is free."""
    if given:
        return given
    hint = "give it as shapes={name: shape}"
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise UnsupportedError(
            f"input {value.name!r}: expected a tensor with a shape; give it as shapes={{name: shape}}"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    if not sizes:
        raise UnsupportedError(f"input {value.name!r}: expected at least one axis, got a number")
    if None in sizes[1:] or any(size is not None and size < 0 for size in sizes):
        raise UnsupportedError(f"input {value.name!r}: expected sizes for all axes but the first, got {sizes}; {hint}")
    return tuple(sizes)


def load(
    path: str | os.PathLike[str], fold: bool = False, shapes: Mapping[str, Sequence[int | None]] | None = None
) -> Graph:
    """Read an ONNX model as a model of nnpar's layers, which predicts and can go on learning.

    What depends on shapes and constants alone is computed at once. The batch, axis 0 of inputs, may be free.

    Parameters
    ----------
    path : str or path-like
    fold : bool
        Whether batch normalisations become part of the convolutions before them. Predictors do that by themselves; a
        model that learns on normalises better with them.
    shapes : mapping of str to sequence of int, optional
        Shapes of inputs by name, where the file leaves more than the batch free; None in place of a free batch.

    Returns
    -------
    Graph

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or has operators, attributes or types that are not supported: the error names all of them,
        with their nodes.

    Examples
    --------
    >>> import tempfile
    >>> import nnpar.io.onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nnpar.io.onnx.save(nnpar.zoo.lenet5(), f"{folder}/lenet5.onnx", (1, 28, 28))
    ...     model = nnpar.io.onnx.load(f"{folder}/lenet5.onnx")
    >>> model.input_shape
    (1, 28, 28)
    """
    name = os.fspath(path)
    given = {key: tuple(shape) for key, shape in (shapes or {}).items()}
    try:
        imported = Importer(files.read(path), shapes=given, fold=fold).run()
        if imported.model is None or any(not isinstance(output, int) for output in imported.outputs):
            raise ValueError("expected outputs that depend on the inputs, got a constant")
    except FileNotFoundError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RecursionError, RuntimeError,
            TypeError, ValueError) as error:  # fmt: skip
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
    return imported.model
