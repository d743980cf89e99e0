"""What training takes of memory, beside PyTorch: ``python bench/memory.py``. See bench/README.md.

Peak resident memory of four training steps beyond what the process had after its imports, each in a new process: model,
batch, gradients, SGD with momentum, and whatever the library needs besides. PyTorch's is the lesser of its two memory
formats'.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE / "peers"), str(HERE.parent)]

import fresh  # noqa: E402

STEPS = 4

Steps = Callable[[Any, Any], None]  # of images and labels


def main() -> None:
    """Print a table."""
    import operations

    parser = argparse.ArgumentParser(prog="python bench/memory.py", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(operations.NETWORKS), metavar="NETWORK")
    parser.add_argument("--threads", type=int, default=1)
    fresh.add_environment(parser)
    options = parser.parse_args()
    pythons = fresh.pythons(options.environment)
    print("| network, batch | nnpar, MB | PyTorch, MB | nnpar's share |\n| --- | --- | --- | --- |")
    for name in options.networks:
        batch, size, classes = operations.NETWORKS[name]
        shapes = {"shape": (batch, *size), "target_shape": operations.targets(name).shape, "classes": classes}
        peaks = {
            library: fresh.measure(python, __file__, library, options.threads, name=name, **shapes)
            for library, python in pythons.items()
        }
        own = peaks.pop("nnpar")
        least = min(peaks, key=lambda library: peaks[library])
        print(f"| {name}, {batch} | {own / 1e6:.1f} | {peaks[least] / 1e6:.1f} ({least}) | {own / peaks[least]:.0%} |")


def measured(library: str, name: str, shape: list[int], target_shape: list[int], classes: int) -> int:
    """Bytes that the steps take at most beyond the imports."""
    train = _steps_of_nnpar if library == "nnpar" else _steps_of_torch
    run = train(name, library)
    before = _peak()
    rng = np.random.default_rng(0)
    run(rng.standard_normal(shape, np.float32), rng.integers(0, classes, target_shape))
    return _peak() - before


def _peak() -> int:
    """Bytes of resident memory at most so far; ``ru_maxrss`` would begin with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _steps_of_nnpar(name: str, library: str) -> Steps:
    import nnpar
    from nnpar import zoo

    def run(x: Any, labels: Any) -> None:
        trainer = nnpar.Trainer(zoo.MODELS[name](), optimizer=nnpar.SGD(0.01, momentum=0.9))
        for _ in range(STEPS):
            trainer.train_step(x, labels)

    return run


def _steps_of_torch(name: str, library: str) -> Steps:
    import torch
    from torch_networks import NETWORKS

    def run(x: Any, labels: Any) -> None:
        layout = torch.channels_last if library == "torch-channels-last" else torch.contiguous_format
        model = NETWORKS[name]().to(memory_format=layout)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        images, classes = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(labels)
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), classes).backward()
            optimizer.step()

    return run


if __name__ == "__main__" and not fresh.answer(measured):
    main()
