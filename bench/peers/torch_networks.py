"""The networks of nnpar.zoo in PyTorch, their parameters in the same order."""

from collections.abc import Callable

import torch
from torch import nn


class Block(nn.Module):  # type: ignore[misc, unused-ignore]
    """ResNet's basic block; the shortcut comes first, as in nnpar's Residual."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_norm(channels, out, 1, stride))
        self.body = nn.Sequential(*_conv_norm(channels, out, 3, stride), nn.ReLU(), *_conv_norm(out, out, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """relu(body(x) + shortcut(x))."""
        return torch.relu(self.body(x) + self.shortcut(x))


def _conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]


def _mlp() -> nn.Module:
    layers = nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(nn.Flatten(), *layers)


def _lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def _mnist_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def _vgg_small() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [*_conv_norm(channels, width, 3), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10))


def _stages(channels: int, widths: tuple[int, ...], blocks: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for number, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Block(channels, width, 2 if number > 0 and block == 0 else 1))
            channels = width
    return layers


def _resnet20() -> nn.Module:
    stem = [*_conv_norm(3, 16, 3), nn.ReLU()]
    return nn.Sequential(*stem, *_stages(16, (16, 32, 64), 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _resnet18() -> nn.Module:
    stem = [*_conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(
        *stem, *_stages(64, (64, 128, 256, 512), 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)
    )


def _mobilenet_v1() -> nn.Module:
    layers: list[nn.Module] = [*_conv_norm(3, 32, 3, 2), nn.ReLU()]
    channels = 32
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in blocks:
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        layers += [depthwise, nn.BatchNorm2d(channels), nn.ReLU(), *_conv_norm(channels, width, 1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


class Beside(nn.Sequential):  # type: ignore[misc, unused-ignore]
    """The input, and beside it what layers make of it: nnpar's ``Concat(None, Sequential(...))``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels of x, then those of the layers."""
        return torch.cat([x, super().forward(x)], 1)


def _norm_conv(channels: int, out: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(channels), nn.ReLU(), conv]


def _densenet_small() -> nn.Module:
    growth, channels = 12, 24
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(3):
        if block > 0:
            layers += [*_norm_conv(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(6):
            layers.append(Beside(*_norm_conv(channels, growth, 3)))
            channels += growth
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers)


def _unet_level(channels: int, width: int, levels: int) -> list[nn.Module]:
    layers = [*_conv_norm(channels, width, 3), nn.ReLU(), *_conv_norm(width, width, 3), nn.ReLU()]
    if levels == 1:
        return layers
    up = [nn.Upsample(scale_factor=2), *_conv_norm(2 * width, width, 3), nn.ReLU()]
    below = Beside(nn.MaxPool2d(2), *_unet_level(width, 2 * width, levels - 1), *up)
    return [*layers, below, *_conv_norm(2 * width, width, 3), nn.ReLU(), *_conv_norm(width, width, 3), nn.ReLU()]


def _unet_small() -> nn.Module:
    return nn.Sequential(*_unet_level(3, 16, 4), nn.Conv2d(16, 2, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": _mlp,
    "lenet5": _lenet5,
    "mnist_cnn": _mnist_cnn,
    "vgg_small": _vgg_small,
    "resnet20": _resnet20,
    "resnet18": _resnet18,
    "mobilenet_v1": _mobilenet_v1,
    "densenet_small": _densenet_small,
    "unet_small": _unet_small,
}


def network(name: str, parameters: torch.Tensor, statistics: torch.Tensor | None = None) -> nn.Module:
    """A network of that name in training mode, with these parameters and, if given, running statistics of its batch
    normalisations, one after the other.
    """
    model = NETWORKS[name]()
    _fill(name, list(model.parameters()), parameters)
    if statistics is not None:
        _fill(name, [buffer for buffer in model.buffers() if buffer.is_floating_point()], statistics)
    return model


def _fill(name: str, tensors: list[torch.Tensor], values: torch.Tensor) -> None:
    sizes = [tensor.numel() for tensor in tensors]
    if sum(sizes) != values.numel():
        raise ValueError(f"{name}: expected {sum(sizes)} numbers, got {values.numel()}")
    with torch.no_grad():
        for tensor, part in zip(tensors, values.split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))
