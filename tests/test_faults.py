"""What can go wrong while a network trains on data from outside, and what must then be so: one error that says what is
wrong, weights of a whole step, checkpoints that stay, a process that lives.
"""

import json
import os
import struct
import subprocess
import sys
import threading

import hostile_files
import numpy as np
import pytest

import nnpar
from nnpar import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential, Trainer, checkpoints, data
from nnpar.callbacks import Checkpoint
from nnpar.data.source import Source

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.standard_normal((40, 2, 6, 6)).astype(np.float32), RNG.integers(0, 3, 40)


def model():
    nnpar.manual_seed(5)
    return Sequential(Conv2d(2, 4, 3), BatchNorm2d(4), ReLU(), Flatten(), Linear(64, 3))


def weights_of(trainer):
    return b"".join(array.tobytes() for array in trainer.model.state().values())


def fit(trainer, loader, epochs=1, **options):
    return trainer.fit(loader, epochs=epochs, progress=False, **options)


class Given(Source):
    """Whatever `change` makes of images and labels."""

    def __init__(self, change):
        self.change = change

    def __len__(self):
        return len(IMAGES)

    def read(self, index):
        images, labels, *weights = self.change(IMAGES[index], LABELS[index])
        return images, labels, weights[0] if weights else None


# Any layout, width and order of bytes of the same numbers trains alike.
LAYOUTS = {
    "float64": lambda x, y: (x.astype(np.float64), y),
    "big-endian": lambda x, y: (x.astype(">f4"), y.astype(">i2")),
    "Fortran": lambda x, y: (np.asfortranarray(x), y),
    "turned": lambda x, y: (x[:, :, ::-1].copy()[:, :, ::-1], y[::-1].copy()[::-1]),
    "channels-last": lambda x, y: (x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), y),
    "read-only": lambda x, y: (np.broadcast_to(x, x.shape), np.broadcast_to(y, y.shape)),
    "unaligned": lambda x, y: (np.frombuffer(b"." + x.tobytes(), np.float32, offset=1).reshape(x.shape), y),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("transform", [None, data.transforms.Normalize(0.5, 2.0)])
def test_any_layout_of_what_a_source_reads_trains_alike(name, transform):
    trainers = [Trainer(model()) for _ in range(2)]
    for trainer, change in zip(trainers, (lambda x, y: (x, y), LAYOUTS[name]), strict=True):
        fit(trainer, data.Loader(Given(change), 16, transform=transform))
    assert weights_of(trainers[0]) == weights_of(trainers[1])


BAD_SAMPLES = {
    "complex": (lambda x, y: (x + 0j, y), TypeError, "real number type, got complex64"),
    "objects": (lambda x, y: (x.astype(object), y), TypeError, "real number type, got object"),
    "too few labels": (lambda x, y: (x, y[:-1]), ValueError, "labels"),
    "labels beyond": (lambda x, y: (x, y + 3), ValueError, "labels: expected 0 to 2, got 5"),
    "labels below": (lambda x, y: (x, y - 3), ValueError, "labels: expected 0 to 2, got -3"),
    "fractions": (lambda x, y: (x, y + 0.5), TypeError, "labels: expected integers"),
    "channels": (lambda x, y: (x[:, :1], y), ValueError, r"layer '0' \(Conv2d\): input: expected 2 channels"),
    "flat": (lambda x, y: (x[:, 0, 0], y), ValueError, "expected"),
    "nothing": (
        lambda x, y: (x[:0], y[:0]),
        ValueError,
        r"expected (16|8) images .* got an array of shape \(0, 2, 6, 6\)",
    ),
    "no pixels": (lambda x, y: (x[:, :, :0], y), ValueError, "expected"),
    "NaN": (lambda x, y: (x * np.nan, y), FloatingPointError, r"the loss is nan at step 1 \(epoch 1\)"),
    "infinity": (lambda x, y: (x + np.inf, y), FloatingPointError, r"at step 1 \(epoch 1\)"),
    "weights below 0": (lambda x, y: (x, y, -np.ones(len(x))), ValueError, "weights"),
    "too few weights": (lambda x, y: (x, y, np.ones(len(x) - 1)), ValueError, "weights"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_one_error_and_change_nothing(name, workers):
    change, error, message = BAD_SAMPLES[name]
    trainer = Trainer(model())
    before, running = weights_of(trainer), threading.active_count()
    with pytest.raises(error, match=message):
        fit(trainer, data.Loader(Given(change), 16, workers=workers))
    assert weights_of(trainer) == before
    assert threading.active_count() == running
    fit(trainer, data.Loader((IMAGES, LABELS), 16))  # it goes on


def test_images_of_another_size_in_mid_epoch_are_named_or_trained():
    sizes = iter([6, 6, 5])

    def change(x, y):
        size = next(sizes)
        return x[:, :, :size, :size], y

    with pytest.raises(ValueError, match=r"layer '4' \(Linear\): input: expected shape \(N, 64\)"):
        fit(Trainer(model()), data.Loader(Given(change), 16, workers=0))


def test_a_nan_never_replaces_a_good_checkpoint(tmp_path):
    trainer = Trainer(model())
    fit(trainer, (IMAGES, LABELS), callbacks=[Checkpoint(tmp_path, every_steps=1)], batch_size=10)
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bad = IMAGES.copy()
    bad[:] = np.inf
    with pytest.raises(FloatingPointError):
        fit(trainer, (bad, LABELS), callbacks=[Checkpoint(tmp_path, every_steps=1)], batch_size=10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good


def damaged(path):
    """The file cut, with bits turned, and with what does not belong there in each place of its description."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    for cut in sorted({*range(0, 16), *RNG.integers(0, len(raw), 100).tolist()}):
        yield raw[:cut]
    for place in (*range(8), *RNG.integers(8, 8 + size, 500).tolist()):
        yield raw[:place] + bytes([raw[place] ^ (1 << int(RNG.integers(8)))]) + raw[place + 1 :]
    header = json.loads(raw[8 : 8 + size])
    description = json.loads(header["__metadata__"][checkpoints.KEY])
    for place in hostile_files.places(description):
        for nasty in hostile_files.NASTY:
            changed = hostile_files.replaced(description, place, nasty)
            header["__metadata__"][checkpoints.KEY] = json.dumps(changed)
            text = json.dumps(header).encode()
            yield struct.pack("<Q", len(text)) + text + raw[8 + size :]


def test_hostile_checkpoints_are_one_error_each_or_another_place_in_the_run(tmp_path):
    trainer = Trainer(model(), average=0.9)
    fit(trainer, (IMAGES, LABELS), batch_size=10)
    good, bad = tmp_path / "good", tmp_path / "bad"
    checkpoints.save(trainer, good)
    before, refused, taken = weights_of(trainer), 0, 0
    files = list(damaged(good))
    for raw in files:
        bad.write_bytes(raw)
        try:
            checkpoints.restore(trainer, bad)
        except ValueError as error:
            refused += str(error).startswith(f"{bad}: ")
            assert weights_of(trainer) == before
        else:
            taken += 1
            checkpoints.restore(trainer, good)
    assert refused + taken == len(files)
    assert refused > 1000
    assert taken > 0
    assert weights_of(trainer) == before


def test_trainers_in_many_threads_have_the_bits_of_one_alone():
    def train(results, number):
        trainer = Trainer(threaded[number])
        fit(trainer, data.Loader((IMAGES, LABELS), 16, transform=data.transforms.RandomCrop(6, padding=1)), epochs=2)
        results[number] = weights_of(trainer)

    threaded = [model() for _ in range(5)]
    results = {}
    train(results, 0)
    threads = [threading.Thread(target=train, args=(results, number)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 5
    assert len(set(results.values())) == 1


FORKED = """
import hashlib, os, sys
import numpy as np
import nnpar
from nnpar import data

def train():
    nnpar.manual_seed(1)
    trainer = nnpar.Trainer(nnpar.zoo.digits_cnn())
    part = data.digits()[0][:256]
    trainer.fit(data.Loader(part, 64), epochs=1, progress=False)
    return hashlib.sha256(b"".join(a.tobytes() for a in trainer.model.state().values())).hexdigest()

nnpar.set_num_threads(2)
before = train()
child = os.fork()
if child == 0:
    os._exit(0 if train() == before else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert train() == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_forked_trains_and_so_does_its_child():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    subprocess.run(command, check=True, timeout=120)


STARVED = """
import resource
import numpy as np
import nnpar

nnpar.set_num_threads(1)
trainer = nnpar.Trainer(nnpar.Sequential(nnpar.Conv2d(1, 64, 3), nnpar.Flatten(), nnpar.Linear(64 * 900, 3)))
x, y = np.zeros((512, 1, 32, 32), np.float32), np.zeros(512, np.int64)
first = trainer.train_step(x[:8], y[:8])
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
before = trainer.model.state()["0.weight"].copy()
try:
    trainer.train_step(x, y)
except MemoryError:
    pass
else:
    raise SystemExit("expected a MemoryError")
assert (trainer.model.state()["0.weight"] == before).all()
assert trainer.train_step(x[:8], y[:8]) < first
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limits and /proc")
def test_a_step_that_finds_no_memory_is_an_error_and_training_goes_on():
    subprocess.run([sys.executable, "-c", STARVED], check=True, timeout=120)
