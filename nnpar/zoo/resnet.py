"""Residual networks: He, Zhang, Ren, Sun, arXiv:1512.03385."""

from __future__ import annotations

from collections.abc import Callable

from nnpar.layers import AvgPool2d, ConstantPad, Layer, MaxPool2d, ReLU, Residual, Sequential
from nnpar.zoo.blocks import classifier, conv_norm

Body = Callable[[int, int, int], list[Layer]]


def _basic(channels: int, out: int, stride: int) -> list[Layer]:
    """Two 3x3 convolutions."""
    return [*conv_norm(channels, out, 3, stride), ReLU(), *conv_norm(out, out, 3)]


def _bottleneck(channels: int, out: int, stride: int) -> list[Layer]:
    """A 3x3 convolution between two of 1x1, on a quarter of the channels. It is the 3x3 one that has the stride."""
    width = out // 4
    return [
        *conv_norm(channels, width, 1),
        ReLU(),
        *conv_norm(width, width, 3, stride),
        ReLU(),
        *conv_norm(width, out, 1),
    ]


def _projection(channels: int, out: int, stride: int) -> list[Layer]:
    """Option B of section 3.3: a 1x1 convolution."""
    return conv_norm(channels, out, 1, stride)


def _zeros(channels: int, out: int, stride: int) -> list[Layer]:
    """Option A: pixels left out, and zeros in the channels more."""
    return [AvgPool2d(1, stride), ConstantPad((0,) * 4, (0, out - channels, 0, 0))]


SHORTCUTS: dict[str, Body] = {"projection": _projection, "zeros": _zeros}


def _block(body: Body, shortcut: Body, channels: int, out: int, stride: int) -> list[Layer]:
    """A residual block, with such a shortcut where the shape changes."""
    same = stride == 1 and channels == out
    layers = Sequential(*body(channels, out, stride))
    return [Residual(layers, None if same else Sequential(*shortcut(channels, out, stride))), ReLU()]


def _stages(body: Body, shortcut: Body, channels: int, widths: tuple[int, ...], counts: tuple[int, ...]) -> list[Layer]:
    layers: list[Layer] = []
    for number, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for block in range(count):
            layers += _block(body, shortcut, channels, width, 2 if number > 0 and block == 0 else 1)
            channels = width
    return layers


def _for_32(blocks: int, num_classes: int, in_channels: int, shortcut: str) -> Sequential:
    """Section 4.2: three stages of 16, 32 and 64 channels."""
    name = f"resnet{6 * blocks + 2}"
    if shortcut not in SHORTCUTS:
        raise ValueError(f"{name}: shortcut: expected one of {', '.join(map(repr, SHORTCUTS))}, got {shortcut!r}")
    stem = [*conv_norm(in_channels, 16, 3), ReLU()]
    stages = _stages(_basic, SHORTCUTS[shortcut], 16, (16, 32, 64), (blocks,) * 3)
    return Sequential(*stem, *stages, *classifier(64, num_classes))


def resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "projection") -> Sequential:
    """ResNet-20 for 32x32 images: He, Zhang, Ren, Sun, arXiv:1512.03385, section 4.2.

    Parameters
    ----------
    num_classes, in_channels : int
    shortcut : {"projection", "zeros"}
        Where the shape changes: a 1x1 convolution (option B), or as in the paper zeros in the channels more (option A).

    Returns
    -------
    Sequential
        Input (N, in_channels, 32, 32), output (N, num_classes). 272,474 parameters, 40.8 M multiply-adds; with zeros
        269,722 and 40.6 M.

    Raises
    ------
    ValueError
        If there is no such shortcut.
    """
    return _for_32(3, num_classes, in_channels, shortcut)


def resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "projection") -> Sequential:
    """ResNet-32 for 32x32 images: He, Zhang, Ren, Sun, arXiv:1512.03385, section 4.2.

    Parameters
    ----------
    num_classes, in_channels : int
    shortcut : {"projection", "zeros"}
        Where the shape changes: a 1x1 convolution (option B), or as in the paper zeros in the channels more (option A).

    Returns
    -------
    Sequential
        Input (N, in_channels, 32, 32), output (N, num_classes). 466,906 parameters, 69.1 M multiply-adds; with zeros
        464,154 and 68.9 M.

    Raises
    ------
    ValueError
        If there is no such shortcut.
    """
    return _for_32(5, num_classes, in_channels, shortcut)


def resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: str = "projection") -> Sequential:
    """ResNet-56 for 32x32 images: He, Zhang, Ren, Sun, arXiv:1512.03385, section 4.2.

    Parameters
    ----------
    num_classes, in_channels : int
    shortcut : {"projection", "zeros"}
        Where the shape changes: a 1x1 convolution (option B), or as in the paper zeros in the channels more (option A).

    Returns
    -------
    Sequential
        Input (N, in_channels, 32, 32), output (N, num_classes). 855,770 parameters, 125.8 M multiply-adds; with zeros
        853,018 and 125.5 M.

    Raises
    ------
    ValueError
        If there is no such shortcut.
    """
    return _for_32(9, num_classes, in_channels, shortcut)


def _for_224(
    body: Body, widths: tuple[int, ...], counts: tuple[int, ...], num_classes: int, in_channels: int
) -> Sequential:
    """Table 1: a strided convolution and pooling, four stages."""
    return Sequential(
        *conv_norm(in_channels, 64, 7, 2), ReLU(), MaxPool2d(3, 2, 1),
        *_stages(body, _projection, 64, widths, counts), *classifier(widths[-1], num_classes),
    )  # fmt: skip


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """ResNet-18 for 224x224 images: He, Zhang, Ren, Sun, arXiv:1512.03385, table 1.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or larger, output (N, num_classes). 11,689,512 parameters, 1.81 G
        multiply-adds.
    """
    return _for_224(_basic, (64, 128, 256, 512), (2, 2, 2, 2), num_classes, in_channels)


def resnet34(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """ResNet-34 for 224x224 images: He, Zhang, Ren, Sun, arXiv:1512.03385, table 1.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or larger, output (N, num_classes). 21,797,672 parameters, 3.66 G
        multiply-adds.
    """
    return _for_224(_basic, (64, 128, 256, 512), (3, 4, 6, 3), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """ResNet-50 for 224x224 images: He, Zhang, Ren, Sun, arXiv:1512.03385, table 1, with the stride in the 3x3
    convolutions, as in torchvision ("version 1.5").

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or larger, output (N, num_classes). 25,557,032 parameters, 4.09 G
        multiply-adds.
    """
    return _for_224(_bottleneck, (256, 512, 1024, 2048), (3, 4, 6, 3), num_classes, in_channels)
