"""Batches of a source, read and transformed in threads while a model trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import Array
from nnpar.data.mixing import Mixing, mixed
from nnpar.data.source import Samples, Source, as_source
from nnpar.data.transforms import Pipeline, Transform

if TYPE_CHECKING:
    from concurrent.futures import Future


class Loaded(NamedTuple):
    """A batch: its samples' numbers within the epoch are `first`, `first` + 1, ..."""

    images: Array
    labels: NDArray[Any]
    weights: NDArray[np.float32] | None
    first: int


class Loader:
    """Samples of a source in batches, for `Trainer.fit` and `evaluate`. Threads read and transform the next ones
    meanwhile.

    The order of an epoch depends on the seed and the epoch alone, and what is drawn for a sample on its number in the
    source, too: neither the number of threads nor where an epoch is gone on with changes a bit.

    Parameters
    ----------
    source : Source, Dataset, arrays, or samples
        See :mod:`nnpar.data`. Bytes become 0 to 1.
    batch_size : int
    shuffle : bool
        Whether each epoch has an order of its own, the one that `source.order` gives.
    transform : Pipeline or Transform, optional
        See :mod:`nnpar.data.transforms`.
    workers : int
        Threads that read; 0 reads when a batch is asked for.
    prefetch : int
        Batches that may be ready, or in work.
    mix : Mixing or sequence of Mixing, optional
        See :mod:`nnpar.data.mixing`: what is done with the samples of a batch after that; of several ways, each sample
        goes one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not such.

    Examples
    --------
    >>> from nnpar import Trainer, data, zoo
    >>> from nnpar.data.transforms import Pipeline, RandomCrop
    >>> train, test = data.digits()
    >>> loader = data.Loader(train, batch_size=32, transform=Pipeline(RandomCrop(8, padding=1)))
    >>> trainer = Trainer(zoo.digits_cnn())
    >>> history = trainer.fit(loader, validation=test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.5
    True
    """

    def __init__(
        self,
        source: Any,
        batch_size: int = 64,
        shuffle: bool = True,
        transform: Pipeline | Transform | None = None,
        workers: int = 1,
        prefetch: int = 4,
        mix: Mixing | Sequence[Mixing] = (),
    ) -> None:
        self.source: Source = as_source(source, "Loader")
        self.batch_size = min(_checks.integer(batch_size, "Loader", "batch_size", 1), len(self.source))
        self.shuffle = bool(shuffle)
        if isinstance(transform, Transform):
            transform = Pipeline(transform)
        if transform is not None and not isinstance(transform, Pipeline):
            raise TypeError(f"Loader: transform: expected a Pipeline or Transform, got {type(transform).__name__}")
        self.transform = transform
        self.mix = (mix,) if isinstance(mix, Mixing) else tuple(mix)
        for way in self.mix:
            if not isinstance(way, Mixing):
                raise TypeError(f"Loader: mix: expected Mixup, CutMix or several, got {type(way).__name__}")
        self.workers = _checks.integer(workers, "Loader", "workers", 0)
        self.prefetch = _checks.integer(prefetch, "Loader", "prefetch", 1)

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"Loader({self.source!r}, batch_size={self.batch_size})"

    def batches(self, seed: int = 0, epoch: int = 0, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch.

        Parameters
        ----------
        seed, epoch : int
        start : int
            How many samples of the epoch to leave out at its beginning.

        Yields
        ------
        Loaded
            images, labels, weights or None, and the number of the first within the epoch.
        """
        for (batch,) in self.parts(seed, epoch, start, lambda number, count: [slice(0, count)]):
            yield batch

    def parts(
        self, seed: int, epoch: int, start: int, parts: Callable[[int, int], Sequence[slice]]
    ) -> Iterator[list[Loaded]]:
        """Parts of the batches of an epoch, as if each was a batch; nothing else is read.

        Parameters
        ----------
        seed, epoch, start : int
            As of `batches`.
        parts : callable
            Of a batch's number within the epoch and its length: which parts of it are wanted.

        Yields
        ------
        list of Loaded
            Of each batch, one for each part; the images of an empty part are an empty array.
        """
        order = self._order(seed, epoch) if self.shuffle else np.arange(len(self))
        starts = range(start, len(self), self.batch_size)

        def load(first: int) -> list[Loaded]:
            count = min(self.batch_size, len(self) - first)
            wanted = parts(first // self.batch_size, count)
            return [self._load(order, first + part.start, first + part.stop, seed, epoch) for part in wanted]

        if self.workers == 0:
            yield from map(load, starts)
            return
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="nnpar-loader")
        try:
            ahead: deque[Future[list[Loaded]]] = deque()
            for first in starts:
                ahead.append(pool.submit(load, first))
                if len(ahead) >= max(self.prefetch, self.workers):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The source's, which may be a user's."""
        order = np.asarray(self.source.order(seed, epoch, self.batch_size))
        if order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(len(self))):
            raise ValueError(f"{self.source!r}: order: expected each number below {len(self)} once, got others")
        return order

    def _load(self, order: NDArray[np.int64], first: int, stop: int, seed: int, epoch: int) -> Loaded:
        if first == stop:
            return Loaded(np.empty((0, 0), np.float32), np.empty(0, np.int64), None, first)
        index = order[first:stop]
        images, labels, weights = self._read(index)
        if self.transform is not None:
            images = self.transform(images, seed, epoch, index, threads=False)
        elif images.dtype == np.uint8:
            images = np.divide(images, 255, dtype=np.float32)
        images = np.asarray(images, np.float32)
        if self.mix:
            images, labels, weights = mixed(self.mix, images, labels, weights, seed, epoch, index)
        return Loaded(images, labels, weights, first)

    def _read(self, index: NDArray[np.int64]) -> Samples:
        """What the source reads, which may be a user's."""
        images, labels, weights = self.source.read(index)
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype.kind not in "biuf":
            raise TypeError(f"{self.source!r}: expected images of a real number type, got {images.dtype}")
        if images.ndim < 2 or images.size == 0 or len(images) != len(index):
            raise ValueError(
                f"{self.source!r}: expected {len(index)} images of shape (C, H, W) or (F,) with no size 0, "
                f"got an array of shape {images.shape}"
            )
        if labels.shape[:1] != (len(index),):
            raise ValueError(f"{self.source!r}: expected {len(index)} labels, got an array of shape {labels.shape}")
        return images, labels, weights
