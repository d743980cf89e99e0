"""Densely connected networks: Huang, Liu, van der Maaten, Weinberger, arXiv:1608.06993."""

from __future__ import annotations

from nnpar.layers import AvgPool2d, BatchNorm2d, Concat, Conv2d, Layer, MaxPool2d, ReLU, Sequential
from nnpar.zoo.blocks import classifier, conv_norm


def _norm_conv(channels: int, out: int, kernel: int) -> list[Layer]:
    return [BatchNorm2d(channels), ReLU(), Conv2d(channels, out, kernel, 1, kernel // 2, bias=False)]


def _dense(channels: int, counts: tuple[int, ...], growth: int, bottleneck: int) -> tuple[list[Layer], int]:
    """Blocks of so many layers, each of which reads all that came before it, with half the channels and pixels going
    from one to the next; and the number of channels at the end. A layer is a 3x3 convolution, behind one of 1x1 to
    `bottleneck` channels if it is not 0.
    """
    layers: list[Layer] = []
    for number, count in enumerate(counts):
        if number > 0:
            layers += [*_norm_conv(channels, channels // 2, 1), AvgPool2d(2)]
            channels //= 2
        for _ in range(count):
            narrow = _norm_conv(channels, bottleneck, 1) if bottleneck else []
            layers.append(Concat(None, Sequential(*narrow, *_norm_conv(bottleneck or channels, growth, 3))))
            channels += growth
    return [*layers, BatchNorm2d(channels), ReLU()], channels


def densenet_small(num_classes: int = 10, in_channels: int = 3) -> Sequential:
    """DenseNet for 32x32 images, three blocks of 6 layers, growth rate 12, compression 0.5: Huang, Liu, van der Maaten,
    Weinberger, arXiv:1608.06993, section 3.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 32, 32), output (N, num_classes). 161,002 parameters, 59.7 M multiply-adds.
    """
    stem = Conv2d(in_channels, 24, 3, padding=1, bias=False)
    layers, channels = _dense(24, (6, 6, 6), 12, 0)
    return Sequential(stem, *layers, *classifier(channels, num_classes))


def densenet121(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """DenseNet-121, with bottlenecks and compression 0.5: Huang, Liu, van der Maaten, Weinberger, arXiv:1608.06993,
    table 1.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or larger, output (N, num_classes). 7,978,856 parameters, 2.83 G
        multiply-adds.
    """
    stem = [*conv_norm(in_channels, 64, 7, 2), ReLU(), MaxPool2d(3, 2, 1)]
    layers, channels = _dense(64, (6, 12, 24, 16), 32, 128)
    return Sequential(*stem, *layers, *classifier(channels, num_classes))
