"""Layers on arrays of any rank against NumPy: values exactly, gradients as adjoints, in both memory layouts."""

import cases
import numpy as np
import pytest

import nnpar
from nnpar import (
    Add,
    ChannelShuffle,
    ConstantPad,
    Conv2d,
    Div,
    Graph,
    Input,
    Mean,
    Mul,
    Permute,
    PixelShuffle,
    ReLU,
    Reshape,
    Scale,
    Sequential,
    Shift,
    Slice,
    Sub,
    Sum,
    ZeroPad2d,
)
from nnpar.plan import Plan


def pixel_shuffle(x, r=2):
    n, c, h, w = x.shape
    return x.reshape(n, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // r**2, h * r, w * r)


LINEAR = {  # layer, shape, function
    "reshape": (Reshape((0, -1, 2)), (3, 4, 5, 2), lambda x: x.reshape(3, 20, 2)),
    "reshape of the batch": (Reshape((-1, 5)), (3, 4, 5), lambda x: x.reshape(12, 5)),
    "to images": (Reshape((0, 3, 2, 2)), (2, 12), lambda x: x.reshape(2, 3, 2, 2)),
    "permute": (Permute((0, 2, 3, 1)), (2, 3, 4, 5), lambda x: x.transpose(0, 2, 3, 1)),
    "permute of the batch": (Permute((1, 0)), (2, 3), lambda x: x.T),
    "permute of five axes": (Permute((0, 3, 1, 4, 2)), (2, 3, 4, 5, 2), lambda x: x.transpose(0, 3, 1, 4, 2)),
    "slice": (Slice(1, 1, -1), (2, 5, 3, 4), lambda x: x[:, 1:-1]),
    "slice of rows": (Slice(-1, None, None, -2), (2, 5, 3, 4), lambda x: x[..., ::-2]),
    "slice of nothing": (Slice(0, 2, 1), (3, 4), lambda x: x[2:1]),
    "pad": (
        ConstantPad((0, 1, 0, 2), (1, 0, 3, 0)), (2, 3, 4, 5), lambda x: np.pad(x, ((0, 1), (1, 0), (0, 3), (2, 0))),
    ),
    "pad and cut": (ConstantPad((0, -1), (0, 2)), (2, 5), lambda x: np.pad(x, ((0, 0), (0, 2)))[:, 1:]),
    "zeros around images": (
        ZeroPad2d((1, 0, 2, 3)), (2, 3, 4, 5), lambda x: np.pad(x, ((0, 0), (0, 0), (2, 3), (1, 0))),
    ),
    "channel shuffle": (
        ChannelShuffle(3),
        (2, 6, 3, 2),
        lambda x: x.reshape(2, 3, 2, 3, 2).transpose(0, 2, 1, 3, 4).reshape(2, 6, 3, 2),
    ),
    "pixel shuffle": (PixelShuffle(2), (2, 12, 3, 2), pixel_shuffle),
    "mean": (Mean((1, 3)), (2, 4, 3, 4), lambda x: x.mean(axis=(1, 3))),
    "mean of the batch": (Mean((0,), True), (4, 3), lambda x: x.mean(axis=0, keepdims=True)),
    "sum": (Sum((-1, -2), True), (2, 3, 4, 5), lambda x: x.sum(axis=(2, 3), keepdims=True)),
    "sum of all": (Sum((0, 1, 2)), (2, 3, 4), lambda x: x.sum()),
    "sum of nothing": (Sum((1,)), (2, 0, 3), lambda x: x.sum(axis=1)),
    "sum of nothing, axes apart": (Sum((0, 2)), (2, 3, 0), lambda x: x.sum(axis=(0, 2))),
    "sum of long columns": (Sum((0,)), (20000, 7), lambda x: x.sum(axis=0)),
    "sum of long rows": (Sum((1,)), (3, 50000), lambda x: x.sum(axis=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("behind", [False, True])
def test_linear_layers(name, behind):
    """Alone, and behind a layer of the channels-last layout."""
    layer, shape, function = LINEAR[name]
    if behind and len(shape) != 4:
        pytest.skip("images only")
    model = Sequential(ReLU(), layer) if not behind else Sequential(nnpar.AvgPool2d(1), layer)
    rng = np.random.default_rng(0)
    x = cases.integers(rng, shape, 0 if not behind else -3)
    expected = function(x.astype(np.float64))
    dy = cases.integers(rng, expected.shape)
    plan = Plan(model, shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    assert plan.y.shape == expected.shape
    np.testing.assert_array_equal(plan.y, expected)
    plan.dy[...] = dy
    plan.run_backward()
    # <dy, f(u)> = <f'(dy), u> for each u, since f is linear.
    for seed in range(3):
        u = cases.integers(np.random.default_rng(seed), shape)
        mask = np.ones(shape) if behind else x > 0
        assert np.sum(dy * function(u * mask)) == pytest.approx(np.sum(plan.dx.astype(np.float64) * u), abs=1e-3)


PAIRS = [
    ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3, 4, 5), (2, 3, 1, 1)), ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 1, 5), (2, 4, 1)), ((2, 3, 4, 5), (5,)), ((3,), (2, 2, 3)), ((70, 33, 2, 2), (70, 33, 1, 1)),
    ((4, 5000), (5000,)),
]  # fmt: skip
FUNCTIONS = {Add: np.add, Sub: np.subtract, Mul: np.multiply, Div: np.divide}


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_pairs(kind, shapes, turned):
    shapes = shapes[::-1] if turned else shapes
    rng = np.random.default_rng(0)
    a, b = (rng.choice([-2.0, -1.0, 1.0, 2.0, 4.0], shape).astype(np.float32) for shape in shapes)
    expected = FUNCTIONS[kind](a, b)
    plan = Plan(kind(), shapes, training=True, needs_dx=True)
    for x, value in zip(plan.inputs, (a, b), strict=True):
        x[...] = value
    plan.run_forward()
    np.testing.assert_array_equal(plan.y, expected)
    np.testing.assert_array_equal(kind()(a, b), expected)
    dy = cases.integers(rng, expected.shape)
    plan.dy[...] = dy
    plan.run_backward()
    slopes = {
        Add: (dy, dy), Sub: (dy, -dy), Mul: (dy * b, dy * a), Div: (dy / b, -dy * a / (b * b)),
    }[kind]  # fmt: skip
    for got, slope, x in zip(plan.input_gradients, slopes, (a, b), strict=True):
        more = slope.ndim - x.ndim
        axes = tuple(i for i in range(slope.ndim) if i < more or (x.shape[i - more] == 1 and slope.shape[i] > 1))
        np.testing.assert_array_equal(got, slope.sum(axis=axes).reshape(x.shape))


@pytest.mark.parametrize("shape", [(3, 1, 1), (5,), (4, 5), (1,)])
def test_scale_and_shift(shape):
    rng = np.random.default_rng(0)
    x, w, dy = cases.integers(rng, (2, 3, 4, 5)), cases.integers(rng, shape), cases.integers(rng, (2, 3, 4, 5))
    for layer, value, slope, dx in ((Scale(shape), x * w, dy * x, dy * w), (Shift(shape), x + w, dy, dy)):
        layer.weight = w
        plan = Plan(layer, x.shape, training=True, needs_dx=True)
        plan.x[...] = x
        plan.run_forward()
        np.testing.assert_array_equal(plan.y, value)
        plan.dy[...] = dy
        plan.run_backward()
        np.testing.assert_array_equal(plan.dx, dx)
        padded = (1,) * (4 - len(shape)) + shape
        axes = tuple(i for i in range(4) if padded[i] == 1)
        np.testing.assert_array_equal(plan.gradients["weight"], slope.sum(axis=axes).reshape(shape))


def test_squeeze_and_excitation_learns():
    x = Input((4, 6, 6))
    y = ReLU()(Conv2d(4, 8, 3, padding=1)(x))
    gate = nnpar.Sigmoid()(Conv2d(2, 8, 1)(ReLU()(Conv2d(8, 2, 1)(nnpar.GlobalAvgPool2d()(y)))))
    model = Graph(x, nnpar.Linear(8, 2)(Mean((2, 3))(Mul()(y, gate))))
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((64, 4, 6, 6)).astype(np.float32), rng.integers(0, 2, 64)
    images += labels[:, None, None, None]
    trainer = nnpar.Trainer(model, optimizer=nnpar.Adam(0.01))
    losses = [trainer.train_step(images, labels) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    hashes = set()
    for threads in (1, 2, 3, 8):
        with nnpar.num_threads(threads):
            plan = Plan(model, images.shape, training=True, needs_dx=True)
            plan.x[...] = images
            plan.run_forward()
            plan.dy[...] = 1
            plan.run_backward()
            hashes.add(b"".join(g.tobytes() for g in plan.gradients.values()))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Add()(np.ones((2, 3)), np.ones((2, 4))),
            ValueError,
            r"Add: expected inputs whose shapes broadcast, got \(2, 3\)",
        ),
        (lambda: Mul()(np.ones((2, 3))), ValueError, "Mul: expected two inputs, got 1"),
        (lambda: Scale((4,))(np.ones((2, 3))), ValueError, "Scale: expected inputs whose shapes broadcast"),
        (lambda: Shift((2, 3))(np.ones((1, 3))), ValueError, r"Shift: input: expected a shape that \(2, 3\) fits"),
        (lambda: Reshape((-1, -1)), ValueError, "Reshape: shape: expected one -1 at most"),
        (
            lambda: Reshape((0, 4))(np.ones((2, 3))),
            ValueError,
            r"Reshape: input: expected as many numbers as \(0, 4\) has",
        ),
        (lambda: Reshape((2, 3, 0))(np.ones((2, 3))), ValueError, "expected an axis for each 0"),
        (lambda: Reshape(3), TypeError, "Reshape: shape: expected a sequence of ints"),
        (lambda: Permute((0, 0)), ValueError, "Permute: dims: expected each axis once"),
        (lambda: Permute((0, 1))(np.ones((2, 3, 4))), ValueError, "Permute: input: expected 2 axes, got shape"),
        (lambda: Slice(1, step=0), ValueError, "Slice: step: expected another number than 0"),
        (lambda: Slice(2)(np.ones((2, 3))), ValueError, "Slice: dim: expected an axis of 2, got 2"),
        (lambda: ConstantPad((0, 1), (0,)), ValueError, "ConstantPad: after: expected 2 sizes"),
        (lambda: ConstantPad((0, -4), (0, 0))(np.ones((2, 3))), ValueError, "expected at least what"),
        (lambda: ConstantPad((0, 2**61), (0, 0))(np.ones((2, 3))), ValueError, "too large|less than"),
        (lambda: ZeroPad2d((1, 2)), ValueError, r"ZeroPad2d: padding: expected an int or \(left, right, top, bottom\)"),
        (
            lambda: ChannelShuffle(2)(np.ones((1, 3, 2, 2))),
            ValueError,
            "groups: expected a divisor of 3 channels, got 2",
        ),
        (lambda: PixelShuffle(2)(np.ones((1, 6, 2, 2))), ValueError, "expected a multiple of 4 channels, got 6"),
        (lambda: Mean((2,))(np.ones((2, 3))), ValueError, "Mean: dim: expected an axis of 2, got 2"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
