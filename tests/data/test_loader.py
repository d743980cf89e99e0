"""Loaders: the samples of an epoch, each once, in an order that nothing but seed and epoch changes; and in training."""

import hashlib
import threading

import numpy as np
import pytest

import nnpar
from nnpar import Trainer, data
from nnpar.callbacks import Callback
from nnpar.data import Arrays, Items, Loader, Source
from nnpar.data.source import as_source
from nnpar.data.transforms import Normalize, Pipeline, RandomCrop, RandomHorizontalFlip

IMAGES = np.random.default_rng(0).integers(0, 256, (53, 3, 8, 8)).astype(np.uint8)
LABELS = np.arange(53) % 4
PIPELINE = Pipeline(RandomCrop(8, padding=2), RandomHorizontalFlip(), Normalize(0.5, 0.25))


def model():
    nnpar.manual_seed(3)
    return nnpar.Sequential(nnpar.Conv2d(3, 4, 3), nnpar.ReLU(), nnpar.Flatten(), nnpar.Linear(144, 4))


def digest(trainer):
    return hashlib.sha256(b"".join(a.tobytes() for a in trainer.model.parameters().values())).hexdigest()


def all_of(loader, *place):
    parts = list(loader.batches(*place))
    return [np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_has_each_sample_once(workers):
    loader = Loader((IMAGES, LABELS), 8, workers=workers)
    images, labels = all_of(loader, 1, 0)
    assert images.dtype == np.float32
    order = nnpar.random.permutation(53, 1, 0)
    np.testing.assert_array_equal(labels, LABELS[order])
    np.testing.assert_array_equal(images, (IMAGES[order] / 255).astype(np.float32))
    assert [len(batch.images) for batch in loader.batches()] == [8] * 6 + [5]
    other = all_of(loader, 1, 1)[1]
    assert (other != labels).any()
    in_order = Loader((IMAGES, LABELS), 8, shuffle=False, workers=workers)
    np.testing.assert_array_equal(all_of(in_order)[1], LABELS)


@pytest.mark.parametrize("workers", [0, 2])
def test_where_an_epoch_goes_on_changes_nothing(workers):
    loader = Loader((IMAGES, LABELS), 8, transform=PIPELINE, workers=workers)
    images, labels = all_of(loader, 5, 2)
    for start in (8, 24, 48):
        rest = all_of(loader, 5, 2, start)
        np.testing.assert_array_equal(rest[0], images[start:])
        np.testing.assert_array_equal(rest[1], labels[start:])
    assert list(loader.batches(5, 2, 53)) == []


def test_neither_workers_nor_batches_change_what_is_drawn():
    whole = Loader((IMAGES, LABELS), 53, transform=PIPELINE, workers=0)
    parts = Loader((IMAGES, LABELS), 7, transform=PIPELINE, workers=3, prefetch=5)
    np.testing.assert_array_equal(all_of(whole, 2, 1)[0], all_of(parts, 2, 1)[0])
    assert (all_of(whole, 2, 1)[0] != all_of(whole, 2, 2)[0]).any()


def train(loader, stop=None, **options):
    class Stop(Callback):
        def on_step_end(self, trainer):
            if trainer.steps_done == stop:
                trainer.stop()

    trainer = Trainer(model(), **options)
    trainer.fit(loader, loader, epochs=3, progress=False, callbacks=[Stop()])
    return trainer


def test_training_on_a_loader_is_training_on_its_arrays():
    plain = Trainer(model())
    plain.fit(((IMAGES / 255).astype(np.float32), LABELS), epochs=3, batch_size=8, progress=False)
    for workers in (0, 1, 3):
        trainer = train(Loader((IMAGES, LABELS), 8, workers=workers))
        assert digest(trainer) == digest(plain)
        assert trainer.history["loss"] == plain.history["loss"]


@pytest.mark.parametrize("stop", [1, 5, 7, 9, 20])
def test_training_that_stopped_goes_on_in_the_middle_of_an_epoch(stop):
    loader = Loader((IMAGES, LABELS), 8, transform=PIPELINE, workers=2)
    whole = train(loader)
    trainer = train(loader, stop)
    trainer.fit(loader, epochs=3 - trainer.epochs_done, progress=False)
    assert digest(trainer) == digest(whole)


def test_evaluation_and_metrics_of_a_loader():
    trainer = Trainer(model(), metrics=["accuracy", "f1"])
    arrays = (IMAGES / 255).astype(np.float32), LABELS
    by_loader = trainer.evaluate(Loader((IMAGES, LABELS), 8))
    for name, value in trainer.evaluate(arrays).items():
        assert by_loader[name] == pytest.approx(value)


def test_sample_weights_of_a_source():
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 53).astype(np.float32)
    plain = Trainer(model())
    plain.fit(((IMAGES / 255).astype(np.float32), LABELS, weights), epochs=2, batch_size=8, progress=False)
    trainer = Trainer(model())
    trainer.fit(Loader(Arrays(IMAGES, LABELS, weights), 8), epochs=2, progress=False)
    assert digest(trainer) == digest(plain)


def test_samples_one_by_one_and_iterables():
    items = [(IMAGES[i], int(LABELS[i])) for i in range(53)]
    expected = all_of(Loader((IMAGES, LABELS), 8), 4, 0)
    for given in (items, iter(items), Items(items)):
        for a, b in zip(all_of(Loader(given, 8), 4, 0), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_memory_mapped_arrays(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for a, b in zip(all_of(Loader((mapped, LABELS), 8), 4, 0), all_of(Loader((IMAGES, LABELS), 8), 4, 0), strict=True):
        np.testing.assert_array_equal(a, b)


class Broken(Source):
    name = "broken"

    def __len__(self):
        return 30

    def read(self, index):
        if 7 in index:
            raise OSError("cannot read sample 7")
        return np.zeros((len(index), 3, 8, 8), np.uint8), np.zeros(len(index), np.int64), None


def test_an_error_of_a_source_comes_out_and_leaves_no_threads():
    before = threading.active_count()
    trainer = Trainer(model())
    with pytest.raises(OSError, match="cannot read sample 7"):
        trainer.fit(Loader(Broken(), 4, shuffle=False, workers=3), epochs=1, progress=False)
    assert trainer.steps_done == 1
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Loader(3), TypeError, "Loader: expected a source, arrays, or samples one by one, got int"),
        (lambda: Loader((IMAGES, LABELS), 0), ValueError, "Loader: batch_size: expected at least 1, got 0"),
        (lambda: Loader((IMAGES, LABELS), workers=-1), ValueError, "Loader: workers: expected at least 0, got -1"),
        (
            lambda: Loader((IMAGES, LABELS), transform=abs),
            TypeError,
            "Loader: transform: expected a Pipeline or Transf",
        ),
        (
            lambda: Loader((IMAGES, LABELS[1:])),
            ValueError,
            "expected as many labels as images, one at least, got 52 for",
        ),
        (lambda: Loader([]), ValueError, "Items 'list': expected at least one sample, got none"),
        (lambda: as_source([(IMAGES[0], 0), (IMAGES[0, 0], 0)], "x").read(np.arange(2)), ValueError, "of one shape"),
        (lambda: train(Loader((IMAGES, LABELS + 1), 8)), ValueError, "loader: labels: expected 0 to 3, got"),
        (lambda: train(Loader((IMAGES[:, :1], LABELS), 8)), ValueError, "input: expected 3 channels"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_digits_in_a_loader():
    train_set, test = data.digits()
    trainer = Trainer(nnpar.zoo.digits_cnn())
    trainer.fit(Loader(train_set, 32), Loader(test, 100, shuffle=False), epochs=3, progress=False)
    assert trainer.history["validation_accuracy"][-1] > 0.8
