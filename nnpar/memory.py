"""Where a plan's values lie: in one arena, those that are never alive together in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nnpar._kernels.step import Step

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
PAGE = 4096  # bytes, which lie on one socket's memory


class Lifetime(NamedTuple):
    """Bytes that are in use from one step to another, both included."""

    nbytes: int
    first: int
    last: int

    @property
    def steps(self) -> int:
        return self.last - self.first + 1


def arrange(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """An offset for each, so that none overlaps another in both time and place; and the bytes that they take together.

    Greedy by size, those that live long first among equals, each at the lowest place that is free while it lives:
    Pisarchyk, Lee, arXiv:2001.03288.

    Examples
    --------
    >>> from nnpar.memory import Lifetime, arrange
    >>> arrange([Lifetime(128, 0, 1), Lifetime(64, 1, 2), Lifetime(128, 2, 3)])
    ([0, 128, 0], 192)
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for number in sorted(range(len(lifetimes)), key=lambda n: (-lifetimes[n].nbytes, -lifetimes[n].steps, n)):
        mine = lifetimes[number]
        offset = 0
        for other in sorted(placed, key=lambda n: offsets[n]):
            theirs = lifetimes[other]
            if mine.first <= theirs.last and theirs.first <= mine.last:
                if offset + mine.nbytes <= offsets[other]:
                    break
                offset = max(offset, offsets[other] + -(-theirs.nbytes // ALIGNMENT) * ALIGNMENT)
        offsets[number] = offset
        if mine.nbytes:
            placed.append(number)
    return offsets, max((offsets[n] + lifetimes[n].nbytes for n in placed), default=0)


def most_at_once(lifetimes: Sequence[Lifetime]) -> tuple[int, int]:
    """The most bytes that are alive at once, which no arrangement can do without, and when that is first.

    Examples
    --------
    >>> from nnpar.memory import Lifetime, most_at_once
    >>> most_at_once([Lifetime(128, 0, 1), Lifetime(64, 1, 2), Lifetime(128, 2, 3)])
    (192, 1)
    """
    change: dict[int, int] = {}
    for life in lifetimes:
        change[life.first] = change.get(life.first, 0) + life.nbytes
        change[life.last + 1] = change.get(life.last + 1, 0) - life.nbytes
    most = when = total = 0
    for step in sorted(change):
        total += change[step]
        if total > most:
            most, when = total, step
    return most, when


def scratch_of_threads(steps: Iterable[Step]) -> tuple[int, int]:
    """How many threads have scratch memory of their own, of how many bytes each: the same for all steps of a plan, so
    that what a thread writes there stays in its cache, and on its socket.
    """
    users = [step for step in steps if step.thread_bytes]
    most = max((step.thread_bytes for step in users), default=0)
    return max((step.most_threads for step in users), default=0), -(-most // PAGE) * PAGE
