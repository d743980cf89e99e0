"""GoogLeNet: convolutions of several sizes side by side."""

from __future__ import annotations

from nnpar.layers import Concat, Conv2d, Dropout, Layer, LocalResponseNorm, MaxPool2d, ReLU, Sequential
from nnpar.zoo.blocks import classifier


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> list[Layer]:
    return [Conv2d(channels, out, kernel, stride, kernel // 2), ReLU()]


def _inception(channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> Layer:
    """Figure 2 (b): 1x1, 3x3 and 5x5 convolutions, the larger ones behind 1x1, and pooling before 1x1."""
    return Concat(
        Sequential(*_conv(channels, one, 1)),
        Sequential(*_conv(channels, three[0], 1), *_conv(*three, 3)),
        Sequential(*_conv(channels, five[0], 1), *_conv(*five, 5)),
        Sequential(MaxPool2d(3, 1, 1), *_conv(channels, pool, 1)),
    )


# Table 1: 1x1; 3x3 and what is before it; 5x5 and what is before it; behind pooling.
STAGES = (
    ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)),
    (
        (192, (96, 208), (16, 48), 64),
        (160, (112, 224), (24, 64), 64),
        (128, (128, 256), (24, 64), 64),
        (112, (144, 288), (32, 64), 64),
        (256, (160, 320), (32, 128), 128),
    ),
    ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)),
)


def inception_v1(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """GoogLeNet: Szegedy et al., arXiv:1409.4842, table 1, without the two auxiliary classifiers, with biases and
    without batch normalisation. Pooling between stages is padded by 1, so that sizes are those of the table.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 6,998,552 parameters, 1.58 G
        multiply-adds.
    """
    norm = (5, 1e-4, 0.75, 1.0)
    layers: list[Layer] = [*_conv(in_channels, 64, 7, 2), MaxPool2d(3, 2, 1), LocalResponseNorm(*norm)]
    layers += [*_conv(64, 64, 1), *_conv(64, 192, 3), LocalResponseNorm(*norm)]
    channels = 192
    for stage in STAGES:
        layers.append(MaxPool2d(3, 2, 1))
        for one, three, five, pool in stage:
            layers.append(_inception(channels, one, three, five, pool))
            channels = one + three[1] + five[1] + pool
    return Sequential(*layers, *classifier(channels, num_classes, [Dropout(0.4)]))
