"""What does not depend on the model's inputs, but on their shapes at most: computed when a model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
from numpy.typing import NDArray

MOST_NUMBERS = 2**28  # of all that is computed for one model

ARITHMETIC = {
    "Add", "And", "Ceil", "Clip", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Sqrt", "Sub", "Where", "Xor",
}  # fmt: skip
REARRANGING = {
    "Cast", "Concat", "Identity", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
GROWING = {"ConstantOfShape", "Expand", "Gather", "Range", "Tile"}
OPERATORS = ARITHMETIC | REARRANGING | GROWING | {"Constant"}


class Folder:
    """Computes nodes with ONNX's own reference, as long as the results are not too large.

    Parameters
    ----------
    opsets : mapping of str to int
        The model's.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = dict(opsets)
        self._room = MOST_NUMBERS

    def __call__(self, node: onnx.NodeProto, inputs: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
        """The node's outputs.

        Raises
        ------
        ValueError
            If they are too large, or cannot be computed.
        """
        self._room -= _size(node.op_type, [x for x in inputs if x is not None])
        if self._room < 0:
            raise ValueError(f"expected constants of at most {MOST_NUMBERS} numbers")
        ends = [[onnx.ValueInfoProto(name=name) for name in names if name] for names in (node.input, node.output)]
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", *ends), opset_imports=opsets)
        values = {name: x for name, x in zip(node.input, inputs, strict=True) if name}
        try:
            with np.errstate(all="ignore"):
                results = onnx.reference.ReferenceEvaluator(model).run(None, values)
        except Exception as error:  # whatever the reference meets in a node that does not fit its inputs
            raise ValueError(f"cannot be computed: {str(error)[:200]}") from error
        return [np.asarray(result) for result in results]


def _size(operator: str, inputs: Sequence[NDArray[Any]]) -> int:
    """At least as many numbers as the node gives."""
    if operator in ARITHMETIC:
        return math.prod(np.broadcast_shapes(*(x.shape for x in inputs)))
    if operator not in GROWING or not inputs:
        return sum(x.size for x in inputs)
    first, *rest = inputs
    if operator == "ConstantOfShape":
        return _product(first)
    if operator == "Gather":
        return first.size * rest[0].size
    if operator == "Expand":
        return first.size * _product(rest[0])
    if operator == "Tile":
        return first.size * math.prod(_product(x) for x in rest[:1])
    start, limit, delta = (float(x) for x in inputs)
    return math.ceil(max(0.0, (limit - start) / delta))


def _product(sizes: NDArray[Any]) -> int:
    return math.prod(max(int(size), 1) for size in sizes.reshape(-1))
