"""Fifty training steps of each network: what nnpar and PyTorch both do for tests/data/torch_curves.json.

Written anew by ``python tests/curves.py``, with PyTorch and this package on the path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnpar
from nnpar import zoo

STEPS, MOMENTUM = 50, 0.9
FILE = Path(__file__).parent / "data" / "torch_curves.json"
# Batch, shape of an image, classes, learning rate: a small one where batches are normalised, since a difference in the
# last digit grows from step to step.
NETWORKS: dict[str, tuple[int, tuple[int, ...], int, float]] = {
    "mlp": (32, (1, 28, 28), 10, 1e-2),
    "lenet5": (32, (1, 28, 28), 10, 1e-2),
    "mnist_cnn": (16, (1, 28, 28), 10, 1e-2),
    "vgg_small": (32, (3, 32, 32), 10, 1e-4),
    "resnet20": (32, (3, 32, 32), 10, 1e-4),
    "resnet18": (8, (3, 64, 64), 100, 1e-4),
    "mobilenet_v1": (8, (3, 64, 64), 100, 1e-5),
    "densenet_small": (8, (3, 32, 32), 10, 1e-4),
    "unet_small": (4, (3, 32, 32), 2, 1e-4),
}


def model_of(name: str) -> nnpar.Sequential:
    """The network as both begin with it."""
    nnpar.manual_seed(0)
    return zoo.MODELS[name]()


def batches(name: str) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Images whose mean tells their class, or whose pixels tell theirs, in noise."""
    batch, shape, classes, _ = NETWORKS[name]
    _, _, *pixels = model_of(name).output_shape((batch, *shape))
    rng = np.random.Generator(np.random.Philox(key=7))
    for _ in range(STEPS):
        labels = rng.integers(0, classes, (batch, *pixels))
        noise = rng.standard_normal((batch, *shape))
        yield (noise + labels.reshape(batch, 1, *(pixels or (1, 1))) / classes).astype(np.float32), labels


def losses_of_nnpar(name: str) -> list[float]:
    """Mean loss of each step."""
    trainer = nnpar.Trainer(model_of(name), optimizer=nnpar.SGD(NETWORKS[name][3], MOMENTUM))
    return [trainer.train_step(*batch) for batch in batches(name)]


def _losses_of_torch(name: str) -> list[float]:
    import torch
    from torch_networks import network

    values = np.concatenate([array.ravel() for array in model_of(name).parameters().values()])
    model: Any = network(name, torch.from_numpy(values))
    optimizer = torch.optim.SGD(model.parameters(), NETWORKS[name][3], MOMENTUM)
    losses = []
    for images, labels in batches(name):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "bench" / "peers"))
    FILE.write_text(json.dumps({name: _losses_of_torch(name) for name in NETWORKS}, indent=1) + "\n")
