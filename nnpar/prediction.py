"""Classes of images from files, for ``nnpar predict``: batch by batch, however many there are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

import nnpar
from nnpar import data, ops, runs
from nnpar._checks import Array, IntOrPair
from nnpar.data import Loader
from nnpar.predictor import Predictor


class Predicted(NamedTuple):
    """What a model says of one image.

    Attributes
    ----------
    image : str
        Its file, or its number.
    probabilities : ndarray of shape (classes,)
    label : int or None
        If it is known.
    """

    image: str
    probabilities: Array
    label: int | None


def predict(
    model: Path, images: Sequence[str], size: IntOrPair | None = None, channels: int | None = None
) -> Iterator[Predicted]:
    """Predict images.

    Parameters
    ----------
    model : Path
        A model's file, or a run's, whose best model predicts images prepared as the run says.
    images : sequence of str
        Image files and folders of them; or one data set, as `data_set` reads it; or one ``.npy`` file (N, C, H, W).
    size : int or (int, int), optional
        Of image files; the run's by default, else their own.
    channels : {3, 1}, optional
        Of image files; the run's by default, else 3.

    Yields
    ------
    Predicted

    Raises
    ------
    ValueError
        If the model cannot take the images, or they cannot be read.
    FileNotFoundError
        If they are not there.
    """
    settings = runs.read(model) if model.suffix == runs.SUFFIX else runs.checked({}, "predict")
    reading = {"size": size, "channels": channels}
    settings["data"].update({name: value for name, value in reading.items() if value is not None})
    predictor = Predictor(nnpar.load(runs.best_file(settings) if model.suffix == runs.SUFFIX else model))
    loader, names, labels = _open(images, settings)
    for batch in loader.batches():
        for number, row in enumerate(ops.softmax(predictor(batch.images)), batch.first):
            yield Predicted(
                names[number] if names else str(number),
                row,
                int(batch.labels[number - batch.first]) if labels else None,
            )


def _open(images: Sequence[str], settings: runs.Settings) -> tuple[Loader, list[str] | None, bool]:
    """Batches, the images' names if they have any, and whether their labels are classes."""
    first = images[0]
    if len(images) == 1 and first.endswith(".npy"):
        return runs.loader(settings, _array(first)), None, False
    if len(images) == 1 and (first == "digits" or first.startswith("mnist:")):
        return runs.loader(settings, data_set(first)[1]), None, True
    files = runs.image_files(settings, images)
    return runs.loader(settings, files), files.paths, False


def _array(path: str) -> data.Arrays:
    """A file's array, of which a batch at a time is read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"predict: {path}: expected an array of numbers: {error}") from error
    if array.ndim < 2:
        raise ValueError(f"predict: {path}: expected images (N, C, H, W), got an array of shape {array.shape}")
    return data.Arrays(array, np.zeros(len(array), np.int64), name=path)


def data_set(name: str) -> tuple[data.Dataset, data.Dataset]:
    """Training and test images of ``digits`` or ``mnist:FOLDER``.

    Raises
    ------
    ValueError
        If it is another name.
    """
    kind, _, folder = name.partition(":")
    if name == "digits":
        return data.digits()
    if kind == "mnist" and folder:
        return data.mnist(folder)
    raise ValueError(f"--data: expected digits or mnist:FOLDER, got {name!r}")


def write_csv(predictions: Iterator[Predicted], file: TextIO) -> None:
    """A row for each image: image, class, probability, and label if known."""
    writer = csv.writer(file, lineterminator="\n")
    for number, (image, row, label) in enumerate(predictions):
        known = label is not None
        if number == 0:
            writer.writerow(["image", "class", "probability"] + (["label"] if known else []))
        best = int(row.argmax())
        writer.writerow([image, best, f"{row[best]:.4f}"] + ([label] if known else []))


def write_json(predictions: Iterator[Predicted], file: TextIO) -> None:
    """An object a line for each image, with all probabilities."""
    for image, row, label in predictions:
        known = {} if label is None else {"label": label}
        probabilities = [float(value) for value in row]
        file.write(json.dumps({"image": image, "class": int(row.argmax()), **known, "probabilities": probabilities}))
        file.write("\n")
