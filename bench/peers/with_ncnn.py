"""ncnn: whole networks from ONNX files by way of its converter, in float32. Its networks take one image at a time."""

import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
import onnx_networks
from library import Array, Prepared

CONVERTER = Path(sys.executable).with_name("pnnx")
SHORT_FLOATS = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")


class Ncnn:
    """Inference only."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.versions = {"ncnn": ncnn.__version__}

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """The images of a batch one after the other; their outputs are put together."""
        shape = (1, *x.shape[1:])
        net = self._net(onnx_networks.exported(name, shape, parameters, statistics), shape)

        def one(image: Array) -> Array:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(image))
            _, output = extractor.extract("out0")
            array: Array = np.asarray(output)
            return array[0] if array.ndim == 2 else array  # a vector may come as one row

        return Prepared(lambda: np.stack([one(image) for image in x]), np.asarray)

    def _net(self, model: Path, shape: tuple[int, ...]) -> ncnn.Net:
        net = ncnn.Net()
        net.opt.num_threads = self._threads
        for kind in SHORT_FLOATS:
            setattr(net.opt, f"use_{kind}", False)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "model.onnx").write_bytes(model.read_bytes())  # other files come beside it
            sizes = f"inputshape=[{','.join(map(str, shape))}]"
            words = [str(CONVERTER), "model.onnx", sizes, "ncnnparam=model.param", "ncnnbin=model.bin", "fp16=0"]
            subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            if net.load_param(f"{folder}/model.param") or net.load_model(f"{folder}/model.bin"):
                raise RuntimeError("pnnx: the model could not be converted")
        return net
