"""ONNX operators as layers: one function each, found by its operator's name in OPERATORS."""

from collections.abc import Callable

from nnpar.io.onnx.importer import Op, Value
from nnpar.io.onnx.operators import arithmetic, comparison, functions, normalization, shaping, windows

MODULES = (arithmetic, comparison, functions, normalization, shaping, windows)
OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = dict(
    sorted(pair for module in MODULES for pair in module.OPERATORS.items())
)
