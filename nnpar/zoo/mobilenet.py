"""MobileNets: networks of depthwise convolutions."""

from __future__ import annotations

from nnpar.layers import Dropout, Layer, ReLU, ReLU6, Residual, Sequential
from nnpar.zoo.blocks import classifier, conv_norm


def _separable(channels: int, out: int, stride: int) -> list[Layer]:
    """A depthwise 3x3 convolution, then a pointwise one."""
    depthwise = conv_norm(channels, channels, 3, stride, groups=channels)
    return [*depthwise, ReLU(), *conv_norm(channels, out, 1), ReLU()]


def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """MobileNet of width 1.0: Howard et al., arXiv:1704.04861, table 1.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 4,231,976 parameters, 569 M
        multiply-adds (186 M for 128x128 images).
    """
    layers: list[Layer] = [*conv_norm(in_channels, 32, 3, 2), ReLU()]
    channels = 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in blocks:
        layers += _separable(channels, width, stride)
        channels = width
    return Sequential(*layers, *classifier(1024, num_classes))


def _inverted_residual(channels: int, out: int, stride: int, expansion: int) -> Layer:
    """A pointwise convolution to more channels, a depthwise one, and a pointwise one to few, without activation."""
    width = channels * expansion
    wide = [*conv_norm(channels, width, 1), ReLU6()] if expansion > 1 else []
    depthwise = [*conv_norm(width, width, 3, stride, groups=width), ReLU6()]
    body = Sequential(*wide, *depthwise, *conv_norm(width, out, 1))
    return Residual(body) if stride == 1 and channels == out else body


def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """MobileNetV2 of width 1.0: Sandler et al., arXiv:1801.04381, table 2.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 3,504,872 parameters, 301 M
        multiply-adds.
    """
    layers: list[Layer] = [*conv_norm(in_channels, 32, 3, 2), ReLU6()]
    channels = 32
    # Expansion, channels, blocks, stride of the first.
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, width, count, stride in stages:
        for block in range(count):
            layers.append(_inverted_residual(channels, width, stride if block == 0 else 1, expansion))
            channels = width
    layers += [*conv_norm(channels, 1280, 1), ReLU6()]
    return Sequential(*layers, *classifier(1280, num_classes, [Dropout(0.2)]))
