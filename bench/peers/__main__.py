"""nnpar beside other libraries, kernel by kernel: ``python bench/peers``. See bench/README.md.

A coordinator asks one worker process for each library (process.py, worker.py, with_*.py) to measure tasks (tasks.py) in
turns (coordinator.py), and writes a report (report.py, picture.py).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parents[1] / "tests")]

import environment  # noqa: E402
import picture  # noqa: E402
from coordinator import measure  # noqa: E402
from library import LIBRARIES  # noqa: E402
from process import WorkerError, WorkerProcess, worker  # noqa: E402
from report import OWN, Report, describe, make_row  # noqa: E402
from tasks import Task, tasks  # noqa: E402

from nnpar import benchmark  # noqa: E402


def main() -> None:
    """Measure, and write the report whatever ends it."""
    options = _arguments()
    chosen = [task for task in tasks() if options.only in task.name]
    if not chosen:
        sys.exit(f"--only: expected a part of a task's name, such as 'conv 3x3: vgg', got {options.only!r}")
    python, missing = environment.install(options.environment)
    report = Report(benchmark._machine(), absent=missing)
    try:
        for threads in options.threads:
            _measure_all(report, chosen, threads, options, python)
    except KeyboardInterrupt:
        print("interrupted: the report has what was measured", file=sys.stderr)
    finally:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        report.to_json(options.output.with_suffix(".json"))
        report.to_markdown(options.output.with_suffix(".md"))
        picture.draw(report, options.output.with_suffix(".png"))


def _arguments() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(prog="python bench/peers", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("peers"), help="path of .json, .md and .png, without it")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2][:cores], choices=range(1, cores + 1))
    parser.add_argument("--only", default="", metavar="TEXT", help="tasks whose 'group: case pass' contains it")
    peers = [name for name in LIBRARIES if name != OWN]
    parser.add_argument("--peers", nargs="+", default=peers, choices=peers, metavar="NAME", help="some of %(choices)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each library at a task (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn, about (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.01 seconds: to see that all works")
    parser.add_argument(
        "--environment",
        type=Path,
        default=cache / "nnpar-bench" / "peers",
        help="folder of the peers' virtual environment (default %(default)s)",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 0.01
    return options


def _measure_all(
    report: Report, chosen: Sequence[Task], threads: int, options: argparse.Namespace, python: Path
) -> None:
    """All tasks at one number of threads, by workers of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = []
        for name in [OWN, *options.peers]:
            interpreter = Path(sys.executable) if name == OWN else python
            process = stack.enter_context(worker(name, LIBRARIES[name], interpreter, threads, folder))
            if _started(process, report):
                workers.append(process)
        before = workers[0].ask("ceilings")
        for number, task in enumerate(chosen, 1):
            measured = measure(task, workers, options.rounds, options.seconds, folder)
            after = workers[0].ask("ceilings")
            row = make_row(task, threads, measured, {name: max(before[name], after[name]) for name in after})
            report.rows.append(row)
            before = after
            print(f"[{number}/{len(chosen)}] {describe(row)}", file=sys.stderr)


def _started(process: WorkerProcess, report: Report) -> bool:
    try:
        process.start()
    except WorkerError as error:
        if process.library == OWN:
            raise
        report.absent[process.library] = str(error)
        return False
    report.versions |= process.versions
    return True


if __name__ == "__main__":
    main()
