"""ONNX operators as layers: one function each, found by its operator's name in OPERATORS."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nnpar import layers
from nnpar.io.onnx.importer import Data, Known, Op, UnsupportedError, Value
from nnpar.layers.nodes import Symbol
from nnpar.shapes import Shape

BATCH_NORMS = {2: layers.BatchNorm1d, 3: layers.BatchNorm1d, 4: layers.BatchNorm2d, 5: layers.BatchNorm3d}


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
    layer = layers.ConvTranspose2d(
        x.shape[1], weight.shape[1] * groups, kernel, stride, 0, more, groups, op.has(2), dilation,
        weight_init=lambda shape: weight,
    )  # fmt: skip
    if op.has(2):
        layer.bias = op.weights(2)
    before, after = _cut_off(op, layer.output_shape(x.shape)[2:])
    if before == after:
        layer.padding = (before[0], before[1])
        return op.emit(layer, x)
    whole = op.emit(layer, x)
    return op.emit(layers.ConstantPad((0, 0, *(-b for b in before)), (0, 0, *(-a for a in after))), whole)


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


def _dense(op: Op, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> Data:
    """``x @ weight.T + bias``."""
    out_features, in_features = weight.shape
    layer = layers.Linear(in_features, out_features, bias is not None, weight_init=lambda shape: weight)
    if bias is not None:
        layer.bias = bias
    return op.emit(layer, op.data())


def _gemm(op: Op) -> Value:
    op.expect("transA", 0)
    op.attribute("broadcast")
    alpha, beta = np.float32(op.attribute("alpha", 1.0)), np.float32(op.attribute("beta", 1.0))
    weight = op.weights(1) if op.attribute("transB", 0) else op.weights(1).T
    if weight.ndim != 2 or len(op.data().shape) != 2:
        raise ValueError(f"expected matrices, got {op.data().shape} and {weight.shape}")
    bias = None
    if op.has(2):
        bias = op.weights(2)
        if bias.size != 1 and bias.shape[:-1] not in ((), (1,)):
            raise UnsupportedError(f"input 2 of shape {bias.shape}: expected ({weight.shape[0]},)")
        bias = np.broadcast_to(beta * bias.reshape(-1), weight.shape[:1])
    return _dense(op, alpha * weight, bias)


def _matmul(op: Op) -> Value:
    weight = op.weights(1)
    if weight.ndim != 2 or len(op.data().shape) < 2:
        raise UnsupportedError(f"of {op.data().shape} and {weight.shape}")
    return _dense(op, weight.T, None)


def _batch_normalization(op: Op) -> Value:
    op.expect("training_mode", 0)
    op.expect("spatial", 1)
    op.attribute("is_test")
    op.attribute("consumed_inputs")
    x = op.data()
    if len(x.shape) not in BATCH_NORMS:
        raise UnsupportedError(f"input of shape {x.shape}")
    weights = [op.weights(number, x.shape[1:2]) for number in (1, 2, 3, 4)]
    before = x.symbol.layer
    if op.fold and op.alone[0] and isinstance(before, layers.Conv2d):
        return _folded(op, before, *weights)
    # ONNX's momentum is the share of the old statistics.
    momentum = 1.0 - op.attribute("momentum", 0.9)
    layer = BATCH_NORMS[len(x.shape)](x.shape[1], op.attribute("epsilon", 1e-5), momentum)
    layer.weight, layer.bias, layer.running_mean, layer.running_var = weights
    return op.emit(layer, x)


def _folded(op: Op, conv: layers.Conv2d, *weights: NDArray[np.float32]) -> Data:
    """A convolution that normalises what it gives: of weight * s, with s = scale / sqrt(var + eps)."""
    scale, shift, mean, var = (array.astype(np.float64) for array in weights)
    op.attribute("momentum")
    factor = scale / np.sqrt(var + op.attribute("epsilon", 1e-5))
    arguments = conv.settings() | {"bias": True}
    layer = layers.Conv2d(**arguments, weight_init=lambda shape: conv.weight * factor[:, None, None, None])
    layer.bias = shift + factor * ((0.0 if conv.bias is None else conv.bias) - mean)
    x = op.data()
    return Data(Symbol(layer, x.symbol.inputs, x.symbol.shape), x.shapes)


def _layer_normalization(op: Op) -> Value:
    x = op.data()
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    if axis == 0:
        raise UnsupportedError("axis=0, the batch's")
    rows, scale = x.shape[axis:], op.weights(1)
    bias = np.broadcast_to(op.weights(2), rows) if op.has(2) else None
    layer = layers.LayerNorm(rows, op.attribute("epsilon", 1e-5), bias=bias is not None)
    layer.weight = np.broadcast_to(scale, rows)
    if bias is not None:
        layer.bias = bias
    return op.emit(layer, x)


def _rms_normalization(op: Op) -> Value:
    x = op.data()
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    if axis == 0:
        raise UnsupportedError("axis=0, the batch's")
    layer = layers.RMSNorm(x.shape[axis:], op.attribute("epsilon", 1e-5))
    layer.weight = np.broadcast_to(op.weights(1), x.shape[axis:])
    return op.emit(layer, x)


def _instance_normalization(op: Op) -> Value:
    x = op.data()
    kinds = {3: layers.InstanceNorm1d, 4: layers.InstanceNorm2d}
    if len(x.shape) not in kinds:
        raise UnsupportedError(f"input of shape {x.shape}")
    weight, bias = (op.weights(number, x.shape[1:2]) for number in (1, 2))
    layer = kinds[len(x.shape)](x.shape[1], op.attribute("epsilon", 1e-5), affine=True)
    layer.weight, layer.bias = weight, bias
    return op.emit(layer, x)


def _group_normalization(op: Op) -> Value:
    x, groups = op.data(), op.attribute("num_groups")
    op.expect("stash_type", 1)
    size = x.shape[1] if op.version >= 21 else groups  # versions before have a weight for each group
    weight, bias = (op.weights(number, (size,)) for number in (1, 2))
    layer = layers.GroupNorm(groups, x.shape[1], op.attribute("epsilon", 1e-5))
    layer.weight, layer.bias = (np.repeat(array, x.shape[1] // size) for array in (weight, bias))
    return op.emit(layer, x)


def _lrn(op: Op) -> Value:
    size = op.attribute("size")
    if size % 2 == 0:
        raise UnsupportedError(f"size={size}, which is even")
    alpha, beta, k = op.attribute("alpha", 1e-4), op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    return op.emit(layers.LocalResponseNorm(size, alpha, beta, k), op.data())


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


def _reshaped(op: Op, shapes: Sequence[Shape]) -> Data:
    """The data in other shapes, one for each trial size of the batch."""
    x = op.data()
    if tuple(shapes) == x.shapes:
        return x
    if tuple(shapes) == tuple((shape[0], math.prod(shape[1:])) for shape in x.shapes):
        return op.emit(layers.Flatten(), x)
    if len({len(shape) for shape in shapes}) > 1:
        raise UnsupportedError(f"from shape {x.shape} to several numbers of axes")
    sizes = [column[0] if len(set(column)) == 1 else -1 for column in zip(*shapes, strict=True)]
    if sizes and len(x.shape) > 0 and all(shape[0] == old[0] for shape, old in zip(shapes, x.shapes, strict=True)):
        sizes[0] = 0
    if sizes.count(-1) > 1 or 0 in sizes[1:]:
        raise UnsupportedError(f"from shape {x.shape} to {shapes[0]}")
    return op.emit(layers.Reshape(sizes), x)


def _flatten(op: Op) -> Value:
    x = op.data()
    axis = op.attribute("axis", 1)
    axis = axis if axis == len(x.shape) else op.axis(axis, len(x.shape))
    return _reshaped(op, [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in x.shapes])


def _reshape(op: Op) -> Value:
    x = op.data()
    targets = [np.array(op.attribute("shape"))] * op.trials
    if op.has(1):
        known = op.inputs[1]
        if not isinstance(known, Known):
            raise UnsupportedError("input 1: expected a shape that is known")
        targets = list(known.arrays)
    keep_zeros = bool(op.attribute("allowzero", 0))
    return _reshaped(op, [_target(s, t, keep_zeros) for s, t in zip(x.shapes, targets, strict=True)])


def _target(shape: Shape, target: NDArray[Any], keep_zeros: bool) -> Shape:
    """The shape that Reshape's second input stands for."""
    sizes = [int(size) for size in target.reshape(-1)]
    if not keep_zeros:
        sizes = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(sizes)]
    rest = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and rest > 0:
        sizes[sizes.index(-1)] = math.prod(shape) // rest
    if any(size < 0 for size in sizes) or math.prod(sizes) != math.prod(shape):
        raise ValueError(f"expected a shape of {math.prod(shape)} numbers, got {target.tolist()}")
    return tuple(sizes)


def _squeeze(op: Op) -> Value:
    x = op.data()
    axes = op.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    axes = [op.axis(axis, len(x.shape)) for axis in axes]
    if any(shape[axis] != 1 for shape in x.shapes for axis in axes):
        raise ValueError(f"axes {axes} of shape {x.shape}: expected sizes of 1")
    return _reshaped(op, [tuple(size for axis, size in enumerate(s) if axis not in axes) for s in x.shapes])


def _transpose(op: Op) -> Value:
    x = op.data()
    order = op.attribute("perm", list(range(len(x.shape)))[::-1])
    return x if list(order) == list(range(len(x.shape))) else op.emit(layers.Permute(order), x)


def _concat(op: Op) -> Value:
    inputs = [op.data(number) for number in range(len(op.inputs))]
    axis = op.axis(op.attribute("axis", 1), len(inputs[0].shape))
    if len(inputs) == 1:
        return inputs[0]
    return op.emit(layers.Concatenate(axis), *inputs)


def _sum(op: Op) -> Value:
    """Add, Sum."""
    _old_broadcast(op)
    if len(op.inputs) == 2 and any(isinstance(value, Known) for value in op.inputs):
        return _with_bias(op)
    inputs = [op.data(number) for number in range(len(op.inputs))]
    if len(inputs) == 1:
        return op.emit(layers.Dropout(0.0), inputs[0])
    return reduce(lambda a, b: op.emit(layers.Add(), a, b), inputs)


def _old_broadcast(op: Op) -> None:
    """Attributes of versions below 7: broadcasting from another axis than the last is not supported."""
    op.attribute("consumed_inputs")
    op.attribute("broadcast")
    op.expect("axis", None)


def _mean(op: Op) -> Value:
    total = _sum(op)
    assert isinstance(total, Data)
    return _scaled(op, total, np.float32(1.0 / len(op.inputs)))


def _scaled(op: Op, x: Data, factor: NDArray[np.float32] | np.float32) -> Data:
    """Data times a constant that does not make them larger."""
    return _with_parameter(op, layers.Scale, x, np.asarray(factor, np.float32))


def _with_parameter(op: Op, kind: type[layers.Scale] | type[layers.Shift], x: Data, value: NDArray[np.float32]) -> Data:
    if any(np.broadcast_shapes(shape, value.shape) != shape for shape in x.shapes):
        raise UnsupportedError(f"of data of shape {x.shape} and a larger constant of shape {value.shape}")
    layer = kind(value.shape)
    layer.weight = value
    return op.emit(layer, x)


def _sub(op: Op) -> Value:
    _old_broadcast(op)
    if isinstance(op.inputs[1], Known):
        return _with_parameter(op, layers.Shift, op.data(), -op.weights(1))
    if isinstance(op.inputs[0], Known):
        negative = _scaled(op, op.data(1), np.float32(-1.0))
        return _with_parameter(op, layers.Shift, negative, op.weights(0))
    return op.emit(layers.Sub(), op.data(0), op.data(1))


def _mul(op: Op) -> Value:
    _old_broadcast(op)
    for number in (0, 1):
        if isinstance(op.inputs[number], Known):
            return _scaled(op, op.data(1 - number), op.weights(number))
    return op.emit(layers.Mul(), op.data(0), op.data(1))


def _div(op: Op) -> Value:
    _old_broadcast(op)
    if isinstance(op.inputs[1], Known):
        divisor = op.weights(1)
        return _scaled(op, op.data(), np.float32(1.0) / divisor)
    if isinstance(op.inputs[0], Known):
        return _scaled(op, op.emit(layers.Reciprocal(), op.data(1)), op.weights(0))
    return op.emit(layers.Div(), op.data(0), op.data(1))


def _neg(op: Op) -> Value:
    return _scaled(op, op.data(), np.float32(-1.0))


def _slice(op: Op) -> Value:
    x = op.data()
    starts, ends = op.integers(1, "starts"), op.integers(2, "ends")
    axes = op.integers(3, "axes") or list(range(len(starts)))
    steps = op.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = op.axis(axis, len(x.shape))
        sizes = {shape[axis] for shape in x.shapes}
        if step < 0:
            if len(sizes) > 1:
                raise UnsupportedError(f"steps {step} of the batch")
            (size,) = sizes
            first = min(max(start + size if start < 0 else start, -1), size - 1)
            last = max(end + size if end < 0 else end, -1)
            x = op.emit(layers.Slice(axis, max(first, 0) if first >= 0 else 0, None if last < 0 else last, step), x)
        else:
            x = op.emit(layers.Slice(axis, start, min(end, 2**61), step), x)
    return x if starts else op.emit(layers.Dropout(0.0), x)


def _split(op: Op) -> list[Value]:
    x, count = op.data(), len(op.node.output)
    axis = op.axis(op.attribute("axis", 0), len(x.shape))
    op.attribute("num_outputs")
    sizes = op.integers(1, "split")
    length = x.shape[axis]
    if axis == 0 and op.trials > 1:
        raise UnsupportedError("of the batch")
    if sizes is None:
        each = -(-length // count)
        sizes = [min(each, max(0, length - k * each)) for k in range(count)]
    if sum(sizes) != length or len(sizes) != count or min(sizes) < 0:
        raise ValueError(f"split: expected {count} sizes of {length} in all, got {sizes}")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return [op.emit(layers.Slice(axis, int(a), int(b)), x) for a, b in itertools.pairwise(starts)]


def _unsqueeze(op: Op) -> Value:
    x = op.data()
    axes = op.integers(1, "axes")
    if not axes:
        raise ValueError("axes: expected some")
    rank = len(x.shape) + len(axes)
    places = {op.axis(axis, rank) for axis in axes}
    if len(places) < len(axes):
        raise ValueError(f"axes: expected different ones, got {axes}")
    shapes = []
    for shape in x.shapes:
        sizes = iter(shape)
        shapes.append(tuple(1 if axis in places else next(sizes) for axis in range(rank)))
    return _reshaped(op, shapes)


def _pad(op: Op) -> Value:
    x = op.data()
    op.expect("mode", "constant")
    pads, rank = op.integers(1, "pads"), len(x.shape)
    if pads is None:
        pads = op.attribute("paddings")
    value = float(op.known(2)) if op.has(2) and op.known(2).size else float(op.attribute("value", 0.0))
    axes = [op.axis(axis, rank) for axis in op.known(3).reshape(-1).tolist()] if op.has(3) else list(range(rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise ValueError(f"pads: expected {2 * len(axes)} sizes, got {pads}")
    before, after = [0] * rank, [0] * rank
    for axis, first, last in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        before[axis], after[axis] = first, last
    return op.emit(layers.ConstantPad(before, after, value), x)


def _reduce(kind: type[layers.Mean]) -> Callable[[Op], Value]:
    def reduced(op: Op) -> Value:
        x = op.data()
        axes = op.integers(1, "axes")
        keep, as_it_is = bool(op.attribute("keepdims", 1)), bool(op.attribute("noop_with_empty_axes", 0))
        if not axes and as_it_is:
            return op.emit(layers.Dropout(0.0), x)
        axes = axes or list(range(len(x.shape)))
        of_pixels = len(x.shape) == 4 and sorted(op.axis(axis, 4) for axis in axes) == [2, 3]
        if kind is layers.Mean and keep and of_pixels:
            return op.emit(layers.GlobalAvgPool2d(), x)
        return op.emit(kind(axes, keep), x)

    return reduced


def _depth_to_space(op: Op) -> Value:
    x, r = op.data(), op.attribute("blocksize")
    mode = op.attribute("mode", "DCR")
    if mode == "CRD":
        return op.emit(layers.PixelShuffle(r), x)
    if mode != "DCR" or len(x.shape) != 4 or r < 1 or x.shape[1] % (r * r):
        raise ValueError(f"blocksize={r}, mode={mode!r} of shape {x.shape}")
    _, c, h, w = x.shape
    parts = op.emit(layers.Reshape((0, r, r, c // (r * r), h, w)), x)
    moved = op.emit(layers.Permute((0, 3, 4, 1, 5, 2)), parts)
    return op.emit(layers.Reshape((0, c // (r * r), h * r, w * r)), moved)


def _space_to_depth(op: Op) -> Value:
    x, r = op.data(), op.attribute("blocksize")
    op.expect("mode", "DCR")
    if len(x.shape) != 4 or r < 1 or x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"blocksize={r} of shape {x.shape}")
    _, c, h, w = x.shape
    parts = op.emit(layers.Reshape((0, c, h // r, r, w // r, r)), x)
    moved = op.emit(layers.Permute((0, 3, 5, 1, 2, 4)), parts)
    return op.emit(layers.Reshape((0, c * r * r, h // r, w // r)), moved)


def _softmax(kind: type[layers.Softmax]) -> Callable[[Op], Value]:
    def softmax(op: Op) -> Value:
        x = op.data()
        axis = op.axis(op.attribute("axis", -1 if op.version >= 13 else 1), len(x.shape))
        if op.version >= 13 or axis == len(x.shape) - 1:
            return op.emit(kind(axis), x)
        rows = [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in x.shapes]
        y = op.emit(kind(1), _reshaped(op, rows))
        sizes = [0 if axis > 1 else -1, *x.shape[1:]] if axis == 1 else list(x.shape)
        if axis != 1 and op.trials > 1:
            raise UnsupportedError(f"axis={axis} of any batch")
        return op.emit(layers.Reshape([-1, *sizes[1:]]), y)

    return softmax


def _clip(op: Op) -> Value:
    op.attribute("consumed_inputs")
    limit = float(np.finfo(np.float32).max)
    low = float(op.known(1)) if op.has(1) else op.attribute("min", -limit)
    high = float(op.known(2)) if op.has(2) else op.attribute("max", limit)
    low, high = max(low, -limit), min(high, limit)
    if low >= high:
        raise UnsupportedError(f"min={low}, max={high}")
    return op.emit(layers.Hardtanh(low, high), op.data())


def _channel_shapes(op: Op, x: Data) -> list[Shape]:
    """Shapes of a number for each channel; before version 7 they were without axes for the pixels."""
    channels = x.shape[1]
    return [(channels, *[1] * (len(x.shape) - 2)), *([(channels,)] if op.version < 7 else [])]


def _prelu(op: Op) -> Value:
    x, slope = op.data(), op.weights(1)
    if slope.size == 1:
        layer = layers.PReLU()
    elif len(x.shape) > 1 and slope.shape in _channel_shapes(op, x):
        layer = layers.PReLU(x.shape[1])
    else:
        raise UnsupportedError(f"slopes of shape {slope.shape} for data of shape {x.shape}")
    layer.weight = slope.reshape(-1)
    return op.emit(layer, x)


def _function(kind: type[layers.Layer], **names: tuple[str, float]) -> Callable[[Op], Value]:
    """A layer whose arguments are attributes: the layer's name = (ONNX's name, default)."""

    def function(op: Op) -> Value:
        op.attribute("consumed_inputs")
        arguments = {name: op.attribute(attribute, default) for name, (attribute, default) in names.items()}
        return op.emit(kind(**arguments), op.data())

    return function


def _selu(op: Op) -> Value:
    op.attribute("consumed_inputs")
    alpha, gamma = op.attribute("alpha", 1.6732632), op.attribute("gamma", 1.050701)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.050701) < 1e-6:
        return op.emit(layers.SELU(), op.data())
    return _scaled(op, op.emit(layers.ELU(alpha), op.data()), np.float32(gamma))


def _gelu(op: Op) -> Value:
    return op.emit(layers.GELU(op.attribute("approximate", "none")), op.data())


def _hard_sigmoid(op: Op) -> Value:
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    op.attribute("consumed_inputs")
    x = op.data()
    scaled = _with_parameter(op, layers.Shift, _scaled(op, x, np.float32(alpha)), np.array(beta, np.float32))
    return op.emit(layers.Hardtanh(0.0, 1.0), scaled)


def _with_bias(op: Op) -> Data:
    """A constant added to what a dense layer without bias gives: such layers of tokens are two operators in ONNX."""
    number = 0 if isinstance(op.inputs[0], Data) else 1
    x, bias = op.data(number), op.weights(1 - number)
    before = x.symbol.layer
    plain = isinstance(before, layers.Linear) and before.bias is None and op.alone[number]
    if not plain or bias.shape != x.shape[-1:]:
        return _with_parameter(op, layers.Shift, x, bias)
    assert isinstance(before, layers.Linear)
    layer = layers.Linear(before.in_features, before.out_features, weight_init=lambda shape: before.weight)
    layer.bias = bias
    return Data(Symbol(layer, x.symbol.inputs, x.symbol.shape), x.shapes)


def _dropout(op: Op) -> list[Value]:
    op.attribute("seed")
    op.attribute("is_test")
    ratio = float(op.known(1)) if op.has(1) else op.attribute("ratio", 0.5)
    if op.has(2) and bool(op.known(2)) and ratio > 0.0:
        raise UnsupportedError("training_mode=True")
    mask = Known(tuple(np.ones(shape, bool) for shape in op.data().shapes)) if op.wants_output(1) else None
    return [op.emit(layers.Dropout(ratio), op.data()), mask]


def _identity(op: Op) -> Value:
    return op.inputs[0]


def _cast(op: Op) -> Value:
    x, to = op.inputs[0], op.attribute("to")
    op.attribute("saturate")
    op.attribute("round_mode")
    if not isinstance(x, Data):
        raise UnsupportedError("of nothing")
    if to == onnx.TensorProto.FLOAT and not x.whole:
        return x
    if to in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and x.symbol.layer is None:
        return Data(x.symbol, x.shapes, whole=True)
    raise UnsupportedError(f"to {onnx.TensorProto.DataType.Name(to)}")


def _gather(op: Op) -> Value:
    """Rows of a table."""
    table, rows = op.weights(0), op.inputs[1]
    if not isinstance(rows, Data) or not rows.whole or table.ndim != 2 or op.attribute("axis", 0) != 0:
        raise UnsupportedError("other than whole rows of a matrix")
    layer = layers.Embedding(*table.shape)
    layer.weight = table
    return op.emit(layer, rows)


def _shape(op: Op) -> Value:
    x, part = op.inputs[0], slice(op.attribute("start", 0), op.attribute("end"))
    if x is None:
        raise UnsupportedError("of nothing")
    shapes = x.shapes if isinstance(x, Data) else tuple(array.shape for array in x.arrays)
    return Known(tuple(np.array(shape[part], np.int64) for shape in shapes))


def _size(op: Op) -> Value:
    (shape,) = [_shape(op)]
    assert isinstance(shape, Known)
    return Known(tuple(np.array(sizes.prod(), np.int64) for sizes in shape.arrays))


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


def _relu(op: Op) -> Value:
    op.attribute("consumed_inputs")
    return op.emit(layers.ReLU(), op.data())


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "Abs": _function(layers.Abs),
    "Add": _sum,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Celu": _function(layers.CELU, alpha=("alpha", 1.0)),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _function(layers.ELU, alpha=("alpha", 1.0)),
    "Erf": _function(layers.Erf),
    "Exp": _function(layers.Exp),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "GroupNormalization": _group_normalization,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _function(layers.Hardswish),
    "Identity": _identity,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _function(layers.LeakyReLU, negative_slope=("alpha", 0.01)),
    "Log": _function(layers.Log),
    "LogSoftmax": _softmax(layers.LogSoftmax),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Mish": _function(layers.Mish),
    "Mul": _mul,
    "Neg": _neg,
    "PRelu": _prelu,
    "Pad": _pad,
    "RMSNormalization": _rms_normalization,
    "Reciprocal": _function(layers.Reciprocal),
    "ReduceMean": _reduce(layers.Mean),
    "ReduceSum": _reduce(layers.Sum),
    "Relu": _relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _selu,
    "Shape": _shape,
    "Sigmoid": _function(layers.Sigmoid),
    "Size": _size,
    "Slice": _slice,
    "Softmax": _softmax(layers.Softmax),
    "Softplus": _function(layers.Softplus),
    "Softsign": _function(layers.Softsign),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _function(layers.Sqrt),
    "Squeeze": _squeeze,
    "Sub": _sub,
    "Sum": _sum,
    "Tanh": _function(layers.Tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
