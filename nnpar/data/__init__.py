"""Data sets in memory, sources that read samples when they are asked for, and loaders of their batches."""

from typing import TYPE_CHECKING

from nnpar import _lazy
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
    __getattr__, __dir__ = _lazy.attributes(
        __name__,
        {
            "cifar10": "cifar", "cifar100": "cifar", "fetch": "download", "read_idx": "idx", "ImageFiles": "images",
            "ImageFolder": "images", "mnist": "mnist_folder", "NpyFiles": "npy", "Parquet": "parquet",
            "TarShards": "shards", "digits": "uci_digits",
        },
    )  # fmt: skip

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
