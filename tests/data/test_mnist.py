"""mnist: small files made here, and the real ones where they are at hand."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from nnpar.data import mnist

FOLDER = Path(os.environ.get("NNPAR_TEST_MNIST", Path(__file__).parents[3] / "shared" / "data" / "mnist"))


def idx(array: np.ndarray) -> bytes:
    code = {"uint8": 0x08, "int8": 0x09}[array.dtype.name]
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_mnist() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (12, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.array([9, 0, 4], np.uint8),
    }


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("gzipped", [False, True])
def test_reads_the_four_files_under_each_spelling(tmp_path, dotted, gzipped):
    arrays = small_mnist()
    for name, array in arrays.items():
        spelling = (name.replace("-idx", ".idx") if dotted else name) + (".gz" if gzipped else "")
        (tmp_path / spelling).write_bytes(gzip.compress(idx(array)) if gzipped else idx(array))
    for dataset, part in zip(mnist(tmp_path), ("train", "t10k"), strict=True):
        pixels = arrays[f"{part}-images-idx3-ubyte"][:, np.newaxis]
        np.testing.assert_array_equal(dataset.images, pixels.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(dataset.labels, arrays[f"{part}-labels-idx1-ubyte"])
        assert (dataset.images.dtype, dataset.labels.dtype) == (np.float32, np.int64)
        assert (dataset.images.min(), dataset.images.max()) == (0, 1)
        assert dataset.class_names == tuple("0123456789")
        assert dataset.name == str(tmp_path / part)


@pytest.mark.parametrize("gzipped", [False, True])
def test_reads_them_at_an_address(gzipped):
    fsspec = pytest.importorskip("fsspec")
    arrays = small_mnist()
    for name, array in arrays.items():
        with fsspec.open(f"memory://mnist-{gzipped}/{name}{'.gz' if gzipped else ''}", "wb") as file:
            file.write(gzip.compress(idx(array)) if gzipped else idx(array))
    train, test = mnist(f"memory://mnist-{gzipped}")
    np.testing.assert_array_equal(train.labels, arrays["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(test.labels, arrays["t10k-labels-idx1-ubyte"])
    with pytest.raises(FileNotFoundError, match="missing: train-images"):
        mnist("memory://nowhere")


@pytest.mark.parametrize("present", range(4))
def test_names_all_missing_files(tmp_path, present):
    arrays = small_mnist()
    missing = list(arrays)[present:]
    write(tmp_path, {name: array for name, array in arrays.items() if name not in missing})
    with pytest.raises(FileNotFoundError, match=f"missing: {', '.join(missing)}$"):
        mnist(str(tmp_path))


def test_names_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-folder: expected MNIST's files"):
        mnist(tmp_path / "no-such-folder")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros(12, np.uint8), r"expected uint8 of shape \(N, 28, 28\), got uint8"),
        ("train-images-idx3-ubyte", np.zeros((12, 28, 28), np.int8), "expected uint8 .* got int8"),
        ("t10k-images-idx3-ubyte", np.zeros((3, 28, 27), np.uint8), r"got uint8 of shape \(3, 28, 27\)"),
        ("t10k-labels-idx1-ubyte", np.zeros((3, 1), np.uint8), r"expected uint8 of shape \(N\), got .* \(3, 1\)"),
        ("t10k-labels-idx1-ubyte", np.zeros(3, np.int8), "expected uint8 .* got int8"),
        ("t10k-labels-idx1-ubyte", np.zeros(4, np.uint8), r"t10k': expected labels for 3 images, got .* \(4,\)"),
        ("train-labels-idx1-ubyte", np.arange(12, dtype=np.uint8), "train': expected labels 0 to 9, .* got 0 to 11"),
    ],
)
def test_refuses_what_is_not_mnist(tmp_path, name, array, message):
    write(tmp_path, {**small_mnist(), name: array})
    with pytest.raises(ValueError, match=message):
        mnist(tmp_path)


def test_real_mnist():
    if not FOLDER.is_dir():
        pytest.skip("no MNIST here: set NNPAR_TEST_MNIST to the folder of its four files")
    train, test = mnist(FOLDER)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    for dataset in (train, test):
        assert (dataset.images.min(), dataset.images.max()) == (0, 1)
