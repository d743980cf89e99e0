"""Data sets in memory, and readers for the files they come in."""

from nnpar.data.dataset import Dataset
from nnpar.data.idx import read_idx
from nnpar.data.mnist_folder import mnist
from nnpar.data.uci_digits import digits

__all__ = ["Dataset", "digits", "mnist", "read_idx"]
