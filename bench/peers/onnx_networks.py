"""Networks as ONNX files, for the libraries that serve them: PyTorch's exporter, in a process of its own.

An importing library would share its process with PyTorch's threads and memory otherwise. Files are kept in the peers'
environment, one for each network, batch and content.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from library import Array

INPUT, OUTPUT = "x", "y"  # names in the file


def exported(name: str, shape: tuple[int, ...], parameters: Array, statistics: Array) -> Path:
    """The file of a network in evaluation mode with these parameters and statistics, for batches of one shape."""
    content = hashlib.sha256(parameters.tobytes() + statistics.tobytes()).hexdigest()[:16]
    path = Path(sys.prefix) / "networks" / f"{name}-{shape[0]}-{content}.onnx"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            values, whole = Path(folder, "values.npz"), Path(folder, "whole.onnx")
            np.savez(values, shape=shape, parameters=parameters, statistics=statistics)
            subprocess.run([sys.executable, __file__, name, str(values), str(whole)], check=True)
            whole.rename(path)
    return path


def main() -> None:
    """NAME VALUES FILE: export the network with the values to the file."""
    import torch
    from torch_networks import network

    name, values, path = sys.argv[1:]
    with np.load(values) as stored:
        x = torch.zeros(tuple(stored["shape"]))
        model = network(name, torch.from_numpy(stored["parameters"]), torch.from_numpy(stored["statistics"]))
    torch.onnx.export(model.eval(), (x,), path, input_names=[INPUT], output_names=[OUTPUT], dynamo=False)


if __name__ == "__main__":
    main()
