"""Shards at addresses: what was converted comes back, storage that fails at times loses no sample, and an epoch's order
that reads each unit about once is an order like any other.
"""

import importlib.util
import io
import json
import threading

import fsspec
import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import nnpar
from nnpar import Trainer, cli, data, runs
from nnpar.callbacks import Callback
from nnpar.data import Arrays, ImageFolder, Loader, NpyFiles, Parquet, Source, TarShards, files, units
from nnpar.data.convert import convert

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 3, 6, 5)).astype(np.uint8)
FLOATS = RNG.normal(size=(50, 1, 4, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 50)
READERS = {"parquet": Parquet, "tar": TarShards, "npy": NpyFiles}


class FlakyFile(io.BytesIO):
    """Fails as the class below says; `short` makes reads end early instead."""

    def read(self, size=-1):
        Flaky.reads += 1
        if Flaky.dead or (Flaky.every and Flaky.reads % Flaky.every == 0):
            if Flaky.short:
                return super().read(max(0, size // 2) if not Flaky.dead else 0)
            raise Flaky.error("connection reset")
        return super().read(size)


class Flaky(MemoryFileSystem):
    """Files in memory, of which every n-th read fails, or all."""

    protocol = "flaky"
    every = reads = opened = 0
    dead = short = False
    error = OSError

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def _open(self, path, mode="rb", **options):
        if mode != "rb":
            return super()._open(path, mode, **options)
        Flaky.opened += 1
        return FlakyFile(super()._open(path, mode, **options).getvalue())


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(files, "WAIT", 0.0)
    for name in ("every", "reads", "opened", "dead", "short"):
        monkeypatch.setattr(Flaky, name, type(getattr(Flaky, name))(0))
    yield Flaky
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def place(kind, tmp_path):
    return f"flaky://set-{tmp_path.name}" if kind == "address" else str(tmp_path / "set")


@pytest.mark.parametrize("kind", ["local", "address"])
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["bytes", "floats"])
def test_what_was_converted_comes_back(name, kind, images, tmp_path, flaky):
    names = convert(Arrays(images, LABELS), place(kind, tmp_path), name, rows_per_shard=20)
    assert len(names) == (6 if name == "npy" else 3)
    assert files.find(place(kind, tmp_path), (".parquet", ".tar", ".npy")) == sorted(names)
    source = READERS[name](place(kind, tmp_path))
    index = RNG.permutation(50)
    found, labels, weights = source.read(index)
    assert (found.dtype, labels.dtype, weights) == (images.dtype, np.int64, None)
    np.testing.assert_array_equal(found, images[index])
    np.testing.assert_array_equal(labels, LABELS[index])


@pytest.mark.parametrize("name", ["parquet", "npy"])
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (FLOATS.reshape(50, 16), RNG.normal(size=50).astype(np.float32)),
        (IMAGES, RNG.integers(0, 3, (50, 6, 5))),
        (FLOATS, RNG.normal(size=(50, 7)).astype(np.float32)),
    ],
    ids=["features", "class of each pixel", "vectors"],
)
def test_other_targets_come_back(name, images, labels, tmp_path):
    convert((images, labels), tmp_path / "set", name, rows_per_shard=30)
    found = READERS[name](tmp_path / "set").read(np.arange(50))
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], labels)
    assert found[1].dtype == labels.dtype


def write_folder(root, sizes):
    for number, size in enumerate(sizes):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.{'jpg' if number % 3 else 'png'}")


@pytest.mark.parametrize("name", ["parquet", "tar"])
def test_image_files_stay_as_they_are(name, tmp_path):
    write_folder(tmp_path / "photos", [(20, 30), (25, 22), (40, 24), (21, 21)])
    folder = ImageFolder(tmp_path / "photos")
    convert(folder, tmp_path / "set", name, rows_per_shard=3)
    found = READERS[name](tmp_path / "set", size=16).read(np.arange(4))
    expected = ImageFolder(tmp_path / "photos", size=16).read(np.arange(4))
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    if name == "parquet":
        assert Parquet(tmp_path / "set").class_names == ("cat", "dog")
        table = pyarrow.parquet.read_table(tmp_path / "set" / "00000.parquet")
        with open(folder.paths[1], "rb") as file:
            assert table["image"][1].as_py() == file.read()


@pytest.mark.parametrize("name", READERS)
def test_image_files_of_one_size_become_arrays(name, tmp_path):
    write_folder(tmp_path / "photos", [(20, 30), (25, 22)])
    folder = ImageFolder(tmp_path / "photos", size=8, channels=1)
    convert(folder, tmp_path / "set", name)
    np.testing.assert_array_equal(READERS[name](tmp_path / "set").read(np.arange(2))[0], folder.read(np.arange(2))[0])


class Ends(Arrays):
    """A source that fails at its end."""

    def read(self, index):
        if (index > 40).any():
            raise OSError("the disk is gone")
        return super().read(index)


@pytest.mark.parametrize("kind", ["local", "address"])
@pytest.mark.parametrize("name", READERS)
def test_a_folder_is_there_as_a_whole_or_not_at_all(name, kind, tmp_path, flaky):
    with pytest.raises(OSError, match="the disk is gone"):
        convert({"a": (FLOATS, LABELS), "b": Ends(FLOATS, LABELS)}, place(kind, tmp_path), name, rows_per_shard=10)
    assert list(tmp_path.iterdir()) == []
    assert not any("set" in name for name in MemoryFileSystem.store)
    convert({"a": (FLOATS, LABELS)}, place(kind, tmp_path), name)
    with pytest.raises(FileExistsError, match="is there already"):
        convert((FLOATS, LABELS), place(kind, tmp_path), name)
    assert len(READERS[name](f"{place(kind, tmp_path)}/a")) == 50


class ClientError(Exception):
    """As those of the clients of storage."""


ClientError.__module__ = "botocore.exceptions"
FAILURES = {"error": OSError, "runtime": RuntimeError, "client": ClientError, "short": None}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", READERS)
def test_storage_that_fails_at_times_loses_no_sample(name, workers, failure, tmp_path, flaky, monkeypatch):
    convert((FLOATS, np.arange(50)), place("address", tmp_path), name, rows_per_shard=7)
    source = READERS[name](place("address", tmp_path))
    monkeypatch.setattr(flaky, "error", FAILURES[failure] or OSError)
    flaky.every, flaky.short = (
        7,
        failure == "short" and name != "parquet",
    )  # what pyarrow makes of a short read is its own affair
    seen = [batch.labels for batch in Loader(source, 8, workers=workers).batches(1, 0)]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(50))
    assert flaky.reads > 7
    reader = READERS[name](place("address", tmp_path))  # what is read before the samples, too
    np.testing.assert_array_equal(reader.read(np.arange(50))[0], FLOATS)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("name", "row"), [("parquet", "rows 7 to 14"), ("tar", "sample 9"), ("npy", "rows 0 to 7")])
def test_storage_that_is_gone_is_one_error(name, row, short, tmp_path, flaky):
    convert((FLOATS, LABELS), place("address", tmp_path), name, rows_per_shard=7)
    source = READERS[name](place("address", tmp_path))
    flaky.dead, flaky.short, flaky.opened = True, short and name != "parquet", 0
    reason = "expected .* bytes at .*, got 0" if flaky.short else "connection reset"
    with pytest.raises(OSError, match=rf"00001.*{row}.*: 6 attempts failed, the last with: {reason}"):
        source.read(np.array([9]))
    assert flaky.opened == files.ATTEMPTS, "each attempt opens the file anew"
    with pytest.raises(OSError, match="6 attempts failed"):
        Trainer(nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(16, 4))).fit(Loader(source), epochs=1, progress=False)
    flaky.dead = False
    np.testing.assert_array_equal(source.read(np.array([9]))[0], FLOATS[[9]])


def test_what_is_not_there_is_not_tried_again(flaky):
    tries = []

    def missing():
        tries.append(1)
        raise FileNotFoundError("x")

    with pytest.raises(FileNotFoundError):
        files.persistently(missing, "x")
    assert len(tries) == 1
    with pytest.raises(FileNotFoundError, match="no such file"):
        Parquet("flaky://nothing/*.parquet")


@pytest.mark.skipif(importlib.util.find_spec("hdfs_native") is not None, reason="hdfs-native is here")
def test_what_hdfs_needs_is_named():
    with pytest.raises(
        ImportError, match=r"hdfs://127\.0\.0\.1:1/x: hdfs-native is needed: pip install 'nnpar\[hdfs\]'"
    ):
        Parquet("hdfs://127.0.0.1:1/x")


@pytest.mark.parametrize("error", [NotImplementedError, RecursionError, ValueError, PermissionError])
def test_what_another_attempt_would_not_change_is_raised(error):
    tries = []

    def wrong():
        tries.append(1)
        raise error("no")

    with pytest.raises(error, match="no"):
        files.persistently(wrong, "x")
    assert len(tries) == 1


def test_addresses_keep_their_host():
    for root, inside, name, expected in (
        ("hdfs://host:9000/a/*.parquet", "/a/*.parquet", "/a/b.parquet", "hdfs://host:9000/a/b.parquet"),
        ("hdfs://host:9000/a/", "/a", "/a/b.parquet", "hdfs://host:9000/a/b.parquet"),
        ("s3://bucket/a", "bucket/a", "bucket/a/b.tar", "s3://bucket/a/b.tar"),
        ("https://host/a", "https://host/a", "https://host/a/b.tar", "https://host/a/b.tar"),
    ):
        assert files.address_of(root, inside, name) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 32, 100, 1000])
@pytest.mark.parametrize("mixed", [1, 2, 5, 100])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_an_order_has_each_sample_once(batch_size, mixed, streams):
    rows = np.array([10, 1, 50, 50, 0, 50, 7, 50])
    found = units.order(rows, mixed, streams, 3, 4, batch_size)
    np.testing.assert_array_equal(np.sort(found), np.arange(rows.sum()))
    np.testing.assert_array_equal(found, units.order(rows, mixed, streams, 3, 4, batch_size))
    for other in ((3, 5), (4, 4)):
        assert (found != units.order(rows, mixed, streams, *other, batch_size)).any()


def test_an_order_wants_few_units_at_a_time():
    """At any place of a stream those whose samples came, and come again, are `mixed` about; without, all are."""
    rows = np.full(200, 50)
    of_sample = np.repeat(np.arange(200), rows)
    order = units.order(rows, 4, 2, 0, 0, 20)
    for stream in range(2):
        part = order.reshape(-1, 2, 10)[:, stream].ravel()
        found = of_sample[part]
        first, last = np.full(200, len(found)), np.full(200, -1)
        np.minimum.at(first, found, np.arange(len(found)))
        np.maximum.at(last, found, np.arange(len(found)))
        live = [int(((first <= at) & (at <= last)).sum()) for at in range(0, len(found), 50)]
        assert max(live) <= 5
        assert np.mean(live) > 3
    assert (
        len(
            set(of_sample[order.reshape(-1, 2, 10)[:, 0]].ravel())
            & set(of_sample[order.reshape(-1, 2, 10)[:, 1]].ravel())
        )
        <= 1
    )
    # Samples of a unit come in random order, far from each other.
    places = np.argsort(order)[:50]
    assert (np.diff(places) < 0).sum() > 10


def slices(rank, size):
    """Which part of a batch is whose, as in nnpar.distributed without shards."""
    return lambda number, count: [slice(count * rank // size, count * (rank + 1) // size)]


def shards_of(tmp_path, **options):
    if not (tmp_path / "set").exists():
        images = np.repeat(np.arange(4000, dtype=np.float32), 2).reshape(4000, 2)
        (tmp_path / "set").mkdir()
        for part in range(4):
            rows = slice(part * 1000, part * 1000 + 1000)
            column = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(images[rows])
            table = pyarrow.table({"image": column, "label": np.arange(rows.start, rows.stop)})
            pyarrow.parquet.write_table(table, tmp_path / "set" / f"{part}.parquet", row_group_size=25)
    return Parquet(tmp_path / "set", **options)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_processes_share_an_epoch_and_read_their_share(ranks, tmp_path):
    whole = [b.labels for b in Loader(shards_of(tmp_path, mixed=3, streams=4), 64, workers=0).batches(1, 2)]
    np.testing.assert_array_equal(np.sort(np.concatenate(whole)), np.arange(4000))
    read, parts = [], []
    for rank in range(ranks):
        source = shards_of(tmp_path, mixed=3, streams=4, cache_mb=0.02)  # about 20 groups
        load, loaded = source._cache._load, []

        def counted(number, load=load, loaded=loaded):
            loaded.append(number)
            return load(number)

        source._cache._load = counted
        parts.append([p.labels for (p,) in Loader(source, 64, workers=0).parts(1, 2, 0, slices(rank, ranks))])
        read.append(len(loaded))
    for batch, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[batch] for part in parts]), expected)
    # Of 160 groups: its share, and those that are cut between streams; with 3 processes, streams are cut too.
    assert max(read) <= (160 / ranks + 4 if ranks != 3 else 120)
    without = shards_of(tmp_path, cache_mb=0.02)
    assert len(np.unique(without.order(1, 2, 64)[:64] // 25)) > 40


@pytest.mark.parametrize("stop", [1, 13, 40, 63])
def test_an_epoch_goes_on_in_its_middle(stop, tmp_path):
    class Stop(Callback):
        def on_step_end(self, trainer):
            if trainer.steps_done == stop:
                trainer.stop()

    weights = []
    for callbacks in ([], [Stop()]):
        nnpar.manual_seed(1)
        trainer = Trainer(nnpar.Sequential(nnpar.Linear(2, 1)), loss="mse", optimizer=nnpar.SGD(1e-9))
        loader = Loader(Labelled(shards_of(tmp_path, mixed=2, streams=2)), 128)
        trainer.fit(loader, epochs=2, callbacks=callbacks, progress=False)
        if callbacks:
            trainer.fit(loader, epochs=2 - trainer.epochs_done, progress=False)
        weights.append(trainer.model.state()["0.weight"].copy())
    np.testing.assert_array_equal(*weights)


class Labelled(Source):
    """Targets as regression wants them, in the order of another source."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def order(self, seed, epoch, batch_size):
        return self.source.order(seed, epoch, batch_size)

    def read(self, index):
        images, labels, _ = self.source.read(index)
        return images, labels[:, np.newaxis].astype(np.float32), None


@pytest.mark.parametrize("order", [np.arange(49), np.arange(50) + 1, np.zeros(50, int), np.arange(50) / 2])
def test_a_source_with_a_wrong_order(order):
    source = Arrays(FLOATS, LABELS)
    source.order = lambda seed, epoch, batch_size: order
    with pytest.raises(ValueError, match="order: expected each number below 50 once"):
        next(Loader(source).batches())


def test_a_cache_loads_once_and_keeps_what_fits():
    loaded, go = [], threading.Event()

    def load(number):
        loaded.append(number)
        go.wait(5)
        return f"unit {number}", 2**19

    cache = units.Cache(load, 1, "test")
    found = []
    threads = [threading.Thread(target=lambda: found.append(cache.get(3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert (found, loaded) == (["unit 3"] * 4, [3])
    for number in (4, 3, 5, 3, 4):  # 3 was wanted after 4, which made room for 5
        assert cache.get(number) == f"unit {number}"
    assert loaded == [3, 4, 5, 4]


def test_what_a_cache_cannot_load_is_tried_when_wanted_again():
    fails = [True]

    def load(number):
        if fails:
            raise OSError(fails.pop())
        return number, 1

    cache = units.Cache(load, 1, "test")
    with pytest.raises(OSError, match="True"):
        cache.get(1)
    assert cache.get(1) == 1


def save(folder, images, labels=LABELS):
    np.save(folder / "images.npy", images)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    return folder


def cut(folder):
    path = save(folder, FLOATS) / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    return NpyFiles(folder)


def without_value(folder):
    table = pyarrow.table({"image": [[1.0], [2.0]], "label": [1, None]})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    return Parquet(folder / "a.parquet", shape=(1,)).read(np.array([0]))


def other_shape(folder):
    convert((FLOATS, LABELS), folder / "set")
    return Parquet(folder / "set", shape=(2, 2)).read(np.array([0]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: convert((FLOATS, LABELS), f / "x", "csv"), ValueError, "format: expected one of parquet, tar, npy"),
        (lambda f: convert((FLOATS, LABELS), f / "x", rows_per_shard=0), ValueError, "rows_per_shard"),
        (lambda f: convert((FLOATS, LABELS, np.ones(50)), f / "x"), ValueError, "weights of samples cannot be written"),
        (lambda f: convert((FLOATS, LABELS / 2), f / "x", "tar"), ValueError, "tar: expected class numbers as labels"),
        (lambda f: convert([(np.array(["a"]), 1)], f / "x"), ValueError, "expected numbers as images"),
        (lambda f: convert(3, f / "x"), TypeError, "expected a source"),
        (lambda f: Parquet(f, mixed=0), ValueError, "mixed"),
        (lambda f: NpyFiles(f, streams=0), ValueError, "streams"),
        (lambda f: NpyFiles(f, cache_mb=0), ValueError, "cache_mb: expected a number above 0"),
        (lambda f: NpyFiles(f), FileNotFoundError, r"none in it that ends with images\.npy"),
        (lambda f: NpyFiles(save(f, FLOATS, None)), FileNotFoundError, r"labels\.npy"),
        (lambda f: NpyFiles(save(f, FLOATS, LABELS[:9])), ValueError, r"as many labels, got .* \(9,\)"),
        (lambda f: NpyFiles(save(f, LABELS)), ValueError, "expected images"),
        (lambda f: NpyFiles(save(f, np.asfortranarray(FLOATS))), ValueError, "float32 by columns"),
        (lambda f: NpyFiles(save(f, FLOATS) / "labels.npy"), ValueError, "a name that ends with images.npy"),
        (lambda f: NpyFiles(save(f, FLOATS[:0], LABELS[:0])), ValueError, "at least one sample"),
        (cut, ValueError, r"images\.npy: not a whole array"),
        (without_value, ValueError, "row 1: expected a value in column 'label', got none"),
        (other_shape, ValueError, r"row 0: expected \(2, 2\) numbers, got \(1, 4, 4\)"),
        (
            lambda f: runs.build({"data": {"train": "digits", "mixed": 2}, "model": {"name": "mlp"}}),
            ValueError,
            "data.mixed: expected a data set parquet:, npy:, got 'digits'",
        ),
    ],
)
def test_bad_input(call, error, message, tmp_path):
    with pytest.raises(error, match=message):
        call(tmp_path)


def test_from_the_shell(tmp_path, capsys, flaky):
    place = "flaky://shell/digits"
    assert cli.main(["data", "convert", "digits", place, "--rows-per-shard", "400"]) == 0
    assert capsys.readouterr().out == f"saved 1,797 samples in 5 files: {place}\n"
    (tmp_path / "run.toml").write_text(f"""
        data = {{train = "parquet:{place}/train/*.parquet", validation = "parquet:{place}/validation", mixed = 2}}
        model.name = "digits_cnn"
        train.epochs = 3
    """)
    flaky.every = 11
    assert cli.main(["train", str(tmp_path / "run.toml"), "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["validation_accuracy"] > 0.7
    assert cli.main(["data", "convert", "digits", place]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["data", "convert", "digits", str(tmp_path / "x"), "--size", "8"]) == 1
    assert "are for image files, got 'digits'" in capsys.readouterr().err


def test_the_order_of_the_shell_is_that_of_python(tmp_path):
    data_set = data.digits()[0]
    convert({"train": data_set}, tmp_path / "set", rows_per_shard=300)
    run = runs.build(
        {"data": {"train": f"parquet:{tmp_path}/set/train", "mixed": 2, "streams": 4}, "model": {"name": "mlp"}}
    )
    source = Parquet(tmp_path / "set" / "train", mixed=2, streams=4)
    np.testing.assert_array_equal(run.train.source.order(0, 1, 64), source.order(0, 1, 64))
    first = next(run.train.batches(0, 1))
    np.testing.assert_array_equal(first.images, data_set.images[source.order(0, 1, 64)[:64]])
