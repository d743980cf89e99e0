"""Layers: what a model is composed of."""

from nnpar.layers.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Abs,
    Erf,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    Log,
    Mish,
    PReLU,
    Reciprocal,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Sqrt,
    Tanh,
)
from nnpar.layers.adaptive_pooling import AdaptiveAvgPool1d, AdaptiveAvgPool2d
from nnpar.layers.arithmetic import Affine, Div, Maximum, Minimum, Mul, Scale, Shift, Sub
from nnpar.layers.attention import MultiheadAttention
from nnpar.layers.base import Layer, Parameter
from nnpar.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from nnpar.layers.comparison import Equal, Less, LessOrEqual, Where
from nnpar.layers.composite import Composite, Concat, Residual, Sequential
from nnpar.layers.conv import Conv1d, Conv2d
from nnpar.layers.conv3d import Conv3d, ConvTranspose3d
from nnpar.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d
from nnpar.layers.custom import CustomLayer
from nnpar.layers.dropout import Dropout, Dropout2d
from nnpar.layers.embedding import Embedding, PositionEmbedding, Tokens
from nnpar.layers.flatten import Flatten
from nnpar.layers.group_norm import GroupNorm, InstanceNorm1d, InstanceNorm2d, LocalResponseNorm
from nnpar.layers.layer_norm import LayerNorm, RMSNorm
from nnpar.layers.linear import Linear
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.matmul import MatMul
from nnpar.layers.merging import Add, Concatenate
from nnpar.layers.padding import ReflectionPad1d, ReflectionPad2d, ReplicationPad1d, ReplicationPad2d
from nnpar.layers.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from nnpar.layers.reduction import Max, Mean, Sum
from nnpar.layers.resampling import Resize, Upsample
from nnpar.layers.selecting import Select
from nnpar.layers.shaping import ConstantPad, Expand, Permute, Reshape, Slice, ZeroPad2d
from nnpar.layers.shuffling import ChannelShuffle, PixelShuffle
from nnpar.layers.softmax import LogSoftmax, Softmax
from nnpar.layers.transformer import TransformerEncoderLayer

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Abs",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "Add",
    "Affine",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Buffer",
    "ChannelShuffle",
    "Composite",
    "Concat",
    "Concatenate",
    "ConstantPad",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CustomLayer",
    "Div",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Less",
    "LessOrEqual",
    "Linear",
    "LocalResponseNorm",
    "Log",
    "LogSoftmax",
    "Lowering",
    "MatMul",
    "Max",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Maximum",
    "Mean",
    "Minimum",
    "Mish",
    "Mul",
    "MultiheadAttention",
    "PReLU",
    "Parameter",
    "Permute",
    "PixelShuffle",
    "PositionEmbedding",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Reshape",
    "Residual",
    "Resize",
    "Scale",
    "Select",
    "Sequential",
    "Shift",
    "SiLU",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "Tokens",
    "TransformerEncoderLayer",
    "Upsample",
    "Where",
    "ZeroPad2d",
]
