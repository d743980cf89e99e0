"""Files wherever they are: local paths, and addresses such as ``s3://``, ``hdfs://`` or ``https://`` by fsspec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

EXTRA = "pip install 'nnpar[data]'"


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it is for fsspec."""
    return "://" in os.fspath(path)


def file_system(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The file system of an address, and the path there.

    Raises
    ------
    ImportError
        If fsspec, or what it needs for this kind of address, is missing.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f"{os.fspath(path)}: fsspec is needed for addresses: {EXTRA}") from error
    system, inside = url_to_fs(os.fspath(path))
    return system, inside


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A file, open for reading bytes at any place.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not is_address(path):
        return open(path, "rb")
    system, inside = file_system(path)
    opened: BinaryIO = system.open(inside, "rb")
    return opened


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file."""
    if not is_address(path):
        return os.path.isfile(path)
    system, inside = file_system(path)
    found: bool = system.isfile(inside)
    return found


def find(paths: str | os.PathLike[str] | list[str] | tuple[str, ...], suffixes: tuple[str, ...]) -> list[str]:
    """Files by their names: one, several, those of a folder with such suffixes, or those that a pattern with ``*``
    fits; in order.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if isinstance(paths, (list, tuple)):
        return [found for path in paths for found in find(path, suffixes)]
    text = os.fspath(paths)
    if is_address(text):
        system, inside = file_system(text)
        protocol = text.split("://")[0]
        if "*" in inside:
            names = system.glob(inside)
        elif system.isdir(inside):
            names = [name for name in system.find(inside) if name.endswith(suffixes)]
        else:
            names = [inside] if system.exists(inside) else []
        found = [f"{protocol}://{name}" for name in sorted(names)]
    elif "*" in text:
        base = Path(text)
        found = sorted(str(path) for path in base.parent.glob(base.name))
    elif os.path.isdir(text):
        found = sorted(str(path) for path in Path(text).iterdir() if path.name.endswith(suffixes))
    else:
        found = [text] if os.path.exists(text) else []
    if not found:
        raise FileNotFoundError(f"{text}: no such file, and none in it that ends with {' or '.join(suffixes)}")
    return found
