"""IDX, the file format of MNIST: a shape, then numbers, all big-endian.

::

    offset    size  what
    0            2  zero
    2            1  type of the numbers
    3            1  number of dimensions d
    4        4 * d  sizes, uint32
    4 + 4*d         numbers, the last axis fastest

Source: Y. LeCun, C. Cortes, C. J. C. Burges, *The MNIST database of handwritten digits*,
http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nnpar.data import files

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# NumPy's own bound.
_MAX_DIMENSIONS = 64
# Bytes asked for at once: memory grows with the data that is there, not with what a header claims.
_CHUNK = 2**20


def read_idx(path: str | os.PathLike[str], max_bytes: int = 2**32) -> npt.NDArray[Any]:
    """Read one IDX file, gzipped or not.

    Parameters
    ----------
    path : str or path-like
        The file, or an address for fsspec. Its content tells whether it is gzipped, not its name.
    max_bytes : int
        Largest array to read: a small gzip file can unpack to more than the memory.

    Returns
    -------
    ndarray of the shape in the file, uint8, int8, int16, int32, float32 or float64
        In native byte order, writable.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not IDX, is cut off, goes on after its data, is damaged or holds an empty array.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/labels", "wb") as file:
    ...         _ = file.write(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(f"{folder}/labels")
    array([7, 2, 1], dtype=uint8)
    """
    import gzip

    with files.open_file(path) as file:
        zipped = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not zipped:
            return _read_stream(file, path, max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_stream(unpacked, path, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: expected a whole gzip file, got a damaged one: {error}") from error


def _read_stream(
    stream: IO[bytes] | io.BufferedIOBase, path: str | os.PathLike[str], max_bytes: int
) -> npt.NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        types = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise ValueError(f"{path}: expected an IDX file: 00 00, one of {types}, dimensions; got {magic.hex(' ')!r}")
    dtype, ndim = np.dtype(_DTYPES[magic[2]]), magic[3]
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"{path}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {ndim}")

    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError(f"{path}: expected {4 * ndim} bytes of sizes, got {len(sizes)}")
    shape = struct.unpack(f">{ndim}I", sizes)
    n_bytes = math.prod(shape) * dtype.itemsize
    if not 1 <= n_bytes <= max_bytes:
        raise ValueError(f"{path}: expected 1 to {max_bytes} bytes of data, got shape {shape}: {n_bytes} bytes")

    # Asking for one byte too many finds trailing data, and makes gzip reach its end and compare its checksum.
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, n_bytes + 1 - len(data))):
        data += chunk
    if len(data) != n_bytes:
        got = f"only {len(data)}" if len(data) < n_bytes else "more"
        raise ValueError(f"{path}: expected {n_bytes} bytes of data for shape {shape}, got {got}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
