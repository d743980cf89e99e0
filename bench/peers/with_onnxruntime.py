"""ONNX Runtime: sessions of one operator, input and output bound before.

The weights of convolutions are constants, which it packs beforehand.
"""

from typing import Any

import numpy as np
import one_node
import onnx_networks
import onnxruntime
from library import Array, Pair, Prepared


class OnnxRuntime:
    """Inference only."""

    def __init__(self, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self.versions = {"onnxruntime": onnxruntime.__version__}

    def gemm(self, a: Array, b: Array) -> Prepared:
        return self._session(one_node.model("MatMul", {"a": a, "b": b}, {}), a=a, b=b)

    def conv2d(self, x: Array, w: Array, bias: Array, **window: Any) -> Prepared:
        return self._session(one_node.conv2d(x, w, bias, **window), x=x)

    def relu(self, x: Array) -> Prepared:
        return self._session(one_node.model("Relu", {"x": x}, {}), x=x)

    def max_pool2d(self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        window: dict[str, Any] = {"kernel_shape": kernel_size, "strides": stride, "pads": (*padding, *padding)}
        return self._session(one_node.model("MaxPool", {"x": x}, {}, **window), x=x)

    def avg_pool2d(self, x: Array, kernel_size: Pair, stride: Pair) -> Prepared:
        model = one_node.model("AveragePool", {"x": x}, {}, kernel_shape=kernel_size, strides=stride)
        return self._session(model, x=x)

    def softmax(self, logits: Array) -> Prepared:
        return self._session(one_node.model("Softmax", {"logits": logits}, {}), logits=logits)

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """Each run makes a new array of outputs."""
        path = onnx_networks.exported(name, x.shape, parameters, statistics)
        session = onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
        inputs = {onnx_networks.INPUT: x}
        return Prepared(lambda: session.run(None, inputs)[0], np.asarray)

    def _session(self, model: bytes, **inputs: Array) -> Prepared:
        session = onnxruntime.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        (first,) = session.run(None, inputs)
        output = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(first))
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output("y", output)
        return Prepared(lambda: session.run_with_iobinding(binding), lambda _: output.numpy())
