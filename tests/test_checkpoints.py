"""Training that stops and goes on is training that never stopped, bit for bit; nothing that was saved is lost."""

import contextlib
import hashlib
import json
import os
import signal
import time

import killed_runs
import numpy as np
import pytest

import nnpar
from nnpar import SGD, Adam, AdamW, Trainer, checkpoints
from nnpar.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, JSONLinesLog
from nnpar.io import tensors
from nnpar.optimizers import LAMB, LARS, Adagrad, RMSprop
from nnpar.schedules import CosineAnnealingLR, LinearWarmup, ReduceLROnPlateau

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((50, 2, 6, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 50)
OPTIMIZERS = {
    "sgd": lambda: SGD(0.05),
    "momentum": lambda: SGD(0.05, 0.9),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": lambda: RMSprop(1e-3, momentum=0.5, centered=True),
    "adagrad": Adagrad,
    "lars": LARS,
    "lamb": LAMB,
}


def model():
    nnpar.manual_seed(5)
    layers = nnpar.Conv2d(2, 4, 3), nnpar.BatchNorm2d(4), nnpar.ReLU(), nnpar.Flatten(), nnpar.Dropout(0.3)
    return nnpar.Sequential(*layers, nnpar.Linear(64, 3))


def trainer_of(optimizer="adam", schedule=None, **options):
    return Trainer(model(), optimizer=OPTIMIZERS[optimizer](), schedule=schedule and schedule(), **options)


def digest(trainer):
    joined = b"".join(array.tobytes() for array in trainer.model.state().values())
    return hashlib.sha256(joined).hexdigest()


class StopAt(Callback):
    """Ends training after a step, as if the process were killed then."""

    class Killed(Exception):  # noqa: N818
        pass

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.steps_done == self.step:
            raise self.Killed


def run(folder, options, epochs=3, stop=None, batch_size=16, more=()):
    trainer = trainer_of(**options)
    callbacks = [Checkpoint(folder, every_steps=2), *more, *([] if stop is None else [StopAt(stop)])]
    trainer.fit((IMAGES, LABELS), (IMAGES, LABELS), epochs=epochs, batch_size=batch_size, progress=False,
                callbacks=callbacks, resume=folder)  # fmt: skip
    return trainer


def times_apart(record):
    return {name: value for name, value in record.items() if name not in ("seconds", "images_per_second")}


RUNS = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "schedule": {"schedule": lambda: LinearWarmup(1, CosineAnnealingLR(2))},
    "plateau": {"schedule": lambda: ReduceLROnPlateau(patience=0, factor=0.5, threshold=0.5)},
    "average": {"average": 0.9},
    "accumulate": {"accumulate": 2},
    "clip": {"clip_norm": 0.5, "metrics": ["f1"]},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_stops_anywhere_ends_with_the_same_bits(name, tmp_path):
    options = RUNS[name]
    whole = run(tmp_path / "whole", options)
    for stop in (1, 3, 4, 6, 7):
        folder = tmp_path / str(stop)
        with contextlib.suppress(StopAt.Killed):
            run(folder, options, stop=stop)
        resumed = run(folder, options)
        assert digest(resumed) == digest(whole)
        assert resumed.steps_done == whole.steps_done
        assert list(map(times_apart, resumed.history.epochs)) == list(map(times_apart, whole.history.epochs))
        for name_, array in whole.optimizer.state.items():
            np.testing.assert_array_equal(resumed.optimizer.state[name_], array)


def test_only_the_latest_and_the_best_are_kept(tmp_path):
    trainer = run(tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "step-0000000010.safetensors", "step-0000000012.safetensors",
    ]  # fmt: skip
    assert trainer.steps_done == 12
    best = nnpar.load(tmp_path / "best.safetensors")
    losses = trainer.history["validation_loss"]
    assert Trainer(best).evaluate((IMAGES, LABELS))["loss"] == pytest.approx(min(losses))


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    whole = run(tmp_path / "whole", {})
    folder = tmp_path / "run"
    with pytest.raises(StopAt.Killed):
        run(folder, {}, stop=7)
    latest = sorted(folder.glob("step-*"))[-1]
    latest.write_bytes(latest.read_bytes()[:1000])
    (folder / ".step-0000000008.safetensors.abc.tmp").write_bytes(b"left over")
    assert digest(run(folder, {})) == digest(whole)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("options", "batch_size", "message"),
    [
        ({"optimizer": "sgd"}, 16, "optimizer: expected 'SGD', got 'Adam'"),
        ({"average": 0.5}, 16, "averaged: expected True, got False"),
        ({"seed": 3}, 16, "seed: expected 3, got 5"),
        ({"accumulate": 2}, 16, "accumulate: expected 2, got 1"),
        ({}, 15, "batch_size: expected 15, got 16"),
    ],
)
def test_the_state_of_another_run_is_an_error_that_changes_nothing(options, batch_size, message, tmp_path):
    run(tmp_path, {}, epochs=1)
    trainer = trainer_of(**options)
    before = digest(trainer)
    with pytest.raises(ValueError, match=message):
        trainer.fit((IMAGES, LABELS), epochs=2, batch_size=batch_size, progress=False, resume=tmp_path)
    assert digest(trainer) == before
    assert trainer.epochs_done == trainer.steps_done == 0


def test_the_state_of_another_model_names_all_differences(tmp_path):
    run(tmp_path, {}, epochs=1)
    other = Trainer(nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(72, 3)), seed=5)
    with pytest.raises(ValueError, match=r"unknown model/0.weight.*model/1.weight: expected float32 of shape"):
        other.fit((IMAGES, LABELS), epochs=2, batch_size=16, progress=False, resume=tmp_path)


def test_what_is_no_checkpoint_is_an_error(tmp_path):
    trainer = trainer_of()
    trainer.model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected a checkpoint of nnpar"):
        checkpoints.restore(trainer, tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        checkpoints.restore(trainer, tmp_path / "nothing.safetensors")
    arrays, metadata = {}, {checkpoints.KEY: json.dumps({"version": 7})}
    tensors.write(tmp_path / "future.safetensors", arrays, metadata)
    with pytest.raises(ValueError, match="expected a checkpoint of version 1"):
        checkpoints.restore(trainer, tmp_path / "future.safetensors")


def test_a_disk_that_is_full_loses_nothing(tmp_path, monkeypatch):
    with pytest.raises(StopAt.Killed):
        run(tmp_path, {}, stop=5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, {})
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert digest(run(tmp_path, {})) == digest(run(tmp_path.parent / "whole", {}))


def test_ctrl_c_right_after_a_file_was_renamed(tmp_path, monkeypatch):
    rename = os.replace

    def interrupted(source, target):
        rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tensors.replace(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_goes_on(number, tmp_path):
    """SIGTERM and Ctrl-C save what the last whole step left; SIGKILL comes anywhere. More often: killed_runs.py."""
    whole = killed_runs.finish(tmp_path / "whole")
    process = killed_runs.start(tmp_path / "run")
    while not list(tmp_path.glob("run/step-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    ended = {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT, signal.SIGKILL: -signal.SIGKILL}[number]
    assert process.returncode == ended, errors
    assert killed_runs.finish(tmp_path / "run") == whole


def test_early_stopping_ends_and_gives_back_the_best(tmp_path):
    trainer = Trainer(model(), optimizer=Adam(0.05))
    stopping = EarlyStopping(patience=2)
    half = (IMAGES[:25], LABELS[:25]), (IMAGES[25:], LABELS[25:])
    history = trainer.fit(*half, epochs=60, batch_size=8, progress=False, callbacks=[stopping])
    losses = history["validation_loss"]
    assert len(losses) < 60
    assert stopping.stopped_epoch == len(losses) == losses.index(min(losses)) + 3
    assert stopping.best == min(losses)
    assert trainer.evaluate(half[1])["loss"] == pytest.approx(min(losses))


def stopping_run(folder, stop=None):
    """Overfits at once: the best epoch is soon past."""
    trainer, stopping = Trainer(model(), optimizer=Adam(0.05)), EarlyStopping(patience=3)
    callbacks = [Checkpoint(folder, every_steps=1), stopping, *([] if stop is None else [StopAt(stop)])]
    halves = (IMAGES[:25], LABELS[:25]), (IMAGES[25:], LABELS[25:])
    trainer.fit(*halves, epochs=30, batch_size=8, progress=False, callbacks=callbacks, resume=folder)
    return trainer, stopping


def test_early_stopping_goes_on_with_its_best_weights(tmp_path):
    whole, stopping = stopping_run(tmp_path / "whole")
    last = whole.epochs_done
    assert stopping.stopped_epoch == last < 30
    for stop in range(1, 4 * last):
        folder = tmp_path / str(stop)
        with pytest.raises(StopAt.Killed):
            stopping_run(folder, stop)
        resumed, again = stopping_run(folder)
        assert (resumed.epochs_done, again.stopped_epoch, again.best) == (last, last, stopping.best)
        assert digest(resumed) == digest(whole)
    ended, _ = stopping_run(tmp_path / "whole")
    assert ended.epochs_done == last, "what ended early has ended"
    assert digest(ended) == digest(whole)


def test_early_stopping_refuses_the_weights_of_another_model():
    stopping = EarlyStopping()
    trainer_of().fit((IMAGES, LABELS), epochs=1, progress=False, callbacks=[stopping])
    other = Trainer(nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(72, 3)))
    with pytest.raises(ValueError, match="EarlyStopping: the best weights so far are those of another model"):
        other.fit((IMAGES, LABELS), epochs=1, progress=False, callbacks=[stopping])


def test_logs_go_on_where_they_were(tmp_path):
    def fit(epochs, stop=None):
        logs = CSVLog(tmp_path / "log.csv"), JSONLinesLog(tmp_path / "log.jsonl")
        run(tmp_path / "run", {}, epochs, stop, more=logs)

    with pytest.raises(StopAt.Killed):
        fit(3, stop=9)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"epoch": 3}\n')  # of steps after the checkpoint
    fit(4)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,loss,accuracy,validation_loss,")
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_functions_are_callbacks_and_may_add_to_the_record():
    seen = []

    def note(trainer, record):
        seen.append((trainer.epochs_done, record["epoch"]))
        record["norm"] = float(np.linalg.norm(trainer.model[0].weight))

    history = trainer_of().fit((IMAGES, LABELS), epochs=2, progress=False, callbacks=[note])
    assert seen == [(1, 1), (2, 2)]
    assert len(history["norm"]) == 2


def test_an_error_in_a_callback_leaves_a_trainer_that_goes_on():
    whole = trainer_of()
    whole.fit((IMAGES, LABELS), epochs=2, batch_size=16, progress=False)
    trainer = trainer_of()
    with pytest.raises(StopAt.Killed):
        trainer.fit((IMAGES, LABELS), epochs=2, batch_size=16, progress=False, callbacks=[StopAt(3)])
    trainer.fit((IMAGES, LABELS), epochs=2, batch_size=16, progress=False)
    assert digest(trainer) == digest(whole)


def test_time_that_is_up_ends_after_a_step():
    whole, trainer = trainer_of(), trainer_of()
    whole.fit((IMAGES, LABELS), epochs=2, batch_size=4, progress=False)
    calls = 0
    while trainer.epochs_done < 2:
        trainer.fit((IMAGES, LABELS), epochs=2 - trainer.epochs_done, batch_size=4, progress=False, max_seconds=0)
        calls += 1
    assert calls == trainer.steps_done == whole.steps_done == 26
    assert digest(trainer) == digest(whole)


@pytest.mark.parametrize(("whole", "size", "count"), [(25, 5, 5), (50, 8, 7)])  # the last has 5, or 2
def test_accumulated_batches_are_as_one_that_is_larger(whole, size, count):
    nnpar.manual_seed(1)
    models = [nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(72, 3)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    one, parts = Trainer(models[0], optimizer=SGD(0.1)), Trainer(models[1], optimizer=SGD(0.1), accumulate=count)
    one.fit((IMAGES, LABELS), epochs=3, batch_size=whole, progress=False)
    parts.fit((IMAGES, LABELS), epochs=3, batch_size=size, progress=False)
    assert parts.steps_done == one.steps_done == 150 // whole
    for a, b in zip(models[0].parameters().values(), models[1].parameters().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_nan_may_be_skipped():
    images = IMAGES.copy()
    images[7] = np.nan
    trainer = trainer_of(on_nan="skip")
    history = trainer.fit((images, LABELS), epochs=2, batch_size=10, progress=False)
    assert trainer.skipped_steps == 2
    assert trainer.steps_done == 8
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(array).all() for array in trainer.model.state().values())


def test_metrics_are_those_of_the_validation_set():
    trainer = trainer_of(metrics=["f1", lambda outputs, targets: outputs.shape[1] + targets[0]])
    history = trainer.fit((IMAGES, LABELS), (IMAGES, LABELS), epochs=3, progress=False, validate_every=2)
    assert np.isnan(history["validation_f1"]).tolist() == [True, False, False]
    outputs = trainer.predict(IMAGES)
    assert history["validation_f1"][-1] == pytest.approx(nnpar.metrics.f1(outputs, LABELS))
    assert history["validation_<lambda>"][-1] == 3 + LABELS[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trainer_of(accumulate=0), ValueError, "Trainer: accumulate: expected at least 1, got 0"),
        (lambda: trainer_of(on_nan="ignore"), ValueError, "Trainer: on_nan: expected 'raise' or 'skip', got 'ignore'"),
        (lambda: trainer_of(metrics=["f2"]), ValueError, "Trainer: metrics: expected one of"),
        (
            lambda: trainer_of().fit((IMAGES, LABELS), callbacks=[3]),
            TypeError,
            "fit: callbacks: expected callbacks",
        ),
        (lambda: trainer_of().fit((IMAGES, LABELS), validate_every=0), ValueError, "fit: validate_every: expected at"),
        (lambda: Checkpoint("run", every_steps=0), ValueError, "Checkpoint: every_steps: expected at least 1, got 0"),
        (lambda: Checkpoint("run", keep=0), ValueError, "Checkpoint: keep: expected at least 1, got 0"),
        (lambda: Checkpoint("run", every_seconds=-1), ValueError, "Checkpoint: every_seconds: expected at least 0"),
        (lambda: EarlyStopping(patience=0), ValueError, "EarlyStopping: patience: expected at least 1, got 0"),
        (lambda: EarlyStopping(min_delta=-1), ValueError, "EarlyStopping: min_delta: expected at least 0, got -1"),
        (
            lambda: trainer_of().fit((IMAGES, LABELS), callbacks=[EarlyStopping("f1")], progress=False),
            ValueError,
            "EarlyStopping: monitor: expected one of epoch, loss, .*, got 'f1'",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
