"""U-Nets: a class for each pixel. Ronneberger, Fischer, Brox, arXiv:1505.04597."""

from __future__ import annotations

from nnpar.layers import Concat, Conv2d, ConvTranspose2d, Layer, MaxPool2d, ReLU, Sequential, Upsample
from nnpar.zoo.blocks import conv_norm


def _small_level(channels: int, width: int, levels: int) -> list[Layer]:
    """Two convolutions; if there are more levels, these at half the resolution, joined by what goes around them, and
    two more convolutions.
    """
    layers = [*conv_norm(channels, width, 3), ReLU(), *conv_norm(width, width, 3), ReLU()]
    if levels == 1:
        return layers
    up = [Upsample(scale_factor=2), *conv_norm(2 * width, width, 3), ReLU()]
    below = Sequential(MaxPool2d(2), *_small_level(width, 2 * width, levels - 1), *up)
    return [
        *layers, Concat(None, below), *conv_norm(2 * width, width, 3), ReLU(), *conv_norm(width, width, 3), ReLU(),
    ]  # fmt: skip


def unet_small(num_classes: int = 2, in_channels: int = 3) -> Sequential:
    """U-Net of four levels, 16 to 128 channels: Ronneberger, Fischer, Brox, arXiv:1505.04597, figure 1, with padding,
    batch normalisation and upsampling by the nearest pixel.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, H, W), multiples of 8, output (N, num_classes, H, W). 536,626 parameters, 195 M
        multiply-adds for 64x64 pixels.
    """
    return Sequential(*_small_level(in_channels, 16, 4), Conv2d(16, num_classes, 1))


def _double(channels: int, out: int) -> list[Layer]:
    """Two 3x3 convolutions."""
    return [Conv2d(channels, out, 3, padding=1), ReLU(), Conv2d(out, out, 3, padding=1), ReLU()]


def _classic_level(channels: int, width: int, levels: int) -> list[Layer]:
    """Two convolutions; if there are more levels, these at half the resolution, enlarged by a transposed convolution,
    joined by what goes around them, and two more convolutions.
    """
    layers = _double(channels, width)
    if levels == 1:
        return layers
    below = [MaxPool2d(2), *_classic_level(width, 2 * width, levels - 1), ConvTranspose2d(2 * width, width, 2, 2)]
    return [*layers, Concat(None, Sequential(*below)), *_double(2 * width, width)]


def unet(num_classes: int = 2, in_channels: int = 1) -> Sequential:
    """U-Net of five levels, 64 to 1024 channels: Ronneberger, Fischer, Brox, arXiv:1505.04597, figure 1, with padding,
    so that the output has the input's size.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, H, W), sizes of a multiple of 16, output (N, num_classes, H, W). 31,030,658 parameters,
        48.1 G multiply-adds for 256x256 pixels.
    """
    return Sequential(*_classic_level(in_channels, 64, 5), Conv2d(64, num_classes, 1))
