"""VGG: Simonyan, Zisserman, arXiv:1409.1556."""

from __future__ import annotations

from nnpar.initializers import he_normal
from nnpar.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential
from nnpar.zoo.blocks import conv_norm


def vgg_small(num_classes: int = 10, in_channels: int = 3) -> Sequential:
    """Three pairs of 3x3 convolutions, 64, 128 and 256 channels, batch normalisation, for 32x32 images.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 32, 32), output (N, num_classes). 1,187,274 parameters, 152.8 M multiply-adds.
    """
    layers: list[Layer] = []
    channels = in_channels
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [*conv_norm(channels, width, 3), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    return Sequential(*layers, Flatten(), Linear(256 * 4 * 4, num_classes))


def _vgg(convolutions: tuple[int, ...], batch_norm: bool, num_classes: int, in_channels: int) -> Sequential:
    """Five stages of so many 3x3 convolutions, each halved, and three dense layers."""
    layers: list[Layer] = []
    channels = in_channels
    for count, width in zip(convolutions, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers.append(Conv2d(channels, width, 3, padding=1, weight_init=he_normal))
            layers += [BatchNorm2d(width), ReLU()] if batch_norm else [ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    return Sequential(
        *layers, Flatten(),
        Linear(512 * 7 * 7, 4096), ReLU(), Dropout(),
        Linear(4096, 4096), ReLU(), Dropout(),
        Linear(4096, num_classes),
    )  # fmt: skip


def vgg11(num_classes: int = 1000, in_channels: int = 3, *, batch_norm: bool = False) -> Sequential:
    """VGG of 11 layers for 224x224 images: Simonyan, Zisserman, arXiv:1409.1556, table 1, A.

    Parameters
    ----------
    num_classes, in_channels : int
    batch_norm : bool
        Whether each convolution is followed by one, which the paper did not have yet.

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224), output (N, num_classes). 132,863,336 parameters (132,868,840 with batch
        normalisation), 7.61 G multiply-adds.
    """
    return _vgg((1, 1, 2, 2, 2), batch_norm, num_classes, in_channels)


def vgg13(num_classes: int = 1000, in_channels: int = 3, *, batch_norm: bool = False) -> Sequential:
    """VGG of 13 layers for 224x224 images: Simonyan, Zisserman, arXiv:1409.1556, table 1, B.

    Parameters
    ----------
    num_classes, in_channels : int
    batch_norm : bool
        Whether each convolution is followed by one, which the paper did not have yet.

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224), output (N, num_classes). 133,047,848 parameters (133,053,736 with batch
        normalisation), 11.31 G multiply-adds.
    """
    return _vgg((2, 2, 2, 2, 2), batch_norm, num_classes, in_channels)


def vgg16(num_classes: int = 1000, in_channels: int = 3, *, batch_norm: bool = False) -> Sequential:
    """VGG of 16 layers for 224x224 images: Simonyan, Zisserman, arXiv:1409.1556, table 1, D.

    Parameters
    ----------
    num_classes, in_channels : int
    batch_norm : bool
        Whether each convolution is followed by one, which the paper did not have yet.

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224), output (N, num_classes). 138,357,544 parameters (138,365,992 with batch
        normalisation), 15.47 G multiply-adds.
    """
    return _vgg((2, 2, 3, 3, 3), batch_norm, num_classes, in_channels)


def vgg19(num_classes: int = 1000, in_channels: int = 3, *, batch_norm: bool = False) -> Sequential:
    """VGG of 19 layers for 224x224 images: Simonyan, Zisserman, arXiv:1409.1556, table 1, E.

    Parameters
    ----------
    num_classes, in_channels : int
    batch_norm : bool
        Whether each convolution is followed by one, which the paper did not have yet.

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224), output (N, num_classes). 143,667,240 parameters (143,678,248 with batch
        normalisation), 19.63 G multiply-adds.
    """
    return _vgg((2, 2, 4, 4, 4), batch_norm, num_classes, in_channels)
