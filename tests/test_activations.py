"""Activations and softmax against float64, finite differences in float64, ONNX Runtime, and at their edges."""

import math

import cases
import numpy as np
import pytest

import nnpar
from nnpar import Sequential
from nnpar.plan import Plan


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


erf = np.vectorize(math.erf)
# Layer, the function in float64, the largest error allowed, in units of 2^-24 of the size of the result (or of 1).
CASES = {
    "ReLU6": (lambda: nnpar.ReLU6(), lambda x: np.clip(x, 0, 6)),
    "Hardtanh": (lambda: nnpar.Hardtanh(-0.5, 2.0), lambda x: np.clip(x, -0.5, 2)),
    "LeakyReLU": (lambda: nnpar.LeakyReLU(0.1), lambda x: np.where(x > 0, x, np.float32(0.1) * x)),
    "LeakyReLU of a negative slope": (lambda: nnpar.LeakyReLU(-0.5), lambda x: np.where(x > 0, x, -0.5 * x)),
    "ELU": (lambda: nnpar.ELU(0.7), lambda x: np.where(x > 0, x, np.float32(0.7) * np.expm1(np.minimum(x, 0)))),
    "SELU": (
        lambda: nnpar.SELU(),
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    ),
    "CELU": (lambda: nnpar.CELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2))),
    "GELU": (lambda: nnpar.GELU(), lambda x: x * (1 + erf(x / np.sqrt(2))) / 2),
    "GELU by tanh": (
        lambda: nnpar.GELU("tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "SiLU": (lambda: nnpar.SiLU(), lambda x: x * sigmoid(x)),
    "Hardswish": (lambda: nnpar.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "Hardsigmoid": (lambda: nnpar.Hardsigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6),
    "Mish": (lambda: nnpar.Mish(), lambda x: x * np.tanh(np.logaddexp(0, x))),
    "Softplus": (lambda: nnpar.Softplus(2.0), lambda x: np.logaddexp(0, 2 * x) / 2),
    "Softsign": (lambda: nnpar.Softsign(), lambda x: x / (1 + abs(x))),
    "Sigmoid": (lambda: nnpar.Sigmoid(), sigmoid),
    "Tanh": (lambda: nnpar.Tanh(), np.tanh),
    "Abs": (lambda: nnpar.Abs(), abs),
    "Erf": (lambda: nnpar.Erf(), erf),
    "Exp": (lambda: nnpar.Exp(), np.exp),
    "Softmax": (lambda: nnpar.Softmax(1), lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
    "Softmax of the first axis": (lambda: nnpar.Softmax(0), lambda x: np.exp(x) / np.exp(x).sum(axis=0, keepdims=True)),
    "LogSoftmax": (lambda: nnpar.LogSoftmax(-1), lambda x: x - np.log(np.exp(x).sum(axis=-1, keepdims=True))),
}
every = pytest.mark.parametrize("name", CASES)
SHAPES = [(3,), (2, 5), (7, 33), (2, 3, 5), (2, 17, 3, 4), (2, 3, 2, 2, 2)]


def numbers(shape, seed=0):
    """Away from the corners of functions, where slopes differ."""
    x = np.random.default_rng(seed).uniform(-5, 5, shape)
    for corner in (-3, -0.5, 0, 2, 3, 6):
        x = np.where(abs(x - corner) < 0.05, corner + 0.1, x)
    return x.astype(np.float32)


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(name, shape):
    make, function = CASES[name]
    if "Softmax" in name and len(shape) < 2:
        pytest.skip("softmax of batches")
    x, dy = numbers(shape), numbers(shape, 1)
    plan = Plan(make(), shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(plan.y, function(wide), rtol=6e-7, atol=4e-7)
    np.testing.assert_array_equal(plan.y, make()(x))
    plan.dy[...] = dy
    plan.run_backward()
    step = 1e-6
    if "Softmax" in name:
        axis = make().dim % len(shape)
        y = function(wide)
        total = dy.sum(axis=axis, keepdims=True, dtype=np.float64)
        inner = (dy * y).sum(axis=axis, keepdims=True)
        expected = dy - np.exp(y) * total if name.startswith("Log") else y * (dy - inner)
    else:
        expected = dy * (function(wide + step) - function(wide - step)) / (2 * step)
    np.testing.assert_allclose(plan.dx, expected, rtol=3e-6, atol=3e-6)


@every
def test_every_function_is_within_a_few_units_over_a_wide_range(name):
    make, function = CASES[name]
    if "Softmax" in name:
        pytest.skip("not of one element")
    x = np.concatenate([np.linspace(-30, 30, 100_001), np.geomspace(1e-30, 1e3, 2000), -np.geomspace(1e-30, 80, 2000)])
    x = x[x < 80].astype(np.float32)
    expected = function(x.astype(np.float64))
    # Sums of nearly opposite numbers: the error is relative to these.
    size = 0.5 if name.startswith("Hard") else 1e-30
    error = abs(make()(x) - expected) / np.maximum(abs(expected), size)
    tolerance = 3e-6 if name == "GELU by tanh" else 6e-7
    worst = np.where(abs(expected) > 1e-6, error, 0).max()
    assert worst < tolerance, worst


LIMITS = {  # of minus infinity, plus infinity
    "ReLU6": (0, 6), "LeakyReLU": (-np.inf, np.inf), "ELU": (-0.7, np.inf), "GELU": (-0.0, np.inf), "SiLU": (0, np.inf),
    "Sigmoid": (0, 1), "Tanh": (-1, 1), "Softplus": (0, np.inf), "Hardsigmoid": (0, 1),
}  # fmt: skip


@every
def test_nan_stays_nan(name):
    x = np.zeros((2, 40), np.float32)
    x[1, 37] = np.nan
    y = CASES[name][0]()(x)
    assert np.isnan(y[1, 37])
    assert np.isfinite(y[0]).all() or "first axis" in name


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    y = CASES[name][0]()(np.float32([[-1e30, 1e30], [-200, 200]]))
    low, high = LIMITS[name]
    for row, size in zip(y, (1e30, 200), strict=True):
        assert row[0] == pytest.approx(low if np.isfinite(low) else -0.1 * size, abs=1e-6)
        assert row[1] == pytest.approx(high if np.isfinite(high) else size, rel=1e-6)


@every
def test_the_same_bits_at_any_number_of_threads(name):
    x = numbers((64, 33, 20, 7))
    results = []
    for threads in (1, 2, 3, 8):
        with nnpar.num_threads(threads):
            plan = Plan(Sequential(CASES[name][0]()), x.shape, training=True, needs_dx=True)
            plan.x[...] = x
            plan.run_forward()
            y = plan.y.copy()
            plan.dy[...] = x[::-1]
            plan.run_backward()
            results.append((y.tobytes(), plan.dx.tobytes()))
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (3, 5)), (5, (3, 5)), (1, (2, 17, 3, 4)), (17, (2, 17, 3, 4)), (3, (2, 3, 70))]
)
def test_prelu(channels, shape):
    layer = nnpar.PReLU(channels)
    assert (layer.weight == 0.25).all()
    rng = np.random.default_rng(0)
    layer.weight = rng.integers(-3, 4, channels)
    x, dy = cases.integers(rng, shape), cases.integers(rng, shape)
    plan = Plan(layer, shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    weight = layer.weight.reshape(-1, *[1] * (len(shape) - 2))
    cases.assert_equal(np.ascontiguousarray(plan.y), np.where(x > 0, x, weight * x))
    plan.dy[...] = dy
    plan.run_backward()
    cases.assert_equal(np.ascontiguousarray(plan.dx), np.where(x > 0, dy, weight * dy))
    parts = np.where(x > 0, 0, dy * x)
    axes = tuple(axis for axis in range(len(shape)) if axis != 1 or channels == 1)
    cases.assert_equal(plan.gradients["weight"], parts.sum(axis=axes).reshape(channels))


@pytest.mark.parametrize(
    ("operator", "layer", "attributes"),
    [
        ("Elu", lambda: nnpar.ELU(0.5), {"alpha": 0.5}),
        ("Selu", lambda: nnpar.SELU(), {}),
        ("Celu", lambda: nnpar.CELU(0.5), {"alpha": 0.5}),
        ("LeakyRelu", lambda: nnpar.LeakyReLU(0.3), {"alpha": 0.3}),
        ("Sigmoid", lambda: nnpar.Sigmoid(), {}),
        ("Tanh", lambda: nnpar.Tanh(), {}),
        ("Softplus", lambda: nnpar.Softplus(), {}),
        ("Softsign", lambda: nnpar.Softsign(), {}),
        ("HardSwish", lambda: nnpar.Hardswish(), {}),
        ("Softmax", lambda: nnpar.Softmax(2), {"axis": 2}),
        ("LogSoftmax", lambda: nnpar.LogSoftmax(1), {"axis": 1}),
    ],
)
def test_against_onnx(operator, layer, attributes):
    x = numbers((2, 5, 3, 4))
    (expected,) = cases.run_onnx(operator, x, **attributes)
    np.testing.assert_allclose(layer()(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nnpar.Hardtanh(2, 1), ValueError, "Hardtanh: min_val: expected at most max_val 1.0, got 2.0"),
        (lambda: nnpar.ELU(-1), ValueError, "ELU: alpha: expected at least 0"),
        (lambda: nnpar.CELU(0), ValueError, "CELU: alpha: expected a number above 0"),
        (lambda: nnpar.GELU("erf"), ValueError, "GELU: approximate: expected 'none' or 'tanh', got 'erf'"),
        (lambda: nnpar.Softplus(0), ValueError, "Softplus: beta: expected a number above 0"),
        (lambda: nnpar.LeakyReLU("a"), TypeError, "LeakyReLU: negative_slope: expected a number, got str"),
        (lambda: nnpar.Softmax(1.5), TypeError, "Softmax: dim: expected an int, got float"),
        (
            lambda: Sequential(nnpar.Softmax(2))(np.ones((2, 3))),
            ValueError,
            r"layer '0' \(Softmax\): dim: expected an axis",
        ),
        (lambda: nnpar.PReLU(0), ValueError, "PReLU: num_parameters: expected at least 1"),
        (lambda: nnpar.PReLU(3)(np.ones((2, 4))), ValueError, "PReLU: input: expected 3 channels"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "function"), [(nnpar.Log(), np.log), (nnpar.Sqrt(), np.sqrt), (nnpar.Reciprocal(), lambda x: 1 / x)]
)
def test_functions_of_positive_numbers(layer, function):
    x = np.geomspace(1e-30, 1e30, 5000).astype(np.float32).reshape(50, 100)
    np.testing.assert_allclose(layer(x), function(x.astype(np.float64)), rtol=4e-7, atol=1e-7)
    x, dy = numbers((7, 33)) ** 2 + 0.5, numbers((7, 33), 1)
    plan = Plan(layer, x.shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    plan.dy[...] = dy
    plan.run_backward()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(
        plan.dx, dy * (function(wide + 1e-6) - function(wide - 1e-6)) / 2e-6, rtol=3e-6, atol=1e-6
    )
