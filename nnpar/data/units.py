"""Samples that are read in units of many, such as row groups of Parquet files: an order in which consecutive samples
have few units among them, and a memory of units that were read lately.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks, random

if TYPE_CHECKING:
    from concurrent.futures import Future

MEBIBYTE = 2**20


def order(
    rows: NDArray[np.int64], mixed: int, streams: int, seed: int, epoch: int, batch_size: int
) -> NDArray[np.int64]:
    """An order of samples in which few units are wanted at a time.

    Units are shuffled and dealt to streams. A stream takes its units one after the other, and spreads the samples of
    each over those of the next `mixed` - 1. Every batch is cut into as many equal parts as there are streams, and part
    k comes from stream k. So a process that computes part of each batch reads some streams, and hardly anything of the
    others; how many processes there are changes nothing.

    Parameters
    ----------
    rows : ndarray of int64
        How many samples each unit has; samples are numbered through all units.
    mixed : int
        Units that a stream has in work at a time, about.
    streams : int
    seed, epoch, batch_size : int

    Returns
    -------
    ndarray of int64
        Each sample's number once.

    Examples
    --------
    >>> import numpy as np
    >>> found = order(np.full(40, 25), mixed=2, streams=2, seed=0, epoch=0, batch_size=50)
    >>> sorted(found.tolist()) == list(range(1000))
    True
    >>> [sorted(set((batch // 25).tolist())) for batch in found.reshape(-1, 50)[:3]]  # units of the first batches
    [[1, 10, 16, 31], [1, 6, 10, 16, 31, 38], [1, 6, 19, 31, 37, 38]]
    """
    count, units = int(rows.sum()), len(rows)
    place = np.empty(units)  # of each unit among the shuffled ones
    place[random.permutation(units, seed, epoch, 1)] = np.arange(units)
    share = np.empty(count)  # of each sample in [0, 1), all different
    share[random.permutation(count, seed, epoch)] = np.arange(count) / count
    place_of_sample = np.repeat(place, rows)

    # Positions of the epoch by the stream that they are taken from.
    position = np.arange(count)
    within = position % batch_size
    size = np.minimum(batch_size, count - (position - within))
    stream = ((within + 1) * streams - 1) // size  # slice k is size * k // streams to size * (k + 1) // streams
    by_stream = np.argsort(stream, kind="stable")

    # Units one after the other are cut where a stream has as many samples as it has positions; then each is spread.
    listed = np.argsort(place_of_sample + share, kind="stable")
    key = (place_of_sample + mixed * share)[listed]
    found = np.empty(count, np.int64)
    found[by_stream] = listed[np.lexsort((key, stream[by_stream]))]
    return found


class Mixing:
    """What a source that reads in units says of its order, checked.

    Parameters
    ----------
    mixed : int or None
    streams : int
    who : str
        For errors.
    """

    def __init__(self, mixed: int | None, streams: int, who: str) -> None:
        self.mixed = None if mixed is None else _checks.integer(mixed, who, "mixed", 1, 2**31)
        self.streams = _checks.integer(streams, who, "streams", 1, 2**31)

    def order(self, rows: NDArray[np.int64], seed: int, epoch: int, batch_size: int) -> NDArray[np.int64]:
        """That of `order`, or of any permutation where nothing is said."""
        if self.mixed is None:
            return random.permutation(int(rows.sum()), seed, epoch)
        return order(rows, self.mixed, self.streams, seed, epoch, batch_size)


class Cache:
    """Units that were read lately, up to so many bytes; each is read once, however many threads want it at a time.

    Parameters
    ----------
    load : callable
        Of a unit's number: what it holds, and its bytes in memory.
    megabytes : float
        MiB; at least the latest unit is kept.
    who : str
        For errors.
    """

    def __init__(self, load: Callable[[int], tuple[Any, int]], megabytes: float, who: str) -> None:
        self.limit = _checks.above(megabytes, who, "cache_mb") * MEBIBYTE
        self._load = load
        self._lock = threading.Lock()
        self._found: OrderedDict[int, Future[Any]] = OrderedDict()  # the latest last
        self._sizes: dict[int, int] = {}

    def get(self, number: int) -> Any:
        """A unit."""
        from concurrent.futures import Future

        with self._lock:
            found = self._found.get(number)
            mine = found is None
            if found is None:
                found = self._found[number] = Future()
            self._found.move_to_end(number)
        if mine:
            try:
                unit, nbytes = self._load(number)
            except BaseException as error:
                with self._lock:
                    del self._found[number]
                found.set_exception(error)
                raise
            found.set_result(unit)
            with self._lock:
                self._sizes[number] = nbytes
                self._forget(number)
        return found.result()

    def _forget(self, latest: int) -> None:
        total = sum(self._sizes.values())
        for number in [number for number in self._found if number in self._sizes and number != latest]:
            if total <= self.limit:
                break
            total -= self._sizes.pop(number)
            del self._found[number]
