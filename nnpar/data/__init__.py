"""Data sets in memory, sources that read samples when they are asked for, and loaders of their batches."""

from nnpar.data import transforms
from nnpar.data.dataset import Dataset
from nnpar.data.idx import read_idx
from nnpar.data.loader import Loader
from nnpar.data.mnist_folder import mnist
from nnpar.data.source import Arrays, Items, Source
from nnpar.data.uci_digits import digits

__all__ = ["Arrays", "Dataset", "Items", "Loader", "Source", "digits", "mnist", "read_idx", "transforms"]
