"""Data sets in memory, sources that read samples when they are asked for, and loaders of their batches."""

from nnpar.data import mixing, transforms
from nnpar.data.cifar import cifar10, cifar100
from nnpar.data.dataset import Dataset
from nnpar.data.download import fetch
from nnpar.data.idx import read_idx
from nnpar.data.images import ImageFiles, ImageFolder
from nnpar.data.loader import Loader
from nnpar.data.mnist_folder import mnist
from nnpar.data.npy import NpyFiles
from nnpar.data.parquet import Parquet
from nnpar.data.shards import TarShards
from nnpar.data.source import Arrays, Items, Source
from nnpar.data.uci_digits import digits

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
