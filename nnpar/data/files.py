"""Files wherever they are: local paths, and addresses such as ``s3://``, ``hdfs://`` or ``https://`` by fsspec.

Machines that keep files go away, and others have copies: what fails is tried again, on files that are opened anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

EXTRA = "pip install 'nnpar[data]'"
ATTEMPTS = 6
WAIT = 0.25  # seconds after the first, twice as many after each other one
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)  # not tried again
CLIENTS = ("aiohttp", "botocore", "fsspec")  # whose own errors are no OSErrors, all of them

BUFFER = 2**22  # bytes

T = TypeVar("T")


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether it is for fsspec."""
    return "://" in os.fspath(path)


def is_storage_error(error: BaseException) -> bool:
    """Whether storage or the way to it failed, rather than what was asked for being wrong."""
    # hdfs-native raises plain RuntimeErrors, fsspec's timeouts are OSErrors from Python 3.11 on.
    return (
        isinstance(error, OSError) or type(error) is RuntimeError or type(error).__module__.partition(".")[0] in CLIENTS
    )


def persistently(action: Callable[[], T], what: str) -> T:
    """What an action gives, which is tried again where storage fails.

    Raises
    ------
    OSError
        If all attempts fail; it names what was read.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except FINAL:
            raise
        except Exception as error:
            if not is_storage_error(error):
                raise
            if attempt == ATTEMPTS:
                raise OSError(f"{what}: {ATTEMPTS} attempts failed, the last with: {error}") from error
            time.sleep(WAIT * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")


def file_system(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The file system of an address, and the path there.

    Raises
    ------
    ImportError
        If fsspec, or what it needs for this kind of address, is missing.
    """
    import importlib.util

    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f"{os.fspath(path)}: fsspec is needed for addresses: {EXTRA}") from error
    try:
        system, inside = url_to_fs(os.fspath(path))
    except (ImportError, OSError) as error:
        # fsspec has an `hdfs` of its own, which wants Hadoop's libraries and Java.
        if os.fspath(path).startswith("hdfs://") and importlib.util.find_spec("hdfs_native") is None:
            reason = "hdfs-native is needed: pip install 'nnpar[hdfs]'"
            raise ImportError(f"{os.fspath(path)}: {reason}") from error
        if isinstance(error, ImportError):
            raise ImportError(f"{os.fspath(path)}: {error}") from error
        raise
    return system, inside


def address_of(root: str, inside: str, name: str) -> str:
    """The address of a file, from that of another place, `root`, the path there, and the file's path: with the host
    and port that paths lack.
    """
    root = root.rstrip("/")
    return root[: len(root) - len(inside.rstrip("/"))] + name


def open_file(path: str | os.PathLike[str], ahead: bool = True) -> BinaryIO:
    """A file, open for reading bytes at any place.

    Parameters
    ----------
    path : str or path-like
    ahead : bool
        Whether what comes after the bytes that are wanted may be read, too; False where wanted bytes are far apart.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not is_address(path):
        return open(path, "rb")
    if ahead:
        return io.BufferedReader(_Steady(os.fspath(path)), BUFFER)
    system, inside = file_system(path)
    opened: BinaryIO = system.open(inside, "rb", cache_type="none")
    return opened


class _Steady(io.RawIOBase):
    """A file at an address, of which what fails to be read is tried again."""

    def __init__(self, path: str) -> None:
        self._path, self._at = path, 0
        self._file: BinaryIO | None = None
        self._size = persistently(self._end, path)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = open_file(self._path, ahead=False)
        return self._file

    def _end(self) -> int:
        try:
            self._opened().seek(0, os.SEEK_END)
            return self._opened().tell()
        except Exception:
            self._forget()
            raise

    def _forget(self) -> None:
        if self._file is not None:
            with contextlib.suppress(Exception):
                self._file.close()
        self._file = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0

        def attempt() -> bytes:
            try:
                return read_at(self._opened(), self._at, count)
            except Exception:
                self._forget()
                raise

        buffer[:count] = persistently(attempt, f"{self._path}, {count} bytes at {self._at}")
        self._at += count
        return count

    def close(self) -> None:
        self._forget()
        super().close()


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """Bytes from `start` on.

    Raises
    ------
    OSError
        If there are fewer: a connection that broke looks so.
    """
    file.seek(start)
    data = file.read(size)
    while 0 < len(data) < size:
        more = file.read(size - len(data))
        if not more:
            break
        data += more
    if len(data) != size:
        raise OSError(f"expected {size} bytes at {start}, got {len(data)}")
    return data


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
        found = persistently(lambda: _find_addresses(text, suffixes), text)
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


def _find_addresses(text: str, suffixes: tuple[str, ...]) -> list[str]:
    system, inside = file_system(text)
    if "*" in inside:
        names = system.glob(inside)
    elif system.isdir(inside):
        names = [name for name in system.find(inside, maxdepth=1) if name.endswith(suffixes)]
    else:
        return [text] if system.exists(inside) else []
    return [address_of(text, inside, name) for name in sorted(names)]


class OpenFile(threading.local):
    """One open file for each thread, by its name; closed with the thread, or what it belongs to."""

    def __init__(self) -> None:
        self._open: _Open | None = None

    def use(self, name: str, action: Callable[[Any], T], what: str) -> T:
        """What an action on the file gives, which is opened if another was; anew for each further attempt.

        Raises
        ------
        OSError
            If all attempts fail; it names the file and what was read.
        """

        def attempt() -> T:
            if self._open is None or self._open.name != name:
                self._open = _Open(name)
            opened, self._open = self._open, None
            result = action(opened.file)
            self._open = opened  # only a file that works is used again
            return result

        return persistently(attempt, f"{name}, {what}")


class _Open:
    def __init__(self, name: str) -> None:
        self.name, self.file = name, open_file(name, ahead=False)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
