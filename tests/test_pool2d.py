"""Pooling and its gradients against NumPy in float64 and against ONNX Runtime."""

import math

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpar import ops, reference

SMALL = cases.small(cases.POOL2D_CASES, most_flops=1e6)
# ONNX Runtime has no padding as large as the kernel, which makes sense for a dilated one only.
OF_ONNX = [c for c in SMALL if all(max(sides) < k for sides, k in zip(c.sides, c.kernel, strict=True))]
every_case = pytest.mark.parametrize("case", SMALL, ids=cases.name_of)
INF = np.inf


def nans(shape):
    """Channels-last, so that the kernels write into it, and every element has to be written."""
    return cases.channels_last(np.full(shape, np.nan, np.float32))


def distinct(rng, shape):
    """All numbers differ and are negative: no ties, and no padding may win."""
    size = math.prod(shape)
    return (rng.permutation(size).reshape(shape) - size - 1).astype(np.float32)


def assert_max_pool(case, draw):
    x, dy = case.arrays(draw=draw)
    out, dx = nans(case.y_shape), nans(case.x_shape)
    y, argmax = ops.max_pool2d(x, *case.window, **case.options, return_argmax=True, out=out)
    expected, expected_argmax = reference.max_pool2d(
        x.astype(np.float64), *case.window, **case.options, return_argmax=True
    )
    assert y is out
    cases.assert_equal(y, expected)
    np.testing.assert_array_equal(argmax, expected_argmax, strict=True)
    cases.assert_equal(ops.max_pool2d(x, *case.window, **case.options), y)
    assert ops.max_pool2d_grad(dy, argmax, case.x_shape, *case.window, **case.options, out=dx) is dx
    expected = reference.max_pool2d_grad(dy.astype(np.float64), argmax, case.x_shape, *case.window, **case.options)
    cases.assert_equal(dx, expected)


def assert_avg_pool(case, count_include_pad):
    """The sum of a window is exact, so that its mean is rounded once."""
    x, dy = case.arrays()
    out, dx = nans(case.y_shape), nans(case.x_shape)
    assert ops.avg_pool2d(x, *case.window, count_include_pad, **case.options, out=out) is out
    cases.assert_equal(out, reference.avg_pool2d(x.astype(np.float64), *case.window, count_include_pad, **case.options))
    assert ops.avg_pool2d_grad(dy, case.x_shape, *case.window, count_include_pad, **case.options, out=dx) is dx
    dy = dy.astype(np.float64)
    cases.assert_within(
        dx,
        reference.avg_pool2d_grad(dy, case.x_shape, *case.window, count_include_pad, **case.options),
        math.prod(case.kernel),
        reference.avg_pool2d_grad(abs(dy), case.x_shape, *case.window, count_include_pad, **case.options),
    )


@every_case
@pytest.mark.parametrize("draw", [cases.integers, distinct], ids=["ties", "distinct"])
def test_max_pool2d_and_gradient(case, draw):
    assert_max_pool(case, draw)


@every_case
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool2d_and_gradient(case, count_include_pad):
    assert_avg_pool(case, count_include_pad)


@every_case
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool2d_is_as_exact_as_float32_allows(case, count_include_pad):
    x, _ = case.arrays(draw=cases.normals)
    cases.assert_within(
        ops.avg_pool2d(x, *case.window, count_include_pad, **case.options),
        reference.avg_pool2d(x.astype(np.float64), *case.window, count_include_pad, **case.options),
        math.prod(case.kernel),
        reference.avg_pool2d(abs(x).astype(np.float64), *case.window, count_include_pad, **case.options),
    )


@pytest.mark.parametrize("case", OF_ONNX, ids=cases.name_of)
def test_max_pool2d_against_onnx(case):
    """ONNX Runtime gives the places of the maxima as well, as indices into x: the gradient goes there."""
    x, dy = case.arrays(draw=distinct)
    expected, indices = cases.run_onnx("MaxPool", x, outputs=2, **case.onnx)
    y, argmax = ops.max_pool2d(x, *case.window, **case.options, return_argmax=True)
    cases.assert_equal(y, expected)
    dx = np.zeros(math.prod(case.x_shape))
    np.add.at(dx, indices.ravel(), dy.astype(np.float64).ravel())
    cases.assert_equal(
        ops.max_pool2d_grad(dy, argmax, case.x_shape, *case.window, **case.options), dx.reshape(case.x_shape)
    )


@pytest.mark.parametrize("case", OF_ONNX, ids=cases.name_of)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool2d_against_onnx(case, count_include_pad):
    """ONNX Runtime rounds in another way: both are within the bound."""
    x, _ = case.arrays(draw=cases.normals)
    (expected,) = cases.run_onnx("AveragePool", x, count_include_pad=int(count_include_pad), **case.onnx)
    magnitude = reference.avg_pool2d(abs(x).astype(np.float64), *case.window, count_include_pad, **case.options)
    y = ops.avg_pool2d(x, *case.window, count_include_pad, **case.options)
    cases.assert_within(y, expected.astype(np.float64), 2 * math.prod(case.kernel), magnitude)


@pytest.mark.parametrize("case", [case for case in SMALL if not case.ceil_mode], ids=cases.name_of)
def test_avg_pool2d_grad_is_a_transposed_convolution(case):
    """Of dy with the mean's weights, each channel by itself, where the padding counts."""
    _, dy = case.arrays()
    window = {name: value for name, value in case.onnx.items() if name != "ceil_mode"}
    sizes = zip(
        (case.h, case.w), case.kernel, window["strides"], case.sides, case.dilation, case.y_shape[2:], strict=True
    )
    left_over = [n + b + a - d * (k - 1) - 1 - (out - 1) * step for n, k, step, (b, a), d, out in sizes]
    kernel = np.ones((case.c, 1, *case.kernel), np.float32)
    (total,) = cases.run_onnx("ConvTranspose", dy, kernel, group=case.c, output_padding=left_over, **window)
    dy_sizes = reference.avg_pool2d_grad(abs(dy).astype(np.float64), case.x_shape, *case.window, **case.options)
    dx = ops.avg_pool2d_grad(dy, case.x_shape, *case.window, **case.options)
    cases.assert_within(dx, total.astype(np.float64) / math.prod(case.kernel), math.prod(case.kernel), dy_sizes)


@st.composite
def any_case(draw):
    kernel, stride = (draw(st.tuples(st.integers(1, 6), st.integers(1, 6))) for _ in range(2))
    dilation = draw(st.sampled_from([(1, 1), (1, 2), (3, 2)]))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple((draw(st.integers(0, s - 1)), draw(st.integers(0, s - 1))) for s in spans)
    h, w = (max(1, s - b - a) + draw(st.integers(0, 9)) for s, (b, a) in zip(spans, padding, strict=True))
    channels = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 67]))
    stride = draw(st.sampled_from([stride, None]))
    sizes = draw(st.integers(1, 3)), draw(channels), h, w
    return cases.Pool2dCase("any", *sizes, kernel, stride, padding, dilation, draw(st.booleans()))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(any_case(), st.booleans())
def test_pooling_of_any_shape(case, count_include_pad):
    assert_max_pool(case, cases.integers)
    assert_avg_pool(case, count_include_pad)


@pytest.mark.parametrize("channels", [1, 4, 8, 16, 17, 67])
def test_max_pool2d_special_values(channels):
    """The first maximum; the last NaN; minus infinity alone at the first position inside the image."""
    x = np.array([[7, 7, 1, np.nan, -INF, -INF], [7, 2, np.nan, 9, -INF, 3]], np.float32)
    x = np.broadcast_to(x, (1, channels, 2, 6))
    y, argmax = ops.max_pool2d(x, 2, return_argmax=True)
    for c in range(channels):
        np.testing.assert_array_equal(y[0, c, 0], [7, np.nan, 3])
        np.testing.assert_array_equal(argmax[0, c, 0], [0, 2, 3])
    nothing = np.full((1, channels, 2, 2), -INF, np.float32)
    for padding, window, first in [(0, 2, [[0]]), (1, 2, [[3, 2], [1, 0]]), (1, 3, [[4]])]:
        for pool in (ops.max_pool2d, reference.max_pool2d):
            y, argmax = pool(nothing, window, window, padding, return_argmax=True)
            assert (y == -INF).all()
            np.testing.assert_array_equal(argmax, np.broadcast_to(first, (1, channels, *np.shape(first))))
        dx = ops.max_pool2d_grad(np.ones_like(y), argmax, nothing.shape, window, window, padding)
        assert dx.sum() == y.size  # no gradient falls into the padding


@pytest.mark.parametrize("value", [np.nan, INF, -INF])
def test_avg_pool2d_propagates(value):
    x = np.zeros((1, 5, 4, 6), np.float32)
    x[0, 3, 1, 2] = value
    expected = np.zeros((1, 5, 2, 3))
    expected[0, 3, 0, 1] = value
    cases.assert_equal(ops.avg_pool2d(x, 2), expected)
    dx = np.zeros((1, 5, 4, 6))
    dx[0, 3, :2, 2:4] = value
    cases.assert_equal(ops.avg_pool2d_grad(expected.astype(np.float32), x.shape, 2), dx)


def test_max_pool2d_grad_propagates_nan_to_its_place_only():
    dy = np.array([np.nan, 1], np.float32).reshape(1, 1, 1, 2)
    argmax = np.array([3, 0], np.uint8).reshape(1, 1, 1, 2)
    dx = ops.max_pool2d_grad(dy, argmax, (1, 1, 2, 4), 2)
    cases.assert_equal(dx[0, 0], np.array([[0, 0, 1, 0], [0, np.nan, 0, 0]]))


def test_pooling_takes_and_fills_any_strides():
    case = next(case for case in SMALL if case.name == "overlap")
    x, dy = case.arrays()
    window = case.window
    y, argmax = ops.max_pool2d(x, *window, return_argmax=True)
    mean = ops.avg_pool2d(x, *window)
    for view in (np.ascontiguousarray(x), np.repeat(x, 3, axis=3)[..., ::3], x[:, ::-1].copy()[:, ::-1]):
        cases.assert_equal(ops.max_pool2d(view, *window), y)
        cases.assert_equal(ops.avg_pool2d(view, *window), mean)
    dx = ops.max_pool2d_grad(dy, argmax, case.x_shape, *window)
    cases.assert_equal(ops.max_pool2d_grad(dy.copy(), np.ascontiguousarray(argmax), case.x_shape, *window), dx)
    calls = [
        (case.y_shape, lambda **out: ops.max_pool2d(x, *window, **out)),
        (case.y_shape, lambda **out: ops.avg_pool2d(x, *window, **out)),
        (case.x_shape, lambda **out: ops.max_pool2d_grad(dy, argmax, case.x_shape, *window, **out)),
        (case.x_shape, lambda **out: ops.avg_pool2d_grad(dy, case.x_shape, *window, **out)),
    ]
    for shape, call in calls:
        whole = np.full((shape[0], shape[1] + 2, *shape[2:]), 7, np.float32)
        out = whole[:, 1:-1]
        out[...] = np.nan
        assert call(out=out) is out
        cases.assert_equal(out, call())
        assert (whole[:, [0, -1]] == 7).all()


def test_pooling_window_as_ints():
    x = cases.integers(np.random.default_rng(0), (1, 2, 8, 9))
    cases.assert_equal(ops.max_pool2d(x, 3, 2, 1), ops.max_pool2d(x, (3, 3), (2, 2), (1, 1)))
    cases.assert_equal(ops.avg_pool2d(x, 2), ops.avg_pool2d(x, (2, 2), (2, 2)))


@pytest.mark.parametrize("channels", [32, 33])
def test_gradients_past_the_caches(channels):
    """Results of 64 MiB or more: by whole vectors, or as usual; the last row has no window."""
    rng = np.random.default_rng(0)
    shape, small = (2, channels, 513, 512), (2, channels, 256, 256)
    dy = cases.channels_last(cases.integers(rng, small))
    argmax = rng.integers(0, 4, (2, 256, 256, channels), np.uint8).transpose(0, 3, 1, 2)
    expected = np.zeros(shape, np.float32)
    for position in range(4):
        expected[:, :, position // 2 : 512 : 2, position % 2 :: 2] = np.where(argmax == position, dy, 0.0)
    cases.assert_equal(ops.max_pool2d_grad(dy, argmax, shape, 2), expected)
    expected[:, :, :512] = dy.repeat(2, axis=2).repeat(2, axis=3) / 4
    cases.assert_equal(ops.avg_pool2d_grad(dy, shape, 2), expected)
