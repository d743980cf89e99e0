"""Models by name, ready to train."""

from __future__ import annotations

from collections.abc import Callable

from nnpar.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Upsample,
)

__all__ = [
    "MODELS",
    "densenet_small",
    "digits_cnn",
    "lenet5",
    "mlp",
    "mnist_cnn",
    "mobilenet_v1",
    "resnet18",
    "resnet20",
    "unet_small",
    "vgg_small",
]


def digits_cnn() -> Sequential:
    """For the 8x8 images of :func:`nnpar.data.digits`: two convolutions of 32 and 64 channels, dropout, 128, 10.

    Returns
    -------
    Sequential
        Input (N, 1, 8, 8), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 32, 3, padding=1),
        ReLU(),
        Conv2d(32, 64, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Dropout(0.25),
        Linear(64 * 4 * 4, 128),
        ReLU(),
        Linear(128, 10),
    )


def mlp() -> Sequential:
    """Two hidden layers of 512 for 28x28 images.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(Flatten(), Linear(28 * 28, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))


def lenet5() -> Sequential:
    """LeNet-5 with ReLU and max pooling: LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86(11), 1998, figure
    2.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(400, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, 10),
    )


def mnist_cnn() -> Sequential:
    """Convolutions of 32 and 64 channels, pooling, 128, 10, for 28x28 images.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 32, 3),
        ReLU(),
        Conv2d(32, 64, 3),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * 12 * 12, 128),
        ReLU(),
        Linear(128, 10),
    )


def _conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> list[Layer]:
    """Convolution without bias, since batch normalisation takes any constant away."""
    return [Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), BatchNorm2d(out)]


def vgg_small() -> Sequential:
    """Three pairs of 3x3 convolutions, 64, 128 and 256 channels, batch normalisation, for 32x32 images.

    Returns
    -------
    Sequential
        Input (N, 3, 32, 32), output (N, 10).
    """
    layers: list[Layer] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [*_conv_norm(channels, width, 3), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    return Sequential(*layers, Flatten(), Linear(256 * 4 * 4, 10))


def _residual(channels: int, out: int, stride: int) -> list[Layer]:
    """The basic block of ResNet, with a projection where the shape changes."""
    body = Sequential(*_conv_norm(channels, out, 3, stride), ReLU(), *_conv_norm(out, out, 3))
    same = stride == 1 and channels == out
    return [Residual(body, None if same else Sequential(*_conv_norm(channels, out, 1, stride))), ReLU()]


def _stages(channels: int, widths: tuple[int, ...], blocks: int) -> list[Layer]:
    layers: list[Layer] = []
    for number, width in enumerate(widths):
        for block in range(blocks):
            layers += _residual(channels, width, 2 if number > 0 and block == 0 else 1)
            channels = width
    return layers


def resnet20() -> Sequential:
    """ResNet-20 for 32x32 images: He, Zhang, Ren, Sun, arXiv:1512.03385, section 4.2.

    Returns
    -------
    Sequential
        Input (N, 3, 32, 32), output (N, 10).
    """
    return Sequential(
        *_conv_norm(3, 16, 3), ReLU(), *_stages(16, (16, 32, 64), 3), GlobalAvgPool2d(), Flatten(), Linear(64, 10)
    )


def resnet18() -> Sequential:
    """ResNet-18 for 224x224 images: He, Zhang, Ren, Sun, arXiv:1512.03385, table 1.

    Returns
    -------
    Sequential
        Input (N, 3, 224, 224), output (N, 1000).
    """
    return Sequential(
        *_conv_norm(3, 64, 7, 2), ReLU(), MaxPool2d(3, 2, 1), *_stages(64, (64, 128, 256, 512), 2),
        GlobalAvgPool2d(), Flatten(), Linear(512, 1000),
    )  # fmt: skip


def _separable(channels: int, out: int, stride: int) -> list[Layer]:
    """A depthwise 3x3 convolution, then a pointwise one."""
    depthwise = Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [depthwise, BatchNorm2d(channels), ReLU(), *_conv_norm(channels, out, 1), ReLU()]


def mobilenet_v1() -> Sequential:
    """MobileNet of width 1.0 for 128x128 images: Howard et al., arXiv:1704.04861, table 1. A training step of a batch
    of 16 takes about 0.2 seconds on one core.

    Returns
    -------
    Sequential
        Input (N, 3, 128, 128), output (N, 1000).
    """
    layers: list[Layer] = [*_conv_norm(3, 32, 3, 2), ReLU()]
    channels = 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in blocks:
        layers += _separable(channels, width, stride)
        channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(1024, 1000))


def _norm_conv(channels: int, out: int, kernel: int) -> list[Layer]:
    return [BatchNorm2d(channels), ReLU(), Conv2d(channels, out, kernel, 1, kernel // 2, bias=False)]


def densenet_small() -> Sequential:
    """DenseNet for 32x32 images, three blocks of 6 layers, growth rate 12, compression 0.5: Huang, Liu, van der Maaten,
    Weinberger, arXiv:1608.06993, section 3. A training step of a batch of 64 takes about 0.3 seconds on one core.

    Returns
    -------
    Sequential
        Input (N, 3, 32, 32), output (N, 10).
    """
    growth, channels = 12, 24
    layers: list[Layer] = [Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(3):
        if block > 0:
            layers += [*_norm_conv(channels, channels // 2, 1), AvgPool2d(2)]
            channels //= 2
        for _ in range(6):
            layers.append(Concat(None, Sequential(*_norm_conv(channels, growth, 3))))
            channels += growth
    layers += [BatchNorm2d(channels), ReLU(), GlobalAvgPool2d(), Flatten(), Linear(channels, 10)]
    return Sequential(*layers)


def _unet_level(channels: int, width: int, levels: int) -> list[Layer]:
    """Two convolutions; if there are more levels, these at half the resolution, joined by what goes around them, and
    two more convolutions.
    """
    layers = [*_conv_norm(channels, width, 3), ReLU(), *_conv_norm(width, width, 3), ReLU()]
    if levels == 1:
        return layers
    up = [Upsample(scale_factor=2), *_conv_norm(2 * width, width, 3), ReLU()]
    below = Sequential(MaxPool2d(2), *_unet_level(width, 2 * width, levels - 1), *up)
    return [
        *layers, Concat(None, below), *_conv_norm(2 * width, width, 3), ReLU(), *_conv_norm(width, width, 3), ReLU(),
    ]  # fmt: skip


def unet_small() -> Sequential:
    """U-Net of four levels, 16 to 128 channels, two classes for each pixel: Ronneberger, Fischer, Brox,
    arXiv:1505.04597, figure 1, with padding, batch normalisation and upsampling by the nearest pixel. A training step
    of a batch of 16 takes about 0.1 seconds on one core.

    Returns
    -------
    Sequential
        Input (N, 3, 64, 64), or another size of a multiple of 8, output (N, 2, 64, 64).
    """
    return Sequential(*_unet_level(3, 16, 4), Conv2d(16, 2, 1))


MODELS: dict[str, Callable[[], Sequential]] = {
    "digits_cnn": digits_cnn,
    "mlp": mlp,
    "lenet5": lenet5,
    "mnist_cnn": mnist_cnn,
    "vgg_small": vgg_small,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "mobilenet_v1": mobilenet_v1,
    "densenet_small": densenet_small,
    "unet_small": unet_small,
}
