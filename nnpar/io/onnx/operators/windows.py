"""Convolutions, pooling and resampling out of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nnpar import layers
from nnpar.io.onnx.importer import Op, UnsupportedError, Value
from nnpar.shapes import Shape

CONVOLUTIONS: dict[int, Any] = {1: layers.Conv1d, 2: layers.Conv2d}
TRANSPOSED: dict[int, Any] = {1: layers.ConvTranspose1d, 2: layers.ConvTranspose2d}
MAX_POOLS: dict[int, Any] = {1: layers.MaxPool1d, 2: layers.MaxPool2d, 3: layers.MaxPool3d}
AVG_POOLS: dict[int, Any] = {1: layers.AvgPool1d, 2: layers.AvgPool2d, 3: layers.AvgPool3d}


def _kind(op: Op, kinds: dict[int, Any], kernel: Sequence[int]) -> Any:
    """The layer for inputs of so many axes."""
    axes = len(op.data().shape) - 2
    if axes not in kinds or len(kernel) != axes:
        raise UnsupportedError(f"input of shape {op.data().shape}: expected {' or '.join(map(str, kinds))} axes more")
    return kinds[axes]


def _window(op: Op, kernel: Sequence[int]) -> dict[str, Any]:
    """Stride, padding and dilation of a window that moves over an image."""
    axes = len(kernel)
    stride = tuple(op.attribute("strides", [1] * axes))
    dilation = tuple(op.attribute("dilations", [1] * axes))
    if len(stride) != axes or len(dilation) != axes or min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"strides {stride}, dilations {dilation}: expected {axes} of at least 1")
    return {"stride": stride, "padding": _pads(op, kernel, stride, dilation), "dilation": dilation}


def _pads(op: Op, kernel: Sequence[int], stride: Shape, dilation: Shape) -> list[tuple[int, int]]:
    """Zeros (before, after) each axis, given or automatic."""
    mode, axes = op.attribute("auto_pad", "NOTSET"), len(kernel)
    pads = op.attribute("pads", [0] * (2 * axes))
    if mode in ("NOTSET", "VALID"):
        pads = pads if mode == "NOTSET" else [0] * (2 * axes)
        if len(pads) != 2 * axes or min(pads) < 0:
            raise ValueError(f"pads: expected {2 * axes} sizes, got {pads}")
        return list(zip(pads[:axes], pads[axes:], strict=True))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad: got {mode!r}")
    totals = [
        max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip(op.data().shape[2:], kernel, stride, dilation, strict=True)
    ]
    return [_halves(total, mode) for total in totals]


def _halves(total: int, mode: str) -> tuple[int, int]:
    """A padding (before, after); what is odd has one more after with SAME_UPPER."""
    less, more = total // 2, total - total // 2
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _conv(op: Op) -> Value:
    weight, x = op.weights(1), op.data()
    groups, channels = op.attribute("group", 1), x.shape[1]
    kernel = tuple(op.attribute("kernel_shape", list(weight.shape[2:])))
    kind = _kind(op, CONVOLUTIONS, kernel)
    if kernel != weight.shape[2:]:
        raise ValueError(f"kernel_shape: expected {weight.shape[2:]}, got {kernel}")
    if channels != weight.shape[1] * groups:
        raise ValueError(f"input of {channels} channels: expected {weight.shape[1]} for each of {groups} groups")
    layer = kind(
        channels, weight.shape[0], kernel, groups=groups, bias=op.has(2), weight_init=lambda shape: weight,
        **_window(op, kernel),
    )  # fmt: skip
    if op.has(2):
        layer.bias = op.weights(2)
    return op.emit(layer, x)


def _conv_transpose(op: Op) -> Value:
    weight, x, groups = op.weights(1), op.data(), op.attribute("group", 1)
    kernel = weight.shape[2:]
    kind, axes = _kind(op, TRANSPOSED, kernel), len(kernel)
    stride, dilation = (tuple(op.attribute(name, [1] * axes)) for name in ("strides", "dilations"))
    more = tuple(op.attribute("output_padding", [0] * axes))
    if tuple(op.attribute("kernel_shape", list(kernel))) != kernel:
        raise ValueError(f"kernel_shape: expected {kernel}")
    sizes = zip(x.shape[2:], stride, dilation, kernel, more, strict=True)
    cut = _cut_off(op, tuple((n - 1) * s + d * (k - 1) + 1 + m for n, s, d, k, m in sizes))
    even = all(before == after for before, after in cut)
    padding = [before for before, _ in cut] if even else 0
    layer = kind(
        x.shape[1], weight.shape[1] * groups, kernel, stride, padding, more, groups, op.has(2), dilation,
        weight_init=lambda shape: weight,
    )  # fmt: skip
    if op.has(2):
        layer.bias = op.weights(2)
    y = op.emit(layer, x)
    if even:
        return y
    return op.emit(layers.ConstantPad((0, 0, *(-b for b, _ in cut)), (0, 0, *(-a for _, a in cut))), y)


def _cut_off(op: Op, whole: Shape) -> list[tuple[int, int]]:
    """What is cut off (before, after) each axis of a transposed convolution's whole output."""
    mode, size, axes = op.attribute("auto_pad", "NOTSET"), op.attribute("output_shape"), len(whole)
    pads = op.attribute("pads", [0] * (2 * axes))
    if size is None and mode in ("NOTSET", "VALID"):
        if len(pads) != 2 * axes or min(pads) < 0:
            raise ValueError(f"pads: expected {2 * axes} sizes, got {pads}")
        return list(zip(pads[:axes], pads[axes:], strict=True)) if mode == "NOTSET" else [(0, 0)] * axes
    if size is None:
        strides = op.attribute("strides", [1] * axes)
        size = [n * step for n, step in zip(op.data().shape[2:], strides, strict=True)]
    totals = [n - wanted for n, wanted in zip(whole, size[-axes:], strict=True)]
    if min(totals) < 0:
        raise UnsupportedError(f"output_shape={size}, larger than {whole}")
    return [_halves(total, mode) for total in totals]


def _max_pool(op: Op) -> Value:
    op.expect("storage_order", 0)
    kernel = tuple(op.attribute("kernel_shape"))
    ceil = bool(op.attribute("ceil_mode", 0))
    return op.emit(_kind(op, MAX_POOLS, kernel)(kernel, **_window(op, kernel), ceil_mode=ceil), op.data())


def _average_pool(op: Op) -> Value:
    kernel = tuple(op.attribute("kernel_shape"))
    ceil, count = bool(op.attribute("ceil_mode", 0)), bool(op.attribute("count_include_pad", 0))
    layer = _kind(op, AVG_POOLS, kernel)(kernel, **_window(op, kernel), ceil_mode=ceil, count_include_pad=count)
    return op.emit(layer, op.data())


def _global_max_pool(op: Op) -> Value:
    return op.emit(layers.GlobalMaxPool2d(), op.data())


def _global_average_pool(op: Op) -> Value:
    return op.emit(layers.GlobalAvgPool2d(), op.data())


def _resize(op: Op) -> Value:
    """Resize and Upsample by the nearest pixel, whole times larger."""
    x = op.data()
    number = 1 if op.node.op_type == "Upsample" or op.version < 11 else 2
    for name, default, *more in (
        ("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel", "asymmetric"), ("antialias", 0),
        ("nearest_mode", "round_prefer_floor", "floor"), ("keep_aspect_ratio_policy", "stretch"), ("axes", None),
    ):  # fmt: skip
        op.expect(name, default, *more)
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):
        op.attribute(name)
    if op.has(number) and op.known(number).size:
        scales = [float(scale) for scale in op.known(number)]
    elif op.has(3):
        scales = [size / old for size, old in zip(op.known(3).tolist(), x.shape, strict=True)]
    else:
        scales = op.attribute("scales")
    if len(x.shape) != 4 or len(scales) != 4 or scales[:2] != [1.0, 1.0] or any(s % 1 or s < 1 for s in scales):
        raise UnsupportedError(
            f"scales {scales} of shape {x.shape}: expected whole numbers, and 1 for batch and channels"
        )
    return op.emit(layers.Upsample(scale_factor=[int(s) for s in scales[2:]]), x)


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "Upsample": _resize,
}
