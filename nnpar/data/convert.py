"""Data sets as shards: files of about as many samples each, that many processes read at a time."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar.data import files, npy, parquet, shards
from nnpar.data.images import ImageFolder, read_file
from nnpar.data.source import Source, as_source
from nnpar.data.units import MEBIBYTE

__all__ = ["convert"]

UNIT_BYTES = MEBIBYTE  # of samples that are read, and written as one row group
Sample = tuple[Any, Any]  # an array, or the bytes and the suffix of an image file; and its label


def convert(
    source: Any, output: str | os.PathLike[str], format: str = "parquet", rows_per_shard: int = 10_000
) -> list[str]:
    """Write a data set as shards, which :class:`Parquet`, :class:`TarShards` or :class:`NpyFiles` read again: the same
    samples in the same order, arrays with the same bits. Images of an :class:`ImageFolder` without arguments stay
    encoded as they are, except in ``.npy`` files.

    The folder is there as a whole, or not at all: files are written into another one beside it, which is renamed at the
    end. Stores without folders, such as S3, copy the files then, and a process that is killed meanwhile leaves a part.

    Parameters
    ----------
    source : Source, Dataset, arrays, samples, or mapping of str to such
        See :mod:`nnpar.data`; each of a mapping goes into a folder of its name within `output`.
    output : str or path-like
        A folder that is not there yet; local, or an address for fsspec.
    format : {"parquet", "tar", "npy"}
        Tar files hold class numbers as labels only.
    rows_per_shard : int
        Samples of a file; the last one has what is left.

    Returns
    -------
    list of str
        The files.

    Raises
    ------
    FileExistsError
        If `output` is there.
    ImportError
        If pyarrow is missing for Parquet, or fsspec for an address.
    OSError
        If it cannot be written, or read.
    ValueError
        If there is no such format, or it cannot hold the samples.

    Examples
    --------
    >>> import tempfile
    >>> from nnpar import data
    >>> train, test = data.digits()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     names = convert(test, f"{folder}/digits", "npy", rows_per_shard=250)
    ...     images, labels, _ = data.NpyFiles(f"{folder}/digits").read(np.arange(359))
    >>> [name.rpartition("/")[2] for name in names]
    ['00000-images.npy', '00000-labels.npy', '00001-images.npy', '00001-labels.npy']
    >>> bool((images == test.images).all() and (labels == test.labels).all())
    True
    """
    if format not in WRITERS:
        raise ValueError(f"convert: format: expected one of {', '.join(WRITERS)}, got {format!r}")
    rows_per_shard = _checks.integer(rows_per_shard, "convert", "rows_per_shard", 1)
    parts = source if isinstance(source, Mapping) else {"": source}
    sources = {name: as_source(part, "convert") for name, part in parts.items()}
    place = os.fspath(output).rstrip("/")
    folder = _Remote(place) if files.is_address(place) else _Local(place)
    if folder.exists():
        raise FileExistsError(f"convert: {place}: is there already: remove it, or name another place")
    names: list[str] = []
    try:
        for name, part in sources.items():
            prefix = f"{name}/" if name else ""
            folder.make(name)
            names += [f"{place}/{prefix}{file}" for file in _write(part, folder, prefix, format, rows_per_shard)]
        folder.finish()
    except BaseException as error:
        folder.remove()
        if files.is_storage_error(error) and not isinstance(error, OSError):
            raise OSError(f"convert: {place}: {error}") from error
        raise
    return names


def _write(source: Source, folder: _Local | _Remote, prefix: str, format: str, rows_per_shard: int) -> Iterator[str]:
    encoded = isinstance(source, ImageFolder) and source.encoded and format != "npy"
    step = _step(source, encoded)
    for shard, start in enumerate(range(0, len(source), rows_per_shard)):
        stop = min(start + rows_per_shard, len(source))
        units = (np.arange(at, min(at + step, stop)) for at in range(start, stop, step))
        samples = (_encoded(source, index) if encoded else _arrays(source, index) for index in units)
        yield from WRITERS[format](folder, f"{prefix}{shard:05}", samples, stop - start, source)


def _step(source: Source, encoded: bool) -> int:
    """How many samples make about `UNIT_BYTES`."""
    (sample, _), *_ = _encoded(source, np.arange(1)) if encoded else _arrays(source, np.arange(1))
    return max(1, UNIT_BYTES // (len(sample[0]) if encoded else sample.nbytes))


def _encoded(source: Source, index: NDArray[np.int64]) -> list[Sample]:
    assert isinstance(source, ImageFolder)
    paths = [source.paths[number] for number in index]
    return [
        ((read_file(path), os.path.splitext(path)[1].lower()), source.labels[number])
        for path, number in zip(paths, index, strict=True)
    ]


def _arrays(source: Source, index: NDArray[np.int64]) -> list[Sample]:
    """Bytes, or what a loader makes of other types, float32."""
    images, labels, weights = source.read(index)
    if weights is not None:
        raise ValueError(f"convert: {source!r}: weights of samples cannot be written")
    images, labels = np.asarray(images), np.asarray(labels)
    for what, array in (("images", images), ("labels", labels)):
        if array.dtype.kind not in "biuf" or len(array) != len(index):
            raise ValueError(
                f"convert: {source!r}: expected numbers as {what} of {len(index)} samples, got {array.dtype} of shape "
                f"{array.shape}"
            )
    if images.dtype != np.uint8:
        images = images.astype(np.float32, copy=False)
    labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64, copy=False)
    return list(zip(np.ascontiguousarray(images), labels, strict=True))


def _stack(arrays: list[Any], who: str) -> NDArray[Any]:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"convert: {who}: expected images of one shape, got {shapes[:3]}")
    return np.stack(arrays)


def _write_parquet(
    folder: _Local | _Remote, stem: str, units: Iterator[list[Sample]], rows: int, source: Source
) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"convert: pyarrow is needed for Parquet: {files.EXTRA}") from error
    metadata = {parquet.CLASS_NAMES: json.dumps(list(source.class_names))} if source.class_names else None
    name = f"{stem}.parquet"
    writer = None
    with folder.create(name) as file:
        for samples in units:
            images, labels = zip(*samples, strict=True)
            columns = [_column(images, source.name), _column(labels, source.name)]
            table = pyarrow.table(columns, names=["image", "label"]).replace_schema_metadata(metadata)
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=len(samples))
        assert writer is not None
        writer.close()
    yield name.rpartition("/")[2]


def _column(values: tuple[Any, ...], who: str) -> Any:
    """Numbers, tensors, or bytes of files."""
    import pyarrow

    if isinstance(values[0], tuple):
        return pyarrow.array([data for data, _ in values], pyarrow.binary())
    array = _stack(list(values), who)
    return pyarrow.array(array) if array.ndim == 1 else pyarrow.FixedShapeTensorArray.from_numpy_ndarray(array)


def _write_tar(
    folder: _Local | _Remote, stem: str, units: Iterator[list[Sample]], rows: int, source: Source
) -> Iterator[str]:
    import tarfile

    name = f"{stem}.tar"
    with folder.create(name) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for number, (image, label) in enumerate(itertools.chain.from_iterable(units)):
            if np.shape(label) or np.asarray(label).dtype.kind not in "iu":
                raise ValueError(f"convert: {source!r}: tar: expected class numbers as labels, got {label!r:.60}")
            data, suffix = image if isinstance(image, tuple) else (_npy(image), shards.ARRAY)
            for ending, content in ((suffix, data), (".cls", str(int(label)).encode())):
                member = tarfile.TarInfo(f"{number:08}{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    yield name.rpartition("/")[2]


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_npy(
    folder: _Local | _Remote, stem: str, units: Iterator[list[Sample]], rows: int, source: Source
) -> Iterator[str]:
    names = [f"{stem}-{npy.IMAGES}", f"{stem}-{npy.LABELS}"]
    with folder.create(names[0]) as image_file, folder.create(names[1]) as label_file:
        shapes: list[tuple[int, ...]] = []
        for samples in units:
            for which, (file, values) in enumerate(
                zip((image_file, label_file), zip(*samples, strict=True), strict=True)
            ):
                array = _stack(list(values), source.name)
                if len(shapes) < 2:
                    header = {"descr": array.dtype.str, "fortran_order": False, "shape": (rows, *array.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                    shapes.append(array.shape[1:])
                if array.shape[1:] != shapes[which]:
                    raise ValueError(
                        f"convert: {source!r}: expected samples of one shape, got {shapes[which]} and {array.shape[1:]}"
                    )
                file.write(array.tobytes())
    for name in names:
        yield name.rpartition("/")[2]


WRITERS: dict[str, Any] = {"parquet": _write_parquet, "tar": _write_tar, "npy": _write_npy}


def _temporary(path: str) -> str:
    """A name beside a path."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{secrets.token_hex(4)}.tmp"


class _Local:
    """A folder that is written under another name."""

    def __init__(self, path: str) -> None:
        self._path, self._at = path, _temporary(path)

    def exists(self) -> bool:
        return os.path.lexists(self._path)

    def make(self, name: str) -> None:
        os.makedirs(os.path.join(self._at, name))

    def create(self, name: str) -> BinaryIO:
        return open(os.path.join(self._at, name), "xb")

    def finish(self) -> None:
        for folder, _, names in os.walk(self._at):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    os.fsync(file.fileno())  # a name that outlives a power failure has all bytes
        os.rename(self._at, self._path)

    def remove(self) -> None:
        shutil.rmtree(self._at, ignore_errors=True)


class _Remote:
    """The same at an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._system, self._path = files.file_system(address)
        self._at = _temporary(self._path)

    def exists(self) -> bool:
        found: bool = files.persistently(lambda: self._system.exists(self._path), self._address)
        return found

    def make(self, name: str) -> None:
        self._system.makedirs(f"{self._at}/{name}".rstrip("/"), exist_ok=True)

    def create(self, name: str) -> BinaryIO:
        opened = self._system.open(f"{self._at}/{name}", "wb")
        # Some file systems send each piece by itself; writers make many small ones.
        buffered: BinaryIO = io.BufferedWriter(opened, files.BUFFER) if isinstance(opened, io.RawIOBase) else opened
        return buffered

    def finish(self) -> None:
        from fsspec import AbstractFileSystem

        if type(self._system).mv is not AbstractFileSystem.mv:  # a renaming of its own
            self._system.mv(self._at, self._path, recursive=True)
            if not self.exists():
                raise OSError(f"convert: {self._address}: {self._at} could not be renamed")
            return
        try:
            for name in self._system.find(self._at):
                self._system.copy(name, self._path + name[len(self._at) :])
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm(self._path, recursive=True)
            raise
        self._system.rm(self._at, recursive=True)

    def remove(self) -> None:
        with contextlib.suppress(Exception):  # what is raised is why it was given up
            self._system.rm(self._at, recursive=True)
