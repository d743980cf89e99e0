"""Image folders, tar shards, Parquet, CIFAR, downloads: what was written comes back, local and by addresses."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading

import fsspec
import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

import nnpar
from nnpar import data
from nnpar.data import ImageFolder, Loader, Parquet, TarShards, download

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 3, 12, 10)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 20)


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    PIL.Image.fromarray(image.transpose(1, 2, 0)).save(buffer, kind)
    return buffer.getvalue()


def write_folder(system, root):
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        system.makedirs(f"{root}/class{label}", exist_ok=True)
        with system.open(f"{root}/class{label}/{number:03}.png", "wb") as file:
            file.write(encoded(image))


def write_tars(system, root):
    for shard in range(2):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number in range(shard * 10, shard * 10 + 10):
                for suffix, content in (("png", encoded(IMAGES[number])), ("cls", str(LABELS[number]).encode()),
                                        ("json", b"{}")):  # fmt: skip
                    info = tarfile.TarInfo(f"part/{number:06}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        system.makedirs(root, exist_ok=True)
        with system.open(f"{root}/shard-{shard}.tar", "wb") as file:
            file.write(buffer.getvalue())


def write_parquet(system, root):
    system.makedirs(root, exist_ok=True)
    for part in range(2):
        rows = range(part * 10, part * 10 + 10)
        images = [{"bytes": encoded(IMAGES[k]), "path": f"{k}.png"} for k in rows]
        table = pyarrow.table({"image": images, "label": LABELS[list(rows)].tolist()})
        with system.open(f"{root}/part-{part}.parquet", "wb") as file:
            pyarrow.parquet.write_table(table, file, row_group_size=4)


READERS = {"folder": (write_folder, ImageFolder), "tar": (write_tars, TarShards), "parquet": (write_parquet, Parquet)}


def check(source, name):
    order = np.argsort(LABELS, kind="stable") if name == "folder" else np.arange(20)
    index = RNG.permutation(20)
    images, labels, weights = source.read(index)
    assert weights is None
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[order[index]])
    np.testing.assert_array_equal(labels, LABELS[order[index]])
    assert len(source) == 20


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("address", [False, True])
def test_what_was_written_comes_back(name, address, tmp_path):
    write, reader = READERS[name]
    root = f"/{name}-{tmp_path.name}" if address else str(tmp_path / "set")
    write(fsspec.filesystem("memory" if address else "file"), root)
    source = reader(f"memory://{root}" if address else root)
    check(source, name)
    if name == "folder":
        assert source.class_names == ("class0", "class1", "class2")


@pytest.mark.parametrize("name", READERS)
def test_several_threads_read_the_same(name, tmp_path):
    write, reader = READERS[name]
    write(fsspec.filesystem("file"), str(tmp_path / "set"))
    loaders = [Loader(reader(tmp_path / "set"), 3, workers=workers, prefetch=6) for workers in (0, 4)]
    for one, many in zip(*(loader.batches(1, 0) for loader in loaders), strict=True):
        np.testing.assert_array_equal(one.images, many.images)
        np.testing.assert_array_equal(one.labels, many.labels)


def test_a_size_is_covered_and_its_middle_cut_out(tmp_path):
    image = np.zeros((3, 40, 80), np.uint8)
    image[:, :, 20:60] = 200
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.png").write_bytes(encoded(image))
    (found,), _, _ = ImageFolder(tmp_path, size=20).read(np.array([0]))
    assert found.shape == (3, 20, 20)
    assert (found > 150).mean() > 0.95
    (grey,), _, _ = ImageFolder(tmp_path, size=(10, 5), channels=1).read(np.array([0]))
    assert grey.shape == (1, 10, 5)


def test_jpegs_of_any_kind(tmp_path):
    """CMYK, palettes, alpha, 16 bits, and a JPEG that is decoded at a part of its size."""
    (tmp_path / "a").mkdir()
    colour = PIL.Image.new("RGB", (640, 480), (250, 120, 10))
    colour.save(tmp_path / "a" / "large.jpg")
    colour.convert("CMYK").save(tmp_path / "a" / "cmyk.jpg")
    colour.convert("P").save(tmp_path / "a" / "palette.gif")
    colour.convert("RGBA").save(tmp_path / "a" / "alpha.png")
    colour.convert("L").save(tmp_path / "a" / "grey.PNG")
    images, _, _ = ImageFolder(tmp_path, size=32).read(np.arange(5))
    for name, image in zip(sorted(path.name for path in (tmp_path / "a").iterdir()), images, strict=True):
        expected = (143, 143, 143) if name.startswith("grey") else (250, 120, 10)
        assert abs(image.mean(axis=(1, 2)) - expected).max() < (60 if name.startswith("cmyk") else 8), name


def test_numbers_in_parquet(tmp_path):
    images = RNG.random((6, 1, 3, 4)).astype(np.float32)
    table = pyarrow.table({"pixels": [list(map(float, image.ravel())) for image in images], "y": [0.5] * 6})
    pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
    found, labels, _ = Parquet(tmp_path / "set.parquet", "pixels", "y", shape=(1, 3, 4)).read(np.array([3, 1]))
    np.testing.assert_array_equal(found, images[[3, 1]])
    assert labels.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"expected \(2, 2\) numbers"):
        Parquet(tmp_path / "set.parquet", "pixels", "y", shape=(2, 2)).read(np.array([0]))


def write_cifar(folder, extra, names, rows):
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        records = rng.integers(0, 256, (rows, extra + 3072)).astype(np.uint8)
        records[:, extra - 1] %= 10
        (folder / name).write_bytes(records.tobytes())
        yield records


def test_cifar(tmp_path):
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    records = list(write_cifar(tmp_path, 1, names, 7))
    train, test = data.cifar10(tmp_path)
    assert (len(train), len(test)) == (35, 7)
    np.testing.assert_array_equal(train.images, np.concatenate(records[:5])[:, 1:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(test.labels, records[5][:, 0])
    assert train.class_names[3] == "cat"
    (records,) = list(write_cifar(tmp_path, 2, ["train.bin"], 4))
    list(write_cifar(tmp_path, 2, ["test.bin"], 4))
    train, _ = data.cifar100(tmp_path)
    np.testing.assert_array_equal(train.labels, records[:, 1])
    (tmp_path / "test.bin").write_bytes(b"\0" * 3073)
    with pytest.raises(ValueError, match=r"test\.bin: expected records of 3074 bytes, got 3073 bytes"):
        data.cifar100(tmp_path)


@pytest.fixture
def server(tmp_path):
    """An address at which the files of a folder are, and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()
    running.server_close()


def test_downloads_are_checked_and_kept(server, tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="needs pooch")
    address, folder = server
    content = {}
    for name, shape in (
        ("train-images", (5, 28, 28)),
        ("t10k-images", (2, 28, 28)),
        ("train-labels", (5,)),
        ("t10k-labels", (2,)),
    ):
        kind = f"idx{len(shape)}"
        header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        content[f"{name}-{kind}-ubyte.gz"] = header + bytes(int(np.prod(shape)))
    sums = {}
    for name, written in content.items():
        (folder / name).write_bytes(written)
        sums[name] = "sha256:" + hashlib.sha256(written).hexdigest()
    dead = "http://127.0.0.1:9/nothing"
    monkeypatch.setitem(download.SETS, "mnist", (sums, (address,)))
    train, test = data.fetch("mnist", tmp_path / "kept", mirrors=(dead,))
    assert (len(train), len(test)) == (5, 2)
    monkeypatch.setitem(download.SETS, "mnist", (sums, (dead,)))
    assert len(data.fetch("mnist", tmp_path / "kept")[0]) == 5, "from the folder"
    with pytest.raises(OSError, match=r"fetch: train-images-idx3-ubyte.gz: http://127.0.0.1:9/nothing: "):
        data.fetch("mnist", tmp_path / "other")
    wrong = dict.fromkeys(sums, "sha256:" + "0" * 64)
    monkeypatch.setitem(download.SETS, "mnist", (wrong, (address,)))
    with pytest.raises(OSError, match="hash of downloaded file"):
        data.fetch("mnist", tmp_path / "third")
    with pytest.raises(ValueError, match="fetch: name: expected one of mnist, fashion-mnist, cifar10, got 'svhn'"):
        data.fetch("svhn")


def damaged_tar(path):
    path.write_bytes(b"no tar" * 300)
    return TarShards(path)


def lonely_tar(path):
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.cls")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"3"))
    return TarShards(path)


def bad_image(folder):
    (folder / "a").mkdir()
    (folder / "a" / "bad.png").write_bytes(encoded(IMAGES[0])[:100])
    return ImageFolder(folder).read(np.array([0]))


def sizes_differ(folder):
    (folder / "a").mkdir()
    for number, image in enumerate((IMAGES[0], IMAGES[0][:, :5])):
        (folder / "a" / f"{number}.png").write_bytes(encoded(image))
    return ImageFolder(folder).read(np.arange(2))


def no_column(folder):
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), folder / "a.parquet")
    return Parquet(folder / "a.parquet")


def no_parquet(folder):
    (folder / "a.parquet").write_bytes(b"PAR1 and no more")
    return Parquet(folder / "a.parquet")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: ImageFolder(f / "nothing"), FileNotFoundError, "no such folder"),
        (lambda f: ImageFolder(f), FileNotFoundError, "expected a folder for each class, with images in it"),
        (lambda f: ImageFolder(f, channels=4), ValueError, "channels: expected 1 or 3, got 4"),
        (lambda f: TarShards(f / "x.tar"), FileNotFoundError, "x.tar: no such file"),
        (lambda f: damaged_tar(f / "x.tar"), ValueError, "x.tar: not a whole tar of samples"),
        (
            lambda f: lonely_tar(f / "x.tar"),
            ValueError,
            "sample '/a': expected an image and a .cls file",
        ),
        (bad_image, ValueError, r"bad.png: not a whole image"),
        (sizes_differ, ValueError, "size: expected one for images of different sizes"),
        (no_column, ValueError, r"a.parquet: expected a column 'image', got \['x'\]"),
        (no_parquet, ValueError, "a.parquet: "),
        (lambda f: Parquet(f / "*.parquet"), FileNotFoundError, "no such file"),
        (lambda f: data.cifar10(f), FileNotFoundError, "data_batch_1.bin"),
    ],
)
def test_bad_files(call, error, message, tmp_path):
    with pytest.raises(error, match=message):
        call(tmp_path)


def test_a_network_trains_on_a_folder(tmp_path):
    write_folder(fsspec.filesystem("file"), str(tmp_path / "set"))
    source = ImageFolder(tmp_path / "set", size=8)
    trainer = nnpar.Trainer(nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(192, 3)))
    history = trainer.fit(Loader(source, 5, workers=2), epochs=3, progress=False)
    assert history["loss"][-1] < history["loss"][0]
