"""MNN: sessions of one convolution, whose images lie ready in its own layout, or of a network. It transforms the
weights beforehand.

The converter is called in MNN's extension module: the Python module around it would install a package and report its
use over the network.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import _tools
import MNN
import numpy as np
import one_node
import onnx_networks
from library import Array, Prepared


class Mnn:
    """Inference only."""

    def __init__(self, threads: int) -> None:
        self._configuration = {"numThread": threads, "backend": "CPU", "precision": "normal"}
        self.versions = {"mnn": MNN.version()}

    def conv2d(self, x: Array, w: Array, bias: Array, **window: Any) -> Prepared:
        interpreter = _interpreter(one_node.conv2d(x, w, bias, **window))
        session = interpreter.createSession(self._configuration)
        images = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)
        interpreter.getSessionInput(session).copyFrom(images)

        def result(_: object) -> Array:
            return _array(interpreter.getSessionOutput(session))

        return Prepared(partial(interpreter.runSession, session), result)

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """Images and outputs are copied from and to NumPy's layout."""
        path = onnx_networks.exported(name, x.shape, parameters, statistics)
        interpreter = _interpreter(path.read_bytes())
        session = interpreter.createSession(self._configuration)
        images, output = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)

        def run() -> Array:
            images.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe))
            interpreter.runSession(session)
            return _array(output)

        return Prepared(run, np.array)


def _array(output: Any) -> Array:
    """A tensor of a session in NumPy's layout."""
    shape = output.getShape()
    empty = np.empty(shape, np.float32)
    copy = MNN.Tensor(shape, MNN.Halide_Type_Float, empty, MNN.Tensor_DimensionType_Caffe)
    output.copyToHostTensor(copy)
    array: Array = copy.getNumpyData().copy()  # that was a view of the tensor's memory
    return array


def _interpreter(model: bytes) -> Any:
    """Of the model in MNN's format, whose input takes MNN's layout of images."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "model.mnn")
        source.write_bytes(model)
        files = ["--modelFile", str(source), "--MNNModel", str(target)]
        words = ["mnnconvert", "-f", "ONNX", *files, "--bizCode", "bench", "--keepInputFormat=0"]
        if not _tools.mnnconvert(words) or not target.exists():
            raise RuntimeError("mnnconvert: the model could not be converted")
        return MNN.Interpreter(str(target))
