"""What a run spends its time on, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nnpar._kernels.step import Step, recorders

__all__ = ["Profile", "profile"]


@dataclass(frozen=True)
class Row:
    """All runs of one kind of step of one layer: seconds and work together."""

    layer: str
    step: str
    count: int
    seconds: float
    flops: float
    bytes: float


class Profile:
    """What :func:`profile` recorded.

    Attributes
    ----------
    seconds : float
        In steps; not what Python does between runs.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[tuple[Step, ...], list[float]]] = []

    def _record(self, steps: tuple[Step, ...], stamps: list[float]) -> None:
        self._runs.append((steps, stamps))

    @property
    def seconds(self) -> float:
        """What all runs took."""
        return sum(stamps[-1] - stamps[0] for _, stamps in self._runs)

    @property
    def rows(self) -> list[Row]:
        """One row for each layer and step, the longest first."""
        sums: dict[tuple[str, str], list[float]] = {}
        for steps, stamps in self._runs:
            for step, start, end in zip(steps, stamps, stamps[1:], strict=False):
                total = sums.setdefault((step.layer, step.name), [0, 0.0, 0.0, 0.0])
                for i, value in enumerate((1, end - start, step.flops, step.bytes)):
                    total[i] += value
        rows = [Row(layer, step, int(count), *rest) for (layer, step), (count, *rest) in sums.items()]
        return sorted(rows, key=lambda row: -row.seconds)

    def __str__(self) -> str:
        total = self.seconds
        lines = [f"{'layer':<24} {'step':<32} {'runs':>6} {'ms':>10} {'share':>6} {'GFLOP/s':>8} {'GB/s':>6}"]
        for row in self.rows:
            rates = (row.flops / row.seconds / 1e9, row.bytes / row.seconds / 1e9) if row.seconds else (0.0, 0.0)
            lines.append(
                f"{row.layer:<24} {row.step:<32} {row.count:6} {1e3 * row.seconds:10.3f} {row.seconds / total:6.1%} "
                f"{rates[0]:8.1f} {rates[1]:6.1f}"
            )
        return "\n".join(lines)

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a file that Chrome's ``chrome://tracing``, or https://ui.perfetto.dev, shows as a time line.

        Parameters
        ----------
        path : str or path-like
        """
        start = min((stamps[0] for _, stamps in self._runs), default=0.0)
        events = [
            {
                "name": f"{step.layer} {step.name}".strip(), "ph": "X", "pid": 0, "tid": 0,
                "ts": 1e6 * (begin - start), "dur": 1e6 * (end - begin),
                "args": {"flops": step.flops, "bytes": step.bytes},
            }
            for steps, stamps in self._runs
            for step, begin, end in zip(steps, stamps, stamps[1:], strict=False)
        ]  # fmt: skip
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)


@contextmanager
def profile() -> Iterator[Profile]:
    """Record all steps that plans run inside the block, of all threads.

    Yields
    ------
    Profile
        Printed, it is a table.

    Examples
    --------
    >>> import numpy as np
    >>> import nnpar
    >>> model = nnpar.Sequential(nnpar.Linear(4, 3), nnpar.ReLU())
    >>> with nnpar.profile() as p:
    ...     _ = model(np.ones((2, 4)))
    >>> [(row.layer, row.step, row.count) for row in p.rows]
    [('0', 'gemm', 1)]
    """
    record = Profile()
    recorders.append(record._record)
    try:
        yield record
    finally:
        recorders.remove(record._record)
