"""MNIST, and what shares its files, such as Fashion-MNIST."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from nnpar.data import files
from nnpar.data.dataset import Dataset
from nnpar.data.idx import read_idx

_CLASS_NAMES = tuple("0123456789")
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def mnist(folder: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Read MNIST from its four IDX files.

    The files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, as they are or with ``.gz``; ``train-images.idx3-ubyte`` is understood too.

    Parameters
    ----------
    folder : str or path-like
        Where the files are; an address for fsspec, too.

    Returns
    -------
    tuple of Dataset
        Train and test, 60,000 and 10,000 samples in the original: images of shape (N, 1, 28, 28) in [0, 1], labels
        0 to 9.

    Raises
    ------
    FileNotFoundError
        If files are missing: all of them are named.
    ValueError
        If a file is damaged, its shape or type is not MNIST's, or images and labels do not go together.

    Examples
    --------
    >>> train, test = mnist("data/mnist")  # doctest: +SKIP
    >>> test  # doctest: +SKIP
    Dataset('data/mnist/t10k', images (10000, 1, 28, 28), labels (10000,) int64)
    """
    paths = [_find(os.fspath(folder), name) for name in _FILES]
    if missing := [os.path.basename(path) for path in paths if not files.exists(path)]:
        raise FileNotFoundError(f"{folder}: expected MNIST's files, with or without .gz; missing: {', '.join(missing)}")
    train_images, train_labels, test_images, test_labels = paths
    return (
        _dataset(os.path.join(folder, "train"), train_images, train_labels),
        _dataset(os.path.join(folder, "t10k"), test_images, test_labels),
    )


def _find(folder: str, name: str) -> str:
    """The file under the first of its spellings that is there, else under its own name."""
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = (os.path.join(folder, spelling + suffix) for spelling in spellings for suffix in ("", ".gz"))
    return next(filter(files.exists, candidates), os.path.join(folder, name))


def _dataset(name: str, images_path: str, labels_path: str) -> Dataset:
    images = _read(images_path, (28, 28))
    labels = _read(labels_path, ())
    scaled = np.divide(images[:, np.newaxis], 255, dtype=np.float32)
    return Dataset(scaled, labels.astype(np.int64), name, _CLASS_NAMES)


def _read(path: str, sample_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.shape[1:] != sample_shape:
        expected = ", ".join(["N", *map(str, sample_shape)])
        raise ValueError(f"{path}: expected uint8 of shape ({expected}), got {array.dtype} of shape {array.shape}")
    return array
