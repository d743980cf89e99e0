"""Samples of a DataFrame where they are: each process has those of one partition, and all make one epoch together."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import random
from nnpar.data.loader import Loaded, Loader
from nnpar.data.source import Samples, Source
from nnpar.integrations.spark import columns
from nnpar.shapes import Shape


@dataclass(frozen=True)
class Columns:
    """Where a DataFrame has its images and targets.

    Attributes
    ----------
    image, label : str
    shape : tuple of int or None
        Of one sample.
    who : str
        For errors.
    """

    image: str
    label: str
    shape: Shape | None
    who: str

    def check(self, df: Any) -> None:
        """Both columns are there, of types that can be such."""
        columns.check(df, self.image, self.who, True)
        columns.check(df, self.label, self.who, False)

    def read(self, batch: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images, bytes or float32, and targets of an Arrow record batch or table that is not empty."""
        images, labels = (columns.combined(batch.column(name)) for name in (self.image, self.label))
        return (
            columns.images(images, self.image, self.who, self.shape),
            columns.targets(labels, self.label, self.who),
        )


@dataclass(frozen=True)
class Spilled:
    """A partition on the disk: what its files hold, as JSON can.

    Attributes
    ----------
    count : int
        Samples.
    images, labels : (str, tuple of int) or None
        Type and shape of one; None without a sample.
    """

    count: int
    images: tuple[str, Shape] | None = None
    labels: tuple[str, Shape] | None = None

    @classmethod
    def write(cls, folder: Path, batches: Iterable[Any], of: Columns) -> Spilled:
        """Write the rows of Arrow record batches, one batch after the other."""
        spilled = cls(0)
        with open(folder / "images", "wb") as images_file, open(folder / "labels", "wb") as labels_file:
            for batch in batches:
                if batch.num_rows == 0:
                    continue
                images, labels = of.read(batch)
                part = cls(spilled.count + len(images), _kind(images), _kind(labels))
                if spilled.count and (part.images, part.labels) != (spilled.images, spilled.labels):
                    raise ValueError(f"{of.who}: expected rows of one kind, got {spilled} and {part}")
                spilled = part
                images.tofile(images_file)
                labels.tofile(labels_file)
        return spilled

    def read(self, folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
        """The files, mapped into memory."""
        found = []
        for name, kind in (("images", self.images), ("labels", self.labels)):
            dtype, shape = kind or ("<f4", (0,))
            shape = (self.count, *shape)
            found.append(np.memmap(folder / name, dtype, "r", shape=shape) if self.count else np.empty(shape, dtype))
        return found[0], found[1]


def _kind(array: NDArray[Any]) -> tuple[str, Shape]:
    return array.dtype.str, array.shape[1:]


def share(count: int, total: int, first: int, stop: int) -> tuple[int, int]:
    """Which samples of a partition of `count`, of `total`, belong to a batch that is `first` to `stop` of the epoch.

    Each sample is in one batch, and a batch has a part of each partition in proportion to its size, rounded: together
    they differ from `stop` - `first` by less than the number of partitions. A batch of at least as many samples as
    there are partitions, and the last one, are not empty.
    """
    return count * first // total, count * stop // total


def by_content(images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """An order of samples that depends on them alone: Spark shuffles rows in another order each time."""
    digests = [
        hashlib.blake2b(image.tobytes() + label.tobytes(), digest_size=8).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    return np.argsort(np.frombuffer(b"".join(digests), "<u8"), kind="stable")


class Partition(Source):
    """Samples of one partition; their numbers are those in all partitions, one after the other.

    Parameters
    ----------
    images, labels : ndarray
    offset, total : int
        Samples of the partitions before, and of all.
    order : ndarray of shape (N,), int64, optional
        In which samples are numbered.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        offset: int,
        total: int,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.images, self.labels, self.offset, self._total = images, labels, offset, total
        self._order = np.arange(len(images)) if order is None else order

    def __len__(self) -> int:
        return self._total

    def read(self, index: NDArray[np.int64]) -> Samples:
        own = self._order[index - self.offset]
        return self.images[own], self.labels[own], None


class PartitionLoader(Loader):
    """Of each batch the part of one process, from its own partition; all processes have as many batches.

    Parameters
    ----------
    source : Partition
    batch_size : int
        Of all processes' parts together, about: see `share`.
    shuffle : bool
        Whether each epoch has an order of its own, within the partition.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.integrations.spark.partitions import Partition, PartitionLoader
    >>> counts, samples = [5, 2], []
    >>> for offset, count in ((0, 5), (5, 2)):
    ...     part = Partition(np.zeros((count, 1)), np.arange(count), offset, 7)
    ...     loader = PartitionLoader(part, batch_size=3, shuffle=False)
    ...     samples.append([batch.labels.tolist() for batch in loader.batches()])
    >>> samples
    [[[0, 1], [2, 3], [4]], [[], [0], [1]]]
    """

    def __init__(self, source: Partition, batch_size: int, shuffle: bool) -> None:
        super().__init__(source, batch_size, shuffle, workers=0)
        self._partition = source

    def parts(
        self, seed: int, epoch: int, start: int, parts: Callable[[int, int], Sequence[slice]]
    ) -> Iterator[list[Loaded]]:
        """One part of each batch: the one that is here."""
        part, total = self._partition, len(self)
        count = len(part.images)
        order = part.offset + (random.permutation(count, seed, epoch) if self.shuffle else np.arange(count))
        for begin in range(start, total, self.batch_size):
            first, stop = share(count, total, begin, min(begin + self.batch_size, total))
            loaded = self._load(order, first, stop, seed, epoch)
            yield [loaded._replace(first=part.offset + first)]


class PositionLoader(Loader):
    """Where in the epoch batches begin, and no samples: those are elsewhere.

    Parameters
    ----------
    total, batch_size : int
    """

    def __init__(self, total: int, batch_size: int) -> None:
        nothing = np.empty((0, 0), np.float32)
        super().__init__(Partition(nothing, np.empty(0, np.int64), 0, total), batch_size, workers=0)

    def parts(
        self, seed: int, epoch: int, start: int, parts: Callable[[int, int], Sequence[slice]]
    ) -> Iterator[list[Loaded]]:
        """One empty part of each batch."""
        for first in range(start, len(self), self.batch_size):
            yield [Loaded(np.empty((0, 0), np.float32), np.empty(0, np.int64), None, first)]


def packed(df: Any, of: Columns) -> Any:
    """An RDD of bytes, which `unpacked` reads: the samples of a DataFrame, some at a time, in its partitions."""

    def pack(batches: Iterator[Any]) -> Iterator[Any]:
        pyarrow = columns.needed("pyarrow", of.who)
        for batch in batches:
            if batch.num_rows:
                file = io.BytesIO()
                for array in of.read(batch):
                    np.save(file, array)
                yield pyarrow.RecordBatch.from_pydict({"content": [file.getvalue()]})

    rows = df.select(of.image, of.label).mapInArrow(pack, "content binary").rdd
    return rows.map(lambda row: bytes(row.content))


def unpacked(contents: Iterable[bytes]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and targets of some rows of `packed`; images without a shape if there are none."""
    files = [io.BytesIO(content) for content in contents]
    if not files:
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
    images = np.concatenate([np.load(file) for file in files])  # each file goes on with its targets
    return images, np.concatenate([np.load(file) for file in files])


def scaled(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images as float32, bytes as 0 to 1."""
    if images.dtype == np.uint8:
        images = np.divide(images, 255, dtype=np.float32)
    found: NDArray[np.float32] = images.astype(np.float32, copy=False)
    return found
