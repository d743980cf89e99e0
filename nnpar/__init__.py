"""Train and serve convolutional networks on CPUs: fast, small, and the same bits at any number of threads."""

from nnpar import convolution, data, initializers, losses, ops, optimizers, zoo
from nnpar.convolution import get_precision, set_precision
from nnpar.history import History
from nnpar.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    load,
)
from nnpar.losses import MSE, CrossEntropy
from nnpar.optimizers import SGD, Adam, AdamW
from nnpar.random import get_seed, manual_seed
from nnpar.threads import get_num_threads, num_threads, set_num_threads
from nnpar.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "Conv2d",
    "CrossEntropy",
    "Dropout",
    "Flatten",
    "History",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Trainer",
    "__version__",
    "convolution",
    "data",
    "get_num_threads",
    "get_precision",
    "get_seed",
    "initializers",
    "load",
    "losses",
    "manual_seed",
    "num_threads",
    "ops",
    "optimizers",
    "set_num_threads",
    "set_precision",
    "zoo",
]
