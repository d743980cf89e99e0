"""SqueezeNet: few weights by few channels between larger kernels."""

from __future__ import annotations

from nnpar.layers import Concat, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Layer, MaxPool2d, ReLU, Sequential


def _fire(channels: int, squeeze: int, expand: int) -> list[Layer]:
    """A 1x1 convolution to few channels, and two of 1x1 and 3x3 side by side."""
    first = [Conv2d(channels, squeeze, 1), ReLU()]
    small, large = (Sequential(Conv2d(squeeze, expand, k, padding=k // 2), ReLU()) for k in (1, 3))
    return [*first, Concat(small, large)]


# Kernel and channels of the first convolution, and the modules between poolings: squeeze and expand.
VERSIONS: dict[str, tuple[int, int, list[list[tuple[int, int]]]]] = {
    "1.0": (7, 96, [[(16, 64), (16, 64), (32, 128)], [(32, 128), (48, 192), (48, 192), (64, 256)], [(64, 256)]]),
    "1.1": (3, 64, [[(16, 64)] * 2, [(32, 128)] * 2, [(48, 192), (48, 192), (64, 256), (64, 256)]]),
}


def squeezenet(num_classes: int = 1000, in_channels: int = 3, version: str = "1.1") -> Sequential:
    """SqueezeNet: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, arXiv:1602.07360.

    Parameters
    ----------
    num_classes, in_channels : int
    version : {"1.1", "1.0"}
        The paper's is 1.0; its authors published 1.1 later, as accurate with less than half the arithmetic.

    Returns
    -------
    Sequential
        Input (N, in_channels, 224, 224) or another size, output (N, num_classes). 1,235,496 parameters, 349 M
        multiply-adds; of version 1.0 1,248,424 and 819 M.

    Raises
    ------
    ValueError
        If there is no such version.
    """
    if version not in VERSIONS:
        raise ValueError(f"squeezenet: version: expected '1.1' or '1.0', got {version!r}")
    kernel, channels, stages = VERSIONS[version]
    layers: list[Layer] = [Conv2d(in_channels, channels, kernel, 2), ReLU()]
    for stage in stages:
        layers.append(MaxPool2d(3, 2, ceil_mode=True))
        for squeeze, expand in stage:
            layers += _fire(channels, squeeze, expand)
            channels = 2 * expand
    return Sequential(*layers, Dropout(0.5), Conv2d(channels, num_classes, 1), ReLU(), GlobalAvgPool2d(), Flatten())
