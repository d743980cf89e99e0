"""What ops refuse, with errors that say who, which argument, what was expected and what came; and what they take."""

import re
import subprocess
import sys

import cases
import numpy as np
import pytest

from nnpar import ops, reference

F32 = np.float32
MATRIX = np.ones((3, 4), F32)
SQUARE = np.ones((4, 4), F32)
IMAGES = np.ones((2, 4, 5, 6), F32)
WEIGHT = np.ones((6, 4, 3, 3), F32)
DY = np.ones((2, 6, 3, 4), F32)  # of IMAGES and WEIGHT
POOLED = np.ones((2, 4, 2, 3), F32)  # of IMAGES and windows of 2
ARGMAX = np.zeros(POOLED.shape, np.uint8)
LABELS = [0, 3, 1]
FOUR = np.ones(4, F32)  # of the channels of IMAGES
RUNNING = np.ones((2, 4), F32)


def conv2d(x=IMAGES, w=WEIGHT, *args, **kwargs):
    return ops.conv2d(x, w, *args, **kwargs)


def input_grad(dy=DY, w=WEIGHT, input_shape=IMAGES.shape, **kwargs):
    return ops.conv2d_input_grad(dy, w, input_shape, **kwargs)


def weight_grad(x=IMAGES, dy=DY, weight_shape=WEIGHT.shape, **kwargs):
    return ops.conv2d_weight_grad(x, dy, weight_shape, **kwargs)


def max_pool_grad(dy=POOLED, argmax=ARGMAX, input_shape=IMAGES.shape, kernel_size=2, **kwargs):
    return ops.max_pool2d_grad(dy, argmax, input_shape, kernel_size, **kwargs)


def avg_pool_grad(dy=POOLED, input_shape=IMAGES.shape, kernel_size=2, **kwargs):
    return ops.avg_pool2d_grad(dy, input_shape, kernel_size, **kwargs)


def upsample_grad(dy=IMAGES, input_shape=(2, 4, 5, 3), scale_factor=(1, 2), **kwargs):
    return ops.upsample2d_grad(dy, input_shape, scale_factor, **kwargs)


def batch_norm(x=IMAGES, *args, **kwargs):
    return ops.batch_norm2d(x, *args, **kwargs)


def batch_norm_grad(dy=IMAGES, x=None, mean=FOUR, invstd=FOUR, **kwargs):
    return ops.batch_norm2d_grad(dy, IMAGES + 0 if x is None else x, mean, invstd, **kwargs)


BAD = {
    # (call, error, what its message says)
    "gemm: vector": (lambda: ops.gemm(MATRIX[0], SQUARE), ValueError, r"gemm: a: expected 2 axes, got shape \(4,\)"),
    "gemm: scalar": (lambda: ops.gemm(MATRIX, 1.0), ValueError, r"gemm: b: expected 2 axes, got shape \(\)"),
    "gemm: shapes": (lambda: ops.gemm(MATRIX, MATRIX), ValueError, r"gemm: b: expected shape \(4, n\), got \(3, 4\)"),
    "gemm: beta without out": (lambda: ops.gemm(SQUARE, SQUARE, beta=1.0), ValueError, "gemm: out: .* beta is not 0"),
    "gemm: alpha nan": (lambda: ops.gemm(SQUARE, SQUARE, alpha=np.nan), ValueError, "gemm: alpha: expected a finite"),
    "gemm: alpha inf": (lambda: ops.gemm(SQUARE, SQUARE, alpha=-np.inf), ValueError, "gemm: alpha: expected a finite"),
    "gemm: alpha over float32": (lambda: ops.gemm(SQUARE, SQUARE, alpha=1e300), ValueError, "gemm: alpha: "),
    "gemm: beta nan": (
        lambda: ops.gemm(SQUARE, SQUARE, beta=np.nan, out=np.ones((4, 4), F32)),
        ValueError,
        "gemm: beta: expected a finite",
    ),
    "gemm: alpha object": (lambda: ops.gemm(SQUARE, SQUARE, alpha=[]), TypeError, "gemm: alpha: .* number, got list"),
    "gemm: alpha complex": (lambda: ops.gemm(SQUARE, SQUARE, alpha=1j), TypeError, "gemm: alpha: .*, got complex"),
    "linear: shapes": (lambda: ops.linear(MATRIX, MATRIX[:, 1:]), ValueError, r"linear: x: expected shape \(N, 3\)"),
    "linear: axes": (lambda: ops.linear(IMAGES, MATRIX), ValueError, "linear: x: expected 2 axes, got shape"),
    "linear: bias": (
        lambda: ops.linear(MATRIX, MATRIX, np.ones(4)),
        ValueError,
        r"linear: bias: expected shape \(3,\)",
    ),
    "linear: bias axes": (lambda: ops.linear(MATRIX, MATRIX, [[1]]), ValueError, "linear: bias: expected 1 axes"),
    "conv2d: axes": (lambda: conv2d(IMAGES[0]), ValueError, r"conv2d: x: expected 4 axes, got shape \(4, 5, 6\)"),
    "conv2d: weight axes": (lambda: conv2d(IMAGES, WEIGHT[0]), ValueError, "conv2d: w: expected 4 axes"),
    "conv2d: channels": (lambda: conv2d(IMAGES[:, :3]), ValueError, "conv2d: input: expected 4 channels .* got 3"),
    "conv2d: groups": (
        lambda: conv2d(groups=2),
        ValueError,
        "conv2d: input: expected 8 channels .4 for each of 2 groups",
    ),
    "conv2d: groups and outputs": (lambda: conv2d(groups=4), ValueError, "conv2d: groups: .* 6 output channels, got 4"),
    "conv2d: groups 0": (lambda: conv2d(groups=0), ValueError, "conv2d: groups: expected at least 1, got 0"),
    "conv2d: groups float": (lambda: conv2d(groups=1.0), TypeError, "conv2d: groups: expected an int, got float"),
    "conv2d: groups None": (lambda: conv2d(groups=None), TypeError, "conv2d: groups: expected an int, got NoneType"),
    "conv2d: bias": (lambda: conv2d(IMAGES, WEIGHT, np.ones(4)), ValueError, r"conv2d: bias: expected shape \(6,\)"),
    "conv2d: stride 0": (lambda: conv2d(stride=0), ValueError, "conv2d: stride: expected at least 1, got 0"),
    "conv2d: one stride 0": (lambda: conv2d(stride=(1, 0)), ValueError, "conv2d: stride: expected at least 1, got 0"),
    "conv2d: stride float": (lambda: conv2d(stride=1.0), TypeError, "conv2d: stride: expected an int, got float"),
    "conv2d: stride bool": (lambda: conv2d(stride=True), TypeError, "conv2d: stride: expected an int, got bool"),
    "conv2d: stride triple": (
        lambda: conv2d(stride=(1, 1, 1)),
        ValueError,
        "conv2d: stride: expected an int or a pair",
    ),
    "conv2d: stride string": (lambda: conv2d(stride="11"), TypeError, "conv2d: stride: expected an int, got str"),
    "conv2d: stride array": (
        lambda: conv2d(stride=np.ones(2)),
        TypeError,
        "conv2d: stride: expected an int, got float64",
    ),
    "conv2d: stride 0-d": (lambda: conv2d(stride=np.array(1.0)), TypeError, "conv2d: stride: expected an int"),
    "conv2d: stride huge": (lambda: conv2d(stride=2**70), ValueError, r"conv2d: stride: expected less than 2\*\*62"),
    "conv2d: padding -1": (lambda: conv2d(padding=-1), ValueError, "conv2d: padding: expected at least 0, got -1"),
    "conv2d: padding same": (lambda: conv2d(padding="same"), TypeError, "conv2d: padding: expected an int, got str"),
    "conv2d: padding huge": (lambda: conv2d(padding=2**40), (ValueError, MemoryError), "conv2d|allocate"),
    "conv2d: padding very huge": (lambda: conv2d(padding=2**61), (ValueError, MemoryError), "conv2d|allocate"),
    "conv2d: dilation 0": (lambda: conv2d(dilation=0), ValueError, "conv2d: dilation: expected at least 1, got 0"),
    "conv2d: kernel height": (
        lambda: conv2d(dilation=(3, 1)),
        ValueError,
        r"conv2d: input: expected a height of at least 7 for a window of 7 and padding 0, got shape \(2, 4, 5, 6\)",
    ),
    "conv2d: kernel width": (
        lambda: conv2d(IMAGES[..., :1], padding=(0, 0)),
        ValueError,
        "conv2d: input: expected a width of at least 3",
    ),
    "conv2d: empty weight": (
        lambda: conv2d(IMAGES, WEIGHT[:0]),
        ValueError,
        "conv2d: weight: .* at least 1, got shape",
    ),
    "conv2d: empty image": (
        lambda: conv2d(IMAGES[:, :, :0], padding=2),
        ValueError,
        "conv2d: input: expected a height",
    ),
    "conv2d: complex": (lambda: conv2d(IMAGES + 1j), TypeError, "conv2d: x: .* got dtype complex"),
    "conv2d: weight object": (
        lambda: conv2d(IMAGES, WEIGHT.astype(object)),
        TypeError,
        "conv2d: w: .* got dtype object",
    ),
    "input_grad: dy shape": (
        lambda: input_grad(DY[:, :, 1:]),
        ValueError,
        r"conv2d_input_grad: dy: expected shape \(2, 6, 3, 4\), got \(2, 6, 2, 4\)",
    ),
    "input_grad: axes": (lambda: input_grad(DY[0]), ValueError, "conv2d_input_grad: dy: expected 4 axes"),
    "input_grad: batch": (
        lambda: input_grad(input_shape=(3, 4, 5, 6)),
        ValueError,
        r"dy: expected shape \(3, 6, 3, 4\)",
    ),
    "input_grad: shape axes": (lambda: input_grad(input_shape=(4, 5, 6)), ValueError, "input_shape: expected 4 sizes"),
    "input_grad: shape int": (lambda: input_grad(input_shape=4), TypeError, "input_shape: expected 4 ints, got 4"),
    "input_grad: shape float": (
        lambda: input_grad(input_shape=(2, 4, 5, 6.0)),
        TypeError,
        "input_shape: expected 4 ints",
    ),
    "input_grad: shape negative": (
        lambda: input_grad(input_shape=(-2, 4, 5, 6)),
        ValueError,
        "input_shape: .* at least 0",
    ),
    "input_grad: shape huge": (
        lambda: input_grad(input_shape=(2**40,) * 4),
        ValueError,
        "input_shape: .* is too large",
    ),
    "input_grad: size over 63 bits": (lambda: input_grad(input_shape=(2**70, 4, 5, 6)), ValueError, "input_shape: "),
    "input_grad: huge batch": (lambda: input_grad(input_shape=(2**40, 4, 5, 6)), ValueError, "dy: expected shape"),
    "weight_grad: dy shape": (
        lambda: weight_grad(dy=DY[1:]),
        ValueError,
        r"conv2d_weight_grad: dy: expected shape \(2, ",
    ),
    "weight_grad: channels": (lambda: weight_grad(weight_shape=(6, 3, 3, 3)), ValueError, "input: expected 3 channels"),
    "weight_grad: outputs": (
        lambda: weight_grad(weight_shape=(7, 4, 3, 3)),
        ValueError,
        r"dy: expected shape \(2, 7, ",
    ),
    "weight_grad: shape 0": (
        lambda: weight_grad(weight_shape=(6, 4, 0, 3)),
        ValueError,
        "weight: expected sizes of at",
    ),
    "weight_grad: shape huge": (
        lambda: weight_grad(weight_shape=(2**40,) * 4),
        ValueError,
        "weight_shape: .* too large",
    ),
    "bias_grad: axes": (lambda: ops.bias_grad(IMAGES[0]), ValueError, "bias_grad: dy: expected 2 or 4 axes, got shape"),
    "max_pool2d: axes": (lambda: ops.max_pool2d(IMAGES[0], 2), ValueError, "max_pool2d: x: expected 4 axes"),
    "max_pool2d: kernel 0": (
        lambda: ops.max_pool2d(IMAGES, 0),
        ValueError,
        "max_pool2d: kernel_size: expected at least 1",
    ),
    "max_pool2d: kernel float": (
        lambda: ops.max_pool2d(IMAGES, 2.0),
        TypeError,
        "max_pool2d: kernel_size: expected an int",
    ),
    "max_pool2d: kernel over image": (
        lambda: ops.max_pool2d(IMAGES, 6),
        ValueError,
        "max_pool2d: input: .* height of at",
    ),
    "max_pool2d: kernel 17": (
        lambda: ops.max_pool2d(np.ones((1, 1, 17, 17), F32), 17),
        ValueError,
        "max_pool2d: kernel_size: expected at most 256 positions",
    ),
    "max_pool2d: stride 0": (
        lambda: ops.max_pool2d(IMAGES, 2, 0),
        ValueError,
        "max_pool2d: stride: expected at least 1",
    ),
    "max_pool2d: padding": (
        lambda: ops.max_pool2d(IMAGES, 3, 1, 3),
        ValueError,
        "max_pool2d: padding: expected less than the window",
    ),
    "max_pool2d: padding -1": (
        lambda: ops.max_pool2d(IMAGES, 3, 1, -1),
        ValueError,
        "max_pool2d: padding: expected at le",
    ),
    "avg_pool2d: padding": (
        lambda: ops.avg_pool2d(IMAGES, (3, 2), 1, (1, 2)),
        ValueError,
        "avg_pool2d: padding: expected less than the window",
    ),
    "max_pool2d: dilation": (
        lambda: ops.max_pool2d(IMAGES, 2, dilation=0),
        ValueError,
        "max_pool2d: dilation: expected at least 1",
    ),
    "max_pool2d: dilation huge": (
        lambda: ops.max_pool2d(IMAGES, 3, dilation=2**61, padding=2**61),
        ValueError,
        "max_pool2d: dilation: .* too large",
    ),
    "avg_pool2d: ceil_mode": (
        lambda: ops.avg_pool2d(IMAGES, 16, 2, ceil_mode=True),
        ValueError,
        "avg_pool2d: input: expected a height of at least",
    ),
    "avg_pool2d: kernel pair": (
        lambda: ops.avg_pool2d(IMAGES, (2,)),
        ValueError,
        "avg_pool2d: kernel_size: .* or a pair",
    ),
    "max_pool2d_grad: argmax dtype": (
        lambda: max_pool_grad(argmax=ARGMAX.astype(int)),
        TypeError,
        "max_pool2d_grad: argmax: expected dtype uint8, got int64",
    ),
    "max_pool2d_grad: argmax shape": (lambda: max_pool_grad(argmax=ARGMAX[1:]), ValueError, "argmax: expected shape"),
    "max_pool2d_grad: dy": (lambda: max_pool_grad(dy=POOLED[1:]), ValueError, "max_pool2d_grad: dy: expected shape"),
    "max_pool2d_grad: shape": (
        lambda: max_pool_grad(input_shape=(2, 4, 5)),
        ValueError,
        "input_shape: expected 4 sizes",
    ),
    "max_pool2d_grad: shape huge": (
        lambda: max_pool_grad(input_shape=(2**40,) * 4),
        ValueError,
        "input_shape: .* large",
    ),
    "avg_pool2d_grad: dy": (lambda: avg_pool_grad(dy=POOLED[:, 1:]), ValueError, "avg_pool2d_grad: dy: expected shape"),
    "avg_pool2d_grad: kernel": (
        lambda: avg_pool_grad(kernel_size=6),
        ValueError,
        "avg_pool2d_grad: input: expected a hei",
    ),
    "avg_pool2d_grad: shape huge": (
        lambda: avg_pool_grad(input_shape=(2**40,) * 4),
        ValueError,
        "input_shape: .* large",
    ),
    "upsample2d: axes": (lambda: ops.upsample2d(IMAGES[0], 2), ValueError, "upsample2d: x: expected 4 axes"),
    "upsample2d: scale": (
        lambda: ops.upsample2d(IMAGES, 0),
        ValueError,
        "upsample2d: scale_factor: expected at least 1",
    ),
    "upsample2d: scale float": (lambda: ops.upsample2d(IMAGES, 2.0), TypeError, "scale_factor: expected an int"),
    "upsample2d: scale huge": (lambda: ops.upsample2d(IMAGES, 2**40), ValueError, "upsample2d: output: .* too large"),
    "upsample2d: no pixels": (
        lambda: ops.upsample2d(IMAGES[:, :, :0], 2),
        ValueError,
        "height and width of at least 1",
    ),
    "upsample2d_grad: dy": (lambda: upsample_grad(dy=IMAGES[1:]), ValueError, "upsample2d_grad: dy: expected shape"),
    "upsample2d_grad: shape": (
        lambda: upsample_grad(input_shape=(2, 4, 5)),
        ValueError,
        "input_shape: expected 4 sizes",
    ),
    "batch_norm2d: axes": (lambda: batch_norm(MATRIX), ValueError, "batch_norm2d: x: expected 4 axes, got shape"),
    "batch_norm2d: gamma": (
        lambda: batch_norm(IMAGES, np.ones(3)),
        ValueError,
        r"batch_norm2d: gamma: expected shape \(4,\), got \(3,\)",
    ),
    "batch_norm2d: beta axes": (lambda: batch_norm(IMAGES, None, MATRIX), ValueError, "beta: expected 1 axes"),
    "batch_norm2d: one value": (
        lambda: batch_norm(IMAGES[:1, :, :1, :1]),
        ValueError,
        r"batch_norm2d: x: expected at least 2 values in each channel, got shape \(1, 4, 1, 1\)",
    ),
    "batch_norm2d: empty batch": (lambda: batch_norm(IMAGES[:0]), ValueError, "x: expected at least 2 values in each"),
    "batch_norm2d: one running": (
        lambda: batch_norm(IMAGES, running_mean=RUNNING[0]),
        ValueError,
        "batch_norm2d: running_var: expected an array, since the other running statistic is given",
    ),
    "batch_norm2d: other running": (
        lambda: batch_norm(IMAGES, running_var=RUNNING[0]),
        ValueError,
        "batch_norm2d: running_mean: expected an array",
    ),
    "batch_norm2d: running list": (
        lambda: batch_norm(IMAGES, None, None, [1.0] * 4, RUNNING[1]),
        TypeError,
        "batch_norm2d: running_mean: expected a float32 array, got list",
    ),
    "batch_norm2d: running float64": (
        lambda: batch_norm(IMAGES, None, None, RUNNING[0], np.ones(4)),
        TypeError,
        "batch_norm2d: running_var: expected a float32 array, got dtype float64",
    ),
    "batch_norm2d: running shape": (
        lambda: batch_norm(IMAGES, None, None, RUNNING[0], np.ones(3, F32)),
        ValueError,
        r"batch_norm2d: running_var: expected shape \(4,\), got \(3,\)",
    ),
    "batch_norm2d: running strides": (
        lambda: batch_norm(IMAGES, None, None, np.ones(8, F32)[::2], RUNNING[1]),
        ValueError,
        "batch_norm2d: running_mean: expected a writable, contiguous array",
    ),
    "batch_norm2d: running read-only": (
        lambda: batch_norm(IMAGES, None, None, np.frombuffer(bytes(16), F32), RUNNING[1]),
        ValueError,
        "batch_norm2d: running_mean: expected a writable, contiguous array",
    ),
    "batch_norm2d: running inside x": (
        lambda: batch_norm(BATCH, None, None, BATCH[0, :, 0, 0], np.ones(6, F32)),
        ValueError,
        "batch_norm2d: running_mean: expected memory of its own, got an overlap with x",
    ),
    "batch_norm2d: momentum": (lambda: batch_norm(momentum=None), TypeError, "batch_norm2d: momentum: .* number"),
    "batch_norm2d: eps": (lambda: batch_norm(eps=-1e-5), ValueError, "batch_norm2d: eps: expected at least 0, got -1e"),
    "batch_norm2d: eps nan": (lambda: batch_norm(eps=np.nan), ValueError, "batch_norm2d: eps: expected a finite"),
    "batch_norm2d: residual": (
        lambda: batch_norm(residual=IMAGES[:1]),
        ValueError,
        r"batch_norm2d: residual: expected shape \(2, 4, 5, 6\), got \(1, 4, 5, 6\)",
    ),
    "batch_norm2d: residual axes": (lambda: batch_norm(residual=FOUR), ValueError, "residual: expected 4 axes"),
    "batch_norm2d_statistics: one value": (
        lambda: ops.batch_norm2d_statistics(IMAGES[:1, :, :1, :1]),
        ValueError,
        "batch_norm2d_statistics: x: expected at least 2 values",
    ),
    "batch_norm2d_normalize: mean": (
        lambda: ops.batch_norm2d_normalize(IMAGES, np.ones(5), FOUR),
        ValueError,
        r"batch_norm2d_normalize: mean: expected shape \(4,\), got \(5,\)",
    ),
    "batch_norm2d_normalize: invstd": (
        lambda: ops.batch_norm2d_normalize(IMAGES, FOUR, 1.0),
        ValueError,
        r"batch_norm2d_normalize: invstd: expected 1 axes, got shape \(\)",
    ),
    "batch_norm2d_inference: running_var": (
        lambda: ops.batch_norm2d_inference(IMAGES, FOUR, None),
        TypeError,
        "batch_norm2d_inference: running_var: expected numbers",
    ),
    "batch_norm2d_inference: eps": (
        lambda: ops.batch_norm2d_inference(IMAGES, FOUR, FOUR, eps="small"),
        TypeError,
        "batch_norm2d_inference: eps: expected a number, got str",
    ),
    "batch_norm2d_grad: dy": (
        lambda: batch_norm_grad(IMAGES[:, :3]),
        ValueError,
        r"batch_norm2d_grad: dy: expected shape \(2, 4, 5, 6\), got \(2, 3, 5, 6\)",
    ),
    "batch_norm2d_grad: y": (lambda: batch_norm_grad(y=IMAGES[1:]), ValueError, "batch_norm2d_grad: y: expected shape"),
    "batch_norm2d_grad: mean": (
        lambda: batch_norm_grad(mean=np.ones(3)),
        ValueError,
        "batch_norm2d_grad: mean: expected shape",
    ),
    "batch_norm2d_grad: gamma": (
        lambda: batch_norm_grad(gamma=np.ones(3)),
        ValueError,
        "batch_norm2d_grad: gamma: expected shape",
    ),
    "relu: string": (lambda: ops.relu("text"), TypeError, "relu: x: expected numbers .* got dtype <U4"),
    "relu: object": (lambda: ops.relu([None]), TypeError, "relu: x: expected numbers .* got dtype object"),
    "relu: date": (lambda: ops.relu(np.array(["2020-01-01"], "M8[D]")), TypeError, "relu: x: .* got dtype datetime64"),
    "relu: record": (lambda: ops.relu(np.zeros(2, "f4,f4")), TypeError, "relu: x: expected numbers"),
    "relu_grad: shapes": (lambda: ops.relu_grad(MATRIX, SQUARE), ValueError, r"relu_grad: dy: expected shape \(4, 4\)"),
    "dropout: p 1": (lambda: ops.dropout(MATRIX, 1.0, seed=0), ValueError, "dropout: p: expected 0 <= p < 1, got 1.0"),
    "dropout: p negative": (lambda: ops.dropout(MATRIX, -0.1, seed=0), ValueError, "dropout: p: expected 0 <= p < 1"),
    "dropout: p nan": (lambda: ops.dropout(MATRIX, np.nan, seed=0), ValueError, "dropout: p: expected a finite number"),
    "dropout: p string": (
        lambda: ops.dropout(MATRIX, "0.5", seed=0),
        TypeError,
        "dropout: p: expected a number, got str",
    ),
    "dropout: seed negative": (
        lambda: ops.dropout(MATRIX, 0.5, seed=-1),
        ValueError,
        "dropout: seed: expected at least 0",
    ),
    "dropout: seed float": (lambda: ops.dropout(MATRIX, 0.5, seed=1.0), TypeError, "dropout: seed: expected an int"),
    "dropout: seed over 64 bits": (
        lambda: ops.dropout(MATRIX, 0.5, seed=2**64),
        ValueError,
        "dropout: seed: expected less",
    ),
    "dropout: epoch negative": (
        lambda: ops.dropout(MATRIX, 0.5, seed=1, epoch=-1),
        ValueError,
        "dropout: epoch: expected",
    ),
    "dropout: epoch over 32 bits": (
        lambda: ops.dropout(MATRIX, 0.5, seed=1, epoch=2**32),
        ValueError,
        r"dropout: epoch: expected less than 2\*\*32, got 4294967296",
    ),
    "dropout: sample over 32 bits": (
        lambda: ops.dropout(MATRIX, 0.5, seed=1, sample=2**32),
        ValueError,
        "dropout: sample: expected less",
    ),
    "dropout: layer over 32 bits": (
        lambda: ops.dropout(MATRIX, 0.5, seed=1, layer=2**32),
        ValueError,
        "dropout: layer: expected less",
    ),
    "dropout: scalar": (lambda: ops.dropout(1.0, 0.5, seed=0), ValueError, "dropout: x: expected 1 axes"),
    "softmax: axes": (
        lambda: ops.softmax(MATRIX[0]),
        ValueError,
        "softmax: logits: expected 2 axes, got shape",
    ),
    "cross_entropy: axes": (
        lambda: ops.softmax_cross_entropy(MATRIX[0], [1]),
        ValueError,
        "softmax_cross_entropy: logits: expected 2 axes",
    ),
    "cross_entropy: empty": (lambda: ops.softmax_cross_entropy(MATRIX[:0], []), ValueError, "at least one sample"),
    "cross_entropy: no class": (
        lambda: ops.softmax_cross_entropy(MATRIX[:, :0], [0] * 3),
        ValueError,
        "one class, got sh",
    ),
    "cross_entropy: high": (lambda: ops.softmax_cross_entropy(MATRIX, [0, 4, 1]), ValueError, "expected 0 to 3, got 4"),
    "cross_entropy: low": (
        lambda: ops.softmax_cross_entropy(MATRIX, [0, -1, 1]),
        ValueError,
        "expected 0 to 3, got -1",
    ),
    "cross_entropy: uint64": (
        lambda: ops.softmax_cross_entropy(MATRIX, np.array([0, 2**63, 1], np.uint64)),
        ValueError,
        "expected 0 to 3, got 9223372036854775808",
    ),
    "cross_entropy: floats": (
        lambda: ops.softmax_cross_entropy(MATRIX, [0.0, 1.0, 2.0]),
        TypeError,
        "labels: .* integers",
    ),
    "cross_entropy: bools": (
        lambda: ops.softmax_cross_entropy(MATRIX, [True] * 3),
        TypeError,
        "labels: .* got dtype bool",
    ),
    "cross_entropy: length": (
        lambda: ops.softmax_cross_entropy(MATRIX, [0, 1]),
        ValueError,
        r"labels: expected shape \(3,",
    ),
    "cross_entropy: onehot": (
        lambda: ops.softmax_cross_entropy(MATRIX, np.eye(3, 4, dtype=int)),
        ValueError,
        r"softmax_cross_entropy: labels: expected shape \(3,\), got \(3, 4\)",
    ),
    "mse: shapes": (
        lambda: ops.mse(MATRIX, MATRIX[1:]),
        ValueError,
        r"mse: target: expected shape \(3, 4\), got \(2, 4\)",
    ),
    "mse: empty": (
        lambda: ops.mse(MATRIX[:0], MATRIX[:0]),
        ValueError,
        r"mse: prediction: .* one sample, got shape \(0, ",
    ),
    "mse: scalar": (lambda: ops.mse(1.0, 2.0), ValueError, r"mse: prediction: .* got shape \(\)"),
    "mse: complex": (lambda: ops.mse(MATRIX, MATRIX * 1j), TypeError, "mse: target: expected numbers"),
}


def test_padding_whose_size_overflows_does_not_end_the_process():
    """The result is small, since the stride is as large; the framed image would not be."""
    code = """if True:
        import numpy as np
        from nnpar import ops
        x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
        for size in (2**45, 2**61):
            for call in (
                lambda: ops.conv2d(x, w, padding=size, stride=size),
                lambda: ops.conv2d_input_grad(np.ones((1, 1, 3, 3)), w, x.shape, padding=size, stride=size),
                lambda: ops.conv2d_weight_grad(x, np.ones((1, 1, 3, 3)), w.shape, padding=size, stride=size),
            ):
                try:
                    call()
                except (ValueError, MemoryError):
                    pass
        """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("what", BAD)
def test_bad_argument(what):
    call, error, message = BAD[what]
    with pytest.raises(error, match=message):
        call()


# One call of every operation that takes `out`, and the shape of its result.
WITH_OUT = {
    "gemm": (lambda **out: ops.gemm(MATRIX, SQUARE, **out), (3, 4)),
    "linear": (lambda **out: ops.linear(MATRIX, SQUARE, **out), (3, 4)),
    "conv2d": (conv2d, DY.shape),
    "conv2d_input_grad": (input_grad, IMAGES.shape),
    "conv2d_weight_grad": (weight_grad, WEIGHT.shape),
    "bias_grad": (lambda **out: ops.bias_grad(IMAGES, **out), (4,)),
    "max_pool2d": (lambda **out: ops.max_pool2d(IMAGES, 2, **out), POOLED.shape),
    "max_pool2d_grad": (max_pool_grad, IMAGES.shape),
    "avg_pool2d": (lambda **out: ops.avg_pool2d(IMAGES, 2, **out), POOLED.shape),
    "avg_pool2d_grad": (avg_pool_grad, IMAGES.shape),
    "upsample2d": (lambda **out: ops.upsample2d(IMAGES, 2, **out), (2, 4, 10, 12)),
    "upsample2d_grad": (upsample_grad, (2, 4, 5, 3)),
    "batch_norm2d": (batch_norm, IMAGES.shape),
    "batch_norm2d_normalize": (lambda **out: ops.batch_norm2d_normalize(IMAGES, FOUR, FOUR, **out), IMAGES.shape),
    "batch_norm2d_inference": (lambda **out: ops.batch_norm2d_inference(IMAGES, FOUR, FOUR, **out), IMAGES.shape),
    "batch_norm2d_grad": (batch_norm_grad, IMAGES.shape),
    "relu": (lambda **out: ops.relu(MATRIX, **out), (3, 4)),
    "relu_grad": (lambda **out: ops.relu_grad(MATRIX, MATRIX, **out), (3, 4)),
    "dropout": (lambda **out: ops.dropout(MATRIX, 0.5, seed=1, **out), (3, 4)),
    "softmax": (lambda **out: ops.softmax(MATRIX, **out), (3, 4)),
    "softmax_cross_entropy": (lambda **out: ops.softmax_cross_entropy(MATRIX, LABELS, **out), (3, 4)),
    "mse": (lambda **out: ops.mse(MATRIX, MATRIX + 1, **out), (3, 4)),
}


@pytest.mark.parametrize("name", WITH_OUT)
def test_bad_out(name):
    call, shape = WITH_OUT[name]
    read_only = np.zeros(shape, F32)
    read_only.flags.writeable = False
    for out, error, message in [
        (np.zeros((*shape, 1), F32), ValueError, f"{name}: out: expected shape {shape}, got {(*shape, 1)}"),
        (np.zeros((shape[0] + 1, *shape[1:]), F32), ValueError, f"{name}: out: expected shape {shape}, got "),
        (np.zeros(shape), TypeError, f"{name}: out: expected a float32 array, got dtype float64"),
        (np.zeros(shape, ">f4"), TypeError, f"{name}: out: expected a float32 array, got dtype >f4"),
        (np.zeros(shape, F32).tolist(), TypeError, f"{name}: out: expected a float32 array, got list"),
        (read_only, ValueError, f"{name}: out: expected a writable array"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            call(out=out)
    assert not read_only.any()


def inside(array, shape):
    """An array of that shape in the memory of channels-last images, or of anything contiguous."""
    flat = (array if array.flags.c_contiguous else array.transpose(0, 2, 3, 1)).reshape(-1)
    assert np.shares_memory(flat, array)
    return flat[-np.prod(shape) :].reshape(shape)


BATCH, GRAD = cases.channels_last(np.ones((4, 6, 5, 6), F32)), cases.channels_last(np.ones((4, 6, 5, 6), F32))
KERNEL = np.ones((6, 6, 1, 1), F32)
COLUMN = np.ones((4, 6, 1, 1), F32)
BIG_KERNEL = np.ones((36, 6, 5, 6), F32)
SIX = np.ones(6, F32)
MEMORY = np.zeros(128, np.uint8)
BYTES = MEMORY[-32:].reshape(2, 2, 2, 4).transpose(0, 3, 1, 2)

OVERLAPS = {
    "gemm: a": lambda: ops.gemm(SQUARE, SQUARE.copy(), out=SQUARE),
    "gemm: b": lambda: ops.gemm(SQUARE.copy(), SQUARE, out=inside(SQUARE, (4, 4)).T),
    "linear: x": lambda: ops.linear(SQUARE, SQUARE.copy(), out=SQUARE),
    "linear: w": lambda: ops.linear(SQUARE[:2].copy(), SQUARE, out=SQUARE[2:]),
    "linear: bias": lambda: ops.linear(SQUARE.copy(), SQUARE.copy(), SQUARE[3], out=SQUARE),
    "conv2d: x": lambda: conv2d(BATCH, KERNEL, out=BATCH),
    "conv2d: w": lambda: conv2d(BATCH[:2], BIG_KERNEL, out=inside(BIG_KERNEL, (2, 36, 1, 1))),
    "conv2d: bias": lambda: conv2d(BATCH, KERNEL, GRAD[0, :, 0, 0], out=GRAD),
    "conv2d_input_grad: dy": lambda: input_grad(BATCH, KERNEL, BATCH.shape, out=BATCH),
    "conv2d_input_grad: w": lambda: input_grad(
        BATCH[:, :, :1, :1], KERNEL, (4, 6, 1, 1), out=inside(KERNEL, (4, 6, 1, 1))
    ),
    "conv2d_weight_grad: x": lambda: weight_grad(BATCH, GRAD, KERNEL.shape, out=inside(BATCH, KERNEL.shape)),
    "conv2d_weight_grad: dy": lambda: weight_grad(BATCH, GRAD, KERNEL.shape, out=inside(GRAD, KERNEL.shape)),
    "bias_grad": lambda: ops.bias_grad(SQUARE, out=SQUARE[3]),
    "max_pool2d": lambda: ops.max_pool2d(BATCH, 1, out=BATCH),
    "max_pool2d_grad: dy": lambda: max_pool_grad(BATCH, np.zeros(BATCH.shape, np.uint8), BATCH.shape, 1, out=BATCH),
    "max_pool2d_grad: argmax": lambda: max_pool_grad(
        np.ones((2, 4, 2, 2), F32), BYTES, (2, 4, 2, 2), 1, out=MEMORY.view(F32).reshape(2, 4, 2, 2)
    ),
    "avg_pool2d": lambda: ops.avg_pool2d(BATCH, 1, out=BATCH),
    "avg_pool2d_grad": lambda: avg_pool_grad(BATCH, BATCH.shape, 1, out=BATCH),
    "upsample2d": lambda: ops.upsample2d(BATCH, 1, out=BATCH),
    "upsample2d_grad": lambda: upsample_grad(BATCH, BATCH.shape, 1, out=BATCH),
    "batch_norm2d: x": lambda: batch_norm(BATCH, out=BATCH),
    "batch_norm2d: gamma": lambda: batch_norm(BATCH, GRAD[0, :, 0, 0], out=GRAD),
    "batch_norm2d: residual": lambda: batch_norm(BATCH, residual=GRAD, out=GRAD),
    "batch_norm2d: running": lambda: batch_norm(BATCH, None, None, np.ones(6, F32), GRAD[0, :, 0, 0], out=GRAD),
    "batch_norm2d_normalize: mean": lambda: ops.batch_norm2d_normalize(BATCH, GRAD[0, :, 0, 0], SIX, out=GRAD),
    "batch_norm2d_inference: x": lambda: ops.batch_norm2d_inference(BATCH, SIX, SIX, out=BATCH),
    "batch_norm2d_grad: dy": lambda: batch_norm_grad(GRAD, BATCH, SIX, SIX, out=GRAD),
    "batch_norm2d_grad: x": lambda: batch_norm_grad(GRAD, BATCH, SIX, SIX, out=BATCH),
    "batch_norm2d_grad: y": lambda: batch_norm_grad(BATCH.copy(), BATCH, SIX, SIX, y=GRAD, out=GRAD),
    "relu": lambda: ops.relu(SQUARE, out=SQUARE),
    "relu_grad: dy": lambda: ops.relu_grad(SQUARE, SQUARE.copy(), out=SQUARE),
    "relu_grad: y": lambda: ops.relu_grad(SQUARE.copy(), SQUARE, out=SQUARE),
    "dropout": lambda: ops.dropout(SQUARE, 0.5, seed=0, out=SQUARE),
    "softmax": lambda: ops.softmax(SQUARE, out=SQUARE),
    "softmax_cross_entropy": lambda: ops.softmax_cross_entropy(SQUARE, [0, 1, 2, 3], out=SQUARE),
    "mse: prediction": lambda: ops.mse(SQUARE, SQUARE.copy(), out=SQUARE),
    "mse: target": lambda: ops.mse(SQUARE.copy(), SQUARE, out=SQUARE),
}


@pytest.mark.parametrize("what", OVERLAPS)
def test_out_that_overlaps_an_input(what):
    message = f"{what.partition(':')[0]}: out: expected memory of its own, got an overlap with an input"
    with pytest.raises(ValueError, match=message):
        OVERLAPS[what]()


# What is taken: each argument is converted or copied once, or taken as it is, and the result is the same.
VIEWS = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "big-endian": lambda a: a.astype(">f4"),
    "big-endian ints": lambda a: a.astype(">i2"),
    "list": lambda a: a.tolist(),
    "read-only": lambda a: np.frombuffer(a.tobytes(), F32).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"?" + a.tobytes(), np.uint8)[1:].view(F32).reshape(a.shape),
    "record's field": lambda a: np.rec.fromarrays([np.ones(a.shape, np.int8), a]).f1,
    "negative strides": lambda a: a[..., ::-1].copy()[..., ::-1],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "Fortran order": np.asfortranarray,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_inputs_of_any_kind(view):
    rng = np.random.default_rng(0)
    a, b = cases.integers(rng, (5, 7)), cases.integers(rng, (7, 4))
    case = cases.Conv2dCase("any", 2, 4, 5, 6, 6, (3, 3), padding=(1, 1))
    x, w, bias, dy = case.arrays()
    pooled, argmax = ops.max_pool2d(x, 2, return_argmax=True)
    labels = [3, 0, 6, 6, 1]
    calls = [
        (ops.gemm, [a, b], {}),
        (ops.linear, [a, b.T.copy()], {}),
        (lambda x, w: ops.conv2d(x, w, bias, padding=1), [x, w], {}),
        (lambda dy, w: ops.conv2d_input_grad(dy, w, x.shape, padding=1), [dy, w], {}),
        (lambda x, dy: ops.conv2d_weight_grad(x, dy, w.shape, padding=1), [x, dy], {}),
        (ops.bias_grad, [dy], {}),
        (ops.bias_grad, [a], {}),
        (lambda x: ops.max_pool2d(x, 2), [x], {}),
        (lambda dy: ops.max_pool2d_grad(dy, argmax, x.shape, 2), [pooled], {}),
        (lambda x: ops.avg_pool2d(x, 2), [x], {}),
        (lambda dy: ops.avg_pool2d_grad(dy, x.shape, 2), [pooled], {}),
        (lambda x: ops.upsample2d(x, 2), [x], {}),
        (lambda dy: ops.upsample2d_grad(dy, (2, 4, 5, 3), (1, 2)), [x], {}),
        (lambda x: ops.batch_norm2d(x)[0], [x], {}),
        (lambda x: np.stack(ops.batch_norm2d_statistics(x)), [x], {}),
        (lambda dy, x: ops.batch_norm2d_grad(dy, x, FOUR, FOUR)[0], [x, -x], {}),
        (ops.relu, [x], {}),
        (ops.relu_grad, [x, -x], {}),
        (lambda x: ops.dropout(x, 0.5, seed=1), [x], {}),
        (ops.softmax, [a], {}),
        (lambda x: ops.softmax_cross_entropy(x, labels)[1], [a], {}),
        (lambda x, y: ops.mse(x, y)[1], [a, -a], {}),
    ]
    for call, arguments, options in calls:
        expected = call(*arguments, **options)
        cases.assert_equal(call(*map(view, arguments), **options), expected)
    if not isinstance(view(bias[None]), list):
        bias2 = view(bias[None])[0]
        cases.assert_equal(ops.conv2d(x, w, bias2, padding=1), ops.conv2d(x, w, bias, padding=1))


def test_inputs_that_fit_are_not_copied(monkeypatch):
    """Of the layout that the kernels read, float32."""
    x = cases.channels_last(IMAGES)
    monkeypatch.setattr("nnpar.arrays.np.copyto", None)
    conv2d(x)
    ops.relu(x)
    ops.gemm(MATRIX.T, MATRIX)


def test_labels_of_any_integers():
    expected = ops.softmax_cross_entropy(MATRIX, LABELS)[1]
    for dtype in (np.int8, np.uint8, np.int32, np.uint64, ">i4"):
        cases.assert_equal(ops.softmax_cross_entropy(MATRIX, np.array(LABELS, dtype))[1], expected)
    cases.assert_equal(ops.softmax_cross_entropy(MATRIX, np.repeat(LABELS, 2)[::2])[1], expected)


def test_bools_are_numbers():
    cases.assert_equal(ops.relu([True, False]), np.array([1, 0]))


def test_empty_batches():
    x, dy, dx = np.ones((0, 4, 5, 6), F32), np.ones((0, 6, 3, 4), F32), np.zeros((0, 4, 5, 6))
    cases.assert_equal(conv2d(x), np.zeros(dy.shape))
    cases.assert_equal(input_grad(dy, input_shape=x.shape), dx)
    cases.assert_equal(weight_grad(x, dy), np.zeros(WEIGHT.shape))
    out = np.full(WEIGHT.shape, np.nan, F32)
    cases.assert_equal(weight_grad(x, dy, out=out), np.zeros(WEIGHT.shape))
    out = np.full(WEIGHT.shape[::-1], np.nan, F32).T
    cases.assert_equal(weight_grad(x, dy, out=out), np.zeros(WEIGHT.shape))
    few = np.ones((0, 2, 5, 6), F32)
    cases.assert_equal(weight_grad(few, dy, (6, 2, 3, 3)), np.zeros((6, 2, 3, 3)))
    cases.assert_equal(ops.bias_grad(dy), np.zeros(6))
    cases.assert_equal(ops.bias_grad(np.ones((0, 3), F32)), np.zeros(3))
    y, argmax = ops.max_pool2d(x, 2, return_argmax=True)
    cases.assert_equal(y, np.zeros((0, 4, 2, 3)))
    assert (argmax.shape, argmax.dtype) == (y.shape, np.uint8)
    cases.assert_equal(max_pool_grad(y, argmax, x.shape), dx)
    cases.assert_equal(ops.avg_pool2d(x, 2), np.zeros((0, 4, 2, 3)))
    cases.assert_equal(avg_pool_grad(y, x.shape), dx)
    cases.assert_equal(ops.upsample2d(x, 2), np.zeros((0, 4, 10, 12)))
    cases.assert_equal(upsample_grad(x, (0, 4, 5, 3)), np.zeros((0, 4, 5, 3)))
    cases.assert_equal(ops.batch_norm2d_normalize(x, FOUR, FOUR), dx)
    cases.assert_equal(ops.batch_norm2d_inference(x, FOUR, FOUR), dx)
    for got, expected in zip(batch_norm_grad(x, x), (dx, np.zeros(4), np.zeros(4)), strict=True):
        cases.assert_equal(got, expected)
    for call in (ops.relu, lambda x: ops.relu_grad(x, x), lambda x: ops.dropout(x, 0.5, seed=0)):
        cases.assert_equal(call(x), dx)
    cases.assert_equal(ops.softmax(np.ones((0, 4), F32)), np.zeros((0, 4)))
    cases.assert_equal(ops.softmax(np.ones((2, 0), F32)), np.zeros((2, 0)))
    cases.assert_equal(ops.linear(np.ones((0, 4), F32), MATRIX), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="expected a height of at least 3"):
        conv2d(x[:, :, :2])  # the sizes of an image are checked all the same


def test_sizes_of_zero_beside_the_batch():
    cases.assert_equal(ops.bias_grad(np.ones((2, 0), F32)), np.zeros(0))
    y, mean, invstd = ops.batch_norm2d(np.ones((2, 0, 4, 4), F32))
    assert (y.shape, mean.shape, invstd.shape) == ((2, 0, 4, 4), (0,), (0,))
    cases.assert_equal(ops.dropout(np.ones((2, 0), F32), 0.5, seed=0), np.zeros((2, 0)))
    cases.assert_equal(ops.max_pool2d(np.ones((2, 0, 4, 4), F32), 2), np.zeros((2, 0, 2, 2)))
    cases.assert_equal(ops.avg_pool2d_grad(np.ones((2, 0, 2, 2), F32), (2, 0, 4, 4), 2), np.zeros((2, 0, 4, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [3, 9])
def test_convolutions_propagate(value, channels):
    """0 * NaN and 0 * inf are NaN: where a window meets the value, and nowhere else."""
    case = cases.Conv2dCase("any", 2, channels, 6, 7, 5, (3, 2), (2, 1), (1, 1))
    x, w, bias, dy = case.arrays()
    w[:, :, 1, 0] = 0
    with np.errstate(invalid="ignore"):
        x[1, channels - 1, 2, 3] = value
        w64, x64, dy64 = (array.astype(np.float64) for array in (w, x, dy))
        cases.assert_equal(ops.conv2d(x, w, bias, *case.window), reference.conv2d(x64, w64, bias, *case.window))
        cases.assert_equal(
            ops.conv2d_weight_grad(x, dy, w.shape, *case.window),
            reference.conv2d_weight_grad(x64, dy64, w.shape, *case.window),
        )
        x[1, channels - 1, 2, 3] = 0
        dy[1, 4, 1, 2] = value
        x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
        cases.assert_equal(
            ops.conv2d_weight_grad(x, dy, w.shape, *case.window),
            reference.conv2d_weight_grad(x64, dy64, w.shape, *case.window),
        )
        cases.assert_equal(
            ops.conv2d_input_grad(dy, w, x.shape, *case.window),
            reference.conv2d_input_grad(dy64, w64, x.shape, *case.window),
        )


def test_average_of_a_window_of_many_positions():
    """Most of it lies in the padding, which counts: the mean is 0 to the last bit that float32 has, not infinite."""
    y = ops.avg_pool2d(IMAGES, 2**40, 2**40, 2**39)
    assert (abs(y) < 1e-20).all()


def test_beyond_the_range_of_float32_is_infinite():
    np.testing.assert_array_equal(ops.relu([1e300, -1e300]), [np.inf, 0])


def test_alpha_zero_reads_neither_operand():
    nan = np.full((3, 3), np.nan, F32)
    np.testing.assert_array_equal(ops.gemm(nan, nan, alpha=0.0), np.zeros((3, 3)))
    np.testing.assert_array_equal(ops.gemm(nan, nan, alpha=0.0, beta=2.0, out=np.ones((3, 3), F32)), np.full((3, 3), 2))
