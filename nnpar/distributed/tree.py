"""Sums over shards whose order no number of processes changes.

Shards 0 to S - 1, S a power of two, are the leaves of a binary tree. A process owns some in a row, adds up what lies
under one node of the tree, and keeps one array for each of the largest such nodes. The rest of the tree is added up by
all processes, each for its part of the array, and the parts come together again. No sum depends on who made it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nnpar._checks import Array
from nnpar._kernels.elementwise import Add

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

Node = tuple[int, int]  # its first shard, and how many, a power of two


def owned(rank: int, ranks: int, shards: int) -> range:
    """The shards of a process: in a row, as many as the others' or one more or less."""
    return range(shards * rank // ranks, shards * (rank + 1) // ranks)


def nodes_of(shards: range) -> Iterator[Node]:
    """The largest nodes of the tree that hold these shards, and no others."""
    first = shards.start
    while first < shards.stop:
        size = 1
        while first % (2 * size) == 0 and first + 2 * size <= shards.stop:
            size *= 2
        yield first, size
        first += size


class TreeSum:
    """The sum of this process's shards, one after the other: as much memory as the tree is high.

    Parameters
    ----------
    size : int
        Of the arrays, float32.
    """

    def __init__(self, size: int) -> None:
        self._free: list[Array] = []
        self._size = size
        self._adds: dict[tuple[int, int], Add] = {}
        self.nodes: dict[Node, Array] = {}

    def begin(self) -> None:
        """Forget what was added."""
        self._free += self.nodes.values()
        self.nodes = {}

    def new(self) -> Array:
        """An array to be filled for the next shard."""
        return self._free.pop() if self._free else np.empty(self._size, np.float32)

    def add(self, shard: int, values: Array) -> None:
        """Shards come in order; `values`, from `new`, is the sum's afterwards."""
        node = (shard, 1)
        while (sibling := (node[0] - node[1], node[1])) in self.nodes and node[0] % (2 * node[1]) == node[1]:
            left = self.nodes.pop(sibling)
            if (pair := (id(left), id(values))) not in self._adds:
                self._adds[pair] = Add(left, values, left)
            self._adds[pair]()
            self._free.append(values)
            node, values = (sibling[0], 2 * node[1]), left
        self.nodes[node] = values


class SumOverRanks:
    """Sums of all shards from each process's nodes, array after array, while the processes do other things. Each adds
    up its part of an array, and the parts come together again.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or None
        Its processes add the same arrays in the same order, and call nothing else of it meanwhile.
    shards : int
    """

    def __init__(self, comm: Comm | None, shards: int) -> None:
        self._comm, self._shards = comm, shards
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Forget what was added."""
        with self._lock:
            self._parts: deque[_Part] = deque()
            self._gathers: list[Request] = []

    def add(self, own: dict[Node, Array], out: Array) -> None:
        """Begin a sum.

        Parameters
        ----------
        own : dict of (int, int) to ndarray of shape (n,), float32
            As `nodes_of` says of the shards that this process owns; they stay as they are until `finish`.
        out : ndarray of shape (n,), float32
            Receives the sum by the end of `finish`; the same bits in all processes.
        """
        if self._comm is None or self._comm.size == 1:
            (total,) = own.values()
            np.copyto(out, total)
            return
        with self._lock:
            self._parts.append(_Part(self._comm, self._shards, own, out))

    def go_on(self) -> bool:
        """As far as is possible without waiting; returns whether there is more to do."""
        with self._lock:
            while self._parts and self._parts[0].has_come():
                self._gathers.append(self._parts.popleft().gather())
            self._gathers = [request for request in self._gathers if not request.Test()]
            return bool(self._parts or self._gathers)

    def finish(self) -> None:
        """Until all sums are there."""
        with self._lock:
            while self._parts:
                part = self._parts.popleft()
                part.wait()
                self._gathers.append(part.gather())
            for request in self._gathers:
                request.Wait()


class _Part:
    """What this process adds up of one array."""

    def __init__(self, comm: Comm, shards: int, own: dict[Node, Array], out: Array) -> None:
        self._comm, self._shards, self._out = comm, shards, out
        self._cuts = cuts = [len(out) * rank // comm.size for rank in range(comm.size + 1)]
        mine = slice(cuts[comm.rank], cuts[comm.rank + 1])
        self._nodes = {node: values[mine] for node, values in own.items()}
        self._requests: list[Request] = []
        for other in range(comm.size):
            for node in nodes_of(owned(other, comm.size, shards)) if other != comm.rank else ():
                self._nodes[node] = np.empty(mine.stop - mine.start, np.float32)
                self._requests.append(comm.Irecv(self._nodes[node], other, tag=node[0]))
        for step in range(1, comm.size):  # each process begins with another one
            other = (comm.rank + step) % comm.size
            for node, values in own.items():
                self._requests.append(comm.Isend(values[cuts[other] : cuts[other + 1]], other, tag=node[0]))

    def has_come(self) -> bool:
        return all(request.Test() for request in self._requests)

    def wait(self) -> None:
        for request in self._requests:
            request.Wait()

    def gather(self) -> Request:
        """Begin to bring all processes' parts together."""
        from mpi4py import MPI

        self._total = _sum(self._nodes, (0, self._shards))
        counts = [stop - start for start, stop in itertools.pairwise(self._cuts)]
        return self._comm.Iallgatherv(self._total, [self._out, counts, self._cuts[:-1], MPI.FLOAT])


def _sum(parts: dict[Node, Array], node: Node) -> Array:
    if node in parts:
        return parts[node]
    first, half = node[0], node[1] // 2
    return _sum(parts, (first, half)) + _sum(parts, (first + half, half))
