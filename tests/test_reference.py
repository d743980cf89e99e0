"""The oracle itself, checked against ONNX Runtime, PyTorch's recorded answers, Random123 and finite differences."""

import numpy as np
import pytest

from nnpar import reference

# x (N, C, H, W), OC, (KH, KW), stride, padding, dilation, groups
CONV_CASES = [
    ((1, 1, 1, 1), 1, (1, 1), 1, 0, 1, 1),
    ((2, 3, 5, 4), 2, (1, 1), 2, 0, 1, 1),
    ((2, 3, 5, 7), 4, (3, 3), 1, 1, 1, 1),
    ((1, 2, 7, 5), 3, (3, 2), (2, 1), (0, 2), 1, 1),
    ((1, 2, 7, 8), 3, (2, 3), (1, 2), 2, (3, 2), 1),
    ((2, 4, 6, 5), 6, (3, 3), 2, 1, 1, 2),
    ((2, 3, 5, 5), 6, (3, 3), 1, 1, 2, 3),
]

# x (N, C, H, W), kernel_size, stride, padding; windows that touch, overlap and leave gaps
POOL_CASES = [
    ((1, 1, 1, 1), 1, None, 0),
    ((2, 3, 6, 5), 2, None, 0),
    ((2, 2, 7, 5), 3, 2, 1),
    ((1, 2, 5, 8), (2, 3), (1, 2), (1, 0)),
    ((1, 1, 8, 7), 2, 3, 1),
]

# One call of every function that takes `out`.
ONES = np.ones((2, 2, 4, 4))
OUT_CASES = [
    ("gemm", (ONES[0, 0], ONES[0, 1]), {}),
    ("linear", (ONES[0, 0], ONES[0, 1]), {}),
    ("conv2d", (ONES, np.ones((3, 2, 3, 3))), {}),
    ("conv2d_input_grad", (ONES, np.ones((2, 3, 2, 2)), (2, 3, 5, 5)), {}),
    ("conv2d_weight_grad", (np.ones((2, 3, 5, 5)), ONES, (2, 3, 2, 2)), {}),
    ("bias_grad", (ONES,), {}),
    ("max_pool2d", (ONES, 2), {}),
    ("max_pool2d_grad", (ONES, np.zeros(ONES.shape, np.uint8), (2, 2, 8, 8), 2), {}),
    ("avg_pool2d", (ONES, 2), {}),
    ("avg_pool2d_grad", (ONES, (2, 2, 8, 8), 2), {}),
    ("upsample2d", (ONES, 2), {}),
    ("upsample2d_grad", (ONES, (2, 2, 2, 1), (2, 4)), {}),
    ("relu", (ONES,), {}),
    ("relu_grad", (ONES, ONES), {}),
    ("dropout", (ONES, 0.5), {"seed": 1}),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pair(value):
    return [value, value] if isinstance(value, int) else list(value)


def run_onnx(operator, *arrays, **attributes):
    """Run one ONNX operator on float32 copies of the arrays."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs = {f"x{i}": a.astype(np.float32) for i, a in enumerate(arrays)}
    value_info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, list(inputs), ["y"], **attributes)],
        operator,
        [value_info(name, onnx.TensorProto.FLOAT, a.shape) for name, a in inputs.items()],
        [value_info("y", onnx.TensorProto.FLOAT, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def numeric_gradient(function, x, dy, step=1e-5):
    """Return the gradient of sum(function(x) * dy) for x, by central differences: the error is of order step^2."""
    dx = np.empty_like(x)
    for i in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[i] = step
        dx[i] = np.sum((function(x + shift) - function(x - shift)) * dy) / (2 * step)
    return dx


def assert_gradient(dx, function, x, dy):
    np.testing.assert_allclose(dx, numeric_gradient(function, x, dy), rtol=1e-7, atol=1e-8)


def spread(rng, shape):
    """Return distinct numbers around 0, far enough apart that no finite difference changes their order or sign."""
    size = np.prod(shape)
    return (rng.permutation(size).reshape(shape) - size / 2 + 0.25) / 10


@pytest.mark.parametrize(("name", "args", "kwargs"), OUT_CASES)
def test_out_is_filled_and_returned(name, args, kwargs):
    function = getattr(reference, name)
    expected = function(*args, **kwargs)
    out = np.full(expected.shape, np.nan)
    assert function(*args, **kwargs, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("name", "target"), [("softmax_cross_entropy", np.array([1, 0])), ("mse", ONES[0, 0])])
def test_losses_fill_and_return_out(name, target):
    x = np.ones((len(target), 4))
    loss, expected = getattr(reference, name)(x, target)
    out = np.full(x.shape, np.nan)
    loss_again, gradient = getattr(reference, name)(x, target, out=out)
    assert gradient is out
    assert loss_again == loss
    np.testing.assert_array_equal(out, expected)


def test_gemm(rng):
    a, b, c = rng.normal(size=(3, 5)), rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    expected = 0.5 * np.einsum("mk,kn->mn", a, b) - 2 * c
    np.testing.assert_allclose(reference.gemm(a, b, alpha=0.5, beta=-2.0, out=c), expected, rtol=1e-12)


def test_linear(rng):
    x, w, bias = rng.normal(size=(3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    np.testing.assert_allclose(reference.linear(x, w, bias), np.einsum("ni,oi->no", x, w) + bias, rtol=1e-12)


@pytest.mark.parametrize(("shape", "oc", "kernel", "stride", "padding", "dilation", "groups"), CONV_CASES)
def test_conv2d(rng, shape, oc, kernel, stride, padding, dilation, groups):
    x, w, bias = rng.normal(size=shape), rng.normal(size=(oc, shape[1] // groups, *kernel)), rng.normal(size=oc)
    y = reference.conv2d(x, w, bias, stride, padding, dilation, groups)
    expected = run_onnx(
        "Conv", x, w, bias, strides=pair(stride), pads=pair(padding) * 2, dilations=pair(dilation), group=groups
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "oc", "kernel", "stride", "padding", "dilation", "groups"), CONV_CASES)
def test_conv2d_gradients(rng, shape, oc, kernel, stride, padding, dilation, groups):
    x, w, bias = rng.normal(size=shape), rng.normal(size=(oc, shape[1] // groups, *kernel)), rng.normal(size=oc)
    how = (stride, padding, dilation, groups)
    dy = rng.normal(size=reference.conv2d(x, w, bias, *how).shape)
    dx = reference.conv2d_input_grad(dy, w, x.shape, *how)
    dw = reference.conv2d_weight_grad(x, dy, w.shape, *how)
    assert_gradient(dx, lambda x: reference.conv2d(x, w, bias, *how), x, dy)
    assert_gradient(dw, lambda w: reference.conv2d(x, w, bias, *how), w, dy)
    assert_gradient(reference.bias_grad(dy), lambda bias: reference.conv2d(x, w, bias, *how), bias, dy)


def test_bias_grad_of_linear(rng):
    x, w, bias, dy = rng.normal(size=(3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4), rng.normal(size=(3, 4))
    assert_gradient(reference.bias_grad(dy), lambda bias: reference.linear(x, w, bias), bias, dy)


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOL_CASES)
def test_max_pool2d(rng, shape, kernel, stride, padding):
    x = rng.normal(size=shape) - 5  # all negative: padding must not win
    strides = pair(kernel if stride is None else stride)
    expected = run_onnx("MaxPool", x, kernel_shape=pair(kernel), strides=strides, pads=pair(padding) * 2)
    np.testing.assert_allclose(reference.max_pool2d(x, kernel, stride, padding), expected, rtol=1e-6)


def test_max_pool2d_takes_the_first_maximum_and_the_last_nan():
    x = np.array([[7, 7, 1, np.nan, -np.inf, -np.inf], [7, 2, np.nan, 9, -np.inf, 3]]).reshape(1, 1, 2, 6)
    y, argmax = reference.max_pool2d(x, 2, return_argmax=True)
    np.testing.assert_array_equal(y.ravel(), [7, np.nan, 3])
    np.testing.assert_array_equal(argmax.ravel(), [0, 2, 3])
    assert argmax.dtype == np.uint8


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOL_CASES)
def test_max_pool2d_grad(rng, shape, kernel, stride, padding):
    x = spread(rng, shape)
    y, argmax = reference.max_pool2d(x, kernel, stride, padding, return_argmax=True)
    dy = rng.normal(size=y.shape)
    dx = reference.max_pool2d_grad(dy, argmax, shape, kernel, stride, padding)
    assert_gradient(dx, lambda x: reference.max_pool2d(x, kernel, stride, padding), x, dy)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOL_CASES)
def test_avg_pool2d(rng, shape, kernel, stride, padding, count_include_pad):
    x = rng.normal(size=shape)
    expected = run_onnx(
        "AveragePool",
        x,
        kernel_shape=pair(kernel),
        strides=pair(kernel if stride is None else stride),
        pads=pair(padding) * 2,
        count_include_pad=int(count_include_pad),
    )
    y = reference.avg_pool2d(x, kernel, stride, padding, count_include_pad)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), POOL_CASES)
def test_avg_pool2d_grad(rng, shape, kernel, stride, padding, count_include_pad):
    how = (kernel, stride, padding, count_include_pad)
    x = rng.normal(size=shape)
    dy = rng.normal(size=reference.avg_pool2d(x, *how).shape)
    assert_gradient(reference.avg_pool2d_grad(dy, shape, *how), lambda x: reference.avg_pool2d(x, *how), x, dy)


def test_relu():
    np.testing.assert_array_equal(reference.relu(np.array([-2.0, 0.0, 3.0, np.nan])), [0, 0, 3, np.nan])


def test_relu_grad(rng):
    x, dy = spread(rng, (3, 4)), rng.normal(size=(3, 4))
    assert_gradient(reference.relu_grad(dy, reference.relu(x)), reference.relu, x, dy)
    np.testing.assert_array_equal(reference.relu_grad(dy, np.zeros((3, 4))), 0)


def test_softmax_cross_entropy(rng):
    logits, labels = rng.normal(size=(3, 5)), np.array([4, 0, 4])
    loss, dlogits = reference.softmax_cross_entropy(logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.mean([np.log(p[0, 4]), np.log(p[1, 0]), np.log(p[2, 4])]), rel=1e-12)
    assert_gradient(dlogits, lambda z: reference.softmax_cross_entropy(z, labels)[0], logits, 1.0)


def test_softmax_cross_entropy_does_not_overflow():
    loss, dlogits = reference.softmax_cross_entropy(np.array([[1000.0, 0.0]]), np.array([1]))
    assert loss == 1000
    np.testing.assert_array_equal(dlogits, [[1, -1]])


def test_mse(rng):
    prediction, target = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    loss, grad = reference.mse(prediction, target)
    assert loss == pytest.approx(np.linalg.norm(prediction - target) ** 2 / 12, rel=1e-12)
    assert_gradient(grad, lambda p: reference.mse(p, target)[0], prediction, 1.0)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox4x32_known_answers(counter, key, expected):
    """The vectors are those of Random123, tests/kat_vectors, philox4x32 with 10 rounds."""
    counter, key, expected = ([int(word, 16) for word in words.split()] for words in (counter, key, expected))
    counters = np.tile(np.array(counter, np.uint32), (2, 3, 1))
    np.testing.assert_array_equal(reference.philox4x32(counters, tuple(key)), np.tile(expected, (2, 3, 1)))


def test_dropout_counts_channels_last():
    # Block 0 of seed 0 is the first known answer. Only its second word is above 0.8 * 2^32: h = 0, w = 0, c = 1.
    y = reference.dropout(np.ones((1, 2, 1, 2)), 0.8, seed=0)
    np.testing.assert_allclose(y, [[[[0, 0]], [[5, 0]]]], rtol=1e-12)


def test_dropout_counter_and_key():
    seed, epoch, sample, layer = 0x0123456789ABCDEF, 5, 2**32 - 1, 9
    y = reference.dropout(np.ones((2, 6)), 0.25, seed=seed, epoch=epoch, sample=sample, layer=layer)
    for n, e in np.ndindex(y.shape):
        counter = np.array([e // 4, (sample + n) % 2**32, epoch, layer], np.uint32)
        kept = reference.philox4x32(counter, (0x89ABCDEF, 0x01234567))[e % 4] >= 2**30
        assert y[n, e] == (1 / 0.75 if kept else 0)


def test_dropout_does_not_depend_on_the_batch(rng):
    x = rng.normal(size=(5, 3, 4, 2))
    whole = reference.dropout(x, 0.5, seed=3, sample=10)
    np.testing.assert_array_equal(reference.dropout(x[2:], 0.5, seed=3, sample=12), whole[2:])


def test_dropout_keeps_the_right_share():
    share = np.mean(reference.dropout(np.ones((100, 1000)), 0.3, seed=1) > 0)
    assert abs(share - 0.7) < 4 * np.sqrt(0.3 * 0.7 / 1e5)  # four standard deviations


def test_dropout_of_nothing_copies(rng):
    x = rng.normal(size=(2, 5))
    y = reference.dropout(x, 0.0, seed=1)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


# Three steps from PARAMETER; the answers are those of torch.optim 2.13 in float64.
PARAMETER = np.array([1.0, -2.0, 0.5])
GRADIENTS = np.array([[0.5, -1.0, 0.25], [-0.25, 0.75, 1.0], [1.0, 0.125, -0.5]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.875, -1.9875, 0.425]),
        ({"weight_decay": 0.1}, [0.846044, -1.929338, 0.411647]),
        ({"momentum": 0.9}, [0.812, -1.884, 0.29225]),
        ({"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, [0.78186956, -1.74561662, 0.31186103]),
        ({"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}, [0.630906146, -1.732409792, 0.204639323]),
    ],
)
def test_sgd(options, expected):
    parameter = PARAMETER.copy()
    momentum_buffer = np.full(3, np.nan) if "momentum" in options else None
    for step, gradient in enumerate(GRADIENTS):
        reference.sgd(parameter, gradient, momentum_buffer, lr=0.1, first_step=step == 0, **options)
    np.testing.assert_allclose(parameter, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.807555139677, -1.890558572541, 0.277952416141]),
        (
            {"beta1": 0.8, "beta2": 0.95, "eps": 0.01, "weight_decay": 0.1},
            [0.787463604317, -1.856483933385, 0.27961243747],
        ),
        ({"weight_decay": 0.1, "decoupled": True}, [0.78011047667, -1.833235897527, 0.265976292539]),
    ],
)
def test_adam(options, expected):
    parameter, exp_avg, exp_avg_sq = PARAMETER.copy(), np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(GRADIENTS, start=1):
        reference.adam(parameter, gradient, exp_avg, exp_avg_sq, lr=0.1, step=step, **options)
    np.testing.assert_allclose(parameter, expected, rtol=1e-10)
