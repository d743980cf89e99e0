"""Batch normalisation against NumPy in float64 and ONNX Runtime, its gradients against finite differences."""

import math

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpar import ops, reference
from nnpar._kernels.batch_norm import BatchNormalize, BatchNormGrad

SMALL = cases.small(cases.BATCH_NORM_CASES, most_flops=2e6)
every_case = pytest.mark.parametrize("case", SMALL, ids=cases.name_of)
INF = np.inf


def nans(shape):
    """Channels-last, so that the kernels write into it, and every element has to be written."""
    return cases.channels_last(np.full(shape, np.nan, np.float32))


def doubles(*arrays):
    return [array if array is None else array.astype(np.float64) for array in arrays]


def per_channel(values):
    return np.asarray(values, np.float64)[:, None, None]


def assert_statistics(x, mean, invstd, eps):
    """Sums are in double: both are rounded once."""
    expected_mean, expected = reference.batch_norm2d_statistics(x.astype(np.float64), eps=eps)
    cases.assert_within(mean, expected_mean, 1, abs(expected_mean) + 1e-14 * abs(x).max())
    cases.assert_within(invstd, expected, 1, expected)


def assert_normalized(y, x, mean, invstd, gamma, beta, residual, relu):
    """Scale and shift are rounded to float32, and so are the product with x and two sums."""
    x, mean, invstd, gamma, beta, residual = doubles(x, mean, invstd, gamma, beta, residual)
    expected = reference.batch_norm2d_normalize(x, mean, invstd, gamma, beta, residual=residual, relu=relu)
    scale = per_channel(abs(invstd * (1.0 if gamma is None else gamma)))
    magnitude = scale * (abs(x) + per_channel(abs(mean)))
    magnitude += 0.0 if beta is None else per_channel(abs(beta))
    magnitude += 0.0 if residual is None else abs(residual)
    cases.assert_within(y, expected, 4, magnitude)


def assert_gradients(got, dy, x, mean, invstd, gamma, y):
    dx, dgamma, dbeta, dresidual = got
    dy, x, mean, invstd, gamma, y = doubles(dy, x, mean, invstd, gamma, y)
    n = x.size // x.shape[1]
    options = {"y": y, "return_residual_grad": True}
    expected, expected_dgamma, expected_dbeta, g = reference.batch_norm2d_grad(dy, x, mean, invstd, gamma, **options)
    cases.assert_equal(dresidual, g)
    xhat = (x - per_channel(mean)) * per_channel(invstd)
    products = abs(g * xhat).sum(axis=(0, 2, 3))
    cases.assert_within(dbeta, expected_dbeta, 1, abs(expected_dbeta) + 1e-13 * abs(g).sum(axis=(0, 2, 3)))
    cases.assert_within(dgamma, expected_dgamma, 1, abs(expected_dgamma) + 1e-13 * products)
    scale = per_channel(invstd * (1.0 if gamma is None else abs(gamma)))
    of_x = scale * per_channel(abs(expected_dgamma) / n * invstd)
    magnitude = scale * (abs(g) + per_channel(abs(expected_dbeta) / n)) + of_x * (abs(x) + per_channel(abs(mean)))
    cases.assert_within(dx, expected, 4, magnitude)


def assert_case(case, draw, relu, with_residual, affine, eps=1e-5):
    x, dy, residual, gamma, beta = case.arrays(draw=draw)
    gamma, beta = (gamma, beta) if affine else (None, None)
    residual = residual if with_residual else None
    out, dx = nans(case.x_shape), nans(case.x_shape)
    y, mean, invstd = ops.batch_norm2d(x, gamma, beta, eps=eps, residual=residual, relu=relu, out=out)
    assert y is out
    assert_statistics(x, mean, invstd, eps)
    assert_normalized(y, x, mean, invstd, gamma, beta, residual, relu)
    options = {"y": y if relu else None, "return_residual_grad": True}
    got = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, **options, out=dx)
    assert got[0] is dx
    assert_gradients(got, dy, x, mean, invstd, gamma, options["y"])


@every_case
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_batch_norm2d_and_gradients(case, relu, with_residual):
    assert_case(case, cases.normals, relu, with_residual, affine=True)


@every_case
def test_batch_norm2d_without_gamma_and_beta(case):
    assert_case(case, cases.normals, False, False, affine=False)


@st.composite
def any_case(draw):
    n, h, w = (draw(st.integers(1, 9)) for _ in range(3))
    channels = draw(st.one_of(st.integers(1, 70), st.sampled_from([127, 129, 255, 511, 512, 513, 520])))
    return cases.BatchNormCase("any", n + (n * h * w == 1), channels, h, w)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(any_case(), *(st.booleans() for _ in range(3)))
def test_batch_norm2d_of_any_shape(case, relu, with_residual, affine):
    assert_case(case, cases.normals, relu, with_residual, affine)


@every_case
def test_statistics_of_integers_are_rounded_once(case):
    """Sums of small integers and of their squares are exact, and so are their quotients if n is a power of two."""
    x, *_ = case.arrays()
    mean, invstd = ops.batch_norm2d_statistics(x, eps=0.25)
    n = x.size // case.c
    total, squares = (power.sum(axis=(0, 2, 3)) for power in (x.astype(np.int64), x.astype(np.int64) ** 2))
    if n & (n - 1) == 0:
        cases.assert_equal(mean, total / n)
        cases.assert_equal(invstd, 1.0 / np.sqrt((squares - total**2 / n) / n + 0.25))
    variance = (n * squares - total**2) / n**2  # one rounding of an exact number
    cases.assert_within(invstd, 1.0 / np.sqrt(variance + 0.25), 1, 1.0 / np.sqrt(variance + 0.25))


@every_case
def test_gradients_of_integers_are_exact(case):
    x, dy, y, gamma, _ = case.arrays()
    mean, invstd = gamma, np.ones(case.c, np.float32)
    dx, dgamma, dbeta, dresidual = ops.batch_norm2d_grad(dy, x, mean, invstd, y=y, return_residual_grad=True)
    g = np.where(y > 0, dy, 0)
    cases.assert_equal(dresidual, g)
    cases.assert_equal(dbeta, g.sum(axis=(0, 2, 3)))
    cases.assert_equal(dgamma, (g * (x - mean[:, None, None])).sum(axis=(0, 2, 3)))
    n = x.size // case.c
    if n & (n - 1) == 0:
        expected = g - (per_channel(dbeta) + (x - per_channel(mean)) * per_channel(dgamma)) / n
        cases.assert_equal(dx, expected)


@every_case
def test_normalize_of_integers_is_exact(case):
    x, _, residual, gamma, beta = case.arrays()
    mean, invstd = beta[::-1], np.full(case.c, 0.5, np.float32)
    expected = (x - mean[:, None, None]) * 0.5 * gamma[:, None, None] + beta[:, None, None]
    cases.assert_equal(ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta), expected)
    cases.assert_equal(ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta, relu=True), np.maximum(expected, 0))
    y = ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta, residual=residual, relu=True)
    cases.assert_equal(y, np.maximum(expected + residual, 0))
    expected = (x - mean[:, None, None]) * 0.5 + residual
    cases.assert_equal(ops.batch_norm2d_normalize(x, mean, invstd, residual=residual), expected)


@every_case
@pytest.mark.parametrize("training", [True, False])
def test_against_onnx(case, training):
    x, _, _, gamma, beta = case.arrays(draw=cases.normals)
    rng = np.random.default_rng(1)
    mean, var = cases.normals(rng, (case.c,)), cases.normals(rng, (case.c,)) ** 2 + 0.5
    if training:
        mean, var = (np.float32(f(x, axis=(0, 2, 3), dtype=np.float64)) for f in (np.mean, np.var))
        y = ops.batch_norm2d(x, gamma, beta, eps=0.125)[0]
    else:
        y = ops.batch_norm2d_inference(x, mean, var, gamma, beta, eps=0.125)
    (expected,) = cases.run_onnx("BatchNormalization", x, gamma, beta, mean, var, epsilon=0.125)
    scale = per_channel(abs(gamma) / np.sqrt(var.astype(np.float64) + 0.125))
    magnitude = (abs(x) + per_channel(abs(mean))) * scale + per_channel(abs(beta))
    cases.assert_within(y, expected.astype(np.float64), 8, magnitude)  # both round


@every_case
@pytest.mark.parametrize("momentum", [0.1, 0.25, 1.0, 0.0])
def test_running_statistics(case, momentum):
    """The biased variance normalises, the unbiased one is remembered."""
    x, _, _, mean, var = case.arrays(draw=cases.normals)
    before, n = doubles(mean, var), x.size // case.c
    _, used_mean, used_invstd = ops.batch_norm2d(x, None, None, mean, var, momentum)
    x64 = x.astype(np.float64)
    for running, old, new in [(mean, before[0], x64.mean(axis=(0, 2, 3))), (var, before[1], x64.var(axis=(0, 2, 3)))]:
        new = new * n / (n - 1) if running is var else new
        expected = (1 - momentum) * old + momentum * new
        cases.assert_within(running, expected, 1, abs(expected) + 1e-14)
    again = ops.batch_norm2d_statistics(x)
    cases.assert_equal(used_mean, again[0])
    cases.assert_equal(used_invstd, again[1])


def numeric_gradient(function, x, dy, step=1e-5):
    """Derivative of (function(x) * dy).sum() by central differences."""
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        old = x[i]
        values = []
        for sign in (1, -1):
            x[i] = old + sign * step
            values.append((function(x) * dy).sum())
        x[i] = old
        gradient[i] = (values[0] - values[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 17, 2, 1)])
def test_gradients_by_finite_differences(relu, shape):
    """Of the forward pass in float64, residual included."""
    case = cases.BatchNormCase("any", *shape)
    x, dy, residual, gamma, beta = doubles(*case.arrays(draw=cases.normals))

    def forward(x=x, gamma=gamma, beta=beta, residual=residual):
        return reference.batch_norm2d(x, gamma, beta, residual=residual, relu=relu)[0]

    y, mean, invstd = reference.batch_norm2d(x, gamma, beta, residual=residual, relu=relu)
    options = {"y": y if relu else None, "return_residual_grad": True}
    for twin, tolerance in [(reference, 1e-7), (ops, 1e-5)]:
        dx, dgamma, dbeta, dresidual = twin.batch_norm2d_grad(dy, x, mean, invstd, gamma, **options)
        for got, name, at in [(dx, "x", x), (dgamma, "gamma", gamma), (dbeta, "beta", beta)]:
            expected = numeric_gradient(lambda value, name=name: forward(**{name: value}), at.copy(), dy)
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        expected = numeric_gradient(lambda value: forward(residual=value), residual.copy(), dy)
        np.testing.assert_allclose(dresidual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3, 17, 64])
@pytest.mark.parametrize("offset", [1e4, -1e6, 1e30])
def test_statistics_far_from_zero(channels, offset):
    """The variance is that of the float32 numbers, to the last bit but one, however small it is beside the mean."""
    x = cases.channels_last(cases.normals(np.random.default_rng(0), (5, channels, 37, 41)) + np.float32(offset))
    x = x if abs(offset) < 1e30 else x * (1 + np.float32(2.0**-22) * cases.integers(np.random.default_rng(1), x.shape))
    mean, invstd = ops.batch_norm2d_statistics(x, eps=0.0)
    x = x.astype(np.float64)
    exact = 1.0 / np.sqrt((x - x.mean(axis=(0, 2, 3), keepdims=True)).var(axis=(0, 2, 3)))
    cases.assert_within(mean, x.mean(axis=(0, 2, 3)), 1, abs(offset))
    cases.assert_within(invstd, exact, 1, exact)


@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.parametrize("place", [0, 1, 4000])
def test_statistics_with_an_outlier(channels, place):
    """Sums are about the first pixel of a block: that may be the outlier."""
    x = cases.normals(np.random.default_rng(0), (3, channels, 43, 61))
    flat = cases.channels_last(x).transpose(0, 2, 3, 1).reshape(-1, channels)
    flat[place] = 1e6
    x = flat.reshape(3, 43, 61, channels).transpose(0, 3, 1, 2)
    assert_statistics(x, *ops.batch_norm2d_statistics(x, eps=0.0), 0.0)


def test_a_constant_channel_has_no_variance():
    x = np.full((3, 20, 31, 33), 0.1, np.float32)
    y, mean, invstd = ops.batch_norm2d(x, beta=np.full(20, 3.0), eps=0.25)
    cases.assert_equal(mean, np.full(20, 0.1))
    cases.assert_equal(invstd, np.full(20, 2.0))
    cases.assert_within(y, np.full(x.shape, 3.0), 4, 3.4)
    assert (ops.batch_norm2d_statistics(x, eps=0.0)[1] == INF).all()


@pytest.mark.parametrize("value", [np.nan, INF, -INF])
@pytest.mark.parametrize("place", [0, 5, 700])
@pytest.mark.parametrize("channels", [1, 3, 17, 70])
def test_special_values_stay_in_their_channel(value, place, channels):
    """As in PyTorch: a NaN makes everything of the channel NaN, infinity leaves an infinite mean."""
    x = cases.normals(np.random.default_rng(0), (1, channels, 29, 31))
    expected = x.copy()
    x[0, -1].ravel()[place] = value
    running = [np.zeros(channels, np.float32), np.ones(channels, np.float32)]
    y, mean, invstd = ops.batch_norm2d(x, None, None, *running, relu=True)
    expected_y, expected_mean, expected_invstd = ops.batch_norm2d(expected, relu=True)
    cases.assert_equal(y[:, :-1], expected_y[:, :-1])
    cases.assert_equal(mean[:-1], expected_mean[:-1])
    cases.assert_equal(invstd[:-1], expected_invstd[:-1])
    assert np.isnan(y[:, -1]).all()
    assert np.isnan(invstd[-1])
    assert np.isnan(running[1][-1])
    np.testing.assert_array_equal([mean[-1], running[0][-1]], [value, value])
    dy = np.ones_like(x)
    dx, dgamma, dbeta = ops.batch_norm2d_grad(dy, expected, expected_mean, expected_invstd)
    dy[0, -1].ravel()[place] = value
    got, got_dgamma, got_dbeta = ops.batch_norm2d_grad(dy, expected, expected_mean, expected_invstd)
    cases.assert_equal(got[:, :-1], dx[:, :-1])
    cases.assert_equal(got_dgamma[:-1], dgamma[:-1])
    np.testing.assert_array_equal(got_dbeta, np.append(dbeta[:-1], value))
    assert not np.isfinite(got[:, -1]).any()


def test_relu_of_batch_norm_special_values():
    """NaN stays, minus zero does not; its gradient passes where y is positive."""
    x = np.array([np.nan, INF, -INF, -0.0, 0.0, 2.0, -2.0] * 5, np.float32).reshape(1, 1, 5, 7)
    y = ops.batch_norm2d_normalize(x, [0.0], [1.0], relu=True)
    cases.assert_equal(y[0, 0, 0], np.array([np.nan, INF, 0, 0, 0, 2, 0]))
    assert not np.signbit(y[y == 0]).any()
    dy = np.ones_like(x)
    *_, dresidual = ops.batch_norm2d_grad(dy, np.zeros_like(x), [0.0], [1.0], y=y, return_residual_grad=True)
    cases.assert_equal(dresidual[0, 0, 0], np.array([0, 1, 0, 0, 0, 1, 0]))


def test_steps_in_place():
    case = next(case for case in SMALL if case.name == "blocks-6")
    x, dy, residual, gamma, beta = case.arrays(draw=cases.normals)
    mean, invstd = ops.batch_norm2d_statistics(x)
    y = ops.batch_norm2d_normalize(x, mean, invstd, gamma, beta, residual=residual, relu=True)
    into_x, into_residual = x.copy("K"), residual.copy("K")
    BatchNormalize(into_x, mean, invstd, gamma, beta, residual, into_x, True)()
    cases.assert_equal(into_x, y)
    BatchNormalize(x, mean, invstd, gamma, beta, into_residual, into_residual, True)()
    cases.assert_equal(into_residual, y)
    expected = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y, return_residual_grad=True)
    for into_dx in (True, False):
        grad, other = dy.copy("K"), nans(case.x_shape)
        dx, dresidual = (grad, other) if into_dx else (other, grad)
        dgamma, dbeta = np.full((2, case.c), np.nan, np.float32)
        BatchNormGrad(grad, x, y, mean, invstd, gamma, dx, dgamma, dbeta, dresidual)()
        for got, wanted in zip((dx, dgamma, dbeta, dresidual), expected, strict=True):
            cases.assert_equal(got, wanted)


@every_case
def test_gradient_that_computes_y_again(case):
    """To the bit: where y is positive by rounding alone, too."""
    x, dy, _, gamma, beta = case.arrays(draw=cases.normals)
    for shift in (None, beta):
        y, mean, invstd = ops.batch_norm2d(x, gamma, shift, relu=True)
        expected = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y, return_residual_grad=True)
        got = [nans(array.shape) if array.ndim == 4 else np.full_like(array, np.nan) for array in expected]
        BatchNormGrad(dy, x, None, mean, invstd, gamma, *got, shift, relu_of_x=True)()
        for array, wanted in zip(got, expected, strict=True):
            cases.assert_equal(array, wanted)


def test_takes_and_fills_any_strides():
    case = next(case for case in SMALL if case.name == "c-17")
    x, dy, residual, gamma, beta = case.arrays(draw=cases.normals)
    y, mean, invstd = ops.batch_norm2d(x, gamma, beta, residual=residual, relu=True)
    gradients = ops.batch_norm2d_grad(dy, x, mean, invstd, gamma, y=y)
    for view in (np.ascontiguousarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], np.asfortranarray):
        got = ops.batch_norm2d(view(x), view(gamma), view(beta), residual=view(residual), relu=True)
        cases.assert_equal(got[0], y)
        got = ops.batch_norm2d_grad(view(dy), view(x), view(mean), view(invstd), view(gamma), y=view(y))
        for array, expected in zip(got, gradients, strict=True):
            cases.assert_equal(array, expected)
        whole = np.full((case.n, case.c + 2, case.h, case.w), 7, np.float32)
        ops.batch_norm2d(view(x), gamma, beta, residual=residual, relu=True, out=whole[:, 1:-1])
        cases.assert_equal(whole[:, 1:-1], y)
        assert (whole[:, [0, -1]] == 7).all()


def test_cases_reach_several_blocks_of_sums():
    assert any(math.prod(case.x_shape) > 3 * 32768 for case in SMALL)
