"""Layers: what a model is composed of."""

from nnpar.layers.activation import ReLU
from nnpar.layers.base import Layer, Lowering, Parameter
from nnpar.layers.conv import Conv2d
from nnpar.layers.dropout import Dropout
from nnpar.layers.flatten import Flatten
from nnpar.layers.linear import Linear
from nnpar.layers.loading import load
from nnpar.layers.pooling import AvgPool2d, MaxPool2d
from nnpar.layers.sequential import Sequential

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "Lowering",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "load",
]
