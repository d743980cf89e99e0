"""Samples in NumPy's own files."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnpar.data import files
from nnpar.data.images import stacked
from nnpar.data.source import Samples, Source
from nnpar.data.units import MEBIBYTE, Cache, Mixing

IMAGES, LABELS = "images.npy", "labels.npy"  # how the names of files end


class NpyFiles(Source):
    """Arrays in pairs of files, ``NAMEimages.npy`` of shape (n, C, H, W) or (n, F) and ``NAMElabels.npy`` of shape
    (n, ...). Local ones are memory-mapped; at addresses, ranges of rows are read, about 1 MiB at a time.

    Parameters
    ----------
    paths : str, path-like or list of str
        A file of images, several, a folder of them, or a pattern with ``*``; local, or addresses for fsspec.
    mixed : int, optional
        How many ranges of rows a shuffled epoch has in work at a time in each stream, see :class:`Parquet`.
    streams : int
    cache_mb : float
        MiB of memory for ranges that were read over a network.

    Raises
    ------
    FileNotFoundError
        If there is none, or one of labels is missing.
    OSError
        If files cannot be read, after several attempts.
    ValueError
        If a file is no whole array, or arrays do not go together.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nnpar.data import NpyFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a-images.npy", np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2))
    ...     np.save(f"{folder}/a-labels.npy", np.arange(6))
    ...     images, labels, _ = NpyFiles(folder).read(np.array([4, 1]))
    >>> images.shape, labels.tolist()
    ((2, 1, 2, 2), [4, 1])
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | list[str],
        mixed: int | None = None,
        streams: int = 8,
        cache_mb: float = 512.0,
    ) -> None:
        self.name = os.fspath(paths) if not isinstance(paths, list) else paths[0]
        who = f"NpyFiles {self.name!r}"
        self._mixing = Mixing(mixed, streams, who)
        self._cache = Cache(self._load, cache_mb, who)
        self._image_files, self._label_files = files.OpenFile(), files.OpenFile()
        self._pairs: list[tuple[_Array, _Array]] = []
        units: list[tuple[int, int, int]] = []  # pair, first row, rows
        for number, path in enumerate(files.find(paths, (IMAGES,))):
            if not path.endswith(IMAGES):
                raise ValueError(f"{path}: expected a name that ends with {IMAGES}, and {LABELS} beside it")
            images, labels = _array(path), _array(path[: -len(IMAGES)] + LABELS)
            rows = images.shape[0]
            first = self._pairs[0][0] if self._pairs else images
            if len(images.shape) < 2 or images.shape[1:] != first.shape[1:] or labels.shape[:1] != (rows,):
                raise ValueError(
                    f"{path}: expected images of one shape {first.shape[1:]} and as many labels, got {images.shape} "
                    f"and labels of shape {labels.shape}"
                )
            self._pairs.append((images, labels))
            step = max(1, MEBIBYTE // max(1, images.row_bytes))
            units += [(number, start, min(step, rows - start)) for start in range(0, rows, step)]
        self._units = np.array(units, np.int64).reshape(-1, 3)
        self._ends = np.cumsum(self._units[:, 2])
        if not len(self):
            raise ValueError(f"{who}: expected at least one sample, got none")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def order(self, seed: int, epoch: int, batch_size: int) -> NDArray[np.int64]:
        return self._mixing.order(self._units[:, 2], seed, epoch, batch_size)

    def read(self, index: NDArray[np.int64]) -> Samples:
        images: list[Any] = [None] * len(index)
        labels: list[Any] = [None] * len(index)
        units = np.searchsorted(self._ends, index, side="right")
        for k in np.argsort(index, kind="stable"):  # in the order of the files
            unit = int(units[k])
            image_rows, label_rows = self._rows(unit)
            row = int(index[k] - self._ends[unit] + self._units[unit, 2])
            images[k], labels[k] = image_rows[row], label_rows[row]
        return stacked(images, f"NpyFiles {self.name!r}"), np.asarray(labels), None

    def _rows(self, unit: int) -> tuple[NDArray[Any], NDArray[Any]]:
        number, start, rows = self._units[unit].tolist()
        images, labels = (array.mapped for array in self._pairs[number])
        if images is not None and labels is not None:
            return images[start : start + rows], labels[start : start + rows]
        read: tuple[NDArray[Any], NDArray[Any]] = self._cache.get(unit)
        return read

    def _load(self, unit: int) -> tuple[tuple[NDArray[Any], NDArray[Any]], int]:
        number, start, rows = self._units[unit].tolist()
        images, labels = self._pairs[number]
        found = images.read(self._image_files, start, rows), labels.read(self._label_files, start, rows)
        return found, found[0].nbytes + found[1].nbytes


class _Array(NamedTuple):
    """An array in a file: its place there, or its memory map if the file is local."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begin: int
    mapped: NDArray[Any] | None

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, opened: files.OpenFile, start: int, rows: int) -> NDArray[Any]:
        """Some rows."""
        place, size = self.begin + start * self.row_bytes, rows * self.row_bytes
        data = opened.use(self.path, lambda file: files.read_at(file, place, size), f"rows {start} to {start + rows}")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])


def _array(path: str) -> _Array:
    def read() -> _Array:
        with files.open_file(path, ahead=False) as file:
            header = np.lib.format.read_array_header_1_0 if _version(file) == (1, 0) else _header_2_0
            shape, by_columns, dtype = header(file)
            begin = file.tell()
            size = file.seek(0, os.SEEK_END) or file.tell()
        expected = begin + math.prod(shape) * dtype.itemsize
        if by_columns or dtype.kind not in "biuf" or not shape or size != expected:
            order = "columns" if by_columns else "rows"
            raise ValueError(f"expected numbers by rows and {expected} bytes, got {dtype} by {order}, {size} bytes")
        mapped = None if files.is_address(path) else np.load(path, mmap_mode="r", allow_pickle=False)
        return _Array(path, shape, dtype, begin, mapped)

    try:
        return files.persistently(read, path)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a whole array: {error}") from error


def _version(file: Any) -> tuple[int, int]:
    version: tuple[int, int] = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"expected version 1.0 or 2.0 of the format, got {version}")
    return version


def _header_2_0(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    return np.lib.format.read_array_header_2_0(file)
