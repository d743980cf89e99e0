"""Many models at once: a grid of settings, or a random choice out of it, each trained in a process of its own."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnpar import _checks, runs, threads
from nnpar.progress import NO_SCORES, readable

RESULT, ERROR = "result.json", "error.txt"  # of a run
TABLE, PICTURE = "results.csv", "results.png"  # of all


def sweep(
    settings: str | os.PathLike[str] | Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    folder: str | os.PathLike[str],
    jobs: int = 1,
    samples: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a run for each combination of settings. What was trained before is not trained again, what was interrupted
    goes on, and what fails leaves the others alone.

    Parameters
    ----------
    settings : path-like or mapping
        A run's file, or its sections, see :mod:`nnpar.runs`.
    grid : mapping of str to sequence
        Values for each ``section.key``.
    folder : path-like
        Gets a folder for each run, ``results.csv``, and with matplotlib ``results.png``.
    jobs : int
        Processes at a time, each with its share of the threads.
    samples : int, optional
        Train so many combinations, chosen at random, rather than all.
    seed : int
        Of that choice.
    progress : bool
        Whether to print a line for each run.

    Returns
    -------
    list of dict
        For each run its settings and the last record of its history, or ``error``; the best validation loss, or loss,
        first.

    Raises
    ------
    ImportError
        If joblib is missing.
    ValueError
        If there is no such setting, or nothing to choose from.

    Examples
    --------
    >>> import tempfile
    >>> import nnpar
    >>> run = {"data": {"train": "digits"}, "model": {"name": "digits_cnn"}, "train": {"epochs": 1}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = nnpar.sweep(run, {"optimizer.lr": [1e-5, 1e-3]}, folder, progress=False)
    >>> [result["optimizer.lr"] for result in results]
    [0.001, 1e-05]
    """
    try:
        import joblib
    except ImportError as error:
        raise ImportError("sweep: joblib is needed: pip install 'nnpar[sweep]'") from error
    base = runs.checked(settings, "sweep") if isinstance(settings, Mapping) else runs.read(settings)
    jobs = _checks.integer(jobs, "sweep", "jobs", 1)
    place = Path(folder)
    chosen = _combinations(grid, samples, seed)
    share = max(1, threads.get_num_threads() // jobs)
    changed = [_changed(base, choice, place) for choice in chosen]
    runs.checked(changed[0], "sweep: grid")  # all have the same names
    place.mkdir(parents=True, exist_ok=True)
    work = [joblib.delayed(_train)(own, choice, share, progress) for own, choice in zip(changed, chosen, strict=True)]
    results: list[dict[str, Any]] = joblib.Parallel(n_jobs=jobs)(work)
    results.sort(key=_rank)
    _write_table(results, place / TABLE)
    _draw(results, list(grid), place / PICTURE)
    return results


def _combinations(grid: Mapping[str, Sequence[Any]], samples: int | None, seed: int) -> list[dict[str, Any]]:
    problems = [name for name in grid if name.partition(".")[0] not in runs.SECTIONS or "." not in name]
    if problems or not grid:
        raise ValueError(f"sweep: grid: expected settings such as 'optimizer.lr', got {', '.join(problems) or 'none'}")
    for name, values in grid.items():
        if isinstance(values, str) or len(values) == 0:
            raise ValueError(f"sweep: grid: {name}: expected a list of values, got {values!r}")
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if samples is None:
        return every
    count = min(_checks.integer(samples, "sweep", "samples", 1), len(every))
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(every)), kind="stable")
    return [every[number] for number in order[:count]]


def _changed(base: Mapping[str, Any], choice: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The settings of one run, in a folder with a readable name that no other settings get."""
    settings = {section: dict(values) for section, values in base.items()}
    for name, value in choice.items():
        section, _, key = name.partition(".")
        settings[section][key] = value
    settings["train"].pop("folder", None)
    text = json.dumps(settings, sort_keys=True, default=str)
    readable = "-".join(f"{name.partition('.')[2]}={value}" for name, value in choice.items())
    short = "".join(c if c.isalnum() or c in "-=._" else "_" for c in readable)[:60]
    settings["train"]["folder"] = str(place / f"{short}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    return settings


def _train(settings: Mapping[str, Any], choice: Mapping[str, Any], thread_count: int, progress: bool) -> dict[str, Any]:
    """One run, in this process, which may be one of several."""
    folder = Path(settings["train"]["folder"])
    done = folder / RESULT
    if done.exists():
        kept: dict[str, Any] = json.loads(done.read_text())
        return kept
    folder.mkdir(exist_ok=True)
    try:
        with threads.num_threads(thread_count):
            run = runs.build(settings, resume=True)
            history = run.trainer.fit(run.train, run.validation, progress=False, **run.fit)
        result = {**choice, **(history.last if len(history) else {})}
        written = done.with_suffix(".tmp")
        written.write_text(json.dumps(result))
        written.replace(done)  # whole, or not there
    except Exception as error:
        (folder / ERROR).write_text(traceback.format_exc())
        result = {**choice, "error": f"{type(error).__name__}: {error}"}
    if progress:
        scores = {name: value for name, value in result.items() if name not in (*choice, *NO_SCORES, "error")}
        tried = ", ".join(f"{name} {value}" for name, value in choice.items())
        print(f"{tried}: {result.get('error') or readable(scores)}", flush=True)
    return result


def _rank(result: Mapping[str, Any]) -> tuple[bool, float]:
    """Ascending: losses, what is not a number, errors."""
    loss = float(result.get("validation_loss", result.get("loss", np.inf)))
    return "error" in result, np.inf if np.isnan(loss) else loss


def _write_table(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for result in results for name in result))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)


def _draw(results: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    """One dot for each run: the last loss over each setting. Nothing without matplotlib."""
    from nnpar import plots
    from nnpar.plots import sweep as sweep_plot

    kept = [result for result in results if np.isfinite(_rank(result)[1]) and "error" not in result]
    if not kept:
        return
    try:
        plots.save(sweep_plot.sweep(kept, names), path)
    except ImportError:
        return
