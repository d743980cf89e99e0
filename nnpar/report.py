"""One page about a run: ``nnpar report run.toml`` writes HTML that needs nothing beside it."""

from __future__ import annotations

import base64
import csv
import datetime
import html
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import nnpar
from nnpar import metrics, ops, plots, runs, threads
from nnpar._checks import Array
from nnpar._kernels import runtime
from nnpar.history import History
from nnpar.losses import CrossEntropy
from nnpar.plots import figures
from nnpar.predictor import Predictor
from nnpar.progress import NO_SCORES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 32  # shown
MOST_CLASSES = 30  # of a confusion matrix that a person can read
STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --muted: #5d6b7a; --paper: #fff; --line: #d9dee4; --mark: 47 93 138; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --muted: #9aa7b5; --paper: #14181d; --line: #333b45; --mark: 120 170 220; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.lead { color: var(--muted); margin: .2rem 0 1rem; }
ul.scores { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; list-style: none; }
ul.scores li { border: 1px solid var(--line); border-radius: .5rem; padding: .4rem .8rem; }
ul.scores b { display: block; font-size: 1.3rem; } ul.scores span { color: var(--muted); font-size: .85rem; }
img { width: 100%; min-width: 34rem; height: auto; background: #fff; border-radius: .5rem; }
.wide { overflow-x: auto; }
pre { font-size: .8rem; line-height: 1.4; margin: 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { color: var(--muted); font-weight: normal; text-align: right; padding: .2rem .5rem; }
td { text-align: right; padding: .2rem .5rem; border: 1px solid var(--line); min-width: 1.8rem; }
"""


def report(settings: Mapping[str, Any], path: str | os.PathLike[str] | None = None) -> Path:
    """Write a page about a run that was trained: scores, learning curves, confusion matrix, classes, mistakes, what
    layers make of an image, settings, layers, where the time goes, and on what it ran.

    Parameters
    ----------
    settings : mapping
        Of the run, as :func:`nnpar.runs.read` gives them.
    path : path-like, optional
        ``report.html`` in the run's folder by default.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    FileNotFoundError
        If the run has not been trained.
    ValueError
        If the run has no validation set, or keeps nothing.
    """
    plots.require_matplotlib()
    run = runs.build({**settings, "model": {"file": runs.best_file(settings)}})
    if run.validation is None:
        raise ValueError("report: data.validation: expected a data set, got none")
    folder = Path(settings["train"]["folder"])
    history = _read_log(folder / runs.LOG)
    first = next(iter(run.validation.batches()))
    model: Any = run.trainer.model
    parts = [
        _scores(run.trainer.evaluate(run.validation)),
        _section("Learning curves", _picture(plots.learning_curves(history), "svg", "loss and accuracy of each epoch")),
    ]
    if isinstance(run.trainer.loss, CrossEntropy) and first.labels.ndim == 1:
        parts += _classes(run)
    parts += _inside(model, first.images)
    parts += [
        _section("Settings", _text(_toml(settings))),
        _section("Layers", _text(model.summary(first.images.shape[1:]))),
        _section(f"Where the time of a step on {len(first.images)} samples goes", _text(_profile(run, first))),
        _section("On what", _text(_environment())),
    ]
    title = f"{settings['model'].get('name', 'model')} on {settings['data']['train']}"
    lead = f"{len(history)} epochs; {len(run.train):,} samples to train on, {len(run.validation):,} to validate"
    page = Path(path) if path is not None else folder / "report.html"
    page.write_text(_page(title, lead, parts), encoding="utf-8")
    return page


def _read_log(path: Path) -> History:
    """What `CSVLog` wrote."""
    with open(path, newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return History(rows)


def _classes(run: runs.Run) -> list[str]:
    """Confusion matrix and mistakes."""
    assert run.validation is not None
    predictor = Predictor(run.trainer.model)
    outputs: list[Array] = []
    labels: list[NDArray[np.int64]] = []
    wrong: list[tuple[float, Array, int, Array]] = []  # confidence, image, label, probabilities
    for batch in run.validation.batches():
        probabilities, known = ops.softmax(predictor(batch.images)), np.asarray(batch.labels, np.int64)
        outputs.append(probabilities)
        labels.append(known)
        mistaken = np.flatnonzero(probabilities.argmax(axis=1) != known)
        wrong += [
            (float(probabilities[i].max()), batch.images[i].copy(), int(known[i]), probabilities[i]) for i in mistaken
        ]
        wrong = sorted(wrong, key=lambda mistake: -mistake[0])[:MISTAKES]
    names = tuple(getattr(run.validation.source, "class_names", ()))
    matrix = metrics.confusion_matrix(np.concatenate(outputs), np.concatenate(labels))
    parts = [_section("Confusion matrix", _confusion(matrix, names))]
    figure = plots.class_scores(np.concatenate(labels), np.concatenate(outputs), names)
    parts.append(_section("Classes, the worst first", _picture(figure, "svg", "precision and recall of each class")))
    if wrong and wrong[0][1].ndim == 3 and wrong[0][1].shape[0] in (1, 3):
        _, images, truth, scores = zip(*wrong, strict=True)
        columns = min(8, len(wrong))
        figure = plots.predictions(np.stack(images), truth, np.stack(scores), names, columns, -(-len(wrong) // columns))
        figures.title(figure, f"{matrix.sum() - np.trace(matrix)} of {matrix.sum():,} predictions wrong")
        parts.append(_section("Mistakes, the most confident first", _picture(figure, "png", "images taken for others")))
    return parts


def _inside(model: Any, images: Array) -> list[str]:
    """What layers make of an image, if there are such."""
    if images.ndim != 4:
        return []
    try:
        figure = plots.activations(model, images[0])
    except ValueError:  # no layer has an image as its output
        return []
    return [_section("What layers make of an image", _picture(figure, "png", "activations of some layers"))]


def _confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """A table, or of many classes the pairs that are confused most."""
    called = [html.escape(names[k]) if k < len(names) else str(k) for k in range(len(matrix))]
    if len(matrix) > MOST_CLASSES:
        apart = matrix - np.diag(np.diag(matrix))
        order = np.argsort(-apart, axis=None, kind="stable")[:20]
        pairs = [np.unravel_index(place, matrix.shape) for place in order if apart.flat[place]]
        rows = "".join(f"<tr><th>{called[i]}<th>{called[j]}<td>{matrix[i, j]}" for i, j in pairs)
        return f"<table><tr><th>class<th>taken for<th>times{rows}</table>"
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = "".join(
        f"<tr><th>{called[i]}"
        + "".join(
            f'<td style="background: rgb(var(--mark) / {0.6 * shares[i, j]:.2f})">{matrix[i, j] or ""}'
            for j in range(len(matrix))
        )
        for i in range(len(matrix))
    )
    head = "".join(f"<th>{name}" for name in called)
    return f"<table><tr><th>class \\ taken for{head}{rows}</table>"


def _profile(run: runs.Run, batch: Any) -> str:
    """Of a training step that changes nothing, after one to make its plan."""
    trainer = nnpar.Trainer(run.trainer.model, run.trainer.loss, nnpar.SGD(0.0))
    trainer.train_step(batch.images, batch.labels, batch.weights)
    with nnpar.profile() as profile:
        trainer.train_step(batch.images, batch.labels, batch.weights)
    return str(profile)


def _scores(scores: Mapping[str, float]) -> str:
    items = "".join(
        f"<li><b>{value:.2%}</b><span>validation {html.escape(name)}</span>"
        if name.endswith("accuracy")
        else f"<li><b>{value:.4f}</b><span>validation {html.escape(name.replace('_', ' '))}</span>"
        for name, value in scores.items()
        if name not in NO_SCORES
    )
    return f'<ul class="scores">{items}</ul>'


def _toml(settings: Mapping[str, Any]) -> str:
    """The settings that were given, as in a run's file."""
    return "\n\n".join(
        "\n".join([f"[{section}]", *(f"{key} = {_value(value)}" for key, value in values.items())])
        for section, values in settings.items()
        if values
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)


def _environment() -> str:
    rows = {
        "nnpar": nnpar.__version__,
        "python": f"{platform.python_version()}, numpy {np.__version__}",
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "instruction set": runtime.isa(),
        "threads": str(threads.get_num_threads()),
        "written": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return "\n".join(f"{name:16} {value}" for name, value in rows.items())


def _section(title: str, content: str) -> str:
    return f'<h2>{html.escape(title)}</h2>\n<div class="wide">{content}</div>'


def _text(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _picture(figure: Figure, kind: str, told: str) -> str:
    """Within the page itself."""
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f'<img alt="{html.escape(told)}" src="data:{mime};base64,{base64.b64encode(file.getvalue()).decode()}">'


def _page(title: str, lead: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n' + "\n".join(parts) + "\n</html>\n"
    )
