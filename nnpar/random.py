"""Random numbers that repeat: every draw is named by a seed and a counter, never by the order of calls between threads.

All of them come from Philox (Salmon et al., SC 2011), whose raw output is the same in every version of NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks

__all__ = ["get_seed", "manual_seed"]

PART = 2**16  # numbers drawn at a time

_seed = 0
_draws = itertools.count()


def manual_seed(seed: int) -> None:
    """Set the seed of everything random in nnpar: initial weights, shuffling, dropout.

    It is 0 unless set. The same program with the same seed gives the same bits. Trainers take the seed that holds
    when they are made.

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1.

    Raises
    ------
    TypeError, ValueError
        If it is not such a number.

    Examples
    --------
    >>> import nnpar
    >>> nnpar.manual_seed(1)
    >>> first = nnpar.Linear(2, 2).weight
    >>> nnpar.manual_seed(1)
    >>> bool((nnpar.Linear(2, 2).weight == first).all())
    True
    >>> nnpar.manual_seed(0)
    """
    global _seed, _draws
    _seed = checked_seed(seed, "manual_seed")
    _draws = itertools.count()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it the seed is another one; afterwards all is as it was."""
    global _seed, _draws
    before = _seed, _draws
    manual_seed(seed)
    try:
        yield
    finally:
        _seed, _draws = before


def get_seed() -> int:
    """The seed in force."""
    return _seed


def checked_seed(seed: int, who: str) -> int:
    """`seed` as an int of 64 bits."""
    return _checks.integer(seed, who, "seed", 0, 2**64)


def uniform_parts(size: int, rows: int = 1) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The next draw of ``rows * size`` numbers in [0, 1), row after row from a stream of its own, (seed, number of the
    draw), a part of all rows at a time: where it begins, and (rows, its size).
    """
    key = np.array([_seed, next(_draws)], np.uint64)
    streams = [_stream(key, row * size) for row in range(rows)]
    for start in range(0, size, PART):
        raw = np.stack([stream.random_raw(min(PART, size - start)) for stream in streams])
        yield start, (raw >> np.uint64(11)) * 2.0**-53


def _stream(key: NDArray[np.uint64], position: int) -> np.random.Philox:
    """A stream from that number on; each step of Philox makes four."""
    stream = np.random.Philox(key=key).advance(position // 4)
    stream.random_raw(position % 4)
    return stream


def permutation(size: int, seed: int, epoch: int, draw: int = 0) -> NDArray[np.int64]:
    """An order of `size` samples that depends on seed, epoch and the number of the draw alone."""
    # Counter 2**255: apart from the streams of `uniform`, which share the key's form.
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=2**255 + 2**192 * draw)
    return np.argsort(generator.random_raw(size), kind="stable")
