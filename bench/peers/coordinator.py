"""Measures libraries alternately: each has a process, and while one runs, the others are at rest."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from process import WorkerError, WorkerProcess, settle
from tasks import Task

LEAST_RUNS = 2  # in a turn
TOO_SLOW = 8.0  # times as long as the fastest in the first round: measured no more, which saves hours
MOST_ERROR = 5e-3  # of the largest element; Winograd's transforms of large tiles come to 1e-3


@dataclass
class Measured:
    """What came of one task.

    Attributes
    ----------
    rounds : dict
        Of each library, the seconds of its runs, round by round.
    errors : dict
        Of each peer, the largest difference from nnpar's result, relative to the result's largest element.
    failures : dict
        Why a library that has the operation has no times.
    flops, bytes : float
    """

    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    flops: float = 0.0
    bytes: float = 0.0


def measure(task: Task, workers: Sequence[WorkerProcess], rounds: int, seconds: float, folder: Path) -> Measured:
    """Prepare a task in every worker that has it, compare the results with the first worker's, and let them take turns.

    Parameters
    ----------
    task : Task
    workers : sequence of WorkerProcess
        nnpar's first.
    rounds : int
        Turns of each.
    seconds : float
        Of a turn, about.
    folder : path
        For files of this task.

    Returns
    -------
    Measured
    """
    measured = Measured()
    able = [worker for worker in workers if task.operation in worker.operations]
    ready = _prepare(task, able, folder, measured)
    for _ in range(rounds):
        for worker in list(ready):
            settle(workers)
            reply = _ask(worker, measured.failures, "measure", seconds=seconds, least=LEAST_RUNS)
            if reply is None:
                ready.remove(worker)
            else:
                measured.rounds.setdefault(worker.library, []).append(reply["seconds"])
        ready = _fast_enough(ready, workers[0], measured)
    for worker in able:
        _ask(worker, {}, "release")
    return measured


def _prepare(task: Task, workers: Sequence[WorkerProcess], folder: Path, measured: Measured) -> list[WorkerProcess]:
    """The workers whose result is right."""
    inputs = {}
    for name, make in task.inputs.items():
        inputs[name] = str(folder / f"{name}.npy")
        np.save(inputs[name], np.ascontiguousarray(make()))
    ready = []
    expected: NDArray[Any] | None = None
    for worker in workers:
        path = folder / "result.npy"
        request = {"operation": task.operation, "inputs": inputs, "options": task.options, "result": str(path)}
        reply = _ask(worker, measured.failures, "prepare", **request)
        if reply is None:
            continue
        result = np.load(path)
        if expected is None:
            expected = result
            measured.flops, measured.bytes = reply["flops"], reply["bytes"]
        else:
            error = measured.errors[worker.library] = difference(result, expected)
            if not error <= MOST_ERROR:
                measured.failures[worker.library] = f"another result: off by {error:.2g} of the largest element"
                continue
        ready.append(worker)
    return ready


def difference(result: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference relative to the largest element; infinite if shapes differ or a number is not finite."""
    if result.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(expected).max())
    error = float(np.abs(result - expected).max()) / (largest or 1.0)
    return error if np.isfinite(error) else float("inf")


def _fast_enough(ready: list[WorkerProcess], first: WorkerProcess, measured: Measured) -> list[WorkerProcess]:
    fastest = {name: min(rounds[0]) for name, rounds in measured.rounds.items()}
    limit = TOO_SLOW * min(fastest.values(), default=0.0)
    return [worker for worker in ready if worker is first or fastest[worker.library] <= limit]


def _ask(worker: WorkerProcess, failures: dict[str, str], do: str, **arguments: Any) -> dict[str, Any] | None:
    try:
        return worker.ask(do, **arguments)
    except WorkerError as error:
        failures[worker.library] = str(error)
        return None


def ratio(own: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> float:
    """How many times faster than a peer: the median over the rounds of the ratios of the rounds' medians."""
    pairs = zip(own, peer, strict=False)  # a slow peer has fewer rounds
    return statistics.median(statistics.median(theirs) / statistics.median(ours) for ours, theirs in pairs)


def typical(rounds: Sequence[Sequence[float]]) -> float:
    """Median over the rounds of the rounds' medians."""
    return statistics.median(statistics.median(times) for times in rounds)


def best_peer(rounds: Mapping[str, Sequence[Sequence[float]]], own: str) -> str | None:
    """The fastest of the others."""
    return min((name for name in rounds if name != own), key=lambda name: typical(rounds[name]), default=None)
