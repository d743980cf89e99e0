"""Convolutions, pooling and resampling out of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnpar import layers
from nnpar.io.onnx.importer import Op, UnsupportedError, Value
from nnpar.shapes import Shape


def _window(op: Op, kernel: Sequence[int], dilated: bool = True, uneven: bool = False) -> dict[str, Any]:
    """Stride, padding and dilation of a window that moves over an image; with `uneven`, padding (before, after)."""
    rank = len(op.data().shape) - 2
    if rank != 2 or len(kernel) != rank:
        raise UnsupportedError(f"input of shape {op.data().shape}: expected (N, C, H, W)")
    stride = tuple(op.attribute("strides", [1] * rank))
    dilation = tuple(op.attribute("dilations", [1] * rank))
    if min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"strides {stride}, dilations {dilation}: expected at least 1")
    before, after = _pads(op, kernel, stride, dilation)
    if before != after and not uneven:
        raise UnsupportedError(f"pads {before} before, {after} after")
    if not dilated and max(dilation) > 1:
        raise UnsupportedError(f"dilations={dilation}")
    padding = (before, after) if uneven else before
    return {"stride": stride, "padding": padding} | ({"dilation": dilation} if dilated else {})


def _pads(op: Op, kernel: Sequence[int], stride: Shape, dilation: Shape) -> tuple[Shape, Shape]:
    """Zeros before and after each axis, given or automatic."""
    mode, rank = op.attribute("auto_pad", "NOTSET"), len(kernel)
    pads = op.attribute("pads", [0] * (2 * rank))
    if mode in ("NOTSET", "VALID"):
        pads = pads if mode == "NOTSET" else [0] * (2 * rank)
        if len(pads) != 2 * rank or min(pads) < 0:
            raise ValueError(f"pads: expected {2 * rank} sizes, got {pads}")
        return tuple(pads[:rank]), tuple(pads[rank:])
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad: got {mode!r}")
    sums = [
        max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
        for size, k, s, d in zip(op.data().shape[2:], kernel, stride, dilation, strict=True)
    ]
    less, more = tuple(total // 2 for total in sums), tuple(total - total // 2 for total in sums)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _conv(op: Op) -> Value:
    weight, channels = op.weights(1), op.data().shape[1]
    groups = op.attribute("group", 1)
    kernel = tuple(op.attribute("kernel_shape", list(weight.shape[2:])))
    if kernel != weight.shape[2:]:
        raise ValueError(f"kernel_shape: expected {weight.shape[2:]}, got {kernel}")
    if channels != weight.shape[1] * groups:
        raise ValueError(f"input of {channels} channels: expected {weight.shape[1]} for each of {groups} groups")
    window, x = _window(op, kernel, uneven=True), op.data()
    before, after = window.pop("padding")
    if before != after:  # zeros of their own
        x = op.emit(layers.ConstantPad((0, 0, *before), (0, 0, *after)), x)
        before = (0, 0)
    layer = layers.Conv2d(
        channels, weight.shape[0], kernel, groups=groups, bias=op.has(2), weight_init=lambda shape: weight,
        padding=before, **window,
    )  # fmt: skip
    if op.has(2):
        layer.bias = op.weights(2)
    return op.emit(layer, x)


def _conv_transpose(op: Op) -> Value:
    weight, x, groups = op.weights(1), op.data(), op.attribute("group", 1)
    rank = len(x.shape) - 2
    if rank != 2 or weight.ndim != 4:
        raise UnsupportedError(f"input of shape {x.shape}: expected (N, C, H, W)")
    stride, dilation = (tuple(op.attribute(name, [1, 1])) for name in ("strides", "dilations"))
    more, kernel = tuple(op.attribute("output_padding", [0, 0])), weight.shape[2:]
    if tuple(op.attribute("kernel_shape", list(kernel))) != kernel:
        raise ValueError(f"kernel_shape: expected {kernel}")
    sizes = zip(x.shape[2:], stride, dilation, kernel, more, strict=True)
    before, after = _cut_off(op, tuple((n - 1) * s + d * (k - 1) + 1 + m for n, s, d, k, m in sizes))
    layer = layers.ConvTranspose2d(
        x.shape[1], weight.shape[1] * groups, kernel, stride, before if before == after else 0, more, groups, op.has(2),
        dilation, weight_init=lambda shape: weight,
    )  # fmt: skip
    if op.has(2):
        layer.bias = op.weights(2)
    y = op.emit(layer, x)
    if before == after:
        return y
    return op.emit(layers.ConstantPad((0, 0, *(-b for b in before)), (0, 0, *(-a for a in after))), y)


def _cut_off(op: Op, whole: Shape) -> tuple[Shape, Shape]:
    """What is cut off before and after each axis of a transposed convolution's whole output."""
    mode, size = op.attribute("auto_pad", "NOTSET"), op.attribute("output_shape")
    pads = op.attribute("pads", [0, 0, 0, 0])
    if size is None and mode in ("NOTSET", "VALID"):
        if len(pads) != 4 or min(pads) < 0:
            raise ValueError(f"pads: expected 4 sizes, got {pads}")
        return (tuple(pads[:2]), tuple(pads[2:])) if mode == "NOTSET" else ((0, 0), (0, 0))
    if size is None:
        strides = op.attribute("strides", [1, 1])
        size = [n * step for n, step in zip(op.data().shape[2:], strides, strict=True)]
    totals = [n - wanted for n, wanted in zip(whole, size[-2:], strict=True)]
    if min(totals) < 0:
        raise UnsupportedError(f"output_shape={size}, larger than {whole}")
    less, larger = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (less, larger) if mode == "SAME_UPPER" else (larger, less)


def _pool_window(op: Op) -> dict[str, Any]:
    """Kernel, stride and padding; rounding up is possible where there is nothing to round."""
    kernel = tuple(op.attribute("kernel_shape"))
    window = {"kernel_size": kernel} | _window(op, kernel, dilated=False)
    rests = [
        (size + 2 * pad - k) % step
        for size, pad, k, step in zip(op.data().shape[2:], window["padding"], kernel, window["stride"], strict=True)
    ]
    op.expect("ceil_mode", 0, *([] if any(rests) else [1]))
    return window


def _max_pool(op: Op) -> Value:
    op.expect("storage_order", 0)
    kernel, x = tuple(op.attribute("kernel_shape")), op.data()
    window = _window(op, kernel, dilated=False, uneven=True)
    before, after = window.pop("padding")
    if op.attribute("ceil_mode", 0):
        after = _rounded_up(x.shape[2:], kernel, window["stride"], before, after)
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return op.emit(layers.MaxPool2d(kernel, padding=before, **window), x)
    least = -float(np.finfo(np.float32).max)
    padded = op.emit(layers.ConstantPad((0, 0, *before), (0, 0, *after), least), x)
    return op.emit(layers.MaxPool2d(kernel, **window), padded)


def _rounded_up(size: Shape, kernel: Shape, stride: Shape, before: Shape, after: Shape) -> Shape:
    """The padding after each axis with which another window fits, if it begins before what follows the image."""
    result = []
    for n, k, step, b, a in zip(size, kernel, stride, before, after, strict=True):
        rest = (n + b + a - k) % step
        begin = n + b + a - k - rest + step  # of the window more
        result.append(a + step - rest if rest and begin < n + b else a)
    return tuple(result)


def _average_pool(op: Op) -> Value:
    count = bool(op.attribute("count_include_pad", 0))
    return op.emit(layers.AvgPool2d(**_pool_window(op), count_include_pad=count), op.data())


def _global_max_pool(op: Op) -> Value:
    x = op.data()
    if len(x.shape) != 4:
        raise UnsupportedError(f"input of shape {x.shape}: expected (N, C, H, W)")
    return op.emit(layers.MaxPool2d(x.shape[2:]), x)


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
