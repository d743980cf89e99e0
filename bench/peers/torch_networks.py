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


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": _mlp,
    "lenet5": _lenet5,
    "mnist_cnn": _mnist_cnn,
    "vgg_small": _vgg_small,
    "resnet20": _resnet20,
    "resnet18": _resnet18,
}


def network(name: str, parameters: torch.Tensor) -> nn.Module:
    """A network of that name in training mode, with these parameters one after the other."""
    model = NETWORKS[name]()
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameters[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()
    if start != parameters.numel():
        raise ValueError(f"{name}: expected {start} parameters, got {parameters.numel()}")
    return model
