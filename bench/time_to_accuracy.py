"""Seconds of training until 99% of MNIST's test images are told right, beside PyTorch.

``python bench/time_to_accuracy.py --data FOLDER``; see bench/README.md. Both begin with the same weights and take the
same batches in the same order: of 64 images, by Adam with a constant learning rate. After each epoch the test images
are classified. The time has the training and that; not the imports, the data, or a first step, in which libraries
prepare themselves, of a copy of the network.

In which epoch an accuracy is reached is chance: a difference in the last digit decides it. So there are several orders
of the batches, and the seconds of an epoch beside the total.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE / "peers"), str(HERE.parent)]

import fresh  # noqa: E402

BATCH, TEST_BATCH = 64, 1000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python bench/time_to_accuracy.py", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of MNIST's four files")
    parser.add_argument("--network", default="lenet5", choices=["mlp", "lenet5", "mnist_cnn"])
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam (default %(default)s)")
    parser.add_argument("--accuracy", type=float, default=0.99, help="of the test images (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="at most (default %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the order of the batches")
    fresh.add_environment(parser)
    options = parser.parse_args()
    pythons = fresh.pythons(options.environment)
    del pythons["torch"]
    print("| network | threads | seed | library | seconds | epochs | seconds an epoch | test accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        files = _save(options.data, options.network, Path(folder))
        for threads, seed, library in itertools.product(options.threads, options.seeds, pythons):
            request = {"name": options.network, "folder": str(files), "seed": seed, "lr": options.lr}
            limits = {"accuracy": options.accuracy, "epochs": options.epochs}
            result = fresh.measure(pythons[library], __file__, library, threads, **request, **limits)
            seconds, epochs, accuracy = result["seconds"], result["epochs"], result["accuracy"]
            reached = "" if accuracy >= options.accuracy else "not reached in "
            print(f"| {options.network} | {threads} | {seed} | {library} | {reached}{seconds:.1f} | {epochs} "
                  f"| {seconds / epochs:.2f} | {accuracy:.2%} |", flush=True)  # fmt: skip


def _save(data: Path, network: str, folder: Path) -> Path:
    """The images, labels and first weights as files that both can read."""
    import operations

    from nnpar.data import mnist

    for name, part in zip(("train", "test"), mnist(data), strict=True):
        np.save(folder / f"{name}.images.npy", part.images)
        np.save(folder / f"{name}.labels.npy", part.labels)
    np.save(folder / "parameters.npy", operations.parameters(network))
    return folder


def measured(
    library: str, name: str, folder: str, seed: int, lr: float, accuracy: float, epochs: int
) -> dict[str, float]:
    """Seconds and epochs until the accuracy is reached, or `epochs` are over, and the accuracy then."""
    make = Nnpar if library == "nnpar" else Torch
    files = {path.stem: np.load(path) for path in Path(folder).iterdir()}
    make(name, files, lr).train(np.arange(BATCH))
    learner = make(name, files, lr)
    count = len(files["train.labels"])
    rng = np.random.Generator(np.random.Philox(key=seed))
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        order = rng.permutation(count)
        for start in range(0, count, BATCH):
            learner.train(order[start : start + BATCH])
        reached = learner.accuracy()
        print(f"{library}: epoch {epoch}, {time.perf_counter() - started:.1f} s: {reached:.2%}", file=sys.stderr)
        if reached >= accuracy:
            break
    return {"seconds": time.perf_counter() - started, "epochs": epoch, "accuracy": reached}


class Nnpar:
    """A trainer."""

    def __init__(self, name: str, files: dict[str, Any], lr: float) -> None:
        import operations

        import nnpar

        model = operations.network(name, files["parameters"])
        self._files = files
        self._trainer = nnpar.Trainer(model, optimizer=nnpar.Adam(lr))

    def train(self, index: Any) -> None:
        """One step on these images."""
        self._trainer.train_step(self._files["train.images"][index], self._files["train.labels"][index])

    def accuracy(self) -> float:
        """Of the test images."""
        data = self._files["test.images"], self._files["test.labels"]
        return self._trainer.evaluate(data, batch_size=TEST_BATCH)["accuracy"]


class Torch:
    """The same steps in PyTorch, images and weights channels-last."""

    def __init__(self, name: str, files: dict[str, Any], lr: float) -> None:
        import torch
        from torch_networks import network

        self._torch = torch
        self._files = {key: torch.from_numpy(array) for key, array in files.items()}
        for key in ("train.images", "test.images"):
            self._files[key] = self._files[key].contiguous(memory_format=torch.channels_last)
        self._model: Callable[..., Any] = network(name, self._files["parameters"]).to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr)

    def train(self, index: Any) -> None:
        """One step on these images."""
        which = self._torch.from_numpy(index)
        images, labels = self._files["train.images"][which], self._files["train.labels"][which]
        self._optimizer.zero_grad()
        self._torch.nn.functional.cross_entropy(self._model(images), labels).backward()
        self._optimizer.step()

    def accuracy(self) -> float:
        """Of the test images."""
        batches = zip(*(self._files[f"test.{key}"].split(TEST_BATCH) for key in ("images", "labels")), strict=True)
        with self._torch.inference_mode():
            right = sum((self._model(images).argmax(1) == labels).sum().item() for images, labels in batches)
        return right / len(self._files["test.labels"])


if __name__ == "__main__" and not fresh.answer(measured):
    main()
