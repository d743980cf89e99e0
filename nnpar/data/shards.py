"""Samples in shards: tar files in WebDataset's form."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import IntOrPair
from nnpar.data import files
from nnpar.data.images import SUFFIXES, Decoder, stacked
from nnpar.data.source import Samples, Source

ARRAY = ".npy"


class TarShards(Source):
    """Tar files in WebDataset's form: files of one sample follow each other and have one name but for the extension, an
    image, or an array as ``.npy``, and ``.cls``, a class number as text. The tars' headers are read once; samples are
    then read at their places.

    Parameters
    ----------
    paths : str, path-like or list of str
        A tar, several, a folder of them, or a pattern with ``*``; local, or addresses for fsspec. Not compressed.
    size : int or (int, int), optional
        Of encoded images, see :class:`ImageFolder`.
    channels : {3, 1}

    Raises
    ------
    FileNotFoundError
        If there is none.
    ImportError
        If pillow is missing.
    OSError
        If files cannot be read, after several attempts.
    ValueError
        If a file is no whole tar, or a sample lacks its image or its class.
    """

    def __init__(
        self, paths: str | os.PathLike[str] | list[str], size: IntOrPair | None = None, channels: int = 3
    ) -> None:
        self.name = os.fspath(paths) if not isinstance(paths, list) else paths[0]
        self._who = f"TarShards {self.name!r}"
        self._shards = files.find(paths, (".tar",))
        places: list[tuple[int, int, int, int, int]] = []
        for number, shard in enumerate(self._shards):
            places += [(number, *place) for place in _samples_of(shard)]
        self._places = np.array(places, np.int64).reshape(-1, 5)  # shard, begin, bytes, class, whether an array
        self._files = files.OpenFile()
        if not len(self):
            raise ValueError(f"{self._who}: expected at least one sample, got none")
        self._decode = None if self._places[:, 4].all() else Decoder(size, channels, self._who)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: NDArray[np.int64]) -> Samples:
        images: list[Any] = [None] * len(index)
        for k in np.argsort(index, kind="stable"):  # in the order of the shards
            images[k] = self._image(int(index[k]))
        return stacked(images, self._who), self._places[index, 3], None

    def _image(self, number: int) -> NDArray[Any]:
        shard, at, size, _, is_array = self._places[number].tolist()
        name = self._shards[shard]
        data = self._files.use(name, lambda file: files.read_at(file, at, size), f"sample {number} of the data set")
        if not is_array:
            assert self._decode is not None
            return self._decode(data, f"{name}, at {at}")
        try:
            array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{self._who}: {name}, at {at}: not a whole array: {error}") from error
        return array


def _samples_of(shard: str) -> list[tuple[int, int, int, int]]:
    """Where each sample's image begins, its size, the class, and whether it is an array."""
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
                if f".{extension.lower()}" in (*SUFFIXES, ARRAY):
                    sample["image"] = member.offset_data, member.size, f".{extension.lower()}" == ARRAY
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
    return [(*sample["image"][:2], sample["class"], sample["image"][2]) for sample in samples.values()]
