"""The optimizers' update steps against the plain formulae in float64."""

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpar import reference
from nnpar._kernels.optimizer import AdamUpdate, SGDUpdate

# Around vectors, and around a task of 4096 parameters.
SIZES = [0, 1, 3, 4, 5, 8, 9, 15, 16, 17, 63, 65, 4095, 4096, 4097, 8192, 9001]
SGD = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.5, "dampening": 0.999},
    {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
]
ADAM = [
    {},
    {"beta1": 0.0, "beta2": 0.0},
    {"beta1": 0.8, "beta2": 0.95, "eps": 0.01, "weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True},
    {"beta1": 0.99, "beta2": 0.99999},
]


def assert_sgd(size, options, seed=0, lr=0.1, steps=3):
    """Each step from the step's own old values, so that errors do not add up. An update takes at most 10 roundings."""
    rng = np.random.default_rng(seed)
    w, buffer = cases.normals(rng, (size,)), np.full(size, np.nan, np.float32)
    settings = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, **options}
    if not settings["momentum"]:
        buffer = None
    gradient = np.empty(size, np.float32)
    step = SGDUpdate(w, gradient, buffer)
    for number in range(steps):
        gradient[...] = cases.normals(rng, (size,))
        w64, buffer64 = w.astype(np.float64), None if buffer is None else buffer.astype(np.float64)
        # With all signs such that nothing cancels, the same formula gives the sum of the terms' sizes.
        sizes = [abs(w64), -abs(gradient.astype(np.float64)), None if buffer is None else -abs(buffer64)]
        reference.sgd(w64, gradient.astype(np.float64), buffer64, lr=lr, first_step=number == 0, **settings)
        reference.sgd(*sizes, lr=lr, first_step=number == 0, **{**settings, "weight_decay": -settings["weight_decay"]})
        step.set(lr, first_step=number == 0, **settings)
        step()
        cases.assert_within(w, w64, 5, sizes[0])
        if buffer is not None:
            cases.assert_within(buffer, buffer64, 5, abs(sizes[2]))


def assert_adam(size, options, seed=0, lr=0.1, steps=3):
    """As assert_sgd. The quotient of the moments multiplies their relative errors: at most 12 roundings and a root."""
    rng = np.random.default_rng(seed)
    w, mean, square = cases.normals(rng, (size,)), np.zeros(size, np.float32), np.zeros(size, np.float32)
    settings = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False, **options}
    gradient = np.empty(size, np.float32)
    step = AdamUpdate(w, gradient, mean, square)
    for number in range(1, steps + 1):
        gradient[...] = cases.normals(rng, (size,))
        old = [array.astype(np.float64) for array in (w, gradient, mean, square)]
        w64, gradient64, mean64, square64 = (array.copy() for array in old)
        reference.adam(w64, gradient64, mean64, square64, lr=lr, step=number, **settings)
        step.set(lr, step=number, **settings)
        step()
        decay = 0.0 if settings["decoupled"] else settings["weight_decay"]
        terms = abs(old[1]) + decay * abs(old[0])
        mean_size = settings["beta1"] * abs(old[2]) + (1 - settings["beta1"]) * terms
        square_size = settings["beta2"] * old[3] + (1 - settings["beta2"]) * terms**2
        cases.assert_within(mean, mean64, 4, mean_size)
        cases.assert_within(square, square64, 6, square_size)
        # |w| + lr m / (sqrt(v) + eps), with m as large as its terms and v's relative error counted.
        root = np.sqrt(square64 / (1 - settings["beta2"] ** number)) + settings["eps"]
        change = lr * mean_size / (1 - settings["beta1"] ** number) / root
        cases.assert_within(w, w64, 8, abs(old[0]) + change * square_size / np.maximum(square64, 1e-300))


@pytest.mark.parametrize("options", SGD, ids=str)
def test_sgd(options):
    for size in SIZES:
        assert_sgd(size, options)


@pytest.mark.parametrize("options", ADAM, ids=str)
def test_adam(options):
    for size in SIZES:
        assert_adam(size, options)


# Neither so small that float32 takes it for 0, nor so near to 1 that it takes it for 1.
unit = st.one_of(st.just(0.0), st.floats(1e-6, 0.9999))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 70), st.floats(1e-6, 1), unit, unit, unit, st.booleans(), st.integers(0, 99))
def test_sgd_with_any_settings(size, lr, momentum, dampening, weight_decay, nesterov, seed):
    options = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
    assert_sgd(size, options, seed, lr)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 70), st.floats(1e-6, 1), unit, unit, unit, st.booleans(), st.integers(0, 99))
def test_adam_with_any_settings(size, lr, beta1, beta2, weight_decay, decoupled, seed):
    options = {"beta1": beta1, "beta2": beta2, "weight_decay": weight_decay, "decoupled": decoupled}
    assert_adam(size, options, seed, lr)


def test_adam_of_zero_gradients_changes_nothing():
    w, moments = np.ones(5, np.float32), np.zeros((2, 5), np.float32)
    step = AdamUpdate(w, np.zeros(5, np.float32), *moments)
    step.set(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False, step=1)
    step()
    cases.assert_equal(w, np.ones(5))
    cases.assert_equal(moments, np.zeros((2, 5)))


def test_sgd_ignores_the_buffer_on_the_first_step_and_without_momentum():
    for momentum, expected in [(0.9, 2.0), (0.0, np.nan)]:
        w, buffer = np.ones(3, np.float32), np.full(3, np.nan, np.float32)
        step = SGDUpdate(w, np.full(3, 2, np.float32), buffer)
        step.set(0.5, momentum, 0.7, 0.0, False, True)
        step()
        cases.assert_equal(w, np.zeros(3))
        cases.assert_equal(buffer, np.full(3, expected))


@pytest.mark.parametrize("update", [SGDUpdate, AdamUpdate])
def test_updates_propagate_nan_to_their_place_only(update):
    w, gradient, buffers = np.ones(9, np.float32), np.ones(9, np.float32), np.zeros((2, 9), np.float32)
    gradient[4] = np.nan
    if update is SGDUpdate:
        step = update(w, gradient, buffers[0])
        step.set(0.5, 0.9, 0.0, 0.0, False, True)
    else:
        step = update(w, gradient, *buffers)
        step.set(0.5, 0.9, 0.999, 1e-8, 0.0, False, 1)
    step()
    assert np.isnan(w[4])
    assert np.isfinite(np.delete(w, 4)).all()
