"""Numbers of a run: rows, their summary, JSON and Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coordinator import Measured, best_peer, ratio, typical
from library import LIBRARIES
from tasks import GROUPS, MEMORY, Task

OWN = "nnpar"


@dataclass(frozen=True)
class Timing:
    """One library's times of a task, and what follows from the median.

    Attributes
    ----------
    milliseconds, fastest_milliseconds : float
        The median over rounds of the rounds' medians, and the minimum of all runs.
    runs, rounds : int
    gflops, gbs : float
        Of the definition's operations, and of what must be read and written at least.
    error : float or None
        Largest difference from nnpar's result, relative to the largest element.
    """

    milliseconds: float
    fastest_milliseconds: float
    runs: int
    rounds: int
    gflops: float
    gbs: float
    error: float | None


@dataclass(frozen=True)
class Row:
    """A task at a number of threads.

    Attributes
    ----------
    case, group, which, shape : str
        As in `Task`.
    threads : int
    libraries : dict
        Timings by library.
    ratio : float or None
        How many times faster than the best peer nnpar is; below 1 it is slower.
    best_peer : str or None
    failures : dict
        Why a library has no timing.
    ceilings : dict
        GFLOP/s of multiply-adds and the memory's GB/s, measured before and after the task; the higher ones.
    """

    case: str
    group: str
    which: str
    shape: str
    threads: int
    flops: float
    bytes: float
    libraries: dict[str, Timing]
    ratio: float | None
    best_peer: str | None
    failures: dict[str, str]
    ceilings: dict[str, float]

    def share(self, library: str = OWN) -> float | None:
        """Of the multiply-add peak, or of the memory's speed for what memory limits; None if there is no timing."""
        timing = self.libraries.get(library)
        if timing is None:
            return None
        return timing.gbs / self.ceilings["gbs"] if self.group == MEMORY else timing.gflops / self.ceilings["gflops"]


@dataclass(frozen=True)
class Summary:
    """Ratios of a group and pass at a number of threads.

    Attributes
    ----------
    cases, losses : int
        All, and those where the best peer is faster.
    mean, least : float
        Geometric mean and minimum of the ratios.
    least_case : str
    """

    group: str
    which: str
    threads: int
    cases: int
    losses: int
    mean: float
    least: float
    least_case: str


@dataclass
class Report:
    """A run.

    Attributes
    ----------
    machine : dict
    versions : dict
        Of nnpar and the peers.
    absent : dict
        Peers that could not be measured, and why.
    rows : list of Row
    """

    machine: dict[str, str | int]
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def to_json(self, path: Path) -> None:
        """Write all numbers and the summary."""
        document = asdict(self)
        for row, written in zip(self.rows, document["rows"], strict=True):
            for name in row.libraries:
                written["libraries"][name]["share"] = row.share(name)
        document["summary"] = [asdict(line) for line in summaries(self.rows)]
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def to_markdown(self, path: Path) -> None:
        """Write the tables."""
        parts = [_heading(self), _summary_table(self.rows), _losses(self.rows), _all_cases(self.rows)]
        path.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")


def make_row(task: Task, threads: int, measured: Measured, ceilings: dict[str, float]) -> Row:
    """What was measured, with rates and the ratio to the best peer."""
    libraries = {}
    for name, rounds in measured.rounds.items():
        seconds = typical(rounds)
        libraries[name] = Timing(
            milliseconds=1e3 * seconds,
            fastest_milliseconds=1e3 * min(map(min, rounds)),
            runs=sum(map(len, rounds)),
            rounds=len(rounds),
            gflops=measured.flops / seconds / 1e9,
            gbs=measured.bytes / seconds / 1e9,
            error=measured.errors.get(name),
        )
    best = best_peer(measured.rounds, OWN)
    faster = ratio(measured.rounds[OWN], measured.rounds[best]) if best and OWN in measured.rounds else None
    return Row(
        task.case,
        task.group,
        task.which,
        task.shape,
        threads,
        measured.flops,
        measured.bytes,
        libraries,
        faster,
        best,
        measured.failures,
        ceilings,
    )


def describe(row: Row) -> str:
    """A line for people who wait."""
    own = f"{row.libraries[OWN].milliseconds:.3f} ms" if OWN in row.libraries else "failed"
    text = f"{row.group}: {row.case} {row.which}, {_threads(row.threads)}: nnpar {own}"
    if row.ratio is not None:
        text += f", {row.ratio:.2f} times as fast as {row.best_peer}"
    return text + "".join(f"\n    {name}: {reason}" for name, reason in row.failures.items())


def summaries(rows: Iterable[Row]) -> list[Summary]:
    """By group, pass and threads, in the order of the groups."""
    found: dict[tuple[str, str, int], list[tuple[float, str]]] = {}
    for row in rows:
        if row.ratio is not None:
            found.setdefault((row.group, row.which, row.threads), []).append((row.ratio, row.case))
    return [
        Summary(
            group,
            which,
            threads,
            len(ratios),
            sum(value < 1.0 for value, _ in ratios),
            statistics.geometric_mean(value for value, _ in ratios),
            *min(ratios),
        )
        for (group, which, threads), ratios in sorted(found.items(), key=lambda item: GROUPS.index(item[0][0]))
    ]


def _heading(report: Report) -> str:
    machine, versions = report.machine, report.versions
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# nnpar beside other libraries",
        f"{machine['processor']}, {machine['cores']} cores, {machine['isa']}, {machine['system']}, {machine['date']}.",
        f"{peers}.",
    ]
    lines += [_ceilings(report.rows, count) for count in sorted({row.threads for row in report.rows})]
    lines += [f"Absent: {name}: {reason}." for name, reason in report.absent.items()]
    return "\n\n".join([lines[0], "\\\n".join(lines[1:])])


def _ceilings(rows: Sequence[Row], threads: int) -> str:
    found = [row.ceilings for row in rows if row.threads == threads]
    gflops, gbs = ([ceilings[name] for ceilings in found] for name in ("gflops", "gbs"))
    return (
        f"{_threads(threads)}: {min(gflops):.1f} to {max(gflops):.1f} GFLOP/s of multiply-adds that touch no memory, "
        f"{min(gbs):.1f} to {max(gbs):.1f} GB/s of memory."
    )


def _summary_table(rows: Sequence[Row]) -> str:
    counts = sorted({row.threads for row in rows})
    found = {(line.group, line.which, line.threads): line for line in summaries(rows)}
    heads = [f"{_threads(count)}: {what}" for count in counts for what in ("geometric mean", "least", "slower")]
    table = []
    for group, which in dict.fromkeys((group, which) for group, which, _ in found):
        cells = [group, which]
        for count in counts:
            line = found.get((group, which, count))
            if line is None:
                cells += ["", "", ""]
            else:
                least = f"{_bold(line.least)} ({line.least_case})"
                cells += [_bold(line.mean), least, f"{line.losses} of {line.cases}"]
        table.append(cells)
    text = "How many times faster nnpar is than the best peer of each case; below 1 (bold) the peer is faster."
    return f"## By group\n\n{text}\n\n" + _table(["group", "pass", *heads], table)


def _losses(rows: Sequence[Row]) -> str:
    lost = [row for row in rows if row.ratio is not None and row.ratio < 1.0]
    if not lost:
        return ""
    table = [
        [row.case, row.which, str(row.threads), f"{row.ratio:.2f}", str(row.best_peer), _percent(row.share())]
        for row in sorted(lost, key=lambda row: row.ratio or 0.0)
    ]
    heads = ["case", "pass", "threads", "ratio", "best peer", "nnpar's share of the ceiling"]
    return "## Where a peer is faster\n\n" + _table(heads, table)


def _all_cases(rows: Sequence[Row]) -> str:
    names = [name for name in LIBRARIES if any(name in row.libraries for row in rows)]
    heads = ["case", "pass", "threads", *names, "share", "ratio", "best peer"]
    parts = [
        "## All cases",
        "Milliseconds; nnpar's share of the multiply-add peak, or of the memory's speed, both at the time.",
    ]
    for group in GROUPS:
        own = [row for row in rows if row.group == group]
        if own:
            parts += [f"### {group}", _table(heads, [_cells(row, names) for row in own])]
    return "\n\n".join(parts)


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    times = [f"{row.libraries[name].milliseconds:.3f}" if name in row.libraries else "" for name in names]
    return [
        f"{row.case}: {row.shape}",
        row.which,
        str(row.threads),
        *times,
        _percent(row.share()),
        "" if row.ratio is None else _bold(row.ratio),
        row.best_peer or "",
    ]


def _bold(value: float) -> str:
    return f"**{value:.2f}**" if value < 1.0 else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
