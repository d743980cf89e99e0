"""What several models are made of."""

from __future__ import annotations

from collections.abc import Sequence

from nnpar.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear


def conv_norm(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Layer]:
    """Convolution without bias, since batch normalisation takes any constant away."""
    return [Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), BatchNorm2d(out)]


def classifier(channels: int, num_classes: int, before: Sequence[Layer] = ()) -> list[Layer]:
    """The mean of each channel, and a score for each class."""
    return [GlobalAvgPool2d(), Flatten(), *before, Linear(channels, num_classes)]
