"""ShuffleNet V2: half of the channels go by, and are shuffled with those that did not."""

from __future__ import annotations

from nnpar.layers import ChannelShuffle, Concat, Layer, MaxPool2d, ReLU, Sequential, Slice
from nnpar.zoo.blocks import classifier, conv_norm


def _branch(channels: int, out: int, stride: int) -> list[Layer]:
    """A pointwise, a depthwise and a pointwise convolution."""
    depthwise = conv_norm(out, out, 3, stride, groups=out)
    return [*conv_norm(channels, out, 1), ReLU(), *depthwise, *conv_norm(out, out, 1), ReLU()]


def _unit(channels: int) -> list[Layer]:
    """Figure 3 (c)."""
    half = channels // 2
    return [Concat(Slice(1, 0, half), Sequential(Slice(1, half), *_branch(half, half, 1))), ChannelShuffle(2)]


def _unit_of_stride_2(channels: int, out: int) -> list[Layer]:
    """Figure 3 (d)."""
    half = out // 2
    left = Sequential(*conv_norm(channels, channels, 3, 2, groups=channels), *conv_norm(channels, half, 1), ReLU())
    return [Concat(left, Sequential(*_branch(channels, half, 2))), ChannelShuffle(2)]


def shufflenet_v2(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """ShuffleNet V2 of width 1.0: Ma, Zhang, Zheng, Sun, arXiv:1807.11164, table 5.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 2,278,604 parameters, 145 M
        multiply-adds.
    """
    layers: list[Layer] = [*conv_norm(in_channels, 24, 3, 2), ReLU(), MaxPool2d(3, 2, 1)]
    channels = 24
    for width, count in ((116, 4), (232, 8), (464, 4)):
        layers += _unit_of_stride_2(channels, width)
        for _ in range(count - 1):
            layers += _unit(width)
        channels = width
    return Sequential(*layers, *conv_norm(channels, 1024, 1), ReLU(), *classifier(1024, num_classes))
