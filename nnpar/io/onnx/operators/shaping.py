"""What moves numbers, and what asks for shapes, out of ONNX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nnpar import layers
from nnpar.io.onnx.importer import Data, Known, Op, UnsupportedError, Value
from nnpar.shapes import Shape


def in_shapes(op: Op, x: Data, shapes: Sequence[Shape]) -> Data:
    """Data in other shapes, one for each trial size of the batch."""
    if tuple(shapes) == x.shapes:
        return x
    if tuple(shapes) == tuple((shape[0], math.prod(shape[1:])) for shape in x.shapes):
        return op.emit(layers.Flatten(), x)
    if len({len(shape) for shape in shapes}) > 1:
        raise UnsupportedError(f"from shape {x.shape} to several numbers of axes")
    sizes = [column[0] if len(set(column)) == 1 else -1 for column in zip(*shapes, strict=True)]
    if sizes and len(x.shape) > 0 and all(shape[0] == old[0] for shape, old in zip(shapes, x.shapes, strict=True)):
        sizes[0] = 0
    if sizes[1:].count(0) == 1 and -1 not in sizes:  # nothing, in another order of sizes
        sizes[sizes.index(0, 1)] = -1
    if sizes.count(-1) > 1 or 0 in sizes[1:]:
        raise UnsupportedError(f"from shape {x.shape} to {shapes[0]}")
    return op.emit(layers.Reshape(sizes), x)


def _flatten(op: Op) -> Value:
    x = op.data()
    axis = op.attribute("axis", 1)
    axis = axis if axis == len(x.shape) else op.axis(axis, len(x.shape))
    return in_shapes(op, op.data(), [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in x.shapes])


def _reshape(op: Op) -> Value:
    x = op.data()
    targets = [np.array(op.attribute("shape"))] * op.trials
    if op.has(1):
        known = op.inputs[1]
        if not isinstance(known, Known):
            raise UnsupportedError("input 1: expected a shape that is known")
        targets = list(known.arrays)
    keep_zeros = bool(op.attribute("allowzero", 0))
    return in_shapes(op, op.data(), [_target(s, t, keep_zeros) for s, t in zip(x.shapes, targets, strict=True)])


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
    return in_shapes(op, op.data(), [tuple(size for axis, size in enumerate(s) if axis not in axes) for s in x.shapes])


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
    return in_shapes(op, op.data(), shapes)


def _transpose(op: Op) -> Value:
    x = op.data()
    order = op.attribute("perm", list(range(len(x.shape)))[::-1])
    return x if list(order) == list(range(len(x.shape))) else op.emit(layers.Permute(order), x)


def _concat(op: Op) -> Value:
    if len(op.inputs) == 2 and isinstance(op.inputs[0], Known) and isinstance(op.inputs[1], Data):
        return _with_token(op, op.inputs[0])
    inputs = [op.data(number) for number in range(len(op.inputs))]
    axis = op.axis(op.attribute("axis", 1), len(inputs[0].shape))
    if len(inputs) == 1:
        return inputs[0]
    return op.emit(layers.Concatenate(axis), *inputs)


def _with_token(op: Op, token: Known) -> Value:
    """A class token, the same for each sample, before the other tokens."""
    x = op.data(1)
    row = token.arrays[0][:1]
    batches = zip(token.arrays, x.shapes, strict=True)
    same = all(np.array_equal(array, np.broadcast_to(row, (shape[0], *row.shape[1:]))) for array, shape in batches)
    if op.attribute("axis", 1) != 1 or len(x.shape) != 3 or row.shape != (1, 1, x.shape[2]) or not same:
        raise UnsupportedError(f"of a constant of shape {token.arrays[0].shape} and data of shape {x.shape}")
    layer = layers.PositionEmbedding(x.shape[1] + 1, x.shape[2], class_token=True)
    layer.weight, layer.class_token = np.zeros(layer.weight.shape), row.reshape(layer.class_token.shape)
    return op.emit(layer, x)


def _slice(op: Op) -> Value:
    """Starts and ends mean what they mean in Python."""
    x, far = op.data(), 2**61
    starts, ends = op.integers(1, "starts"), op.integers(2, "ends")
    axes = op.integers(3, "axes") or list(range(len(starts)))
    steps = op.integers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last = (min(max(limit, -far), far) for limit in (start, end))
        x = op.emit(layers.Slice(op.axis(axis, len(x.shape)), first, last, step), x)
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


PADS: dict[tuple[str, int], Any] = {
    ("reflect", 1): layers.ReflectionPad1d, ("reflect", 2): layers.ReflectionPad2d,
    ("edge", 1): layers.ReplicationPad1d, ("edge", 2): layers.ReplicationPad2d,
}  # fmt: skip


def _pad(op: Op) -> Value:
    x = op.data()
    mode = op.attribute("mode", "constant")
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
    if mode == "constant":
        return op.emit(layers.ConstantPad(before, after, value), x)
    kind = PADS.get((mode, rank - 2))
    if kind is None or any(before[:2] + after[:2]):
        raise UnsupportedError(f"mode={mode!r} of shape {x.shape} by {pads}")
    sides = [side for axis in reversed(range(2, rank)) for side in (before[axis], after[axis])]
    return op.emit(kind(sides), x)


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
    mode = op.attribute("mode", "DCR")
    orders = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}
    if mode not in orders or len(x.shape) != 4 or r < 1 or x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"blocksize={r}, mode={mode!r} of shape {x.shape}")
    _, c, h, w = x.shape
    parts = op.emit(layers.Reshape((0, c, h // r, r, w // r, r)), x)
    moved = op.emit(layers.Permute(orders[mode]), parts)
    return op.emit(layers.Reshape((0, c * r * r, h // r, w // r)), moved)


def _cast(op: Op) -> Value:
    x, to = op.inputs[0], op.attribute("to")
    op.attribute("saturate")
    op.attribute("round_mode")
    if not isinstance(x, Data):
        raise UnsupportedError("of nothing")
    if to == onnx.TensorProto.FLOAT and not x.whole:
        return x
    if to == onnx.TensorProto.FLOAT and x.symbol.layer is not None:  # a comparison's 1 and 0
        return Data(x.symbol, x.shapes)
    if to in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and x.symbol.layer is None:
        return Data(x.symbol, x.shapes, whole=True)
    raise UnsupportedError(f"to {onnx.TensorProto.DataType.Name(to)}")


def _gather(op: Op) -> Value:
    """Rows of a table by data, or places of data by constants."""
    if isinstance(op.inputs[0], Data):
        return _selected(op)
    table, rows = op.weights(0), op.inputs[1]
    if not isinstance(rows, Data) or not rows.whole or table.ndim != 2 or op.attribute("axis", 0) != 0:
        raise UnsupportedError("other than whole rows of a matrix")
    layer = layers.Embedding(*table.shape)
    layer.weight = table
    return op.emit(layer, rows)


def _selected(op: Op) -> Value:
    x, indices = op.data(), op.known(1)
    axis = op.axis(op.attribute("axis", 0), len(x.shape))
    y = op.emit(layers.Select(axis, indices.reshape(-1).tolist()), x)
    shapes = [(*shape[:axis], *indices.shape, *shape[axis + 1 :]) for shape in x.shapes]
    return y if indices.ndim == 1 else in_shapes(op, y, shapes)


def _expand(op: Op) -> Value:
    x, target = op.data(), op.inputs[1]
    if not isinstance(target, Known):
        raise UnsupportedError("input 1: expected a shape that is known")
    sizes = [
        np.broadcast_shapes(shape, tuple(int(n) for n in wanted.reshape(-1)))
        for shape, wanted in zip(x.shapes, target.arrays, strict=True)
    ]
    rest = len(sizes[0]) - len(x.shape)

    def kept(axis: int) -> bool:
        same = (size[axis] == shape[axis - rest] for size, shape in zip(sizes, x.shapes, strict=True))
        return axis >= rest and all(same)

    wanted = [-1 if kept(axis) else sizes[0][axis] for axis in range(len(sizes[0]))]
    if any(size[axis] != n for size in sizes for axis, n in enumerate(wanted) if n != -1):
        raise UnsupportedError(f"of shape {x.shape} to {sizes[0]}, which depends on the batch's size")
    return op.emit(layers.Expand(wanted), x)


def _tile(op: Op) -> Value:
    y = x = op.data()
    repeats = [int(n) for n in op.known(1).reshape(-1)]
    if len(repeats) != len(x.shape) or min(repeats) < 0:
        raise ValueError(f"repeats: expected {len(x.shape)} sizes, got {repeats}")
    for axis, count in enumerate(repeats):
        if count != 1:
            if axis == 0 and op.trials > 1:
                raise UnsupportedError("of the batch")
            y = op.emit(layers.Select(axis, list(range(x.shape[axis])) * count), y)
    return op.emit(layers.Dropout(0.0), x) if y is x else y


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


def _identity(op: Op) -> Value:
    return op.inputs[0]


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "Cast": _cast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "ReduceMax": _reduce(layers.Max),
    "ReduceMean": _reduce(layers.Mean),
    "ReduceSum": _reduce(layers.Sum),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
