"""Transposed convolution against ONNX Runtime, as the adjoint of a convolution, and its gradients."""

import cases
import numpy as np
import pytest

import nnpar
from nnpar import ConvTranspose2d, Sequential, ops
from nnpar.plan import Plan

# Input shape, then arguments.
CASES = {
    "u-net": ((2, 16, 5, 6), {"out_channels": 8, "kernel_size": 2, "stride": 2}),
    "dcgan": ((2, 12, 4, 4), {"out_channels": 10, "kernel_size": 4, "stride": 2, "padding": 1}),
    "stride 1": ((1, 5, 6, 7), {"out_channels": 9, "kernel_size": 3, "padding": 1}),
    "output padding": (
        (2, 6, 4, 5), {"out_channels": 3, "kernel_size": 3, "stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
    ),
    "groups": ((2, 6, 4, 5), {"out_channels": 9, "kernel_size": (3, 2), "stride": 2, "groups": 3}),
    "depthwise": ((2, 8, 4, 5), {"out_channels": 8, "kernel_size": 4, "stride": 2, "padding": 1, "groups": 8}),
    "dilation": ((1, 4, 5, 5), {"out_channels": 5, "kernel_size": 3, "dilation": (2, 1), "stride": (1, 2)}),
    "without bias": ((3, 7, 3, 3), {"out_channels": 4, "kernel_size": 5, "stride": 3, "bias": False}),
    "one pixel": ((1, 1, 1, 1), {"out_channels": 1, "kernel_size": 1}),
}  # fmt: skip


def layer_of(name):
    shape, arguments = CASES[name]
    layer = ConvTranspose2d(shape[1], **arguments)
    rng = np.random.default_rng(0)
    for array in layer.parameters().values():
        array[...] = cases.integers(rng, array.shape)
    return layer, cases.integers(rng, shape)


@pytest.mark.parametrize("name", CASES)
def test_against_onnx(name):
    layer, x = layer_of(name)
    inputs = [x, layer.weight] + ([] if layer.bias is None else [layer.bias])
    (expected,) = cases.run_onnx(
        "ConvTranspose", *inputs, strides=layer.stride, pads=layer.padding * 2, output_padding=layer.output_padding,
        dilations=layer.dilation, group=layer.groups,
    )  # fmt: skip
    cases.assert_equal(np.ascontiguousarray(layer(x)), expected)
    predict = nnpar.Predictor(Sequential(layer, nnpar.ReLU()))
    cases.assert_equal(np.ascontiguousarray(predict(x)), np.maximum(expected, 0))


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    layer, x = layer_of(name)
    plan = Plan(layer, x.shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    dy = cases.integers(np.random.default_rng(1), plan.y.shape)
    plan.dy[...] = dy
    plan.run_backward()
    window = layer.stride, layer.padding, layer.dilation, layer.groups
    cases.assert_equal(np.ascontiguousarray(plan.dx), ops.conv2d(dy, layer.weight, None, *window))
    # The output is linear in the weights: <dy, f(w + u) - f(w)> = <dw, u>.
    before, u = layer(x).astype(np.float64), cases.integers(np.random.default_rng(2), layer.weight.shape)
    layer.weight = layer.weight + u
    assert np.sum(dy * (layer(x) - before)) == np.sum(plan.gradients["weight"].astype(np.float64) * u)
    if layer.bias is not None:
        cases.assert_equal(plan.gradients["bias"], dy.sum(axis=(0, 2, 3)))


def test_it_trains_in_a_model_and_comes_back(tmp_path):
    model = Sequential(nnpar.Conv2d(1, 4, 3, 2, 1), nnpar.ReLU(), ConvTranspose2d(4, 1, 2, 2))
    x = np.random.default_rng(0).standard_normal((8, 1, 8, 8)).astype(np.float32)
    trainer = nnpar.Trainer(model, loss="mse", optimizer=nnpar.Adam(0.02))
    losses = [trainer.train_step(x, x) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
    model.save(tmp_path / "m.safetensors")
    again = nnpar.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvTranspose2d(4, 2, 3, output_padding=1), r"output_padding: expected less than stride \(1, 1\)"),
        (lambda: ConvTranspose2d(4, 3, 3, groups=2), "groups: expected a divisor of out_channels 3, got 2"),
        (lambda: ConvTranspose2d(4, 2, 3, padding_mode="reflect"), "padding_mode: expected 'zeros'"),
        (lambda: ConvTranspose2d(4, 2, 3)(np.ones((1, 3, 5, 5))), "input: expected 4 channels"),
        (lambda: ConvTranspose2d(4, 2, 1, padding=3)(np.ones((1, 4, 2, 2))), "at least one pixel"),
        (lambda: ConvTranspose2d(4, 2, 3)(np.ones((1, 4))), r"input: expected shape \(N, C, H, W\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"ConvTranspose2d: {message}|{message}"):
        call()
