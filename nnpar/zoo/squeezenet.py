"""SqueezeNet: few weights by few channels between larger kernels."""

from __future__ import annotations

from nnpar.layers import Concat, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Layer, MaxPool2d, ReLU, Sequential


def _fire(channels: int, squeeze: int, expand: int) -> list[Layer]:
    """A 1x1 convolution to few channels, and two of 1x1 and 3x3 side by side."""
    first = [Conv2d(channels, squeeze, 1), ReLU()]
    small, large = (Sequential(Conv2d(squeeze, expand, k, padding=k // 2), ReLU()) for k in (1, 3))
    return [*first, Concat(small, large)]


def squeezenet(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """SqueezeNet 1.1, which its authors published after Iandola et al., arXiv:1602.07360: as accurate as 1.0 with less
    than half the arithmetic.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 1,235,496 parameters, 349 M
        multiply-adds.
    """
    layers: list[Layer] = [Conv2d(in_channels, 64, 3, 2), ReLU()]
    channels = 64
    for stage in ([(16, 64), (16, 64)], [(32, 128), (32, 128)], [(48, 192), (48, 192), (64, 256), (64, 256)]):
        layers.append(MaxPool2d(3, 2))
        for squeeze, expand in stage:
            layers += _fire(channels, squeeze, expand)
            channels = 2 * expand
    return Sequential(*layers, Dropout(0.5), Conv2d(channels, num_classes, 1), ReLU(), GlobalAvgPool2d(), Flatten())
