"""Data sets in memory, sources that read samples when they are asked for, and loaders of their batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnpar.data import mixing, transforms
from nnpar.data.dataset import Dataset
from nnpar.data.loader import Loader
from nnpar.data.source import Arrays, Items, Source

if TYPE_CHECKING:
    from nnpar.data.cifar import cifar10, cifar100
    from nnpar.data.download import fetch
    from nnpar.data.idx import read_idx
    from nnpar.data.images import ImageFiles, ImageFolder
    from nnpar.data.mnist_folder import mnist
    from nnpar.data.npy import NpyFiles
    from nnpar.data.parquet import Parquet
    from nnpar.data.shards import TarShards
    from nnpar.data.uci_digits import digits
else:
    # Readers are imported when they are asked for: `import nnpar` takes a tenth less.
    READERS = {
        "cifar10": "cifar", "cifar100": "cifar", "fetch": "download", "read_idx": "idx", "ImageFiles": "images",
        "ImageFolder": "images", "mnist": "mnist_folder", "NpyFiles": "npy", "Parquet": "parquet",
        "TarShards": "shards", "digits": "uci_digits",
    }  # fmt: skip

    def __getattr__(name: str) -> Any:
        if name not in READERS:
            raise AttributeError(f"module 'nnpar.data' has no attribute {name!r}")
        return getattr(import_module(f"nnpar.data.{READERS[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *READERS})


__all__ = [
    "Arrays",
    "Dataset",
    "ImageFiles",
    "ImageFolder",
    "Items",
    "Loader",
    "NpyFiles",
    "Parquet",
    "Source",
    "TarShards",
    "cifar10",
    "cifar100",
    "digits",
    "fetch",
    "mixing",
    "mnist",
    "read_idx",
    "transforms",
]
