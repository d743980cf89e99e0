"""Layers: what a model is composed of."""

from nnpar.layers.activation import ReLU
from nnpar.layers.attention import MultiheadAttention
from nnpar.layers.base import Layer, Parameter
from nnpar.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from nnpar.layers.composite import Composite, Concat, Residual, Sequential
from nnpar.layers.conv import Conv2d
from nnpar.layers.custom import CustomLayer
from nnpar.layers.dropout import Dropout, Dropout2d
from nnpar.layers.embedding import Embedding, FirstToken, PositionEmbedding, Tokens
from nnpar.layers.flatten import Flatten
from nnpar.layers.group_norm import GroupNorm, InstanceNorm1d, InstanceNorm2d, LocalResponseNorm
from nnpar.layers.layer_norm import LayerNorm, RMSNorm
from nnpar.layers.linear import Linear
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.merging import Add, Concatenate
from nnpar.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from nnpar.layers.transformer import TransformerEncoderLayer
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
    "Embedding",
    "FirstToken",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "Linear",
    "LocalResponseNorm",
    "Lowering",
    "MaxPool2d",
    "MultiheadAttention",
    "Parameter",
    "PositionEmbedding",
    "RMSNorm",
    "ReLU",
    "Residual",
    "Sequential",
    "Tokens",
    "TransformerEncoderLayer",
    "Upsample",
]
