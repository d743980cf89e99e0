"""No operation reads or writes outside its arrays: they end at a page that may not be touched, or begin after one.

Such an access ends the process, so the operations run in another one. Sizes go around vectors and tiles of every
instruction set; the environment's NNPAR_ISA chooses which.
"""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest

from nnpar import arrays, ops, resampling, shapes
from nnpar._kernels.activation import KINDS, Activation, ActivationGrad
from nnpar._kernels.batch_norm import BatchNormalize, BatchNormGrad, BatchStatistics
from nnpar._kernels.elementwise import Position, Transpose
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.loss import ElementwiseLoss, SoftmaxCrossEntropy, SquaredError, WeightedCrossEntropy
from nnpar._kernels.norm import GroupNorm, GroupNormGrad, LocalResponse, RowNorm, RowNormGrad
from nnpar._kernels.optimizer import (
    AdagradUpdate,
    AdamUpdate,
    Average,
    ClipNorm,
    ClipValue,
    LAMBUpdate,
    LARSUpdate,
    RMSpropUpdate,
    Scale,
    SGDUpdate,
)
from nnpar._kernels.pool import AvgPool2d, AvgPool2dGrad, MaxPool2d, MaxPool2dGrad, Upsample2d, Upsample2dGrad
from nnpar._kernels.resample import Resample
from nnpar._kernels.strided import Arithmetic, StridedCopy, SumAxes
from nnpar._kernels.tokens import Attention, AttentionGrad, Gather, GatherGrad

PROT_NONE = 0
TAILS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 67]


class Guarded:
    """Copies arrays to the very end, or the very beginning, of memory between two pages that may not be touched."""

    def __init__(self, at_end):
        self.at_end = at_end
        self.maps = []  # unmapping would let another array lie where a guard was

    def memory(self, nbytes):
        pages = -(-nbytes // mmap.PAGESIZE)
        block = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
        self.maps.append(block)
        start = ctypes.addressof(ctypes.c_char.from_buffer(block))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        for guard in (start, start + (pages + 1) * mmap.PAGESIZE):
            if mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        first = (pages + 1) * mmap.PAGESIZE - nbytes if self.at_end else mmap.PAGESIZE
        return np.frombuffer(block, np.uint8, nbytes, first)

    def __call__(self, array):
        """A copy in the same order of memory; four axes are channels-last."""
        if array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        copy = self.memory(array.nbytes).view(array.dtype).reshape(array.shape)
        copy[...] = array
        copy = copy.transpose(0, 3, 1, 2) if array.ndim == 4 else copy
        assert arrays.is_ready(copy)  # else ops would copy it once more
        return copy

    def nans(self, *shape):
        return self(np.full(shape, np.nan, np.float32))


def run_gemm(guard):
    for size in TAILS:
        for m, n, k in [(size, 5, 3), (5, size, 3), (3, 5, size), (7, 37, size), (1, size, 513), (97, size, 5)]:
            a, b = cases.GemmCase("guarded", m, n, k).arrays()
            for left in (guard(a), guard(np.ascontiguousarray(a.T)).T):
                for right in (guard(b), guard(np.ascontiguousarray(b.T)).T):
                    expected = a @ b
                    out = guard.nans(m, n)
                    assert ops.gemm(left, right, out=out) is out
                    np.testing.assert_array_equal(out, expected)
                    ops.gemm(left, right, beta=1.0, out=out)
                    np.testing.assert_array_equal(out, 2 * expected)
            padded = guard.nans(m * (n + 3))  # without what would follow the last row
            rows = np.lib.stride_tricks.as_strided(padded[-(m - 1) * (n + 3) - n :], (m, n), (4 * (n + 3), 4))
            gemm_step(left, right, rows)()
            np.testing.assert_array_equal(rows, expected)


def run_linear(guard):
    for size in TAILS:
        for m, n, k in [(size, 7, 3), (7, size, 3), (3, 7, size), (1, size, 300), (size, 1, 300)]:
            x, w = cases.GemmCase("guarded", m, n, k).arrays()
            bias = cases.integers(np.random.default_rng(1), (n,))
            y = ops.linear(guard(x), guard(np.ascontiguousarray(w.T)), guard(bias), out=guard.nans(m, n))
            np.testing.assert_array_equal(y, x @ w + bias)


def conv2d_cases():
    for size in TAILS:
        yield cases.Conv2dCase("channels", 1, size, 4, 3, 5, (3, 3), (1, 1), (1, 1))
        yield cases.Conv2dCase("out-channels", 1, 9, 3, 4, size, (2, 2))
        yield cases.Conv2dCase("few-channels", 2, 3, 5, 4, size, (3, 2), (2, 1), (1, 1))
        yield cases.Conv2dCase("pixels", 1, 9, 2, size, 3, (2, 1), (1, 2))
        yield cases.Conv2dCase("1x1", 1, size, 2, 3, 7, (1, 1), (1, 2))
        for kernel, stride in [
            ((3, 3), (1, 1)),
            ((5, 5), (1, 1)),
            ((7, 7), (1, 1)),
            ((3, 3), (2, 2)),
            ((2, 2), (1, 1)),
        ]:
            yield cases.Conv2dCase("depthwise", 1, size, 5, 8, size, kernel, stride, (kernel[0] // 2,) * 2, groups=size)
    yield from cases.small(cases.CONV2D_CASES, most_flops=1e6)


def run_conv2d(guard):
    for case in conv2d_cases():
        x, w, bias, _ = case.arrays()
        y = ops.conv2d(guard(x), guard_weight(guard, w), guard(bias), *case.window, out=guard.nans(*case.y_shape))
        np.testing.assert_array_equal(y, ops.conv2d(x, w, bias, *case.window))


def run_conv2d_input_grad(guard):
    for case in conv2d_cases():
        _, w, _, dy = case.arrays()
        out = guard.nans(*case.x_shape)
        ops.conv2d_input_grad(guard(dy), guard_weight(guard, w), case.x_shape, *case.window, out=out)
        np.testing.assert_array_equal(out, ops.conv2d_input_grad(dy, w, case.x_shape, *case.window))


def run_conv2d_weight_grad(guard):
    for case in conv2d_cases():
        x, _, _, dy = case.arrays()
        out = guard_weight(guard, np.full(case.w_shape, np.nan, np.float32))
        ops.conv2d_weight_grad(guard(x), guard(dy), case.w_shape, *case.window, out=out)
        np.testing.assert_array_equal(out, ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window))


def winograd_cases():
    sizes = [size for n in TAILS for size in [(n, 5, 4, 3, 0), (3, 5, 4, n, 0), (2, n, 3, 2, 1), (2, 3, n, 2, -1)]]
    for kernel in (3, 5):
        for c, h, w, oc, more in sizes:
            padding = kernel // 2 + more
            if min(h, w) + 2 * padding >= kernel:
                yield cases.Conv2dCase("guarded", 1, c, h, w, oc, (kernel, kernel), padding=(padding, padding))


def run_winograd(guard):
    for case in winograd_cases():
        x, w, bias, dy = case.arrays()
        y = ops.conv2d(guard(x), guard_weight(guard, w), guard(bias), *case.window, algorithm="winograd",
                       out=guard.nans(*case.y_shape))  # fmt: skip
        dx = ops.conv2d_input_grad(guard(dy), guard_weight(guard, w), case.x_shape, *case.window,
                                   algorithm="winograd", out=guard.nans(*case.x_shape))  # fmt: skip
        dw = guard_weight(guard, np.full(case.w_shape, np.nan, np.float32))
        ops.conv2d_weight_grad(guard(x), guard(dy), case.w_shape, *case.window, algorithm="winograd", out=dw)
        np.testing.assert_allclose(y, ops.conv2d(x, w, bias, *case.window), atol=1e-2)
        np.testing.assert_allclose(dx, ops.conv2d_input_grad(dy, w, case.x_shape, *case.window), atol=1e-2)
        np.testing.assert_allclose(dw, ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window), atol=1e-2)


def run_planar(guard):
    for size in TAILS:
        for c, h, w, oc, kernel, stride, padding in [
            (size, 4, 5, 3, (3, 3), (1, 1), (1, 1)),
            (3, 5, 4, size, (3, 2), (2, 2), (1, 1)),
            (3, 3, size, 5, (2, 1), (1, 1), (0, 0)),
            (2, 4, size, 17, (3, 3), (2, 2), (1, 1)),
            (1, size, 3, 2, (3, 3), (1, 2), (5, 4)),
            (4, 3, size, 16, (1, 1), (2, 2), (0, 0)),
        ]:
            case = cases.Conv2dCase("guarded", 2, c, h, w, oc, kernel, stride, padding)
            _, weight, _, dy = case.arrays()
            out = guard.nans(*case.x_shape)
            ops.conv2d_input_grad(guard(dy), guard_weight(guard, weight), case.x_shape, *case.window,
                                  algorithm="planar", out=out)  # fmt: skip
            expected = ops.conv2d_input_grad(dy, weight, case.x_shape, *case.window, algorithm="indirect")
            np.testing.assert_array_equal(out, expected)


def run_scatter(guard):
    for size in TAILS:
        for c, h, w, oc, kernel, padding in [
            (size, 4, 5, 3, (3, 3), (1, 1)),
            (3, 5, 4, size, (3, 2), (1, 1)),
            (3, 3, size, 5, (2, 1), (0, 0)),
            (1, size, 3, 2, (3, 3), (5, 4)),
        ]:
            case = cases.Conv2dCase("guarded", 2, c, h, w, oc, kernel, (1, 1), padding)
            _, weight, _, dy = case.arrays()
            out = guard.nans(*case.x_shape)
            ops.conv2d_input_grad(guard(dy), guard_weight(guard, weight), case.x_shape, *case.window,
                                  algorithm="scatter", out=out)  # fmt: skip
            expected = ops.conv2d_input_grad(dy, weight, case.x_shape, *case.window, algorithm="indirect")
            np.testing.assert_array_equal(out, expected)


def framed_cases():
    for size in TAILS:
        yield cases.Conv2dCase("window", 2, 1, 3, size, 6, (5, 5), padding=(2, 2))
        yield cases.Conv2dCase("bands", 1, 2, 19, 5, size, (3, 2), (2, 1), (1, 0))
        for c in range(1, 6):
            yield cases.Conv2dCase("columns", 1, c, 3, size, 5, (3, 3), (1, 1), (1, 1))
            yield cases.Conv2dCase("no-padding", 2, c, 3, size + 2, size, (2, 3))
            yield cases.Conv2dCase("stride", 1, c, 4, size + 3, 17, (2, 4), (1, 2), (1, 3))
        yield cases.Conv2dCase("channels", 1, size, 4, 3, 5, (3, 2), (1, 1), (1, 0))
        yield cases.Conv2dCase("kernel", 1, 1, 2, size + 2, 3, (2, size), padding=(0, 1))
    yield from (case for case in conv2d_cases() if case.groups == case.dilation[1] == 1)


def run_framed(guard):
    for case in framed_cases():
        x, w, bias, dy = case.arrays()
        y, dw = guard.nans(*case.y_shape), guard_weight(guard, np.full(case.w_shape, np.nan, np.float32))
        xg = guard(x)
        ops.conv2d(xg, guard_weight(guard, w), guard(bias), *case.window, algorithm="framed", out=y)
        ops.conv2d_weight_grad(xg, guard(dy), case.w_shape, *case.window, algorithm="framed", out=dw)
        np.testing.assert_array_equal(y, ops.conv2d(x, w, bias, *case.window, algorithm="indirect"))
        np.testing.assert_array_equal(
            dw, ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, algorithm="indirect")
        )


def guard_weight(guard, w):
    """Weights have four axes, too, but lie in their own order; so do images for a kernel that takes any."""
    return guard(w.ravel()).reshape(w.shape)


def run_pooling(guard):
    tails = [cases.Pool2dCase("channels", 1, size, 5, 4, (3, 2), (2, 1), (1, 0)) for size in TAILS]
    for case in tails + cases.small(cases.POOL2D_CASES, most_flops=1e5):
        window = shapes.pool_window(*case.window, **case.options, who="pooling")
        x, dy = case.arrays()
        expected, argmax = ops.max_pool2d(x, *case.window, **case.options, return_argmax=True)
        y, where, dx = guard.nans(*case.y_shape), guard(np.zeros(case.y_shape, np.uint8)), guard.nans(*case.x_shape)
        MaxPool2d(guard(x), y, where, window)()
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(where, argmax)
        ops.max_pool2d(guard(x), *case.window, **case.options, out=y)
        np.testing.assert_array_equal(y, expected)
        MaxPool2dGrad(guard(dy), where, dx, window)()
        np.testing.assert_array_equal(dx, ops.max_pool2d_grad(dy, argmax, case.x_shape, *case.window, **case.options))
        for include in (True, False):
            AvgPool2d(guard(x), y, window, include)()
            np.testing.assert_array_equal(y, ops.avg_pool2d(x, *case.window, include, **case.options))
            AvgPool2dGrad(guard(dy), dx, window, include)()
            np.testing.assert_array_equal(
                dx, ops.avg_pool2d_grad(dy, case.x_shape, *case.window, include, **case.options)
            )


def guard_taps(guard, taps):
    return resampling.Taps(taps.size, guard(taps.first), guard(taps.index), guard(taps.weight))


def run_resampling(guard):
    rng = np.random.default_rng(0)
    for channels in TAILS:
        for rows, columns in [
            (resampling.resized(4, 7, 1.75, "linear"), resampling.padded(3, 2, 1, "reflect")),
            (None, resampling.resized(3, 5, 5 / 3, "cubic")),
            (resampling.selected(4, [3, 0, 3]), None),
        ]:
            x = cases.integers(rng, (2, 4, 3, channels))
            y = np.empty((2, 4 if rows is None else rows.count, 3 if columns is None else columns.count, channels))
            y = y.astype(np.float32)
            Resample(x, y, rows, columns)()
            guarded = guard.nans(y.size).reshape(y.shape)
            tables = [None if taps is None else guard_taps(guard, taps) for taps in (rows, columns)]
            Resample(guard_weight(guard, x), guarded, *tables)()
            np.testing.assert_array_equal(guarded, y)


def run_upsampling(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for shape, scale in [((2, size, 3, 2), (2, 2)), ((1, 3, 2, size), (1, 3))]:
            x, y, dx = cases.integers(rng, shape), guard.nans(*shapes.upsample2d(shape, scale, "")), guard.nans(*shape)
            Upsample2d(guard(x), y, scale)()
            np.testing.assert_array_equal(y, ops.upsample2d(x, scale))
            Upsample2dGrad(y, dx, scale)()
            np.testing.assert_array_equal(dx, x * (scale[0] * scale[1]))


def run_batch_norm(guard):
    tails = [cases.BatchNormCase("channels", 1, size, 3, 5) for size in TAILS]
    tails += [cases.BatchNormCase("pixels", 1, c, 1, size) for size in TAILS[1:] for c in (1, 3, 65)]
    for case in tails + cases.small(cases.BATCH_NORM_CASES, most_flops=3e5):
        x, dy, residual, gamma, beta = case.arrays()
        y, mean, invstd = ops.batch_norm2d(x, gamma, beta, residual=residual, relu=True)
        expected = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y, return_residual_grad=True)
        x, dy, residual, gamma, beta = map(guard, (x, dy, residual, gamma, beta))
        got = [guard.nans(case.c) for _ in range(2)]
        BatchStatistics(x, *got, 1e-5, guard(mean), guard(invstd), 0.1)()
        np.testing.assert_array_equal(got, [mean, invstd])
        out = guard.nans(*case.x_shape)
        BatchNormalize(x, *got, gamma, beta, residual, out, True)()
        np.testing.assert_array_equal(out, y)
        BatchNormalize(x, *got, gamma, beta, None, out, False)()
        np.testing.assert_array_equal(out, ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta))
        into = [guard.nans(*array.shape) for array in expected]
        BatchNormGrad(dy, x, guard(y), *got, gamma, *into)()
        for array, wanted in zip(into, expected, strict=True):
            np.testing.assert_array_equal(array, wanted)
        BatchNormGrad(dy, x, None, *got, gamma, *into[:3], None)()
        np.testing.assert_array_equal(into[0], ops.batch_norm2d_grad(dy, x, mean, invstd, gamma)[0])
        BatchNormGrad(dy, x, None, *got, gamma, *into[:3], None, beta, relu_of_x=True)()
        y = ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta, relu=True)
        for array, wanted in zip(into, ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y), strict=False):
            np.testing.assert_array_equal(array, wanted)


def run_elementwise(guard):
    rng = np.random.default_rng(0)
    for size in [*TAILS, 4095, 4096, 4097]:
        x, dy = guard(cases.normals(rng, (size,))), guard(cases.normals(rng, (size,)))
        y, out = guard.nans(size), guard.nans(size)
        np.testing.assert_array_equal(ops.relu(x, out=y), np.maximum(x, 0))
        np.testing.assert_array_equal(ops.relu_grad(dy, y, out=out), np.where(x > 0, dy, 0))
        for samples in (1, 3):
            rows = guard(cases.normals(rng, (samples, size)))
            out = ops.dropout(rows, 0.5, seed=1, out=guard.nans(samples, size))
            np.testing.assert_array_equal(out, ops.dropout(rows.copy(), 0.5, seed=1))
        for count in (1, 65, 130):
            rows = guard(cases.integers(rng, (count, size)))
            np.testing.assert_array_equal(ops.bias_grad(rows, out=guard.nans(size)), rows.sum(axis=0))
        for other in (3, 16, 18):
            volume, turned = guard(cases.normals(rng, (2, size, other))), guard.nans(2, other, size)
            Transpose(volume, turned)()
            np.testing.assert_array_equal(turned, volume.swapaxes(1, 2))
            Transpose(guard(turned), volume)()
            np.testing.assert_array_equal(turned, volume.swapaxes(1, 2))
        w, buffers = guard(cases.normals(rng, (size,))), [guard(np.ones(size, np.float32)) for _ in range(2)]
        for step, options in [
            (SGDUpdate(w, dy, buffers[0]), (0.1, 0.9, 0.0, 0.0, True, False)),
            (SGDUpdate(w, dy, None), (0.1, 0.0, 0.0, 0.0, False, False)),
            (AdamUpdate(w, dy, *buffers), (0.1, 0.9, 0.999, 1e-8, 0.0, False, 1)),
        ]:
            step.set(*options)
            step()


def run_losses(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for samples in (1, 3, 65):
            x, y = guard(cases.normals(rng, (samples, size))), guard(cases.normals(rng, (samples, size)))
            labels, result = guard(rng.integers(0, size, samples)), guard(np.zeros(4))
            out = guard.nans(samples, size)
            loss, grad = ops.softmax_cross_entropy(x, labels, out=out)
            assert (loss, grad is out) == (ops.softmax_cross_entropy(x.copy(), labels.copy())[0], True)
            np.testing.assert_array_equal(ops.softmax(x, out=out), ops.softmax(x.copy()))
            ops.softmax_cross_entropy(x, labels, out=out)
            SoftmaxCrossEntropy(x, labels, None, result)()
            assert result[0] / samples == loss
            loss, grad = ops.mse(x, y, out=out)
            assert (loss, grad is out) == (ops.mse(x.copy(), y.copy())[0], True)
            SquaredError(x, y, None, result)()
            assert result[0] / samples == loss


def run_weighted_losses(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for samples in (1, 17):
            x, target = guard(cases.normals(rng, (samples, size))), guard(rng.random((samples, size), np.float32))
            labels, result, out = guard(rng.integers(0, size, samples)), guard(np.zeros(4)), guard.nans(samples, size)
            of_classes, of_samples = guard(rng.random(size, np.float32)), guard(rng.random(samples, np.float32))
            for grad in (out, None):
                for weights in (of_samples, None):
                    rest = (1, of_classes, weights, -1, 0.1)
                    bound(guard, WeightedCrossEntropy(x, labels, grad, result, *rest))()
                    for kind in ("mse", "l1", "huber", "bce_with_logits", "kl_div"):
                        positive = of_classes if kind == "bce_with_logits" else None
                        bound(guard, ElementwiseLoss(kind, x, target, grad, result, weights, 1.0, positive))()
                    assert np.isfinite(result).all()


def run_updates(guard):
    rng = np.random.default_rng(0)
    for size in [*TAILS, 4095, 4097]:
        w, g, *state = (guard(rng.random(size, np.float32)) for _ in range(5))
        whole, halves = [(0, size, True)], [(0, size // 2, True), (size // 2, size - size // 2, False)]
        for step, settings in [
            (RMSpropUpdate(w, g, state[0], state[1], state[2]), (0.1, 0.9, 1.0, 0.1, 0.9)),
            (RMSpropUpdate(w, g, state[0], None, None), (0.1, 0.9, 1.0, 0.1, 0.0)),
            (AdagradUpdate(w, g, state[0]), (0.1, 1.0, 0.1)),
            (LARSUpdate(w, g, whole, state[0]), (0.1, 0.9, 0.1, 0.01, 1e-8)),
            (LAMBUpdate(w, g, halves, state[0], state[1]), (0.1, 0.9, 0.9, 1.0, 0.1, 1)),
        ]:
            step.set(*settings)
            bound(guard, step)()
        bound(guard, ClipNorm(g, 0.1))()
        bound(guard, ClipValue(g, 0.01))()
        for y in (state[0], g):
            bound(guard, Scale(g, y))()
        average = Average(state[0], w, 0.9)
        average()
        average()
        assert np.isfinite(w).all()
        assert abs(g).max() <= np.float32(0.01)


def run_strided(guard):
    """Views of whole arrays, turned, reversed and with steps; the interpreter's tests have more of them."""
    rng = np.random.default_rng(0)
    for size in TAILS:
        for axes in ((0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)):
            x = guard(cases.normals(rng, (3, size, 5)))
            for view in (x.transpose(axes), x.transpose(axes)[::-1, :, ::-1], x.transpose(axes)[:, ::2]):
                y = guard.nans(*view.shape)
                StridedCopy(view, y)()
                np.testing.assert_array_equal(y, view)
                row = np.broadcast_to(guard(cases.normals(rng, (view.shape[1], 1))), view.shape)
                Arithmetic("mul", view, row, y)()
                np.testing.assert_array_equal(y, view * row)
                total = guard.nans(view.shape[0], 1, view.shape[2])
                bound(guard, SumAxes(view, total))()
                np.testing.assert_allclose(total, view.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-4)


def run_activations(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for kind in KINDS:
            x, dy, y = guard(cases.normals(rng, (size,))), guard(cases.normals(rng, (size,))), guard.nans(size)
            constants = (0.5, 1.0, 1.0)
            Activation(kind, x, y, *constants)()
            ActivationGrad(kind, dy, x, y, *constants)()


def run_norms(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for rows in (1, 3, 5):
            x, dy, y = (
                guard(cases.normals(rng, (rows, size))),
                guard(cases.normals(rng, (rows, size))),
                guard.nans(rows, size),
            )
            gamma, beta, dgamma, dbeta = (guard(cases.normals(rng, (size,))) for _ in range(4))
            mean, invstd = guard.nans(rows), guard.nans(rows)
            bound(guard, RowNorm(x, gamma, beta, 0.1, True, mean, invstd, y))()
            bound(guard, RowNormGrad(dy, x, mean, invstd, gamma, True, y, dgamma, dbeta))()
            images, slopes, out = (guard(cases.normals(rng, (rows, size, 2, 3))) for _ in range(3))
            mean, invstd = guard.nans(rows, 1), guard.nans(rows, 1)
            bound(guard, GroupNorm(images, 1, gamma, beta, 0.1, mean, invstd, out, True))()
            bound(guard, GroupNormGrad(slopes, images, 1, mean, invstd, gamma, beta, out, dgamma, dbeta, True))()
            bound(guard, LocalResponse(images, out, 2, 2, 0.1, 0.75, 1.0))()
            bound(guard, LocalResponse(images, out, 2, 2, 0.1, 0.75, 1.0, slopes))()


def run_tokens(guard):
    rng = np.random.default_rng(0)
    for size in TAILS:
        for heads, queries, keys in ((1, 3, size), (2, size, 5), (1, 50, 33)):
            e = heads * size
            q, y, dq = (guard(cases.normals(rng, (2, queries, e))) for _ in range(3))
            k, v, dk, dv = (guard(cases.normals(rng, (2, keys, e))) for _ in range(4))
            for p in (0.0, 0.5):
                options = heads, p > 0.0, p, Position(), 1
                bound(guard, Attention(q, k, v, y, *options))()
                bound(guard, AttentionGrad(y, q, k, v, dq, dk, dv, *options))()
        index = guard(np.array([[4.0, 0.0, 2.0, 4.0], [-7.0, 1e30, np.nan, 2.5]], np.float32))
        table, y = guard(cases.normals(rng, (5, size))), guard.nans(2, 4 * size)
        Gather(index, table, y)()
        np.testing.assert_array_equal(y.reshape(8, size), table[[4, 0, 2, 4, 0, 4, 0, 2]])
        GatherGrad(y, index, table, 0)()


def bound(guard, step):
    """The step with scratch memory between guards; it ends at a multiple of 64 bytes."""
    nbytes = -(-step.workspace_bytes // 64) * 64
    if nbytes:
        step.bind(guard.memory(nbytes))
    return step


RUNS = [value for name, value in globals().items() if name.startswith("run_")]


def run_all(side):
    for run in RUNS:
        print(run.__name__, flush=True)
        run(Guarded(at_end=side == "end"))


def overrun(side):
    """Read one byte too much, to see that the guards work."""
    guard = Guarded(at_end=side == "end")
    x = guard(np.zeros(5, np.float32))
    ctypes.string_at(x.ctypes.data + (x.nbytes if guard.at_end else -1), 1)


def in_process(function, side):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_guard_pages as test; "
    code += f"test.{function}(sys.argv[2])"
    return subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), side],
        env={**os.environ, "NNPAR_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect as Linux has it"),
    pytest.mark.parametrize("side", ["end", "beginning"]),
]


def test_nothing_is_touched_outside(side):
    result = in_process("run_all", side)
    assert result.returncode == 0, f"ended with {result.returncode} in {result.stdout}\n{result.stderr}"
    assert len(result.stdout.split()) == len(RUNS) == 21


def test_guards_work(side):
    assert in_process("overrun", side).returncode < 0
