"""Where samples come from: anything that has a length and reads samples by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import random
from nnpar.data.dataset import Dataset

Samples = tuple[NDArray[Any], NDArray[Any], "NDArray[np.float32] | None"]


class Source:
    """Base of the sources, and of users' own: `__len__` and `read` are needed.

    Attributes
    ----------
    name : str
        For errors.
    class_names : tuple of str
        If the labels are classes that have names.
    """

    name = ""
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: NDArray[np.int64]) -> Samples:
        """Images (n, C, H, W), bytes or float32, labels (n, ...), and weights (n,) or None, of the samples with these
        numbers. Several threads may call it at once.
        """
        raise NotImplementedError

    def order(self, seed: int, epoch: int, batch_size: int) -> NDArray[np.int64]:
        """The samples' numbers in the order in which a shuffled epoch takes them, each once. It depends on these
        arguments alone: all processes that train together have the same, and so has a run that goes on. A source may
        have an order of its own that reads less.
        """
        return random.permutation(len(self), seed, epoch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} samples)"


class Arrays(Source):
    """Samples in arrays, also memory-mapped ones: nothing is read before it is asked for.

    Parameters
    ----------
    images : ndarray of shape (N, C, H, W) or (N, F)
    labels : ndarray of shape (N, ...)
    weights : ndarray of shape (N,), optional
    name : str
    class_names : sequence of str

    Raises
    ------
    ValueError
        If lengths differ, or there is no sample.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.data import Arrays
    >>> Arrays(np.zeros((5, 1, 8, 8), np.uint8), np.arange(5), name="blank")
    Arrays('blank', 5 samples)
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any] | None = None,
        name: str = "",
        class_names: Sequence[str] = (),
    ) -> None:
        if len(images) == 0 or len(images) != len(labels) or (weights is not None and len(weights) != len(images)):
            raise ValueError(
                f"Arrays {name!r}: expected as many labels as images, one at least, got {len(labels)} for {len(images)}"
            )
        self.images, self.labels, self.weights = images, labels, weights
        self.name, self.class_names = name, tuple(class_names)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: NDArray[np.int64]) -> Samples:
        # In the order of memory, and then in that of the index.
        order = np.argsort(index, kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        images, labels = (np.asarray(array[index[order]])[back] for array in (self.images, self.labels))
        return images, labels, None if self.weights is None else np.asarray(self.weights[index], np.float32)


class Items(Source):
    """Samples of something that has `__len__` and `__getitem__`, which gives (image, label) of one sample, such as
    PyTorch's data sets.

    Parameters
    ----------
    items : sequence of (array_like, int or array_like)
    name : str

    Raises
    ------
    ValueError
        If there is no sample; when samples are read: if images have different shapes.
    """

    def __init__(self, items: Any, name: str = "") -> None:
        if len(items) == 0:
            raise ValueError(f"Items {name!r}: expected at least one sample, got none")
        self.items, self.name = items, name

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: NDArray[np.int64]) -> Samples:
        pairs = [self.items[int(number)] for number in index]
        images = [np.asarray(image) for image, _ in pairs]
        if any(image.shape != images[0].shape for image in images):
            shapes = sorted({image.shape for image in images})
            raise ValueError(f"Items {self.name!r}: expected images of one shape, got {shapes}")
        return np.stack(images), np.stack([np.asarray(label) for _, label in pairs]), None


def as_source(data: Any, who: str) -> Source:
    """What there is as a source. What can only be iterated over is read into memory.

    Raises
    ------
    TypeError
        If it is nothing of that kind.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, Dataset):
        return Arrays(data.images, data.labels, data.weights, data.name, data.class_names)
    if isinstance(data, tuple) and len(data) in (2, 3) and all(hasattr(part, "shape") for part in data):
        return Arrays(data[0], data[1], data[2] if len(data) == 3 else None, who)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return Items(data, type(data).__name__)
    if isinstance(data, Iterable):
        return Items(list(data), type(data).__name__)
    raise TypeError(f"{who}: expected a source, arrays, or samples one by one, got {type(data).__name__}")
