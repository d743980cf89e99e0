"""Normalisations within a sample against NumPy in float64 and ONNX Runtime, gradients against finite differences."""

import cases
import numpy as np
import pytest
from test_batch_norm import numeric_gradient

import nnpar
from nnpar import GroupNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm, LocalResponseNorm, RMSNorm
from nnpar import reference_tokens as reference
from nnpar._kernels import norm

ROWS = [(1, 1), (2, 3), (5, 8), (7, 17), (33, 64), (9, 100), (300, 192), (3, 4099), (1000, 33)]
IMAGES = [(1, 2, 1, 2), (2, 6, 3, 5), (3, 12, 7, 9), (2, 24, 40, 31), (1, 64, 16, 16), (2, 6, 1, 700), (5, 520, 3, 2)]


def doubles(*arrays):
    return [array.astype(np.float64) for array in arrays]


def drawn(rng, *shapes):
    return [cases.normals(rng, shape) for shape in shapes]


def run(step):
    step()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_rows(shape, centred, offset):
    rng = np.random.default_rng(0)
    x, gamma, beta = drawn(rng, shape, shape[1:], shape[1:])
    x += np.float32(offset)
    y, mean, invstd = np.full(shape, np.nan, np.float32), np.empty(shape[0], np.float32), np.empty(shape[0], np.float32)
    norm.RowNorm(x, gamma, beta, 1e-3, centred, mean, invstd, y)()
    expected, expected_mean, expected_invstd = reference.row_norm(*doubles(x, gamma, beta), 1e-3, centred)
    cases.assert_within(mean, expected_mean, 1, abs(x).mean(axis=1))
    cases.assert_within(invstd, expected_invstd, 1.5, expected_invstd)
    magnitude = (abs(x) + abs(expected_mean)[:, None]) * expected_invstd[:, None] * abs(gamma) + abs(beta)
    cases.assert_within(y, expected, 4, magnitude)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", ROWS)
def test_gradients_of_rows(shape, centred):
    rng = np.random.default_rng(1)
    dy, x, gamma = drawn(rng, shape, shape, shape[1:])
    mean, invstd = x.mean(axis=1) if centred else np.zeros(shape[0], np.float32), 1 / (1 + x.std(axis=1))
    dx, (dgamma, dbeta) = np.full(shape, np.nan, np.float32), np.full((2, shape[1]), np.nan, np.float32)
    norm.RowNormGrad(dy, x, mean, invstd, gamma, centred, dx, dgamma, dbeta)()
    dy, x, mean, invstd, gamma = doubles(dy, x, mean, invstd, gamma)
    expected = reference.row_norm_grad(dy, x, mean, invstd, gamma, centred)
    column = invstd[:, None]
    sizes = (abs(x) + abs(mean)[:, None]) * column
    g = abs(dy * gamma)
    magnitude = (g + g.mean(axis=1, keepdims=True) + sizes * (g * sizes).mean(axis=1, keepdims=True)) * column
    cases.assert_within(dx, expected[0], 4, magnitude)
    cases.assert_within(dgamma, expected[1], 4, (abs(dy) * sizes).sum(axis=0))
    cases.assert_within(dbeta, expected[2], 3, abs(dy).sum(axis=0))


def groups_of(channels):
    return [g for g in (1, 2, 3, channels) if channels % g == 0]


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("relu", [False, True])
def test_groups(shape, relu):
    rng = np.random.default_rng(2)
    for groups in groups_of(shape[1]):
        x, dy, gamma, beta = drawn(rng, shape, shape, shape[1:2], shape[1:2])
        x, dy = cases.channels_last(x), cases.channels_last(dy)
        y, dx = (cases.channels_last(np.full(shape, np.nan, np.float32)) for _ in range(2))
        mean, invstd = np.empty((2, shape[0], groups), np.float32)
        norm.GroupNorm(x, groups, gamma, beta, 1e-3, mean, invstd, y, relu)()
        x64, dy64, gamma64, beta64 = doubles(x, dy, gamma, beta)
        expected, expected_mean, expected_invstd = reference.group_norm(x64, groups, gamma64, beta64, 1e-3)
        cases.assert_within(mean, expected_mean, 1, abs(expected_mean) + 1e-13)
        cases.assert_within(invstd, expected_invstd, 1.5, expected_invstd)
        each = np.repeat(expected_invstd, shape[1] // groups, axis=1)[..., None, None]
        about = np.repeat(abs(expected_mean), shape[1] // groups, axis=1)[..., None, None]
        scale, sizes = abs(gamma64)[:, None, None] * each, abs(x64) + about
        magnitude = sizes * scale + abs(beta64)[:, None, None]
        cases.assert_within(y, np.maximum(expected, 0) if relu else expected, 5, magnitude)
        dgamma, dbeta = np.full((2, shape[1]), np.nan, np.float32)
        norm.GroupNormGrad(dy, x, groups, mean, invstd, gamma, beta, dx, dgamma, dbeta, relu)()
        slopes = dy64 * (y > 0) if relu else dy64
        got = reference.group_norm_grad(slopes, x64, groups, *doubles(mean, invstd), gamma64)
        g = (abs(slopes) * scale).reshape(shape[0], groups, -1)
        flat = (sizes * each).reshape(g.shape)
        magnitude = g + g.mean(axis=2, keepdims=True) + flat * (g * flat).mean(axis=2, keepdims=True)
        cases.assert_within(dx, got[0], 6, magnitude.reshape(shape))
        cases.assert_within(dgamma, got[1], 1, (abs(slopes) * sizes * each).sum(axis=(0, 2, 3)))
        cases.assert_within(dbeta, got[2], 1, abs(slopes).sum(axis=(0, 2, 3)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.25])
def test_local_response(size, beta):
    rng = np.random.default_rng(3)
    x, dy = (cases.channels_last(array) for array in drawn(rng, (2, 21, 5, 7), (2, 21, 5, 7)))
    arguments = size, 0.5, beta, 1.5
    y, dx = (cases.channels_last(np.full(x.shape, np.nan, np.float32)) for _ in range(2))
    response = size // 2, (size - 1) // 2, 0.5 / size, beta, 1.5
    norm.LocalResponse(x, y, *response)()
    norm.LocalResponse(x, dx, *response, dy)()
    x64, dy64 = doubles(x, dy)
    expected = reference.local_response_norm(x64, *arguments)
    cases.assert_within(y, expected, size + 6, abs(expected))
    expected = reference.local_response_norm_grad(dy64, x64, *arguments)
    magnitude = abs(dy64) + abs(x64) * np.max(abs(dy64 * x64)) * size
    cases.assert_within(dx, expected, size + 8, magnitude)


@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm_against_onnx(axes):
    x, weight, bias = drawn(np.random.default_rng(4), (3, 5, 14), (5, 14)[-axes:], (5, 14)[-axes:])
    layer = LayerNorm(weight.shape, eps=0.125)
    layer.weight, layer.bias = weight, bias
    (expected,) = cases.run_onnx("LayerNormalization", x, weight, bias, axis=-axes, epsilon=0.125)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_instance_and_group_norm_against_onnx():
    x, weight, bias = drawn(np.random.default_rng(5), (3, 6, 5, 7), (6,), (6,))
    layer = InstanceNorm2d(6, eps=0.125, affine=True)
    layer.weight, layer.bias = weight, bias
    (expected,) = cases.run_onnx("InstanceNormalization", x, weight, bias, epsilon=0.125)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    group = GroupNorm(3, 6, eps=0.125)
    group.weight, group.bias = weight, bias
    parts = x.reshape(3, 3, -1)
    (expected,) = cases.run_onnx("InstanceNormalization", parts, *np.float32([[1] * 3, [0] * 3]), epsilon=0.125)
    expected = expected.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(group(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_norm_against_onnx(size):
    (x,) = drawn(np.random.default_rng(6), (2, 9, 4, 3))
    (expected,) = cases.run_onnx("LRN", x, size=size, alpha=0.5, beta=0.75, bias=1.5)
    np.testing.assert_allclose(LocalResponseNorm(size, 0.5, 0.75, 1.5)(x), expected, rtol=1e-5, atol=1e-6)


def wave(*shape):
    """Numbers that are the same everywhere."""
    return np.sin(np.arange(np.prod(shape)) * 1.7).reshape(shape)


@pytest.mark.parametrize(
    ("layer", "x", "every", "expected"),
    [
        (LocalResponseNorm(3, 0.5, 0.75, 1.5), 3 * wave(2, 7, 2, 2), 11,
         [0.0, -0.23935004, -0.44517197, -0.60062022, -0.7069744, -0.78758112]),
        (LocalResponseNorm(4, 0.5, 0.75, 1.5), 3 * wave(2, 7, 2, 2), 11,
         [0.0, -0.1930069, -0.3602836, -0.65894449, -0.60971269, -0.7055991]),
        (RMSNorm(6, 0.1), wave(2, 6), 3, [0.0, -1.23212851, -0.9417202, 0.53383644]),
    ],
)  # fmt: skip
def test_numbers_of_pytorch(layer, x, every, expected):
    """What PyTorch 2.13 gives in float64."""
    np.testing.assert_allclose(layer(x).ravel()[::every], expected, rtol=1e-5, atol=1e-6)


def test_twins_by_finite_differences():
    rng = np.random.default_rng(7)
    x, dy, gamma, beta = doubles(*drawn(rng, (3, 5), (3, 5), (5,), (5,)))
    for centred in (True, False):
        _, mean, invstd = reference.row_norm(x, gamma, beta, 0.1, centred)
        got = reference.row_norm_grad(dy, x, mean, invstd, gamma, centred)
        for k, (at, expected) in enumerate(zip((x, gamma, beta), got, strict=True)):

            def forward(value, k=k, centred=centred):
                arguments = [x, gamma, beta]
                arguments[k] = value
                return reference.row_norm(*arguments, 0.1, centred)[0]

            np.testing.assert_allclose(expected, numeric_gradient(forward, at, dy), rtol=1e-6, atol=1e-8)
    x, dy, gamma, beta = doubles(*drawn(rng, (2, 4, 3), (2, 4, 3), (4,), (4,)))
    _, mean, invstd = reference.group_norm(x, 2, gamma, beta, 0.1)
    dx, *_ = reference.group_norm_grad(dy, x, 2, mean, invstd, gamma)
    expected = numeric_gradient(lambda v: reference.group_norm(v, 2, gamma, beta, 0.1)[0], x, dy)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-8)
    arguments = 3, 0.5, 0.6, 1.5
    expected = numeric_gradient(lambda v: reference.local_response_norm(v, *arguments), x, dy)
    np.testing.assert_allclose(reference.local_response_norm_grad(dy, x, *arguments), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_row_and_group(bad):
    x = cases.normals(np.random.default_rng(8), (3, 4, 20))
    clean = LayerNorm(20)(x)
    x[1, 2, 5] = bad
    y = LayerNorm(20)(x)
    assert np.isnan(y[1, 2]).all()
    y[1, 2] = clean[1, 2]
    np.testing.assert_array_equal(y, clean)
    y = GroupNorm(2, 4)(x)
    assert np.isnan(y[1, 2:]).all()
    assert np.isfinite(np.delete(y.reshape(6, -1), 3, axis=0)).all()


def test_a_constant_row_is_the_bias():
    layer = LayerNorm(50, bias=True)
    layer.bias = np.arange(50)
    np.testing.assert_array_equal(layer(np.full((2, 50), 1e6)), np.tile(np.arange(50), (2, 1)))


def results():
    """Bytes of each step on real numbers, so that another order of sums changes them."""
    rng = np.random.default_rng(9)
    for shape in [(1000, 33), (7, 5000), (300, 192)]:
        dy, x, gamma, y, dx = drawn(rng, shape, shape, shape[1:], shape, shape)
        mean, invstd, dgamma, dbeta = drawn(rng, shape[:1], shape[:1], shape[1:], shape[1:])
        norm.RowNorm(x, gamma, dgamma, 0.1, True, mean, invstd, y)()
        yield from (array.tobytes() for array in (y, mean, invstd))
        norm.RowNormGrad(dy, x, mean, invstd, gamma, True, dx, dgamma, dbeta)()
        yield from (array.tobytes() for array in (dx, dgamma, dbeta))
    for shape in [(3, 24, 61, 59), (40, 64, 5, 7), (1, 6, 203, 199)]:
        dy, x, y, dx = (cases.channels_last(array) for array in drawn(rng, shape, shape, shape, shape))
        gamma, beta, dgamma, dbeta = drawn(rng, *[shape[1:2]] * 4)
        mean, invstd = drawn(rng, (shape[0], 2), (shape[0], 2))
        norm.GroupNorm(x, 2, gamma, beta, 0.1, mean, invstd, y, True)()
        yield from (array.tobytes() for array in (y, mean, invstd))
        norm.GroupNormGrad(dy, x, 2, mean, invstd, gamma, beta, dx, dgamma, dbeta, True)()
        yield from (array.tobytes() for array in (dx, dgamma, dbeta))
        norm.LocalResponse(x, y, 2, 2, 0.1, 0.75, 1.0)()
        yield y.tobytes()
        norm.LocalResponse(x, y, 2, 2, 0.1, 0.75, 1.0, dy)()
        yield y.tobytes()


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_same_bits_at_any_number_of_threads(count):
    with nnpar.num_threads(1):
        serial = list(results())
    with nnpar.num_threads(count):
        assert list(results()) == serial


IMAGE = np.ones((2, 4, 3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayerNorm(()), "LayerNorm: normalized_shape: expected at least one axis"),
        (lambda: LayerNorm(0), "LayerNorm: normalized_shape: expected at least 1, got 0"),
        (lambda: LayerNorm(3, eps=-1), "LayerNorm: eps: expected at least 0, got -1"),
        (lambda: LayerNorm((3, 4))(IMAGE), r"LayerNorm: input: expected shape \(N, ..., 3, 4\), got \(2, 4, 3, 3\)"),
        (lambda: LayerNorm(3)(np.ones((2, 4))), "LayerNorm: input: expected shape"),
        (lambda: RMSNorm(3, eps=-1), "RMSNorm: eps: expected at least 0"),
        (lambda: GroupNorm(3, 4), "GroupNorm: num_groups: expected a divisor of num_channels 4, got 3"),
        (lambda: GroupNorm(2, 6)(IMAGE), "GroupNorm: input: expected 6 channels, got 4"),
        (lambda: GroupNorm(1, 4, eps=-1), "GroupNorm: eps: expected at least 0"),
        (lambda: InstanceNorm2d(4, track_running_stats=True), "InstanceNorm2d: track_running_stats: expected False"),
        (lambda: InstanceNorm2d(4)(IMAGE[0]), r"InstanceNorm2d: input: expected shape \(N, C, H, W\), got \(4, 3, 3\)"),
        (lambda: InstanceNorm1d(4)(IMAGE), r"InstanceNorm1d: input: expected shape \(N, C, L\)"),
        (lambda: LocalResponseNorm(0), "LocalResponseNorm: size: expected at least 1"),
        (lambda: LocalResponseNorm(3)(np.ones((2, 3))), "LocalResponseNorm: input: expected shape"),
        (lambda: nnpar.BatchNorm2d(4, momentum=None), "BatchNorm2d: momentum: expected 0 to 1, got None"),
        (lambda: nnpar.BatchNorm1d(4)(IMAGE), r"BatchNorm1d: input: expected shape \(N, C\) or \(N, C, L\)"),
        (lambda: nnpar.BatchNorm3d(4)(IMAGE), r"BatchNorm3d: input: expected shape \(N, C, D, H, W\)"),
        (lambda: nnpar.Dropout2d(0.5)(np.ones((2, 3))), r"Dropout2d: input: expected shape \(N, C, H, W\)"),
        (lambda: nnpar.Linear(5, 2)(IMAGE), r"Linear: input: expected shape \(N, 5\), with or without axes between"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_instance_of_one_value_cannot_be_trained():
    with pytest.raises(
        ValueError, match=r"InstanceNorm2d\): training needs at least 2 values in each channel of a sample"
    ):
        nnpar.plan.Plan(nnpar.Sequential(InstanceNorm2d(3)), (4, 3, 1, 1), training=True)


def test_dropout2d_zeroes_whole_channels():
    """Each sample's channels by its place in the epoch: not by the batch it came in."""
    layer = nnpar.Sequential(nnpar.Dropout2d(0.5))
    plan = nnpar.plan.Plan(layer, (40, 8, 3, 5), training=True, needs_dx=True)
    plan.x[...] = 1.0
    plan.run_forward()
    y = plan.y.copy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :, :1, :1]).all()
    assert 0.4 < y.mean() / 2 < 0.6
    plan.dy[...] = 1.0
    plan.run_backward()
    np.testing.assert_array_equal(plan.dx, y)
    small = nnpar.plan.Plan(layer, (7, 8, 3, 5), training=True)
    small.x[...] = 1.0
    small.run_forward()
    np.testing.assert_array_equal(small.y, y[:7])
