"""Train and serve convolutional networks on CPUs: fast, small, and the same bits at any number of threads."""

from nnpar import convolution, data, initializers, losses, ops, optimizers, zoo
from nnpar.convolution import get_precision, set_precision
from nnpar.graph import Graph, Input
from nnpar.history import History
from nnpar.layers import (
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Concat,
    Concatenate,
    Conv2d,
    CustomLayer,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    Upsample,
)
from nnpar.loading import load
from nnpar.losses import MSE, CrossEntropy
from nnpar.optimizers import SGD, Adam, AdamW
from nnpar.predictor import Predictor
from nnpar.profiler import profile
from nnpar.random import get_seed, manual_seed
from nnpar.threads import get_num_threads, num_threads, set_num_threads
from nnpar.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "Add",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Concat",
    "Concatenate",
    "Conv2d",
    "CrossEntropy",
    "CustomLayer",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "Graph",
    "History",
    "Input",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Parameter",
    "Predictor",
    "ReLU",
    "Residual",
    "Sequential",
    "Trainer",
    "Upsample",
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
    "profile",
    "set_num_threads",
    "set_precision",
    "zoo",
]
