"""What each process of a test does: ``mpiexec -n 2 python worker.py SCENARIO ARGUMENTS``. Process 0 prints JSON."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import nnpar
from nnpar import (
    GELU,
    SGD,
    Adam,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Trainer,
    data,
)
from nnpar.callbacks import Callback, Checkpoint, EarlyStopping
from nnpar.data import Loader
from nnpar.data.mixing import Mixup
from nnpar.data.transforms import RandomCrop
from nnpar.distributed import DataParallel, Mesh, PipelineParallel, part_means

TRAIN, TEST = data.digits()


def network(dropout=0.2):
    nnpar.manual_seed(1)
    return Sequential(
        Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Residual(Sequential(Conv2d(8, 8, 3, padding=1, bias=False), BatchNorm2d(8))), ReLU(),
        Flatten(), Dropout(dropout), Linear(128, 10),
    )  # fmt: skip


def digest(trainer):
    return hashlib.sha256(b"".join(array.tobytes() for array in trainer.state_arrays().values())).hexdigest()


def say(parallel, **values):
    if parallel.rank == 0:
        print(json.dumps(values), flush=True)


def every_digest(trainer):
    """Of all processes: one, if they agree."""
    return sorted(set(trainer.parallel.gather(digest(trainer))))


def lasting(record):
    """Without times."""
    return {name: value for name, value in record.items() if name not in ("seconds", "images_per_second")}


def reproducible(kind, accumulate=1):
    """Trains with all that could tell processes apart."""
    parallel = DataParallel(shards=8, bucket_mb=0.001)
    trainer = Trainer(
        network(), optimizer=SGD(0.05, momentum=0.9), average=0.9, clip_norm=1.0, metrics=["f1"],
        accumulate=int(accumulate), parallel=parallel,
    )  # fmt: skip
    train = TRAIN[:1403]  # the last of the batches has 3 samples: fewer than shards
    if kind == "loader":
        train = Loader(train, 100, transform=RandomCrop(8, padding=1), mix=Mixup(0.3, classes=10))
    history = trainer.fit(train, TEST, epochs=2, batch_size=100, progress=False)
    record = lasting(history.last)
    say(parallel, size=parallel.size, digests=every_digest(trainer), record=record, trace=str(trainer.plan))


def mean(kind, path):
    """Sums as MPI makes them, of larger buckets in several messages, or of shards; writes the weights."""
    part_means.MESSAGE_BYTES = 2048
    shards = 4 if kind == "shards" else None
    parallel = DataParallel(shards=shards, bucket_mb=0.001, sync_batch_norm=kind == "sync")
    model = network(0.0)
    if kind != "sync":
        model = Sequential(Conv2d(1, 8, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(128, 10))
    trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9), parallel=parallel, accumulate=2, metrics=["f1"])
    weights = np.random.default_rng(0).random(1403).astype(np.float32)
    trainer.fit((TRAIN.images[:1403], TRAIN.labels[:1403], weights), epochs=1, batch_size=100, progress=False)
    score = trainer.evaluate(TEST, batch_size=50)
    if parallel.rank == 0:
        np.savez(path, **model.state())
    say(parallel, size=parallel.size, digests=every_digest(trainer), score=score, trace=str(trainer.plan))


class Recorder(Callback):
    """Counts where it is called."""

    def __init__(self, on_every_rank=False):
        self.on_every_rank = on_every_rank
        self.calls = 0

    def on_epoch_end(self, trainer, record):
        self.calls += 1


def callbacks(folder):
    parallel = DataParallel()
    own, everywhere, called = Recorder(), Recorder(True), []
    trainer = Trainer(network(), optimizer=SGD(0.0), parallel=parallel)
    history = trainer.fit(
        TRAIN, TEST, epochs=9, progress=True,
        callbacks=[own, everywhere, EarlyStopping(patience=2), Checkpoint(folder), lambda *_: called.append(1)],
    )  # fmt: skip
    counts = parallel.gather((own.calls, everywhere.calls, len(called), len(history)))
    say(parallel, counts=counts)


def stop_on_one(rank):
    """A function of process 0, or the time of another, ends all."""
    parallel = DataParallel()
    trainer = Trainer(network(), parallel=parallel)

    def stop(trainer, record):
        trainer.stop()

    limit = 0.2 if parallel.rank == int(rank) != 0 else None
    trainer.fit(TRAIN, epochs=1000, progress=False, callbacks=[stop] if rank == "0" else [], max_seconds=limit)
    say(parallel, epochs=parallel.gather(trainer.epochs_done), digests=every_digest(trainer))


class Slow(Callback):
    """Takes its time, and says where it is."""

    def __init__(self, path):
        self.path = Path(path)

    def on_step_end(self, trainer):
        self.path.write_text(str(trainer.steps_done))
        time.sleep(0.02)


def resumable(folder, epochs, kill_at="0"):
    """Goes on from the folder's checkpoint; with `kill_at`, its last process kills itself in that step."""
    parallel = DataParallel(shards=4)
    trainer = Trainer(network(), optimizer=SGD(0.05, momentum=0.9), parallel=parallel, average=0.9)

    class Kill(Callback):
        on_every_rank = True

        def on_step_end(self, trainer):
            if parallel.rank == parallel.size - 1 and trainer.steps_done == int(kill_at):
                time.sleep(0.3)  # process 0 saves meanwhile
                os.kill(os.getpid(), signal.SIGKILL)

    trainer.fit(
        TRAIN, epochs=int(epochs), batch_size=100, progress=False, resume=folder,
        callbacks=[Checkpoint(folder, every_steps=1), EarlyStopping(patience=50), Kill()],
    )  # fmt: skip
    say(parallel, digests=every_digest(trainer), epochs=trainer.epochs_done)


def wait_for_signal(folder):
    parallel = DataParallel()
    trainer = Trainer(network(), parallel=parallel)
    callbacks = [Checkpoint(f"{folder}/run", every_epochs=None), Slow(f"{folder}/steps")]
    trainer.fit(TRAIN, epochs=1000, progress=False, callbacks=callbacks)


def raises(rank):
    """In one process only."""
    parallel = DataParallel()

    class Wrong(nnpar.CustomLayer):
        def output_shape(self, input_shape, name=""):
            return input_shape

        def compute(self, x):
            if parallel.rank == int(rank):
                raise RuntimeError("this process has enough")
            return x

        def compute_gradient(self, dy, x, y):
            return dy

    Trainer(Sequential(Flatten(), Wrong(), Linear(64, 10)), parallel=parallel).fit(TRAIN, progress=False)


def not_finite():
    parallel = DataParallel()
    images = TRAIN.images.copy()
    images[5] = np.nan
    trainer = Trainer(network(), parallel=parallel, on_nan="skip")
    trainer.fit((images, TRAIN.labels), epochs=1, batch_size=100, shuffle=False, progress=False)
    say(parallel, skipped=parallel.gather(trainer.skipped_steps), digests=every_digest(trainer))
    Trainer(network(), parallel=parallel).fit((images, TRAIN.labels), epochs=1, progress=False)


def layers():
    nnpar.manual_seed(1)
    return Sequential(
        Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Residual(Sequential(Conv2d(8, 8, 3, padding=1, bias=False), BatchNorm2d(8))), ReLU(),
        Flatten(), Dropout(0.2), Linear(128, 64), ReLU(), Dropout(0.1), Linear(64, 10),
    )  # fmt: skip


def deep_layers():
    """Activations that can be computed again in each of several stages."""
    nnpar.manual_seed(1)
    body = [layer for _ in range(4) for layer in (Conv2d(8, 8, 3, padding=1, bias=False), BatchNorm2d(8), GELU())]
    return Sequential(Conv2d(1, 8, 3, padding=1), GELU(), *body, Flatten(), Linear(512, 10))


def pipeline(kind, folder="", epochs=2):
    """Stages by their cost, or of one layer but for the last; the last batch has less samples than microbatches."""
    world = nnpar.distributed.Ranks()
    mesh = Mesh(data=2, pipeline=world.size // 2) if kind == "mesh" and world.size > 1 else None
    parallel = PipelineParallel(
        microbatches=8, comm=mesh, input_shape=(1, 8, 8),
        boundaries=None if kind != "uneven" else range(1, world.size),
    )  # fmt: skip
    trainer = Trainer(
        deep_layers() if kind.startswith("deep") else layers(), optimizer=Adam(0.005), parallel=parallel,
        metrics=["f1"], accumulate=1 + (kind == "accumulate"),
        clip_value=0.05, clip_norm=0.5, average=0.9, recompute=kind == "deep-again",
    )  # fmt: skip
    train = TRAIN[:1403]
    if kind == "loader":
        train = Loader((train.images, train.labels, np.linspace(0.1, 1, 1403)), 100, transform=RandomCrop(8, padding=1))
    saved = [Checkpoint(folder, every_steps=5)] if folder and kind != "mesh" else []
    trainer.fit(
        train,
        TEST,
        epochs=int(epochs),
        batch_size=100,
        progress=False,
        callbacks=saved,
        resume=folder if saved else None,
    )
    record = {
        name: value for name, value in trainer.history.last.items() if name not in ("seconds", "images_per_second")
    }
    models = parallel.gather(hashlib.sha256(b"".join(a.tobytes() for a in trainer.model.state().values())).hexdigest())
    if kind == "mesh" and parallel.rank == 0:
        np.savez(f"{folder}.npz", **trainer.model.state())
    dropped = any(parallel.gather("again: " in str(trainer.plan)))
    say(
        parallel, digest=digest(trainer), models=sorted(set(models)), record=record, stages=parallel.boundaries,
        dropped=dropped,
    )  # fmt: skip


def placement():
    parallel = DataParallel()
    say(parallel, threads=parallel.gather(nnpar.get_num_threads()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
