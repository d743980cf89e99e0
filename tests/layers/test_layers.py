"""Layers as users meet them: shapes, settings, parameters, errors."""

import numpy as np
import pytest

import nnpar
from nnpar import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, initializers, reference

RNG = np.random.default_rng(0)


def test_conv2d_is_the_reference():
    layer = Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    x = RNG.standard_normal((2, 4, 7, 7)).astype(np.float32)
    expected = reference.conv2d(x.astype(float), layer.weight, layer.bias, 2, 1, 1, 2)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_linear_is_the_reference():
    layer = Linear(9, 4)
    x = RNG.standard_normal((5, 9)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x.astype(float) @ layer.weight.T + layer.bias, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (3, 7)])
def test_flatten_goes_by_channel_height_width(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(Flatten()(x), x.reshape(shape[0], -1))


def test_default_initial_weights_are_those_of_pytorch():
    layer = Conv2d(8, 32, 3)
    bound = 1 / np.sqrt(8 * 9)
    assert np.abs(layer.weight).max() <= bound
    assert np.abs(layer.bias).max() <= bound
    assert abs(layer.weight.std() - bound / np.sqrt(3)) < 0.1 * bound


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("he_normal", np.sqrt(2 / 300)),
        ("he_uniform", np.sqrt(2 / 300)),
        ("xavier_normal", np.sqrt(2 / 500)),
        ("xavier_uniform", np.sqrt(2 / 500)),
    ],
)
def test_initializers_have_their_variance(name, deviation):
    nnpar.manual_seed(5)
    weight = Linear(300, 200, weight_init=getattr(initializers, name)).weight
    assert abs(weight.std() / deviation - 1) < 0.02
    assert abs(weight.mean()) < 0.02 * deviation
    nnpar.manual_seed(0)


def test_numbers_do_not_depend_on_the_parts_in_which_they_are_drawn(monkeypatch):
    drawn = []
    for part in (2**16, 100, 7):
        monkeypatch.setattr(nnpar.random, "PART", part)
        nnpar.manual_seed(5)
        drawn.append([getattr(initializers, name)((11, 13)) for name in ("he_normal", "he_uniform")])
    raw = np.random.Philox(key=np.array([5, 0], np.uint64)).random_raw(2 * 143) / 2**64
    expected = np.sqrt(-2 * np.log(1 - raw[:143])) * np.cos(2 * np.pi * raw[143:]) * np.sqrt(2 / 13)
    np.testing.assert_allclose(drawn[0][0].ravel(), expected, rtol=1e-6, atol=1e-7)
    for other in drawn[1:]:
        np.testing.assert_array_equal(np.stack(other), np.stack(drawn[0]))
    nnpar.manual_seed(0)


def test_truncated_normal():
    """A normal distribution between -2 and 2 has the deviation 0.8796."""
    values = initializers.truncated_normal()((500, 400))
    assert -2 <= values.min() < -1.99
    assert 1.99 < values.max() <= 2
    assert abs(values.std() - 0.8796) < 0.005
    assert abs(values.mean()) < 0.01
    shifted = initializers.truncated_normal(std=0.1, mean=1.0, a=0.9, b=1.2)((50, 40))
    assert 0.9 <= shifted.min() < shifted.max() <= 1.2


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (6, 2, 3, 3), (40, 2, 3, 3), (1, 4)])
def test_orthogonal(shape):
    w = initializers.orthogonal(gain=2.0)(shape).reshape(shape[0], -1).astype(np.float64)
    products = w @ w.T if shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(products, 4 * np.eye(len(products)), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.truncated_normal(std=0), "truncated_normal: std: expected a number above 0, got 0.0"),
        (lambda: initializers.truncated_normal(a=5, b=6), "truncated_normal: a, b: expected a twentieth"),
        (lambda: initializers.orthogonal()((3,)), r"orthogonal: shape: expected at least two axes, got \(3,\)"),
        (lambda: initializers.orthogonal(np.nan), "orthogonal: gain: expected a finite number"),
    ],
)
def test_initializers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_seed_decides_the_weights():
    def weights(seed):
        nnpar.manual_seed(seed)
        return np.concatenate([Linear(3, 4).weight.ravel(), Conv2d(1, 2, 3).weight.ravel()])

    np.testing.assert_array_equal(weights(7), weights(7))
    assert (weights(7) != weights(8)).any()
    first = weights(0)
    assert len(set(first.tolist())) == first.size, "each layer has a draw of its own"


def test_parameters_are_named_as_in_pytorch():
    model = Sequential(Conv2d(1, 2, 3), Sequential(ReLU(), Conv2d(2, 2, 3, bias=False)), Flatten(), Linear(8, 3))
    names = ["0.weight", "0.bias", "1.1.weight", "3.weight", "3.bias"]
    assert list(model.parameters()) == names
    assert model.parameter_count == 18 + 2 + 36 + 24 + 3
    assert list(Linear(2, 2).parameters()) == ["weight", "bias"]


def test_assigning_a_parameter_copies_into_it():
    layer = Linear(2, 3)
    array = layer.weight
    layer.weight = np.ones((3, 2))
    assert layer.weight is array
    np.testing.assert_array_equal(array, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"Linear: weight: expected shape \(3, 2\), got \(2, 3\)"):
        layer.weight = np.ones((2, 3))
    with pytest.raises(AttributeError, match="bias: this layer was made without it"):
        Linear(2, 3, bias=False).bias = np.ones(3)


def test_load_state_dict_reports_every_difference_and_changes_nothing():
    model = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))
    before = model.state_dict()
    state = {
        "0.weight": np.zeros((3, 3)),
        "0.bias": np.array(["a"] * 3),
        "2.weight": np.zeros((1, 3)),
        "x": np.zeros(1),
    }
    with pytest.raises(ValueError, match=r"missing 2.bias \(1,\); unknown x .*; 0.weight: expected shape .*; 0.bias: "):
        model.load_state_dict(state)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])
    model.load_state_dict({name: array + 1 for name, array in before.items()})
    np.testing.assert_array_equal(model.parameters()["2.bias"], before["2.bias"] + 1)


def test_dropout_passes_in_prediction_and_repr_makes_the_layer_again():
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_array_equal(Dropout(0.5)(x), x)
    layers = [Conv2d(2, 4, (3, 1), stride=2, groups=2, bias=False), Linear(3, 2), MaxPool2d(3, 2, 1), AvgPool2d(2)]
    for layer in [*layers, ReLU(), Flatten(), Dropout(0.25)]:
        again = eval(repr(layer), vars(nnpar))
        assert type(again) is type(layer)
        assert again.settings() == layer.settings()
    assert "(1): ReLU()" in repr(Sequential(Linear(2, 2), ReLU()))


CONV = Sequential(Conv2d(3, 4, 3), ReLU(), Flatten(), Linear(16, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CONV(np.zeros((1, 1, 4, 4))), ValueError, r"layer '0' \(Conv2d\): input: expected 3 channels"),
        (lambda: CONV(np.zeros((1, 3, 5, 4))), ValueError, r"layer '3' \(Linear\): input: expected shape \(N, 16\)"),
        (
            lambda: CONV(np.zeros((1, 3, 2, 4))),
            ValueError,
            r"layer '0' \(Conv2d\): input: expected a height of at least 3",
        ),
        (lambda: CONV(np.zeros((1, 3))), ValueError, r"layer '0' \(Conv2d\): input: expected shape \(N, C, H, W\)"),
        (lambda: CONV(np.zeros(3)), ValueError, r"input: expected shape \(N, C, H, W\), got \(3,\)"),
        (lambda: CONV(np.zeros((1, 3, 4, 4), complex)), TypeError, "expected numbers that float32 can hold"),
        (lambda: Linear(4, 2)(np.zeros((1, 1, 2, 2))), ValueError, r"put a Flatten\(\) before it"),
        (lambda: MaxPool2d(2)(np.zeros((1, 1, 1, 1))), ValueError, "MaxPool2d: input: expected a height of at least 2"),
        (lambda: MaxPool2d(2, padding=2), ValueError, "padding: expected less than the window"),
        (lambda: MaxPool2d(257), ValueError, "kernel_size: expected at most 256 along each axis"),
        (lambda: MaxPool2d(2, return_indices=True), ValueError, "return_indices: expected False"),
        (lambda: AvgPool2d(0), ValueError, "kernel_size: expected at least 1, got 0"),
        (lambda: Conv2d(3, 4, 3, groups=2), ValueError, "groups: expected a divisor of in_channels 3, got 2"),
        (lambda: Conv2d(3, 0, 3), ValueError, "out_channels: expected at least 1, got 0"),
        (lambda: Conv2d(3, 4, 3.0), TypeError, "kernel_size: expected an int, got float"),
        (lambda: Conv2d(3, 4, (3, 3, 3)), ValueError, "expected an int or a pair"),
        (lambda: Conv2d(2**31, 2**31, 3), ValueError, "is too large"),
        (lambda: Linear(2, 2, weight_init=lambda shape: np.zeros(3)), ValueError, "weight_init: expected 2 axes"),
        (lambda: Dropout(1.0), ValueError, "expected 0 <= p < 1, got 1.0"),
        (lambda: Dropout(float("nan")), ValueError, "expected a finite number"),
        (lambda: Sequential(), ValueError, "at least one layer"),
        (lambda: Sequential(np.zeros(3)), TypeError, "expected layers, got ndarray"),
        (lambda: Sequential(*[ReLU()] * 2), ValueError, "layers '0' and '1' are one object"),
    ],
)
def test_errors_name_the_layer_and_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_empty_batch_gives_an_empty_result():
    assert CONV(np.zeros((0, 3, 4, 4))).shape == (0, 2)
