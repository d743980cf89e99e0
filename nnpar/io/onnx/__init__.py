"""Models from and to ONNX: :func:`load`, :func:`save`, and ONNX's own interface in ``nnpar.io.onnx.backend``."""

try:
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError("nnpar.io.onnx needs the package onnx: pip install 'nnpar[onnx]'") from error

from nnpar.io.onnx.exporter import save
from nnpar.io.onnx.importer import load

__all__ = ["load", "save"]
