"""Parts of the flat gradient that go to other processes together, while the backward pass computes the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nnpar.parallel import Hook
from nnpar.parameters import Slot

MEBIBYTE = 2**20
BUCKET_MB = 0.25  # see bench/README.md


class Buckets:
    """Of at least so many bytes, the last layers' first.

    Parameters
    ----------
    slots : sequence of Slot
        Where each parameter's gradient lies.
    nbytes : float

    Attributes
    ----------
    slices : list of slice
        Where each bucket lies.
    names : list of list of str
        Whose gradients it has.
    """

    def __init__(self, slots: Sequence[Slot], nbytes: float) -> None:
        self.slices: list[slice] = []
        self.names: list[list[str]] = []
        stop = slots[-1].start + slots[-1].size if slots else 0
        group: list[str] = []
        for slot in reversed(slots):
            group.append(slot.name)
            if 4 * (stop - slot.start) >= nbytes or slot is slots[0]:
                self.slices.append(slice(slot.start, stop))
                self.names.append(group)
                stop, group = slot.start, []

    def hooks(self, is_final: Callable[[int], None]) -> list[Hook]:
        """Hooks that call `is_final` with a bucket's number."""
        return [(names, partial(is_final, number)) for number, names in enumerate(self.names)]


class InOrder:
    """Does something for buckets 0, 1, 2 and so on, each once it and those before it are ready: the same order in all
    processes, whatever the order is in which a plan makes gradients.

    Parameters
    ----------
    act : callable
        Is given the bucket's number.
    """

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act
        self.begin()

    def begin(self) -> None:
        """None is ready."""
        self._ready: set[int] = set()
        self._next = 0

    def is_ready(self, bucket: int) -> None:
        """`bucket` is, too."""
        self._ready.add(bucket)
        while self._next in self._ready:
            self._act(self._next)
            self._next += 1
