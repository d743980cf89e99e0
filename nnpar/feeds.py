"""What a trainer trains on: batches of an epoch from any sample on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnpar import losses, random
from nnpar.data.dataset import Dataset
from nnpar.data.loader import Loader
from nnpar.gradients import Batch

CheckTarget = Callable[[Any, tuple[int, ...]], NDArray[Any]]


class Feed(Protocol):
    """Batches of a data set."""

    batch_size: int

    def __len__(self) -> int: ...

    def batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        """Those of an epoch, from its sample number `start` on."""


class ArrayFeed:
    """A data set in memory, whose arrays batches point into."""

    def __init__(self, data: Dataset, batch_size: int, shuffle: bool, seed: int) -> None:
        self.data, self.batch_size = data, min(batch_size, len(data))
        self._shuffle, self._seed = shuffle, seed

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        count = len(self.data)
        order = random.permutation(count, self._seed, epoch) if self._shuffle else np.arange(count)
        for first in range(start, count, self.batch_size):
            index = order[first : first + self.batch_size]
            yield Batch(self.data.images, self.data.labels, self.data.weights, index, first)


class LoaderFeed:
    """A loader, whose targets are checked as they come."""

    def __init__(self, loader: Loader, seed: int, check: CheckTarget) -> None:
        self.loader, self.batch_size = loader, loader.batch_size
        self._seed, self._check = seed, check

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        for images, labels, weights, first in self.loader.batches(self._seed, epoch, start):
            targets = self._check(labels, images.shape)
            if weights is not None:
                weights = losses.weights(weights, images.shape[:1], "fit", "weights")
            yield Batch(images, targets, weights, None, first)
