"""MPI within a barrier stage of Spark, without ssh: task 0 starts ``mpiexec -launcher manual``, which says what would
have to be started on which machine; one task of each machine starts that.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE = 10.0  # seconds in which processes that are told to end do so
BEGIN, END = "HYDRA_LAUNCH: ", "HYDRA_LAUNCH_END"
LONGEST = 4000  # characters of a message that goes to the driver, its last ones


@dataclass(frozen=True)
class Places:
    """Which rank is where: tasks of one machine are neighbours, those of task 0's machine come first.

    Parameters
    ----------
    hosts : sequence of str
        Of each task.

    Examples
    --------
    >>> from nnpar.integrations.spark.barrier import Places
    >>> places = Places(["a", "b", "a"])
    >>> places.hydra, places.tasks, places.starters
    ('a:2,b:1', [0, 2, 1], [0, 1])
    """

    hosts: Sequence[str]

    @property
    def hydra(self) -> str:
        """For ``mpiexec -hosts``."""
        return ",".join(f"{host}:{self.hosts.count(host)}" for host in dict.fromkeys(self.hosts))

    @property
    def tasks(self) -> list[int]:
        """The task whose samples each rank has."""
        return [k for host in dict.fromkeys(self.hosts) for k, other in enumerate(self.hosts) if other == host]

    @property
    def starters(self) -> list[int]:
        """The task that starts the processes of each machine."""
        return [self.hosts.index(host) for host in dict.fromkeys(self.hosts)]


def missing() -> str:
    """What this process lacks for MPI, in words; nothing if it can."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is missing: pip install 'nnpar[mpi]'"
    return "" if _mpiexec() else "no mpiexec of MPICH, or of another MPI with the launcher Hydra: pip install mpich"


def _mpiexec() -> str | None:
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    for name in ("mpiexec.hydra", "mpiexec"):
        found = shutil.which(name, path=beside)
        if found is None:
            continue
        said = subprocess.run([found, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if "HYDRA" in said.stdout:
            return found
    return None


def exchange(context: Any, make: Callable[[], Any]) -> list[Any]:
    """What `make` gives in each task, as JSON can hold it. An error in one is an error in all.

    Raises
    ------
    TaskError
        With the messages of all tasks that have one.
    """
    try:
        message = {"value": make()}
    except Exception:
        message = {"error": traceback.format_exc()[-LONGEST:]}
    every = [json.loads(each) for each in context.allGather(json.dumps(message))]
    errors = [f"task {number}: {each['error']}" for number, each in enumerate(every) if "error" in each]
    if errors:
        raise TaskError("\n".join(errors))
    return [each["value"] for each in every]


class TaskError(RuntimeError):
    """An error of some task, which all of them know."""


def run(context: Any, hosts: Sequence[str], folders: Sequence[str], module: str) -> None:
    """Run ``python -m module FOLDER ...``, one process for each task, with the folders in the order of ranks.

    Each process writes what went wrong to ``error`` in its folder.

    Parameters
    ----------
    context : BarrierTaskContext
    hosts, folders : sequence of str
        Of each task.
    module : str

    Raises
    ------
    TaskError
        In all tasks, if one process fails.
    """
    me, places = context.partitionId(), Places(list(hosts))
    started: list[subprocess.Popen[str]] = []
    try:
        lines = exchange(context, lambda: _launch(places, folders, module, started) if me == 0 else None)[0]
        exchange(context, lambda: _start(lines, places, me, started))
        exchange(context, lambda: _wait(started, Path(folders[me]), me == 0))
    finally:
        for process in started:
            _end(process)


def _launch(places: Places, folders: Sequence[str], module: str, started: list[subprocess.Popen[str]]) -> list[str]:
    """Start mpiexec; returns what is to be started on each machine."""
    mpiexec = _mpiexec()
    if mpiexec is None:
        raise RuntimeError(missing())
    command = [mpiexec, "-launcher", "manual", "-localhost", places.hosts[0], "-hosts", places.hydra]
    command += ["-n", str(len(folders)), "-wdir", "/", sys.executable, "-m", "mpi4py", "-m", module]
    command += [folders[task] for task in places.tasks]
    # The paths that Spark has added to this process, such as those of addPyFile.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = _popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    started.append(process)
    assert process.stdout is not None
    lines: list[str] = []
    other: list[str] = []
    for line in process.stdout:
        if line.startswith(END):
            break
        (lines if line.startswith(BEGIN) else other).append(line.removeprefix(BEGIN).strip())
    if len(lines) != len(places.starters):
        raise RuntimeError(f"mpiexec: expected {len(places.starters)} launches, got {lines}; it says {other}")
    return lines


def _start(lines: Sequence[str], places: Places, me: int, started: list[subprocess.Popen[str]]) -> None:
    for line, task in zip(lines, places.starters, strict=True):
        if task == me:
            started.append(_popen(shlex.split(line)))


def _wait(started: Sequence[subprocess.Popen[str]], folder: Path, first: bool) -> None:
    output = ""
    if first:
        assert started[0].stdout is not None
        output = started[0].stdout.read()  # to its end: all processes are done
    statuses = [process.wait() for process in started]
    error = folder / "error"
    if error.exists():
        raise RuntimeError(error.read_text()[-LONGEST:])
    if any(statuses):
        raise RuntimeError(f"mpiexec: expected status 0, got {statuses}; it says {output[-LONGEST:]}")


def _end(process: subprocess.Popen[str]) -> None:
    """End a process, unless it has ended."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _popen(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A process that ends with this one, also where Spark kills this one."""
    return subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent, **options)


def _end_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
