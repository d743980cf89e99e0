"""CIFAR-10 and CIFAR-100 in their binary form: Krizhevsky, Learning multiple layers of features from tiny images."""

from __future__ import annotations

import os

import numpy as np

from nnpar.data import files
from nnpar.data.source import Arrays

PIXELS = 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(folder: str | os.PathLike[str]) -> tuple[Arrays, Arrays]:
    """Read CIFAR-10 from ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.

    Parameters
    ----------
    folder : str or path-like
        Where the files are; also an address for fsspec.

    Returns
    -------
    tuple of Arrays
        Train and test, 50,000 and 10,000 in the original: images of shape (N, 3, 32, 32), bytes; labels 0 to 9.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one is damaged.

    Examples
    --------
    >>> from nnpar import data
    >>> train, test = data.cifar10("cifar-10-batches-bin")  # doctest: +SKIP
    """
    parts = [f"data_batch_{k}.bin" for k in range(1, 6)], ["test_batch.bin"]
    train, test = (_read(folder, names, 1, 10) for names in parts)
    return Arrays(*train, None, "cifar10 train", CLASSES), Arrays(*test, None, "cifar10 test", CLASSES)


def cifar100(folder: str | os.PathLike[str]) -> tuple[Arrays, Arrays]:
    """Read CIFAR-100 from ``train.bin`` and ``test.bin``, with its fine labels.

    Parameters
    ----------
    folder : str or path-like
        Where the files are, with ``fine_label_names.txt`` if names are wanted; also an address for fsspec.

    Returns
    -------
    tuple of Arrays
        Train and test, 50,000 and 10,000 in the original: images of shape (N, 3, 32, 32), bytes; labels 0 to 99.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one is damaged.

    Examples
    --------
    >>> from nnpar import data
    >>> train, test = data.cifar100("cifar-100-binary")  # doctest: +SKIP
    """
    names = _names(folder)
    train, test = (_read(folder, [f"{part}.bin"], 2, 100) for part in ("train", "test"))
    return Arrays(*train, None, "cifar100 train", names), Arrays(*test, None, "cifar100 test", names)


def _names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    try:
        with files.open_file(f"{os.fspath(folder)}/fine_label_names.txt") as file:
            return tuple(file.read().decode().split())
    except FileNotFoundError:
        return ()


def _read(
    folder: str | os.PathLike[str], names: list[str], labels: int, classes: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Records of some bytes of labels, the last of which counts, and an image by channels."""
    found = []
    for name in names:
        path = f"{os.fspath(folder)}/{name}"
        with files.open_file(path) as file:
            content = np.frombuffer(file.read(), np.uint8)
        if not content.size or content.size % (labels + PIXELS):
            raise ValueError(f"{path}: expected records of {labels + PIXELS} bytes, got {content.size} bytes")
        found.append(content.reshape(-1, labels + PIXELS))
        if found[-1][:, labels - 1].max() >= classes:
            raise ValueError(f"{path}: expected labels below {classes}, got {found[-1][:, labels - 1].max()}")
    records = np.concatenate(found)
    return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int64)
