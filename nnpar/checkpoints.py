"""The whole state of a training run in one file, from which it goes on as if it had never stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar.io import tensors

if TYPE_CHECKING:
    from pathlib import Path

    from nnpar.trainer import Trainer

KEY, VERSION = "nnpar.checkpoint", 1
CALLBACK = "callback/"  # before the names of callbacks' arrays
SUFFIX = ".safetensors"
LONGEST = 2**26  # characters of what is not an array: records of a few hundred thousand epochs


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write a trainer's state: weights, running statistics, the optimizer's and the schedule's state, the average, the
    position within the epoch, the history, and what callbacks keep. The file is there as a whole, or not at all.

    Parameters
    ----------
    trainer : Trainer
    path : path-like

    Raises
    ------
    OSError
        If it cannot be written; an old file of that name is then as it was.
    """
    of_callbacks = {CALLBACK + name: array for name, array in trainer.callback_arrays().items()}
    whole = trainer.parallel.whole_arrays(trainer.state_arrays())
    tensors.write(path, whole | of_callbacks, {KEY: json.dumps(_description(trainer))})


def resume(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Bring a trainer into the state of a checkpoint, or of the latest one in a folder, if there is one. Where several
    processes train together, the first one reads it for all.

    Parameters
    ----------
    trainer : Trainer
    path : path-like

    Raises
    ------
    ValueError
        As of `restore`.
    """
    trainer.collect()
    whole = trainer.parallel.whole_arrays(trainer.state_arrays())
    state = None
    if trainer.parallel.rank == 0:
        found = find(path)
        state = None if found is None else restore(trainer, found)
    state = trainer.parallel.share(state)
    if state is None:
        return
    if trainer.parallel.rank != 0:
        trainer.load_run(*state)
    trainer.parallel.share_arrays(list(whole.values()))
    trainer.parallel.take_whole(trainer.state_arrays(), whole)


def restore(trainer: Trainer, path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Bring a trainer into the state that `save` wrote. All differences are reported at once, and then nothing is
    changed.

    Parameters
    ----------
    trainer : Trainer
        Made as the one that was saved: of the same model, loss, optimizer, schedule and average.
    path : path-like

    Returns
    -------
    dict, dict
        What the trainer's `load_run` took.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or the state of another run.
    """
    read, metadata = tensors.read(path)
    found = {name: array for name, array in read.items() if not name.startswith(CALLBACK)}
    of_callbacks = {name[len(CALLBACK) :]: array for name, array in read.items() if name.startswith(CALLBACK)}
    try:
        description = _read(metadata)
        own, made = trainer.parallel.whole_arrays(trainer.state_arrays()), _description(trainer)
        problems = [
            f"{name}: expected {made[name]!r}, got {description.get(name)!r}"
            for name in ("optimizer", "schedule", "averaged", "seed", "batch_size", "samples_per_epoch", "accumulate")
            if description.get(name) != made[name] and made[name] is not None and description.get(name) is not None
        ]
        problems += [f"missing {name}" for name in own if name not in found]
        problems += [f"unknown {name}" for name in found if name not in own]
        problems += [
            f"{name}: expected {own[name].dtype} of shape {own[name].shape}, got {array.dtype} of {array.shape}"
            for name, array in found.items()
            if name in own and (array.shape != own[name].shape or array.dtype != own[name].dtype)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        trainer.load_run(description, of_callbacks)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    for name, array in own.items():
        np.copyto(array, found[name])
    return description, of_callbacks


def _read(metadata: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise ValueError("expected a checkpoint of nnpar, got a file without its description")
    if len(metadata[KEY]) > LONGEST:
        raise ValueError(f"expected a description of at most {LONGEST} characters")
    description = json.loads(metadata[KEY])
    if not isinstance(description, dict) or description.get("version") != VERSION:
        raise ValueError(f"expected a checkpoint of version {VERSION}, got {str(description)[:60]}")
    return description


def _description(trainer: Trainer) -> dict[str, Any]:
    return {"version": VERSION, **trainer.run_state()}


class Folder:
    """Checkpoints of one run: ``step-0000001234.safetensors``, of which the latest are kept.

    Parameters
    ----------
    path : path-like
        Made if it is not there.
    keep : int
    """

    def __init__(self, path: str | os.PathLike[str], keep: int) -> None:
        from pathlib import Path

        self.path, self.keep = Path(path), keep

    def save(self, trainer: Trainer) -> Path:
        """A new checkpoint, and the oldest ones away."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"step-{trainer.steps_done:010}{SUFFIX}"
        save(trainer, path)
        for old in self.all()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def all(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        return sorted(self.path.glob(f"step-*{SUFFIX}"))

    def latest(self) -> Path | None:
        """The last one that is whole, if there is one."""
        for path in reversed(self.all()):
            try:
                _read(tensors.read(path)[1])
            except ValueError:
                continue
            return path
        return None

    def sweep(self) -> None:
        """Remove what a process that was killed while it saved has left."""
        for path in self.path.glob(f".*{SUFFIX}.*.tmp"):
            path.unlink(missing_ok=True)


def find(path: str | os.PathLike[str]) -> Path | None:
    """The checkpoint of that name, or the latest one in a folder; None if there is none yet."""
    from pathlib import Path

    place = Path(path)
    if place.is_dir():
        return Folder(place, 1).latest()
    return place if place.exists() else None
