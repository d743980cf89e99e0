"""Layers: what a model is composed of."""

from nnpar.layers.activation import ReLU
from nnpar.layers.base import Layer, Parameter
from nnpar.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from nnpar.layers.composite import Composite, Concat, Residual, Sequential
from nnpar.layers.conv import Conv2d
from nnpar.layers.custom import CustomLayer
from nnpar.layers.dropout import Dropout, Dropout2d
from nnpar.layers.flatten import Flatten
from nnpar.layers.linear import Linear
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.merging import Add, Concatenate
from nnpar.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from nnpar.layers.upsampling import Upsample

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Buffer",
    "Composite",
    "Concat",
    "Concatenate",
    "Conv2d",
    "CustomLayer",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "Linear",
    "Lowering",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "Upsample",
]
