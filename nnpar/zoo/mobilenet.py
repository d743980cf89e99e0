"""MobileNets: networks of depthwise convolutions."""

from __future__ import annotations

from nnpar.layers import Layer, ReLU, Sequential
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
