"""Named arrays in a safetensors file, with text as metadata."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, see :func:`replace`."""
    from safetensors.numpy import save

    replace(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=dict(metadata)))


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically and durably: temporary file beside it, fsync, rename, fsync of the folder.

    Raises
    ------
    OSError
        If it cannot be written; then an old file is as it was.
    """
    import tempfile

    folder, name = os.path.split(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # Ctrl-C right after the rename
            os.unlink(temporary)
        raise
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


PICKLES = (b"PK\x03\x04", b"\x80")  # how zip archives and pickles begin


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and metadata of a safetensors file. Numbers in bfloat16 become float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, no safetensors file, or holds numbers of a type that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    _check_kind(name)
    try:
        with safe_open(name, framework="numpy") as file:
            types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
            unknown = [f"{key} ({kind})" for key, kind in types.items() if kind.startswith(("F4", "F6_", "F8_"))]
            if unknown:
                raise ValueError(f"expected numbers of 16 bits or more, got {', '.join(unknown)}")
            arrays = {key: file.get_tensor(key) for key, kind in types.items() if kind != "BF16"}
            halves = {key: file.get_slice(key).get_shape() for key, kind in types.items() if kind == "BF16"}
            metadata = file.metadata() or {}
        if halves:
            arrays |= _read_bfloat16(name, halves)
        return {key: arrays[key] for key in types}, metadata
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except (SafetensorError, OSError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{name}: not a whole safetensors file: {error}") from error


def _check_kind(path: str) -> None:
    """It is a file, and no pickle: what PyTorch saves by itself can execute anything when it is read."""
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: expected a file, got a folder, a pipe or a link to nowhere")
    with open(path, "rb") as file:
        start = file.read(9)
    # The same bytes could be the length of a safetensors file's header, which a brace follows.
    if start.startswith(PICKLES) and start[8:] != b"{":
        raise ValueError(
            f"{path}: expected a safetensors file, got a pickle or zip archive, as torch.save writes it; to convert: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
        )


def _read_bfloat16(path: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
    """Arrays that NumPy has no type for: the upper halves of float32 numbers. The file has been checked."""
    import json

    arrays: dict[str, NDArray[Any]] = {}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, shape in shapes.items():
            file.seek(8 + length + header[name]["data_offsets"][0])
            halves = np.fromfile(file, "<u2", math.prod(shape))
            arrays[name] = (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return arrays
