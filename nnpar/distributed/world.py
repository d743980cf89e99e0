"""The processes that MPI has started: whether there are any, their threads, and what becomes of them when one fails."""

from __future__ import annotations

import os
import sys
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nnpar import threads
from nnpar._kernels import runtime
from nnpar.parallel import launched

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

RELAY = 0.3  # seconds in which the launcher reads what was written, before it ends all
PATIENCE = 1.0  # seconds in which process 0 may say the same first
UNSET = ("processors available to this process", "container quota")  # sources of a number of threads that nobody chose

_prepared = False


def world() -> Comm | None:
    """All processes, or None without MPI: then this one is alone. The first call prepares this process: an error in one
    ends all, and the processes of a machine share its processors.

    Raises
    ------
    ImportError
        If a launcher has started the process, and mpi4py or the MPI library is missing.
    RuntimeError
        If processes use different instruction sets.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if launched():
            raise ImportError(f"nnpar: MPI needs mpi4py: pip install 'nnpar[mpi]' ({error})") from error
        return None
    comm = MPI.COMM_WORLD
    _prepare(comm)
    return comm


def _prepare(comm: Comm) -> None:
    global _prepared
    if _prepared or comm.size == 1:
        return
    _prepared = True
    _end_all_on_error(comm)
    found = sorted(set(comm.allgather(runtime.isa())))
    if len(found) > 1:  # each process updates its own weights: they would drift apart
        raise RuntimeError(
            f"nnpar: expected one instruction set in all processes, got {', '.join(found)}: set NNPAR_ISA"
        )
    if threads.num_threads_source().startswith(UNSET):
        count = threads_of_a_rank(comm)
        if count < threads.get_num_threads():
            threads.assign(count, "processors shared with the other ranks of this machine")


def threads_of_a_rank(comm: Comm) -> int:
    """Threads for this process, so that those of one machine use each of its processors once: a processor that several
    may run on is shared out among them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm

    Returns
    -------
    int
        At least 1.
    """
    from mpi4py import MPI

    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    every = machine.allgather(own)
    share = sum(1.0 / sum(cpu in one for one in every) for cpu in own)
    quota = threads.cgroup_quota()
    if quota is not None:
        share = min(share, quota / machine.size)
    machine.Free()
    return max(1, int(share + 1e-6))


def _end_all_on_error(comm: Comm) -> None:
    """An error that nobody catches ends all processes, which would wait for this one."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if comm.rank != 0:
            time.sleep(PATIENCE)
        told = "".join(traceback.format_exception(kind, error, trace))
        sys.stdout.flush()
        sys.stderr.write(f"nnpar: error on rank {comm.rank} of {comm.size}:\n{told}")
        end_all(comm, 1)

    sys.excepthook = hook


def end_all(comm: Any, status: int) -> None:
    """End all processes with that status, after what was written has been seen."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(RELAY)
    comm.Abort(status)
