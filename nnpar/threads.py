"""The number of threads: one budget for the whole process.

It never changes a result. It is, in this order: ``NNPAR_NUM_THREADS``; ``OMP_NUM_THREADS``; the smaller of the
processors that this process may run on and the CPU quota of its container. threadpoolctl can lower it, since the
threads are OpenMP's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nnpar._kernels import runtime

__all__ = ["get_num_threads", "num_threads", "num_threads_source", "set_num_threads"]

MOST_THREADS = 1024

_source = ""


def get_num_threads() -> int:
    """Threads that an operation may use now.

    Examples
    --------
    >>> import nnpar
    >>> with nnpar.num_threads(2):
    ...     nnpar.get_num_threads()
    2
    """
    return runtime.num_threads()


def num_threads_source() -> str:
    """Where the number of threads comes from, in words."""
    return _source


def set_num_threads(count: int) -> None:
    """Set the number of threads of this process.

    Parameters
    ----------
    count : int
        1 to 1024. More threads than processors are allowed; they give the same results, later.

    Raises
    ------
    TypeError, ValueError
        If `count` is not such a number.
    """
    assign(_checked(count, "set_num_threads"), "set_num_threads")


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Set the number of threads for the length of a ``with`` block.

    Parameters
    ----------
    count : int
        1 to 1024.

    Yields
    ------
    None

    Raises
    ------
    TypeError, ValueError
        If `count` is not such a number.
    """
    before, source = runtime.configured_threads(), _source
    assign(_checked(count, "num_threads"), "num_threads")
    try:
        yield
    finally:
        assign(before, source)


def _checked(count: int, name: str) -> int:
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"{name}: expected an int, got {type(count).__name__}")
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"{name}: expected 1 to {MOST_THREADS} threads, got {count}")
    return int(count)


def assign(count: int, source: str) -> None:
    """Set the number of threads, and say where it comes from.

    Parameters
    ----------
    count : int
    source : str
        In words, for people.
    """
    global _source
    runtime.set_num_threads(count)
    _source = source


def _detect() -> tuple[int, str]:
    """Number of threads for this process, and where it comes from."""
    own = os.environ.get("NNPAR_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or not 1 <= int(own) <= MOST_THREADS:
            raise ImportError(f"NNPAR_NUM_THREADS: expected 1 to {MOST_THREADS}, got {own!r}")
        return int(own), "NNPAR_NUM_THREADS"
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested regions
    if shared.isdecimal() and 1 <= int(shared) <= MOST_THREADS:
        return int(shared), "OMP_NUM_THREADS"
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    if quota is not None and math.ceil(quota) < affinity:
        return max(1, math.ceil(quota)), f"container quota of {quota:g} CPUs"
    return min(affinity, MOST_THREADS), "processors available to this process"


def cgroup_quota(root: str | os.PathLike[str] = "/") -> float | None:
    """CPUs that the process's control groups grant it, or None without a limit.

    Reads cgroup v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``) of the process's own group and of all groups above it,
    since each of them limits.

    Parameters
    ----------
    root : str
        Folder in which ``proc`` and ``sys`` lie.
    """
    top = os.fspath(root)
    quotas = []
    for line in _read(os.path.join(top, "proc/self/cgroup")).splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers == "":
            bases, quota = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            bases, quota = [f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"], _quota_v1
        else:
            continue
        # The group, all above it, and the mount's top: inside a container the group's path may be the host's, and
        # then only the top is there.
        parts = [part for part in group.split("/") if part]
        for base in bases:
            quotas += [quota(os.path.join(top, base, *parts[:depth])) for depth in range(len(parts) + 1)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _quota_v2(folder: str) -> float | None:
    try:
        quota, period = _read(os.path.join(folder, "cpu.max")).split()
        return None if quota == "max" else int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        quota = int(_read(os.path.join(folder, "cpu.cfs_quota_us")))
        return None if quota <= 0 else quota / int(_read(os.path.join(folder, "cpu.cfs_period_us")))
    except (ValueError, ZeroDivisionError):
        return None


assign(*_detect())
