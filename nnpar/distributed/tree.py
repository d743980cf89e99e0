"""Sums over shards whose order no number of processes changes.

Shards 0 to S - 1, S a power of two, are the leaves of a binary tree. A process owns some in a row, adds up what lies
under one node of the tree, and keeps one array for each of the largest such nodes. The rest of the tree is added up by
all processes, each for its part of the array, and the parts come together again. No sum depends on who made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nnpar._checks import Array

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

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
            np.add(left, values, out=left)
            self._free.append(values)
            node, values = (sibling[0], 2 * node[1]), left
        self.nodes[node] = values


def sum_over_ranks(comm: Comm | None, own: dict[Node, Array], shards: int, out: Array) -> None:
    """The sum of all shards, from the sums of each process's nodes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or None
    own : dict of (int, int) to ndarray
        As `nodes_of` says of the shards that this process owns.
    shards : int
    out : ndarray of the same shape, float32
        Receives the sum; the same bits in all processes.
    """
    if comm is None or comm.size == 1:
        (total,) = own.values()
        np.copyto(out, total)
        return
    from mpi4py import MPI

    cuts = [len(out) * rank // comm.size for rank in range(comm.size + 1)]
    mine = slice(cuts[comm.rank], cuts[comm.rank + 1])
    parts = {node: values[mine] for node, values in own.items()}
    requests = []
    for other in range(comm.size):
        if other == comm.rank:
            continue
        for node in nodes_of(owned(other, comm.size, shards)):
            parts[node] = np.empty(mine.stop - mine.start, np.float32)
            requests.append(comm.Irecv(parts[node], other, tag=node[0]))
    for step in range(1, comm.size):  # each process begins with another one
        other = (comm.rank + step) % comm.size
        for node, values in own.items():
            requests.append(comm.Isend(values[cuts[other] : cuts[other + 1]], other, tag=node[0]))
    MPI.Request.Waitall(requests)
    total = _sum(parts, (0, shards))
    counts = [cuts[rank + 1] - cuts[rank] for rank in range(comm.size)]
    comm.Allgatherv(total, [out, counts, cuts[:-1], MPI.FLOAT])


def _sum(parts: dict[Node, Array], node: Node) -> Array:
    if node in parts:
        return parts[node]
    first, half = node[0], node[1] // 2
    return _sum(parts, (first, half)) + _sum(parts, (first + half, half))
