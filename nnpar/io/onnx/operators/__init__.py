"""ONNX operators as layers: one function each, found by its operator's name in OPERATORS."""

from collections.abc import Callable

from nnpar.io.onnx.importer import Op, Value
from nnpar.io.onnx.operators import arithmetic, functions, normalization, shaping, windows

OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    **arithmetic.OPERATORS,
    **functions.OPERATORS,
    **normalization.OPERATORS,
    **shaping.OPERATORS,
    **windows.OPERATORS,
}
