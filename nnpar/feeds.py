"""What a trainer trains on: batches of an epoch from any sample on, or this process's parts of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnpar import losses, random
from nnpar.data.dataset import Dataset
from nnpar.data.loader import Loaded, Loader
from nnpar.gradients import Batch

CheckTarget = Callable[[Any, tuple[int, ...]], NDArray[Any]]
Parts = Callable[[int, int], Sequence[slice]]  # of a batch's number and length: see nnpar.parallel


class Feed(Protocol):
    """Batches of a data set."""

    batch_size: int

    def __len__(self) -> int: ...

    def batches(self, epoch: int, start: int, parts: Parts) -> Generator[list[Batch], None, None]:
        """Those of an epoch, from its sample number `start` on: of each the parts that are wanted."""


class ArrayFeed:
    """A data set in memory, whose arrays batches point into."""

    def __init__(self, data: Dataset, batch_size: int, shuffle: bool, seed: int) -> None:
        self.data, self.batch_size = data, min(batch_size, len(data))
        self._shuffle, self._seed = shuffle, seed

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, epoch: int, start: int, parts: Parts) -> Generator[list[Batch], None, None]:
        count, data = len(self.data), self.data
        order = random.permutation(count, self._seed, epoch) if self._shuffle else np.arange(count)
        for first in range(start, count, self.batch_size):
            index = order[first : first + self.batch_size]
            yield [
                Batch(data.images, data.labels, data.weights, index[part], first + part.start)
                for part in parts(first // self.batch_size, len(index))
            ]


class LoaderFeed:
    """A loader, whose targets are checked as they come."""

    def __init__(self, loader: Loader, seed: int, check: CheckTarget) -> None:
        self.loader, self.batch_size = loader, loader.batch_size
        self._seed, self._check = seed, check

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, start: int, parts: Parts) -> Generator[list[Batch], None, None]:
        for loaded in self.loader.parts(self._seed, epoch, start, parts):
            yield [self._batch(part) for part in loaded]

    def _batch(self, part: Loaded) -> Batch:
        images, labels, weights, first = part
        if len(images) == 0:
            return Batch(images, labels, weights, None, first)
        targets = self._check(labels, images.shape)
        if weights is not None:
            weights = losses.weights(weights, images.shape[:1], "fit", "weights")
        return Batch(images, targets, weights, None, first)
