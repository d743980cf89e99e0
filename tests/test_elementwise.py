"""ops.relu, dropout, bias_grad and the losses against NumPy in float64 and against SciPy."""

import math

import cases
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpar import ops, reference
from nnpar._kernels.elementwise import Transpose
from nnpar._kernels.loss import SoftmaxCrossEntropy, SquaredError

# Around vectors, and around a task of 4096 elements.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 4095, 4096, 4097, 8192, 12301]
# Scalars, vectors, matrices, volumes, images, and more axes than the kernels know.
SHAPES = [(), (5,), (3, 7), (2, 3, 5), (2, 3, 4, 5), (1, 17, 1, 3), (2, 2, 3, 2, 5), (3, 67, 9, 11)]
INF = np.inf
SPECIAL = np.array([np.nan, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.0**-126, -(2.0**-126)], np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def nans(shape):
    out = np.full(shape, np.nan, np.float32)
    return cases.channels_last(out) if len(shape) == 4 else out


@pytest.mark.parametrize("shape", [*((size,) for size in SIZES), *SHAPES])
def test_relu(rng, shape):
    x, dy = cases.integers(rng, shape), cases.integers(rng, shape)
    out, dx = nans(shape), nans(shape)
    y = ops.relu(x, out=out)
    assert y is out
    cases.assert_equal(y, reference.relu(x))
    assert ops.relu_grad(dy, y, out=dx) is dx
    cases.assert_equal(dx, reference.relu_grad(dy, y))


@pytest.mark.parametrize("repeats", [1, 2, 7])
def test_relu_special_values(repeats):
    """At every place in a vector."""
    x = np.tile(SPECIAL, repeats)
    for _ in range(len(x)):
        x = np.roll(x, 1)
        y = ops.relu(x)
        cases.assert_equal(y, np.where(np.isnan(x), np.nan, np.where(x > 0, x, 0)))
        assert not np.signbit(y[y == 0]).any()
        cases.assert_equal(ops.relu_grad(x, np.ones_like(x)), x)
        cases.assert_equal(ops.relu_grad(np.ones_like(x), x), x > 0)  # NaN is not positive
        cases.assert_equal(ops.relu_grad(x, np.zeros_like(x)), np.zeros_like(x))


@pytest.mark.parametrize("shift", [0, 1])
def test_relu_past_the_caches(rng, shift):
    """Results of 64 MiB or more, at any alignment."""
    n = (16 << 20) + 5
    x, dy = (rng.integers(-2, 2, n, np.int8, endpoint=True).astype(np.float32) for _ in range(2))
    y, dx = (np.full(n + 1, np.nan, np.float32)[shift : shift + n] for _ in range(2))
    cases.assert_equal(ops.relu(x, out=y), np.maximum(x, 0.0))
    cases.assert_equal(ops.relu_grad(dy, x, out=dx), np.where(x > 0, dy, 0.0))


def test_relu_takes_and_fills_any_strides(rng):
    for shape in [(3, 7), (2, 3, 4, 5), (3, 66, 9, 11)]:
        x, dy = cases.integers(rng, shape), cases.integers(rng, shape)
        y, dx = reference.relu(x), reference.relu_grad(dy, x)
        for view in (
            lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
            lambda a: a[:, ::-1].copy()[:, ::-1],
            np.asfortranarray,
        ):
            cases.assert_equal(ops.relu(view(x)), y)
            cases.assert_equal(ops.relu_grad(view(dy), x), dx)
            cases.assert_equal(ops.relu_grad(dy, view(x)), dx)
            whole = np.full((shape[0], shape[1] + 2, *shape[2:]), 7, np.float32)
            ops.relu(view(x), out=whole[:, 1:-1])
            cases.assert_equal(whole[:, 1:-1], y)
            assert (whole[:, [0, -1]] == 7).all()


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 3), (2, 4), (3, 5), (5, 63), (2, 3, 4, 5), (2, 5, 1, 1), (1, 3, 67, 9), (2, 7, 3), (9,), (64, 130)],
)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.97])
def test_dropout(rng, shape, p):
    x, position = cases.normals(rng, shape), {"seed": 0x123456789ABCDEF, "epoch": 3, "sample": 2**32 - 2, "layer": 7}
    out = nans(shape)
    assert ops.dropout(x, p, out=out, **position) is out
    if len(shape) == 3:  # the reference knows images and vectors
        expected = reference.dropout(x.reshape(shape[0], -1), p, **position)
    elif len(shape) == 1:
        expected = reference.dropout(x[:, None], p, **position)
    else:
        expected = reference.dropout(x, p, **position)
    cases.assert_equal(out, expected.reshape(shape))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 7), min_size=4, max_size=4),
    st.floats(0, 1, exclude_max=True),
    *(st.integers(0, 2**32 - 1) for _ in range(4)),
)
def test_dropout_of_any_shape(shape, p, seed, epoch, sample, layer):
    x = np.ones(shape, np.float32)
    position = {"seed": seed << 20, "epoch": epoch, "sample": sample, "layer": layer}
    cases.assert_equal(ops.dropout(x, p, **position), reference.dropout(x, p, **position))


def test_dropout_uses_all_bits_of_the_seed():
    x = np.ones((1, 64), np.float32)
    for seed in (2**32, 2**61, 2**62, 2**63, 2**64 - 1):
        cases.assert_equal(ops.dropout(x, 0.5, seed=seed), reference.dropout(x, 0.5, seed=seed))


def test_dropout_known_answer():
    """The first words of Philox4x32-10 with key and counter 0, from Random123, tests/kat_vectors."""
    words = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    for p in (0.3, 0.5, 0.7, 0.8, 0.9, *words / 2**32):  # a word equal to the threshold is kept
        y = ops.dropout(np.ones((1, 4)), p, seed=0)
        cases.assert_equal(y[0], np.where(words >= p * 2**32, 1 / (1 - p), 0))


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize("channels", [1, 3, 16, 17, 33, 65, 511, 512, 513])
def test_bias_grad(rng, rows, channels):
    dy = cases.integers(rng, (rows, channels))
    out = nans((channels,))
    assert ops.bias_grad(dy, out=out) is out
    cases.assert_equal(out, reference.bias_grad(dy.astype(np.float64)))
    dy = cases.normals(rng, (rows, channels))
    cases.assert_within(ops.bias_grad(dy), dy.astype(np.float64).sum(axis=0), rows, np.abs(dy).sum(axis=0))


# Partial sums of 16,384 elements, or of 64 rows up to 256 of them, then longer ones; the last of them shorter.
@pytest.mark.parametrize("channels", [1, 3, 256])
@pytest.mark.parametrize("rows", [256 * 64 - 1, 256 * 64, 256 * 64 + 1, 256 * 65 + 1])
def test_bias_grad_of_many_rows(rng, rows, channels):
    dy = cases.integers(rng, (rows, channels))
    cases.assert_equal(ops.bias_grad(dy), dy.astype(np.float64).sum(axis=0))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 65, 5, 7), (7, 2, 31, 1)])
def test_bias_grad_of_images(rng, shape):
    dy = cases.integers(rng, shape)
    expected = dy.astype(np.float64).sum(axis=(0, 2, 3))
    for view in (dy, cases.channels_last(dy), dy[:, :, ::-1].copy()[:, :, ::-1]):
        cases.assert_equal(ops.bias_grad(view), expected)


def exponentials(logits):
    """Softmax in float64, and the error of each exp in units of u times its probability, at most.

    exp is within 1.02 units in the last place, 2.04 u; its argument z, the difference from the largest, is rounded by
    u |z|, which changes exp(z) by that factor. Where z is 0, exp is exact. Below exp(-87.3) all is 0.
    """
    z = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    p = scipy.special.softmax(logits.astype(np.float64), axis=1)
    return p, np.where(z < 0, p * (np.minimum(-z, 90) + 2.04), 0.0)


def assert_error(actual, expected, bound):
    """|actual - expected| <= u bound, and what counts as zero."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    worst = np.max(abs(actual.astype(np.float64) - expected) / (1.0001 * cases.U * bound + cases.TINY), initial=0.0)
    assert worst <= 1.0, f"error is {worst:.3g} times its bound"


def assert_softmax(logits):
    """One factor 1 / sum, rounded, multiplies all."""
    out = nans(logits.shape)
    assert ops.softmax(logits, out=out) is out
    p, error = exponentials(logits)
    assert_error(out, p, error + p * (error.sum(axis=1, keepdims=True) + 2))
    np.testing.assert_allclose(reference.softmax(logits.astype(np.float64)), p, rtol=1e-12)


def assert_cross_entropy(logits, labels):
    """Sums are in double, and so is the difference p - 1 = (exp(z) - sum) / sum of the label."""
    out = nans(logits.shape)
    loss, grad = ops.softmax_cross_entropy(logits, labels, out=out)
    assert grad is out
    p, error = exponentials(logits)
    total = error.sum(axis=1)
    n = np.arange(len(logits))
    exact = -math.fsum(scipy.special.log_softmax(logits.astype(np.float64), axis=1)[n, labels]) / len(n)
    assert abs(loss - exact) <= cases.U * total.mean() + 1e-14 * (1 + abs(exact))
    expected_loss, expected = reference.softmax_cross_entropy(logits.astype(np.float64), labels)
    assert expected_loss == pytest.approx(exact, rel=1e-12, abs=1e-15)
    bound = error + p * (total[:, None] + 2)
    bound[n, labels] = total - error[n, labels] + (1 - p[n, labels]) * (total + 1) + 1e-7
    assert_error(grad, expected, bound / len(n))
    assert_error(grad, (p - np.eye(logits.shape[1])[labels]) / len(n), bound / len(n))


@pytest.mark.parametrize("samples", [1, 2, 7, 15, 16, 17, 65])
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 16, 17, 31, 32, 33, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("scale", [1, 50])
def test_softmax_cross_entropy(rng, samples, classes, scale):
    logits = scale * cases.normals(rng, (samples, classes))
    assert_cross_entropy(logits, rng.integers(0, classes, samples))
    assert_softmax(logits)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([1e-3, 1, 1e3]))
def test_softmax_cross_entropy_of_any_shape(samples, classes, seed, scale):
    rng = np.random.default_rng(seed)
    logits = np.float32(scale) * cases.normals(rng, (samples, classes))
    assert_cross_entropy(logits, rng.integers(0, classes, samples).astype(np.int16))
    assert_softmax(logits)


@pytest.mark.parametrize("classes", [2, 100])
def test_exp_is_within_102_hundredths_of_a_unit_in_the_last_place(rng, classes):
    """Where the sum rounds to 1, softmax of (0, x) is exp(x): many x, and all around the ends of reduced ranges."""
    ends = -np.log(2) * (np.arange(35, 126) + 0.5)
    near = np.float32(ends)[:, None].view(np.int32) + np.arange(-2000, 2000, dtype=np.int32)
    x = np.concatenate([near.view(np.float32).ravel(), rng.uniform(-87.33, -24, 2_000_000).astype(np.float32)])
    x = np.append(x, np.zeros(-len(x) % (classes - 1), np.float32) - 30).reshape(-1, classes - 1)
    y = ops.softmax(np.concatenate([np.zeros((len(x), 1), np.float32), x], axis=1))
    assert (y[:, 0] == 1).all()
    exact = np.exp(x.astype(np.float64))
    unit = np.ldexp(1.0, np.frexp(exact)[1] - 24)
    worst = np.max(abs(y[:, 1:] - exact) / unit)
    assert 0.8 < worst <= 1.02


def test_softmax_special_values():
    nan = np.nan
    rows = [[0, -87.33, -87.34, -104, -INF], [-INF, 0, -INF, 0, -INF], [1e30, 1e30, -1e30, 0, 1], [nan, 0, 1, 2, 3]]
    rows += [[0, 1, 2, 3, nan], [INF, 0, 0, 0, 0], [-INF] * 5, [3e38, -3e38, 0, 0, 3e38]]
    x = np.array(rows, np.float32)
    smallest = np.exp(np.float64(np.float32(-87.33)))
    for classes in (5, 50):  # the others are so small that they add nothing
        padded = np.concatenate([x, np.full((len(x), classes - 5), -INF, np.float32)], axis=1)
        y = ops.softmax(padded)[:, :5]
        np.testing.assert_allclose(y[0], [1, smallest, 0, 0, 0], rtol=2e-7)
        cases.assert_equal(y[1:3], np.array([[0, 0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0, 0]]))
        assert np.isnan(y[[3, 4, 5, 6]]).any(axis=1).all()
        assert np.isnan(y[[3, 4, 6]]).all()
        cases.assert_equal(y[7:], np.array([[0.5, 0, 0, 0, 0.5]]))


def test_softmax_cross_entropy_of_large_logits():
    loss, grad = ops.softmax_cross_entropy([[3e38, -3e38], [0.0, -INF]], [0, 0])
    assert loss == 0
    cases.assert_equal(grad, np.zeros((2, 2)))
    loss, grad = ops.softmax_cross_entropy([[1000.0, 0.0]], [1])
    assert loss == 1000
    cases.assert_equal(grad, np.array([[1, -1]]))


@pytest.mark.parametrize("place", [0, 1, 4])
def test_softmax_cross_entropy_propagates_nan(place):
    logits = np.zeros((2, 5), np.float32)
    logits[1, place] = np.nan
    loss, grad = ops.softmax_cross_entropy(logits, [0, 0])
    assert math.isnan(loss)
    assert np.isnan(grad[1]).all()
    cases.assert_equal(grad[0], np.array([-0.4, 0.1, 0.1, 0.1, 0.1]))


def test_cross_entropy_step_counts_the_right_ones():
    logits = np.array(
        [[1, 2, 2], [3, 2, 3], [np.nan, 1, 0], [np.nan] * 3, [5, 6, 7], [np.nan, -INF, -INF], [2, 1, np.nan]],
        np.float32,
    )
    for classes in (3, 40):  # the others are never the largest
        padded = np.concatenate([logits, np.full((len(logits), classes - 3), np.nan, np.float32)], axis=1)
        for labels, correct in [([1, 0, 1, 0, 2, 1, 0], 6), ([2, 2, 0, 0, 0, 2, 1], 0), ([0, 1, 2, 1, 1, 0, 2], 0)]:
            result = np.full(4, np.nan)
            SoftmaxCrossEntropy(padded, np.array(labels), None, result)()
            assert result[1] == correct


def test_a_result_of_another_size_is_an_error():
    x, labels = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    for make in (
        lambda result: SoftmaxCrossEntropy(x, labels, None, result),
        lambda result: SquaredError(x, x, None, result),
    ):
        with pytest.raises(ValueError, match=r"result: expected shape \(4,\), got \(2,\)"):
            make(np.zeros(2))


def test_loss_steps_without_gradient(rng):
    """The sums of the losses are the same as with it."""
    x, y = cases.normals(rng, (5, 7)), cases.normals(rng, (5, 7))
    labels = rng.integers(0, 7, 5)
    result = np.full(4, np.nan)
    SoftmaxCrossEntropy(x, labels, None, result)()
    assert result[0] / 5 == ops.softmax_cross_entropy(x, labels)[0]
    SquaredError(x, y, None, result)()
    assert result[0] / 5 == ops.mse(x, y)[0]
    assert result[1] == 0


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 1), (3, 17), (65, 4), (2, 3, 5), (2, 3, 4, 5), (3, 1, 1, 1)])
def test_mse(rng, shape):
    prediction, target = cases.normals(rng, shape), cases.normals(rng, shape)
    difference = prediction.astype(np.float64) - target
    expected = math.fsum(difference.ravel() ** 2) / difference.size
    for x, y in [
        (prediction, target),
        (np.asfortranarray(prediction), target),
        (prediction, np.asfortranarray(target)),
    ]:
        out = nans(shape)
        loss, grad = ops.mse(x, y, out=out)
        assert grad is out
        assert loss == pytest.approx(expected, rel=1e-13)
        assert loss == pytest.approx(reference.mse(x.astype(np.float64), y)[0], rel=1e-13)
        cases.assert_within(grad, 2 * difference / difference.size, 1, np.abs(2 * difference / difference.size))


def test_mse_propagates_nan():
    loss, grad = ops.mse([[1.0, np.nan]], [[0.0, 0.0]])
    assert math.isnan(loss)
    cases.assert_equal(grad, np.array([[1, np.nan]]))


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (2, 3, 5), (1, 15, 17), (3, 16, 33), (2, 65, 7), (0, 3, 2), (1, 4097, 257), (2, 3, 4100), (2, 8200, 3)],
)
def test_transpose(rng, shape):
    x, out = cases.normals(rng, shape), nans((shape[0], shape[2], shape[1]))
    Transpose(x, out)()
    cases.assert_equal(out, x.swapaxes(1, 2))
