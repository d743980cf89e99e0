"""Samples in shards: tar files in WebDataset's form, and Parquet files."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import IntOrPair
from nnpar.data import files
from nnpar.data.images import SUFFIXES, Decoder, LocalFile, stacked
from nnpar.data.source import Samples, Source


class TarShards(Source):
    """Tar files in WebDataset's form: files of one sample follow each other and have one name but for the extension, an
    image and ``.cls``, a class number as text. The tars' headers are read once; samples are then read at their places.

    Parameters
    ----------
    paths : str, path-like or list of str
        A tar, several, a folder of them, or a pattern with ``*``; local, or addresses for fsspec. Not compressed.
    size : int or (int, int), optional
        See :class:`ImageFolder`.
    channels : {3, 1}

    Raises
    ------
    FileNotFoundError
        If there is none.
    ImportError
        If pillow is missing.
    ValueError
        If a file is no whole tar, or a sample lacks its image or its class.
    """

    def __init__(
        self, paths: str | os.PathLike[str] | list[str], size: IntOrPair | None = None, channels: int = 3
    ) -> None:
        self.name = os.fspath(paths) if not isinstance(paths, list) else paths[0]
        self._decode = Decoder(size, channels, f"TarShards {self.name!r}")
        self._shards = files.find(paths, (".tar",))
        places: list[tuple[int, int, int, int]] = []
        for number, shard in enumerate(self._shards):
            places += [(number, *place) for place in _samples_of(shard)]
        self._places = np.array(places, np.int64)
        self._files = LocalFile()

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: NDArray[np.int64]) -> Samples:
        images: list[Any] = [None] * len(index)
        for k in np.argsort(index, kind="stable"):  # in the order of the shards
            shard, at, size, _ = self._places[index[k]].tolist()
            file = self._files.of(self._shards[shard])
            file.seek(at)
            images[k] = self._decode(file.read(size), f"{self._shards[shard]}, at {at}")
        return stacked(images, f"TarShards {self.name!r}"), self._places[index, 3], None


def _samples_of(shard: str) -> list[tuple[int, int, int]]:
    """Where each sample's image begins, its size, and the class."""
    import tarfile

    samples: dict[str, dict[str, Any]] = {}
    try:
        with files.open_file(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}", {})
                if f".{extension.lower()}" in SUFFIXES:
                    sample["image"] = member.offset_data, member.size
                elif extension == "cls":
                    taken = tar.extractfile(member)
                    assert taken is not None
                    sample["class"] = int(taken.read(32))
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise ValueError(f"{shard}: not a whole tar of samples: {error}") from error
    for name, sample in samples.items():
        if len(sample) < 2:
            raise ValueError(
                f"{shard}: sample {name!r}: expected an image and a .cls file, got {', '.join(sample) or 'none'}"
            )
    return [(*sample["image"], sample["class"]) for sample in samples.values()]


class Parquet(Source):
    """Rows of Parquet files: a column of encoded images, or of numbers, and one of labels.

    Parameters
    ----------
    paths : str, path-like or list of str
        A file, several, a folder of them, or a pattern with ``*``; local, or addresses for fsspec.
    image : str
        Column of files' bytes, of structs with a field ``bytes``, as Hugging Face's data sets have them, or of lists of
        numbers.
    label : str
        Column of class numbers, or of numbers.
    size : int or (int, int), optional
        Of encoded images, see :class:`ImageFolder`.
    channels : {3, 1}
    shape : tuple of int, optional
        Of one sample, such as (1, 28, 28), where the column has lists of numbers.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ImportError
        If pyarrow or pillow is missing.
    ValueError
        If there is no such column, or a file is damaged.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | list[str],
        image: str = "image",
        label: str = "label",
        size: IntOrPair | None = None,
        channels: int = 3,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.name = os.fspath(paths) if not isinstance(paths, list) else paths[0]
        who = f"Parquet {self.name!r}"
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(f"{who}: pyarrow is needed: {files.EXTRA}") from error
        self._columns, self._shape = (image, label), shape
        self._decode = None if shape is not None else Decoder(size, channels, who)
        self._paths = files.find(paths, (".parquet",))
        self._open: Any = pyarrow.parquet.ParquetFile
        groups: list[tuple[int, int, int]] = []  # file, row group, rows
        for number, path in enumerate(self._paths):
            try:
                with files.open_file(path) as file:
                    opened = self._open(file)
                    missing = [column for column in self._columns if column not in opened.schema_arrow.names]
                    if missing:
                        raise ValueError(f"expected a column {missing[0]!r}, got {opened.schema_arrow.names}")
                    for group in range(opened.num_row_groups):
                        groups.append((number, group, opened.metadata.row_group(group).num_rows))
            except (pyarrow.ArrowException, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._ends = np.cumsum(self._groups[:, 2])
        self._file, self._cached = LocalFile(), _Cached()
        if not len(self):
            raise ValueError(f"{who}: expected at least one row, got none")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, index: NDArray[np.int64]) -> Samples:
        images: list[Any] = [None] * len(index)
        labels: list[Any] = [None] * len(index)
        for k in np.argsort(index, kind="stable"):  # in the order of the files
            group = int(np.searchsorted(self._ends, index[k], side="right"))
            table = self._table(group)
            row = int(index[k] - (self._ends[group] - self._groups[group, 2]))
            images[k] = self._image(table[0][row].as_py(), f"row {index[k]}")
            labels[k] = table[1][row].as_py()
        return stacked(images, f"Parquet {self.name!r}"), np.asarray(labels), None

    def _table(self, group: int) -> Any:
        """The two columns of a row group, kept until this thread wants another."""
        if self._cached.group != group:
            number, part, _ = self._groups[group].tolist()
            table = self._open(self._file.of(self._paths[number])).read_row_group(part, columns=list(self._columns))
            self._cached.group, self._cached.table = group, [table[name] for name in self._columns]
        return self._cached.table

    def _image(self, value: Any, name: str) -> NDArray[Any]:
        if self._decode is None:
            array = np.asarray(value)
            if array.size != np.prod(self._shape):  # type: ignore[arg-type]
                raise ValueError(f"Parquet {self.name!r}: {name}: expected {self._shape} numbers, got {array.shape}")
            numbers = array if array.dtype == np.uint8 else array.astype(np.float32)
            return numbers.reshape(self._shape)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(
                f"Parquet {self.name!r}: {name}: expected an encoded image, got {type(data).__name__}; or give shape"
            )
        return self._decode(data, name)


class _Cached(threading.local):
    """The row group that a thread read last."""

    group = -1
    table: Any = None
