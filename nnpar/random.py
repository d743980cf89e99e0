"""Random numbers that repeat: every draw is named by a seed and a counter, never by the order of calls between threads.

All of them come from Philox (Salmon et al., SC 2011), whose raw output is the same in every version of NumPy.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks

__all__ = ["get_seed", "manual_seed"]

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


def get_seed() -> int:
    """The seed in force."""
    return _seed


def checked_seed(seed: int, who: str) -> int:
    """`seed` as an int of 64 bits."""
    return _checks.integer(seed, who, "seed", 0, 2**64)


def uniform(size: int) -> NDArray[np.float64]:
    """The next draw of `size` numbers in [0, 1), from a stream of its own: (seed, number of the draw)."""
    raw: NDArray[np.uint64] = np.random.Philox(key=np.array([_seed, next(_draws)], np.uint64)).random_raw(size)
    numbers: NDArray[np.float64] = (raw >> np.uint64(11)) * 2.0**-53
    return numbers


def permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """An order of `size` samples that depends on seed and epoch alone."""
    # Counter 2**255: apart from the streams of `uniform`, which share the key's form.
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=2**255)
    return np.argsort(generator.random_raw(size), kind="stable")
