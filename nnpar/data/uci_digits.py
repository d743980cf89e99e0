"""Handwritten digits that ship with the package."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from nnpar.data.dataset import Dataset
from nnpar.data.idx import read_idx

_CLASS_NAMES = tuple("0123456789")
_LARGEST_VALUE = 16
_TRAIN_FRACTION = 0.8
_SPLIT_SEED = 0


def digits() -> tuple[Dataset, Dataset]:
    """1,797 handwritten digits of 8x8 pixels, no download needed.

    The test part of *Optical Recognition of Handwritten Digits*, always split in the same way: ``split(0.8, seed=0)``,
    so that each digit has the same share in both parts.

    Returns
    -------
    tuple of Dataset
        Train and test, 1,438 and 359 samples: images of shape (N, 1, 8, 8) in [0, 1], labels 0 to 9.

    References
    ----------
    E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> train, test = digits()
    >>> train
    Dataset('digits', images (1438, 1, 8, 8), labels (1438,) int64)
    >>> len(test)
    359
    """
    images, labels = _read("digits-images-idx3-ubyte.gz"), _read("digits-labels-idx1-ubyte.gz")
    scaled = np.divide(images[:, np.newaxis], _LARGEST_VALUE, dtype=np.float32)
    return Dataset(scaled, labels.astype(np.int64), "digits", _CLASS_NAMES).split(_TRAIN_FRACTION, _SPLIT_SEED)


def _read(name: str) -> npt.NDArray[Any]:
    return read_idx(os.path.join(os.path.dirname(__file__), "files", name))
