"""The command ``nnpar`` on several processes: ``mpiexec -n 4 nnpar train run.toml``."""

from __future__ import annotations

import io
import os
import platform
import sys
import time
from collections.abc import Callable

from nnpar import threads
from nnpar.distributed.world import PATIENCE, end_all, world

TOGETHER = ("train", "info")  # what several processes do as one


def run(name: str, command: Callable[[], int]) -> int:
    """Run it in all processes, of which process 0 speaks. If it fails in one, all end, with its message.

    Parameters
    ----------
    name : str
        Of the command.
    command : callable
        Prints its errors, and returns the exit status.

    Returns
    -------
    int
        The exit status.
    """
    comm = world()
    if comm is None or comm.size == 1:
        return command()
    if name not in TOGETHER:
        if comm.rank == 0:
            print(f"nnpar: error: {name}: expected one process, got {comm.size} by mpiexec", file=sys.stderr)
            end_all(comm, 1)
        time.sleep(60.0)  # until that ends this process, too
    if comm.rank == 0:
        status = command()
    else:
        outputs, told = (sys.stdout, sys.stderr), io.StringIO()
        with open(os.devnull, "w") as nowhere:
            sys.stdout, sys.stderr = nowhere, told
            try:
                status = command()
            finally:
                sys.stdout, sys.stderr = outputs
        if status:
            time.sleep(PATIENCE)
            print(f"nnpar: rank {comm.rank} of {comm.size}: {told.getvalue().rstrip()}", file=sys.stderr)
    if status:
        end_all(comm, status)
    return status


def ranks() -> list[tuple[str, str]]:
    """For each process its number, and on what it runs: host, threads, processors.

    Returns
    -------
    list of (str, str)
    """
    comm = world()
    if comm is None:
        return []
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    own = f"{platform.node()}, {threads.get_num_threads()} threads, processors {_spans(cpus) or 'unknown'}"
    return [(f"rank {rank} of {comm.size}", told) for rank, told in enumerate(comm.allgather(own))]


def _spans(numbers: list[int]) -> str:
    """Ascending numbers as people write them: ``0-3, 8``.

    Examples
    --------
    >>> from nnpar.distributed.command import _spans
    >>> _spans([0, 1, 2, 3, 8])
    '0-3, 8'
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in spans)
