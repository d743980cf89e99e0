"""Samples in Parquet files, read by row groups."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import IntOrPair
from nnpar.data import files
from nnpar.data.images import Decoder, stacked
from nnpar.data.source import Samples, Source
from nnpar.data.units import Cache, Mixing

CLASS_NAMES = b"nnpar.class_names"  # in a schema's metadata: a list, as JSON
READERS = 16  # threads that read what files at addresses have in them


class Parquet(Source):
    """Rows of Parquet files: a column of encoded images, or of numbers, and one of labels.

    Files are read by row groups, of which those that were read lately are kept in memory. Give `mixed` where they are
    not all: then a shuffled epoch reads each about once, and each of several processes its share of them.

    Parameters
    ----------
    paths : str, path-like or list of str
        A file, several, a folder of them, or a pattern with ``*``; local, or addresses for fsspec.
    image : str
        Column of files' bytes, of structs with a field ``bytes``, as Hugging Face's data sets have them, of tensors of
        one shape, as ``nnpar data convert`` writes them, or of lists of numbers.
    label : str
        Column of class numbers, of numbers, or of tensors.
    size : int or (int, int), optional
        Of encoded images, see :class:`ImageFolder`.
    channels : {3, 1}
    shape : tuple of int, optional
        Of one sample, such as (1, 28, 28), where the column has lists of numbers.
    mixed : int, optional
        How many row groups a shuffled epoch has in work at a time in each stream; any permutation of all rows if None.
        See the notes.
    streams : int
        Equal parts of each batch, which have row groups of their own: a multiple of the number of processes, so that
        no two read the same, but for groups between streams.
    cache_mb : float
        MiB of memory for row groups. With `mixed`, those of `mixed` + 1 groups of each stream that a process reads
        should fit.

    Attributes
    ----------
    class_names : tuple of str
        As ``nnpar data convert`` wrote them.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ImportError
        If pyarrow or pillow is missing.
    OSError
        If files cannot be read, after several attempts.
    ValueError
        If there is no such column, or a file is damaged.

    Notes
    -----
    With `mixed`, an epoch's order is this: row groups are shuffled, and dealt to the streams; a stream takes its groups
    one after the other, and spreads the rows of each over those of the next `mixed` - 1, in random order. Like any
    order in nnpar, it depends on the seed, the epoch and the batch size alone, not on the number of processes.

    Examples
    --------
    >>> import tempfile
    >>> from nnpar import data
    >>> from nnpar.data.convert import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     names = convert(data.digits()[1], f"{folder}/test", "parquet", rows_per_shard=200)
    ...     source = data.Parquet(f"{folder}/test", mixed=4)
    ...     images, labels, _ = source.read(source.order(seed=0, epoch=0, batch_size=32)[:32])
    >>> len(names), len(source), images.shape
    (2, 359, (32, 1, 8, 8))
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | list[str],
        image: str = "image",
        label: str = "label",
        size: IntOrPair | None = None,
        channels: int = 3,
        shape: Sequence[int] | None = None,
        mixed: int | None = None,
        streams: int = 8,
        cache_mb: float = 512.0,
    ) -> None:
        self.name = os.fspath(paths) if not isinstance(paths, list) else paths[0]
        self._who = f"Parquet {self.name!r}"
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(f"{self._who}: pyarrow is needed: {files.EXTRA}") from error
        self._columns, self._shape = (image, label), None if shape is None else tuple(shape)
        self._mixing = Mixing(mixed, streams, self._who)
        self._cache = Cache(self._load, cache_mb, self._who)
        self._paths = files.find(paths, (".parquet",))
        self._open: Any = pyarrow.parquet.ParquetFile
        self._damaged: Any = pyarrow.ArrowException
        self._footers = self._read_footers()
        schemas = [footer.schema.to_arrow_schema() for footer in self._footers]
        for path, schema in zip(self._paths, schemas, strict=True):
            missing = [column for column in self._columns if column not in schema.names]
            if missing:
                raise ValueError(f"{path}: expected a column {missing[0]!r}, got {schema.names}")
        self.class_names = tuple(json.loads((schemas[0].metadata or {}).get(CLASS_NAMES, b"[]")))
        numbers = self._shape is not None or all(_is_tensor(schema.field(image).type) for schema in schemas)
        self._decode = None if numbers else Decoder(size, channels, self._who)
        self._groups = [
            (number, group) for number, footer in enumerate(self._footers) for group in range(footer.num_row_groups)
        ]
        rows = [self._footers[number].row_group(group).num_rows for number, group in self._groups]
        self._rows = np.array(rows, np.int64)
        self._ends = np.cumsum(self._rows)
        self._files = files.OpenFile()
        if not len(self):
            raise ValueError(f"{self._who}: expected at least one row, got none")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def order(self, seed: int, epoch: int, batch_size: int) -> NDArray[np.int64]:
        return self._mixing.order(self._rows, seed, epoch, batch_size)

    def read(self, index: NDArray[np.int64]) -> Samples:
        images: list[Any] = [None] * len(index)
        labels: list[Any] = [None] * len(index)
        groups = np.searchsorted(self._ends, index, side="right")
        for k in np.argsort(index, kind="stable"):  # in the order of the files
            group: _Group = self._cache.get(int(groups[k]))
            row = int(index[k]) - group.first
            images[k] = group.images[row] if self._decode is None else self._decoded(group, row)
            labels[k] = group.labels[row]
        return stacked(images, self._who), np.asarray(labels), None

    def _read_footers(self) -> list[Any]:
        if not any(map(files.is_address, self._paths)):
            return [self._footer(path) for path in self._paths]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(READERS, len(self._paths))) as pool:
            return list(pool.map(self._footer, self._paths))

    def _footer(self, path: str) -> Any:
        def read() -> Any:
            with files.open_file(path, ahead=False) as file:
                return self._open(file).metadata

        try:
            return files.persistently(read, path)
        except (self._damaged, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def _load(self, number: int) -> tuple[_Group, int]:
        """A row group, and its bytes in memory."""
        (file, part), first = self._groups[number], int(self._ends[number] - self._rows[number])
        path = self._paths[file]
        footer = self._footers[file]
        what = f"rows {first} to {first + self._rows[number]} of the data set"
        try:
            table = self._files.use(
                path, lambda opened: self._open(opened, metadata=footer).read_row_group(part, list(self._columns)), what
            )
        except (self._damaged, ValueError) as error:
            raise ValueError(f"{path}, {what}: {error}") from error
        image, label = (table[name].combine_chunks() for name in self._columns)
        for name, column in zip(self._columns, (image, label), strict=True):
            if column.null_count:
                row = first + column.is_null().to_pylist().index(True)
                raise ValueError(f"{self._who}: row {row}: expected a value in column {name!r}, got none")
        images = image if self._decode is not None else self._numbers(image, first)
        labels = _labels(label)
        return _Group(first, images, labels), images.nbytes + labels.nbytes

    def _numbers(self, column: Any, first: int) -> NDArray[Any]:
        """Images of a column of tensors or lists."""
        if _is_tensor(column.type):
            array = column.to_numpy_ndarray()
            if self._shape is not None and array.shape[1:] != self._shape:
                raise ValueError(f"{self._who}: row {first}: expected {self._shape} numbers, got {array.shape[1:]}")
        else:
            assert self._shape is not None
            lengths, size = _lengths(column), int(np.prod(self._shape))
            for row in np.flatnonzero(lengths != size)[:1]:
                got = (int(lengths[row]),)
                raise ValueError(f"{self._who}: row {first + row}: expected {self._shape} numbers, got {got}")
            array = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *self._shape)
        images: NDArray[Any] = array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)
        return images

    def _decoded(self, group: _Group, row: int) -> NDArray[np.uint8]:
        assert self._decode is not None
        name = f"row {group.first + row}"
        value = group.images[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(
                f"{self._who}: {name}: expected an encoded image, got {type(data).__name__}; or give shape"
            )
        return self._decode(data, name)


class _Group(NamedTuple):
    """A row group: the number of its first row, images as an array, or as a column where they are encoded, labels."""

    first: int
    images: Any
    labels: NDArray[Any]


def _is_tensor(kind: Any) -> bool:
    return getattr(kind, "extension_name", None) == "arrow.fixed_shape_tensor"


def _lengths(column: Any) -> NDArray[np.int64]:
    """Of a column's lists; 1 each where it has none."""
    import pyarrow.compute

    nested = pyarrow.types.is_nested(column.type) and not pyarrow.types.is_struct(column.type)
    if not nested:
        return np.ones(len(column), np.int64)
    lengths: NDArray[np.int64] = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    return lengths


def _labels(column: Any) -> NDArray[Any]:
    import pyarrow

    if _is_tensor(column.type):
        tensors: NDArray[Any] = column.to_numpy_ndarray()
        return tensors
    if pyarrow.types.is_primitive(column.type):
        numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return numbers
    return np.asarray(column.to_pylist())
