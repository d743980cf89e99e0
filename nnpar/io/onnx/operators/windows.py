"""Convolutions, pooling and resampling out of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nnpar import layers
from nnpar.io.onnx.importer import Op, UnsupportedError, Value
from nnpar.shapes import Shape

CONVOLUTIONS: dict[int, Any] = {1: layers.Conv1d, 2: layers.Conv2d, 3: layers.Conv3d}
TRANSPOSED: dict[int, Any] = {1: layers.ConvTranspose1d, 2: layers.ConvTranspose2d, 3: layers.ConvTranspose3d}
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
    cut, wider = _cut_off(op, tuple((n - 1) * s + d * (k - 1) + 1 + m for n, s, d, k, m in sizes))
    more = tuple(m + w for m, w in zip(more, wider, strict=True))
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


def _cut_off(op: Op, whole: Shape) -> tuple[list[tuple[int, int]], Shape]:
    """What is cut off (before, after) each axis of a transposed convolution's whole output, and what is added to it."""
    mode, size, axes = op.attribute("auto_pad", "NOTSET"), op.attribute("output_shape"), len(whole)
    pads = op.attribute("pads", [0] * (2 * axes))
    if size is None and mode in ("NOTSET", "VALID"):
        if len(pads) != 2 * axes or min(pads) < 0:
            raise ValueError(f"pads: expected {2 * axes} sizes, got {pads}")
        cut = list(zip(pads[:axes], pads[axes:], strict=True)) if mode == "NOTSET" else [(0, 0)] * axes
        return cut, (0,) * axes
    if size is None:
        strides = op.attribute("strides", [1] * axes)
        size = [n * step for n, step in zip(op.data().shape[2:], strides, strict=True)]
    totals = [n - wanted for n, wanted in zip(whole, size[-axes:], strict=True)]
    return [_halves(max(0, total), mode) for total in totals], tuple(max(0, -total) for total in totals)


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
    """Resize, and Upsample, which it replaces: along the axes after the channels."""
    x, axes = op.data(), len(op.data().shape) - 2
    old = op.node.op_type == "Upsample" or op.version < 11
    mode = op.attribute("mode", "nearest")
    coordinates = op.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    options = {
        "nearest_mode": op.attribute("nearest_mode", "floor" if old else "round_prefer_floor"),
        "cubic_coeff_a": op.attribute("cubic_coeff_a", -0.75),
        "exclude_outside": bool(op.attribute("exclude_outside", 0)),
        "antialias": bool(op.attribute("antialias", 0)) and mode != "nearest",
        "extrapolation_value": op.attribute("extrapolation_value", 0.0),
    }
    named = [op.axis(axis, len(x.shape)) for axis in op.attribute("axes", list(range(len(x.shape))))]
    size, scales = _sizes(op, named, old)
    kept = [scales[axis] == 1.0 and (size is None or size[axis] == x.shape[axis]) for axis in (0, 1)]
    if axes not in (1, 2, 3) or not all(kept):
        raise UnsupportedError(
            f"scales {scales} of shape {x.shape}: expected 1 for batch and channels, and 1 to 3 axes"
        )
    roi = _roi(op, named, len(x.shape)) if coordinates == "tf_crop_and_resize" else None
    whole = size is None and min(scales) >= 1.0 and not any(scale % 1 for scale in scales)
    plain = (coordinates, options["nearest_mode"]) in (("half_pixel", "round_prefer_floor"), ("asymmetric", "floor"))
    if mode == "nearest" and whole and plain:
        return op.emit(layers.Upsample(scale_factor=scales[2:]), x)
    kind = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    layer = layers.Resize(None if size is None else size[2:], scales[2:], kind, coordinates, roi=roi, **options)
    return op.emit(layer, x)


def _sizes(op: Op, named: Sequence[int], old: bool) -> tuple[list[int] | None, list[float]]:
    """Sizes of all axes, if they are not those that the scales say, and scales."""
    shape, number = op.data().shape, 1 if old else 2
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    size, scales = list(shape), [1.0] * len(shape)
    given = op.known(number).tolist() if op.has(number) and op.known(number).size else op.attribute("scales")
    if given is not None:
        for axis, scale in zip(named, given, strict=True):
            scales[axis] = float(scale)
        return None, scales
    wanted = op.known(3).tolist()
    for axis, count in zip(named, wanted, strict=True):
        size[axis], scales[axis] = int(count), count / shape[axis]
    if policy == "stretch":
        return size, scales
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy={policy!r}")
    scale = (min if policy == "not_larger" else max)(scales[axis] for axis in named)
    for axis in named:
        size[axis], scales[axis] = math.floor(scale * shape[axis] + 0.5), scale
    return size, scales


def _roi(op: Op, named: Sequence[int], rank: int) -> list[float]:
    """Where each axis after the channels begins, then where each ends."""
    given = op.known(1).reshape(-1).tolist()
    begin, end = [0.0] * rank, [1.0] * rank
    for axis, first, last in zip(named, given[: len(named)], given[len(named) :], strict=True):
        begin[axis], end[axis] = first, last
    return [*begin[2:], *end[2:]]


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
