"""Every layer's gradients against finite differences of its own forward pass."""

import numpy as np
import pytest

from nnpar import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose3d,
    Dropout,
    Expand,
    Flatten,
    GlobalMaxPool2d,
    Linear,
    Max,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    ReflectionPad2d,
    ReLU,
    ReplicationPad1d,
    Resize,
    Select,
    Sequential,
    Upsample,
)
from nnpar.plan import Plan

# Layer and input shape. Each is linear, or linear between kinks that the inputs of `spread` stay away from, so that a
# central difference has no error but rounding.
LAYERS = [
    (lambda: Conv2d(3, 4, 3), (2, 3, 5, 6)),
    (lambda: Conv2d(3, 4, 3, padding=1, bias=False), (2, 3, 4, 4)),
    (lambda: Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2), (2, 4, 7, 8)),
    (lambda: Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 4, 4)),
    (lambda: Conv2d(9, 5, 1), (3, 9, 2, 3)),
    (lambda: Conv2d(1, 2, 5, padding=2, stride=3), (1, 1, 7, 7)),
    (lambda: Linear(7, 5), (3, 7)),
    (lambda: Linear(7, 5, bias=False), (1, 7)),
    (lambda: ReLU(), (2, 3, 4, 4)),
    (lambda: ReLU(), (5, 6)),
    (lambda: MaxPool2d(2), (2, 3, 4, 6)),
    (lambda: MaxPool2d(3, stride=2, padding=1), (1, 5, 7, 6)),
    (lambda: AvgPool2d(2), (2, 3, 4, 6)),
    (lambda: AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 2, 7, 6)),
    (lambda: AvgPool2d(2, 3, ((1, 0), (0, 1)), ceil_mode=True, dilation=2), (1, 2, 8, 7)),
    (lambda: MaxPool2d(2, 3, ((1, 0), (0, 1)), 2, ceil_mode=True), (1, 2, 8, 7)),
    (lambda: MaxPool2d(17, padding=8), (1, 2, 17, 19)),
    (lambda: GlobalMaxPool2d(), (2, 2, 3, 5)),
    (lambda: GlobalMaxPool2d(), (1, 1, 1, 300)),
    (lambda: MaxPool1d(3, 2, 1), (2, 3, 8)),
    (lambda: AvgPool1d(3, 2, 1, count_include_pad=False), (2, 3, 8)),
    (lambda: MaxPool3d(2, ceil_mode=True), (1, 2, 3, 4, 5)),
    (lambda: AvgPool3d(3, 2, 1, count_include_pad=False), (1, 2, 4, 3, 5)),
    (lambda: Conv1d(3, 4, 3, 2, 1, 2), (2, 3, 9)),
    (lambda: Conv1d(4, 6, 4, padding="same", groups=2), (2, 4, 7)),
    (lambda: Conv2d(2, 3, (2, 3), padding="same"), (2, 2, 4, 5)),
    (lambda: Conv2d(2, 3, 3, padding=((0, 2), (1, 0))), (2, 2, 4, 5)),
    (lambda: Conv3d(2, 3, 3, padding=1), (1, 2, 3, 4, 3)),
    (lambda: Conv3d(4, 2, (2, 3, 1), 2, (1, 1, 0), (2, 1, 1), groups=2, bias=False), (2, 4, 5, 4, 3)),
    (lambda: Conv3d(1, 2, (2, 1, 2), padding="same"), (1, 1, 3, 2, 3)),
    (lambda: ConvTranspose3d(2, 4, (3, 2, 3), 2, 1, (1, 0, 1), groups=2), (1, 2, 2, 3, 2)),
    (lambda: ConvTranspose3d(2, 3, 2, dilation=2), (1, 2, 2, 2, 3)),
    (lambda: Max((1,)), (3, 4, 2)),
    (lambda: Max((0, 2), keepdim=True), (3, 4, 2, 3)),
    (lambda: Expand((-1, 3, 4)), (2, 3, 1)),
    (lambda: ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 5)),
    (lambda: AdaptiveAvgPool2d((2, 3)), (2, 3, 5, 4)),
    (lambda: AdaptiveAvgPool2d((None, 2)), (2, 3, 3, 6)),
    (lambda: AdaptiveAvgPool1d(3), (2, 3, 5)),
    (lambda: Upsample(scale_factor=2), (2, 3, 2, 3)),
    (lambda: Upsample(scale_factor=(1.5, 1), mode="nearest-exact"), (2, 3, 3, 2)),
    (lambda: Upsample(size=(5, 2), mode="bilinear"), (2, 3, 3, 4)),
    (lambda: Upsample(size=(5, 7), mode="bicubic", align_corners=True), (1, 2, 3, 4)),
    (lambda: Upsample(scale_factor=2, mode="linear"), (2, 3, 4)),
    (lambda: Upsample(scale_factor=2, mode="trilinear"), (1, 2, 2, 3, 2)),
    (lambda: Resize(3, mode="linear", antialias=True), (1, 2, 5, 7)),
    (
        lambda: Resize(3, None, "linear", "tf_crop_and_resize", roi=(-0.5, 0, 1, 2), extrapolation_value=3.0),
        (1, 2, 3, 4),
    ),
    (lambda: ReflectionPad2d((1, 2, 0, 1)), (2, 3, 3, 4)),
    (lambda: ReplicationPad1d((2, 1)), (2, 3, 4)),
    (lambda: Select(2, [0, -1, 0]), (2, 3, 4, 2)),
    (lambda: Select(1, [2, 0, 2, 1]), (2, 3, 4, 2)),
    (lambda: Select(-1, [2, 0]), (2, 3)),
    (lambda: Flatten(), (2, 3, 2, 4)),
    (lambda: Flatten(), (2, 1, 3, 3)),
    (lambda: Flatten(), (2, 5, 1, 1)),
    (lambda: Dropout(0.4), (3, 20)),
    (lambda: Dropout(0.4), (2, 3, 4, 4)),
    (lambda: Sequential(Conv2d(2, 4, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(16, 3)), (2, 2, 4, 4)),
]
STEP = 2.0**-4


def spread(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Distinct values, none closer than 4 steps to another or to zero."""
    size = int(np.prod(shape))
    values = (rng.permutation(size) - size // 2 + 0.5) * 4 * STEP
    return values.reshape(shape).astype(np.float32)


def outputs(plan: Plan, x: np.ndarray) -> np.ndarray:
    np.copyto(plan.x, x)
    plan.run_forward()
    return plan.y.astype(np.float64)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=lambda value: None if callable(value) else str(value))
def test_gradients_are_those_of_the_forward_pass(make, shape):
    rng = np.random.default_rng(0)
    layer = make()
    plan = Plan(layer, shape, training=True, needs_dx=True)
    x = spread(shape, rng)
    y = outputs(plan, x)
    dy = rng.standard_normal(y.shape)
    plan.dy[...] = dy
    plan.run_backward()
    dx, gradients = plan.dx.copy(), {name: grad.copy() for name, grad in plan.gradients.items()}
    assert set(gradients) == set(layer.parameters())

    def slope(array: np.ndarray, at: tuple[int, ...], x: np.ndarray) -> float:
        kept = array[at]
        array[at] = kept + STEP
        above = outputs(plan, x)
        array[at] = kept - STEP
        below = outputs(plan, x)
        array[at] = kept
        return float(((above - below) * dy).sum() / (2 * STEP))

    scale = np.abs(y).max() * 2.0**-23 * np.sqrt(y.size) / STEP + 1e-6
    tolerance = {"rtol": 1e-5, "atol": 20 * scale}
    numeric = np.array([slope(x, at, x) for at in np.ndindex(shape)]).reshape(shape)
    if not isinstance(layer, Sequential):
        np.testing.assert_allclose(dx, numeric, **tolerance)
        assert 20 * scale < np.abs(numeric).max() / 10, "the bound is too loose to see an error"
    for name, parameter in layer.parameters().items():
        numeric = np.array([slope(parameter, at, x) for at in np.ndindex(parameter.shape)]).reshape(parameter.shape)
        if not isinstance(layer, Sequential) or name == "4.weight":
            np.testing.assert_allclose(gradients[name], numeric, **tolerance)


def test_only_what_is_needed_runs_backward():
    model = Sequential(Flatten(), Linear(4, 3), ReLU(), Linear(3, 2))
    names = [step.name for step in Plan(model, (2, 1, 2, 2), training=True).backward_steps]
    assert names == ["gemm", "bias_grad", "gemm", "relu_grad", "gemm", "bias_grad"]  # no gradient of the input
    assert Plan(Sequential(Flatten(), ReLU()), (2, 4), training=True).backward_steps == []
