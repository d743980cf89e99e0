"""OpenVINO: whole networks from ONNX files, in float32, one stream."""

import numpy as np
import onnx_networks
import openvino
from library import Array, Prepared


class OpenVino:
    """Inference only. It may use bfloat16 unless told otherwise."""

    def __init__(self, threads: int) -> None:
        self._configuration = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self.versions = {"openvino": openvino.__version__}

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """Images and outputs are not copied: it reads NumPy's memory, and the outputs are a view of its own."""
        path = onnx_networks.exported(name, x.shape, parameters, statistics)
        request = openvino.Core().compile_model(path, "CPU", self._configuration).create_infer_request()
        return Prepared(lambda: request.infer([x], share_inputs=True, share_outputs=True)[0], np.array)
