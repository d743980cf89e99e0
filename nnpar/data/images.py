"""Images out of files, decoded by pillow to bytes of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import IntOrPair, Pair
from nnpar.data import files
from nnpar.data.source import Samples, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff")
MODES = {1: "L", 3: "RGB"}


class Decoder:
    """Makes images of a size and a number of channels out of files' bytes.

    Parameters
    ----------
    size : int or (int, int), optional
        Height and width: the image is scaled until it covers that, and its middle is cut out. None keeps its own.
    channels : {3, 1}
    who : str
        For errors.

    Raises
    ------
    ImportError
        If pillow is missing.
    """

    def __init__(self, size: IntOrPair | None, channels: int, who: str) -> None:
        try:
            import PIL.Image
        except ImportError as error:
            raise ImportError(f"{who}: pillow is needed for images: {files.EXTRA}") from error
        if channels not in MODES:
            raise ValueError(f"{who}: channels: expected 1 or 3, got {channels!r}")
        self.size: Pair | None = None if size is None else _checks.pair(size, who, "size", 1)
        self._mode, self._who = MODES[channels], who
        self._open: Any = PIL.Image.open
        self._errors: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError)

    def __call__(self, data: bytes, name: str) -> NDArray[np.uint8]:
        """The image (C, H, W).

        Raises
        ------
        ValueError
            If it cannot be decoded; the error names the file.
        """
        try:
            with self._open(io.BytesIO(data)) as image:
                if self.size is not None:
                    # JPEG is decoded at a half, a quarter or an eighth where that is still large enough.
                    image.draft(self._mode, self.size[::-1])
                image.load()
                array = np.asarray(self._fit(image.convert(self._mode)))
        except self._errors as error:
            raise ValueError(f"{self._who}: {name}: not a whole image: {error}") from error
        planes: NDArray[np.uint8] = array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)
        return planes

    def _fit(self, image: Any) -> Any:
        if self.size is None or image.size == self.size[::-1]:
            return image
        height, width = self.size
        scale = max(height / image.height, width / image.width)
        part_width, part_height = width / scale, height / scale
        left, top = (image.width - part_width) / 2, (image.height - part_height) / 2
        return image.resize((width, height), resample=2, box=(left, top, left + part_width, top + part_height))


def stacked(images: Sequence[NDArray[np.uint8]], who: str) -> NDArray[np.uint8]:
    """Images as one array.

    Raises
    ------
    ValueError
        If their sizes differ.
    """
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(f"{who}: size: expected one for images of different sizes {shapes[:3]}, got None")
    return np.stack(images)


class ImageFolder(Source):
    """Image files in a folder for each class, as PyTorch's ``ImageFolder``. Classes are numbered in the order of the
    folders' names.

    Parameters
    ----------
    folder : str or path-like
        Local, or an address for fsspec.
    size : int or (int, int), optional
        Height and width of all images: they are scaled until they cover it, and their middle is cut out.
    channels : {3, 1}

    Attributes
    ----------
    paths : list of str
    labels : ndarray of int64
    encoded : bool
        Whether samples are what the files hold, of whatever size: there is no `size`, and `channels` is 3.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ImportError
        If pillow is missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import PIL.Image
    >>> from nnpar.data import ImageFolder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
    ...         Path(folder, name).mkdir()
    ...         PIL.Image.new("RGB", (12, 9), colour).save(Path(folder, name, "one.png"))
    ...     images, labels, _ = ImageFolder(folder, size=8).read([0, 1])
    >>> images.shape, labels.tolist(), images[:, :, 0, 0].tolist()
    ((2, 3, 8, 8), [0, 1], [[0, 0, 255], [255, 0, 0]])
    """

    def __init__(self, folder: str | os.PathLike[str], size: IntOrPair | None = None, channels: int = 3) -> None:
        self.name = os.fspath(folder)
        self._decode = Decoder(size, channels, f"ImageFolder {self.name!r}")
        self.encoded = size is None and channels == 3
        by_class = _local_classes(Path(folder)) if not files.is_address(folder) else _remote_classes(self.name)
        self.class_names = tuple(sorted(by_class))
        self.paths = [path for name in self.class_names for path in by_class[name]]
        self.labels = np.repeat(np.arange(len(by_class)), [len(by_class[name]) for name in self.class_names])
        if not self.paths:
            raise FileNotFoundError(f"{self.name}: expected a folder for each class, with images in it")

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: NDArray[np.int64]) -> Samples:
        images = _decoded(self._decode, self.paths, index)
        return stacked(images, f"ImageFolder {self.name!r}"), self.labels[index], None


class ImageFiles(Source):
    """Image files without labels, to be predicted; each has its own number for a label.

    Parameters
    ----------
    places : sequence of str or path-like
        Files, and folders of which all image files within are taken, in the order of their names; or addresses for
        fsspec.
    size, channels : optional
        As of :class:`ImageFolder`.

    Attributes
    ----------
    paths : list of str

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no image in all of them.
    ImportError
        If pillow is missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import PIL.Image
    >>> from nnpar.data import ImageFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("RGB", (12, 9)).save(Path(folder, "one.png"))
    ...     images, _, _ = ImageFiles([folder], size=8, channels=1).read([0])
    >>> images.shape
    (1, 1, 8, 8)
    """

    def __init__(
        self, places: Sequence[str | os.PathLike[str]], size: IntOrPair | None = None, channels: int = 3
    ) -> None:
        self.name = ", ".join(os.fspath(place) for place in places)
        self._decode = Decoder(size, channels, "ImageFiles")
        self.paths = [path for place in places for path in _image_paths(os.fspath(place))]
        if not self.paths:
            raise FileNotFoundError(f"ImageFiles: expected images, got none in {self.name or 'no place'}")

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: NDArray[np.int64]) -> Samples:
        return stacked(_decoded(self._decode, self.paths, index), "ImageFiles"), np.asarray(index), None


def _decoded(decode: Decoder, paths: Sequence[str], index: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    images = []
    for number in index:
        images.append(decode(read_file(paths[number]), paths[number]))
    return images


def read_file(path: str) -> bytes:
    """All bytes of a file."""
    with files.open_file(path) as file:
        return file.read()


def _image_paths(place: str) -> list[str]:
    """A file, or the image files in a folder."""
    if files.is_address(place):
        system, root = files.file_system(place)
        if system.isfile(root):
            return [place]
        names = [name for name in sorted(system.find(root)) if name.lower().endswith(SUFFIXES)]
        return [files.address_of(place, root, name) for name in names]
    path = Path(place)
    if path.is_dir():
        return _images_within(path)
    if not path.exists():
        raise FileNotFoundError(f"ImageFiles: {place}: no such file or folder")
    return [place]


def _images_within(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _local_classes(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found = {sub.name: _images_within(sub) for sub in folder.iterdir() if sub.is_dir()}
    return {name: paths for name, paths in found.items() if paths}


def _remote_classes(address: str) -> dict[str, list[str]]:
    system, root = files.file_system(address)
    found: dict[str, list[str]] = {}
    for path in sorted(system.find(root)):
        inside = path[len(root) :].strip("/").split("/")
        if len(inside) > 1 and path.lower().endswith(SUFFIXES):
            found.setdefault(inside[0], []).append(files.address_of(address, root, path))
    return found
