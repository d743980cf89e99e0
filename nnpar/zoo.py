"""Models by name, ready to train."""

from __future__ import annotations

from collections.abc import Callable

from nnpar.layers import (
    BatchNorm2d,
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
)

__all__ = ["MODELS", "digits_cnn", "lenet5", "mlp", "mnist_cnn", "resnet18", "resnet20", "vgg_small"]


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


MODELS: dict[str, Callable[[], Sequential]] = {
    "digits_cnn": digits_cnn,
    "mlp": mlp,
    "lenet5": lenet5,
    "mnist_cnn": mnist_cnn,
    "vgg_small": vgg_small,
    "resnet20": resnet20,
    "resnet18": resnet18,
}
