"""ops.conv2d and its gradients against NumPy in float64 and against ONNX Runtime, by the algorithms that only multiply
and add: small integers have to come out equal. Winograd's has its own file."""

import math

import cases
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nnpar
from nnpar import ops, reference, shapes
from nnpar.convolution import fits

SMALL = cases.small(cases.CONV2D_CASES)
every_case = pytest.mark.parametrize("case", SMALL, ids=cases.name_of)


@pytest.fixture(autouse=True, scope="module")
def exact():
    nnpar.set_precision("exact")
    yield
    nnpar.set_precision("fast")


def nans(shape):
    """Channels-last, so that the kernels write into it, and every element has to be written."""
    return cases.channels_last(np.full(shape, np.nan, np.float32))


def doubles(*arrays):
    return [array.astype(np.float64) for array in arrays]


def assert_reference(case):
    """All three passes, on small integers, are equal to the reference."""
    x, w, bias, dy = case.arrays()
    x64, w64, bias64, dy64 = doubles(x, w, bias, dy)
    y, dx, dw = nans(case.y_shape), nans(case.x_shape), np.full(case.w_shape, np.nan, np.float32)
    assert ops.conv2d(x, w, bias, *case.window, out=y) is y
    cases.assert_equal(y, reference.conv2d(x64, w64, bias64, *case.window))
    assert ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, out=dx) is dx
    cases.assert_equal(dx, reference.conv2d_input_grad(dy64, w64, case.x_shape, *case.window))
    assert ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, out=dw) is dw
    cases.assert_equal(dw, reference.conv2d_weight_grad(x64, dy64, case.w_shape, *case.window))


@every_case
def test_conv2d_and_gradients(case):
    assert_reference(case)


@every_case
def test_input_grad_by_every_algorithm_that_fits(case):
    """Not only by the one that is chosen; also where several threads share an image."""
    _, w, _, dy = case.arrays()
    expected = reference.conv2d_input_grad(*doubles(dy, w), case.x_shape, *case.window)
    shape = shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
    for algorithm in ("indirect", "depthwise", "planar", "scatter"):
        if fits(algorithm, shape, "input_grad"):
            for threads in (1, 3):
                dx = nans(case.x_shape)
                with nnpar.num_threads(threads):
                    ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm=algorithm, out=dx)
                cases.assert_equal(dx, expected)


def assert_framed(case):
    """Forward and weight gradient, framed and not, on small integers, are equal to the reference."""
    x, w, bias, dy = case.arrays()
    x64, w64, bias64, dy64 = doubles(x, w, bias, dy)
    expected = reference.conv2d(x64, w64, bias64, *case.window)
    expected_dw = reference.conv2d_weight_grad(x64, dy64, case.w_shape, *case.window)
    for algorithm in ("framed", "indirect"):
        y, dw = nans(case.y_shape), np.full(case.w_shape, np.nan, np.float32)
        ops.conv2d(x, w, bias, *case.window, out=y, algorithm=algorithm)
        cases.assert_equal(y, expected)
        ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, out=dw, algorithm=algorithm)
        cases.assert_equal(dw, expected_dw)


@pytest.mark.parametrize("case", [case for case in SMALL if case.kernel == (1, 1)], ids=cases.name_of)
def test_weight_gradient_of_1x1_as_one_product(case):
    x, _, _, dy = case.arrays()
    shape = shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
    dw = np.full(case.w_shape, np.nan, np.float32)
    if fits("gemm", shape, "weight_grad"):
        ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, out=dw, algorithm="gemm")
        cases.assert_equal(dw, reference.conv2d_weight_grad(*doubles(x, dy), case.w_shape, *case.window))
    else:
        with pytest.raises(ValueError, match="gemm"):
            ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, out=dw, algorithm="gemm")


FRAMED = [case for case in SMALL if case.groups == case.dilation[1] == 1]


@pytest.mark.parametrize("case", FRAMED, ids=cases.name_of)
def test_framed(case):
    assert_framed(case)


@pytest.mark.parametrize("case", FRAMED, ids=cases.name_of)
def test_framed_is_as_exact_as_float32_allows(case):
    x, w, bias, dy = doubles(*case.arrays(draw=cases.normals))
    singles = [array.astype(np.float32) for array in (x, w, bias, dy)]
    cases.assert_within(
        ops.conv2d(*singles[:3], *case.window, algorithm="framed"),
        reference.conv2d(x, w, bias, *case.window),
        math.prod(case.w_shape[1:]) + 1,
        reference.conv2d(abs(x), abs(w), abs(bias), *case.window),
    )
    cases.assert_within(
        ops.conv2d_weight_grad(singles[0], singles[3], case.w_shape, *case.window, algorithm="framed"),
        reference.conv2d_weight_grad(x, dy, case.w_shape, *case.window),
        math.prod(case.y_shape) // case.oc,
        reference.conv2d_weight_grad(abs(x), abs(dy), case.w_shape, *case.window),
    )


def test_framed_past_the_caches():
    """Large outputs are written otherwise; without a bias, and to an address that divides no vector."""
    case = cases.Conv2dCase("stream", 1, 1, 401, 353, 67, (3, 2), padding=(1, 1))
    x, w, _, _ = case.arrays()
    expected = ops.conv2d(x, w, None, *case.window, algorithm="indirect")
    assert expected.nbytes >= 32 << 20
    cases.assert_equal(ops.conv2d(x, w, None, *case.window, algorithm="framed"), expected)
    memory = np.full(expected.size + 2, np.nan, np.float32)
    y = memory[1:-1].reshape(1, *expected.shape[2:], case.oc).transpose(0, 3, 1, 2)
    assert ops.conv2d(x, w, None, *case.window, out=y, algorithm="framed") is y
    cases.assert_equal(y, expected)
    assert np.isnan(memory[[0, -1]]).all()


@st.composite
def any_case(draw):
    groups = draw(st.integers(1, 3))
    kernel, stride, padding, dilation = (
        draw(st.tuples(st.integers(low, high), st.integers(low, high)))
        for low, high in [(1, 4), (1, 4), (0, 4), (1, 3)]
    )
    spans = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    h, w = (span + draw(st.integers(0, 9)) for span in spans)
    channels = st.sampled_from([1, 2, 3, 7, 8, 9, 12, 17])
    c, oc = draw(channels), draw(st.one_of(channels, st.sampled_from([33, 65])))
    n = draw(st.integers(1, 3))
    return cases.Conv2dCase("any", n, groups * c, h, w, groups * oc, kernel, stride, padding, dilation, groups)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(any_case())
def test_conv2d_of_any_shape(case):
    assume(case.flops <= 2e6)
    assert_reference(case)
    if case.groups == case.dilation[1] == 1:
        assert_framed(case)


@every_case
def test_conv2d_is_as_exact_as_float32_allows(case):
    x, w, bias, dy = doubles(*case.arrays(draw=cases.normals))
    singles = [array.astype(np.float32) for array in (x, w, bias, dy)]
    depth = math.prod(case.w_shape[1:])
    cases.assert_within(
        ops.conv2d(*singles[:3], *case.window),
        reference.conv2d(x, w, bias, *case.window),
        depth + 1,
        reference.conv2d(abs(x), abs(w), abs(bias), *case.window),
    )
    cases.assert_within(
        ops.conv2d_input_grad(singles[3], singles[1], case.x_shape, *case.window),
        reference.conv2d_input_grad(dy, w, case.x_shape, *case.window),
        depth // case.w_shape[1] * case.oc // case.groups,
        reference.conv2d_input_grad(abs(dy), abs(w), case.x_shape, *case.window),
    )
    cases.assert_within(
        ops.conv2d_weight_grad(singles[0], singles[3], case.w_shape, *case.window),
        reference.conv2d_weight_grad(x, dy, case.w_shape, *case.window),
        math.prod(case.y_shape) // case.oc,
        reference.conv2d_weight_grad(abs(x), abs(dy), case.w_shape, *case.window),
    )


@pytest.mark.parametrize("name", ["bands-stride", "steps", "steps-stride", "steps-of-one-row"])
def test_threads_do_not_change_a_bit_of_planes(name):
    case = next(case for case in SMALL if case.name == name)
    _, w, _, dy = case.arrays(draw=cases.normals)
    results = []
    for threads in (1, 2, 3, 4, 8):
        with nnpar.num_threads(threads):
            results.append(ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm="planar"))
    for other in results[1:]:
        cases.assert_equal(other, results[0])


@pytest.mark.parametrize("name", ["scatter-bands", "scatter-images"])
def test_threads_do_not_change_a_bit_of_columns(name):
    case = next(case for case in SMALL if case.name == name)
    _, w, _, dy = case.arrays(draw=cases.normals)
    results = []
    for threads in (1, 2, 3, 4, 8):
        with nnpar.num_threads(threads):
            results.append(ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm="scatter"))
    for other in results[1:]:
        cases.assert_equal(other, results[0])


@every_case
def test_conv2d_against_onnx(case):
    x, w, bias, _ = case.arrays()
    (expected,) = cases.run_onnx(
        "Conv", x, w, bias, strides=case.stride, pads=case.padding * 2, dilations=case.dilation, group=case.groups
    )
    cases.assert_equal(ops.conv2d(x, w, bias, *case.window), expected)


@every_case
def test_conv2d_input_grad_against_onnx(case):
    """The gradient is the transposed convolution; rows and columns that no window reached are padding of its result."""
    _, w, _, dy = case.arrays()
    sizes = zip((case.h, case.w), case.kernel, *case.window[:3], case.y_shape[2:], strict=True)
    left_over = [size + 2 * pad - d * (k - 1) - 1 - (out - 1) * step for size, k, step, pad, d, out in sizes]
    (expected,) = cases.run_onnx(
        "ConvTranspose",
        dy,
        w,
        strides=case.stride,
        pads=case.padding * 2,
        dilations=case.dilation,
        group=case.groups,
        output_padding=left_over,
    )
    cases.assert_equal(ops.conv2d_input_grad(dy, w, case.x_shape, *case.window), expected)


@every_case
def test_conv2d_weight_grad_against_onnx(case):
    """dw is x convolved with dy, the batch in the place of the channels, stride and dilation exchanged."""
    x, _, _, dy = case.arrays()
    expected = []
    for group in range(case.groups):
        _, c, kh, kw = case.w_shape
        oc = case.oc // case.groups
        (part,) = cases.run_onnx(
            "Conv",
            x[:, group * c : (group + 1) * c].swapaxes(0, 1),
            dy[:, group * oc : (group + 1) * oc].swapaxes(0, 1),
            strides=case.dilation,
            pads=case.padding * 2,
            dilations=case.stride,
        )
        expected.append(part[:, :, :kh, :kw].swapaxes(0, 1))
    cases.assert_equal(ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window), np.concatenate(expected))


FEW = [
    case
    for case in SMALL
    if case.name in ("1x1", "c-3", "groups-2", "dilation-stride", "depthwise-stride", "depthwise-c-17")
]
few_cases = pytest.mark.parametrize("case", FEW, ids=cases.name_of)


@few_cases
def test_conv2d_without_bias(case):
    x, w, _, _ = case.arrays()
    cases.assert_equal(ops.conv2d(x, w, None, *case.window), reference.conv2d(*doubles(x, w), None, *case.window))


@few_cases
def test_conv2d_takes_any_strides(case):
    x, w, bias, dy = case.arrays()
    y, dx = ops.conv2d(x, w, bias, *case.window), ops.conv2d_input_grad(dy, w, case.x_shape, *case.window)
    dw = ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window)

    def views(array):
        yield np.ascontiguousarray(array)
        yield np.ascontiguousarray(array[..., ::-1])[..., ::-1]
        yield np.repeat(array, 2, axis=1)[:, ::2]
        yield np.ascontiguousarray(array.swapaxes(0, 2)).swapaxes(0, 2)

    for x2, w2, dy2 in zip(views(x), views(w), views(dy), strict=True):
        cases.assert_equal(ops.conv2d(x2, w2, np.repeat(bias, 2)[::2], *case.window), y)
        cases.assert_equal(ops.conv2d_input_grad(dy2, w2, case.x_shape, *case.window), dx)
        cases.assert_equal(ops.conv2d_weight_grad(x2, dy2, case.w_shape, *case.window), dw)


@few_cases
def test_conv2d_out_of_any_strides(case):
    """An `out` that the kernels cannot write is filled all the same, and nothing around it."""
    x, w, bias, dy = case.arrays()
    calls = [
        (case.y_shape, lambda **out: ops.conv2d(x, w, bias, *case.window, **out)),
        (case.x_shape, lambda **out: ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, **out)),
        (case.w_shape, lambda **out: ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, **out)),
    ]
    for shape, call in calls:
        whole = np.full((shape[0], shape[1] + 2, *shape[2:]), 7, np.float32)
        out = whole[:, 1:-1]
        out[...] = np.nan
        assert call(out=out) is out
        cases.assert_equal(out, call())
        assert (whole[:, [0, -1]] == 7).all()


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (3, 2)])
def test_depthwise_bits_do_not_depend_on_the_place(kernel):
    """In a part of the image, pixels fall on other places of other tiles; each is the same chain of multiply-adds."""
    case = cases.Conv2dCase("any", 2, 20, 17, 29, 20, kernel, groups=20)
    x, w, bias, dy = case.arrays(draw=cases.normals)
    y = ops.conv2d(x, w, bias, groups=20)
    cases.assert_equal(ops.conv2d(x[:, :, 1:, 1:], w, bias, groups=20), y[:, :, 1:, 1:])
    cases.assert_equal(ops.conv2d(x[:, :, :-1, :-3], w, bias, groups=20), y[:, :, :-1, :-3])
    cases.assert_equal(ops.conv2d(x[..., : kernel[1] + 2], w, bias, groups=20), y[..., :3])  # too narrow for blocks
    padding = (kernel[0] - 1, kernel[1] - 1)
    turned = ops.conv2d(dy, w[:, :, ::-1, ::-1], padding=padding, groups=20)
    cases.assert_equal(ops.conv2d_input_grad(dy, w, x.shape, groups=20), turned)


def test_conv2d_returns_channels_last_memory():
    x, w, _, dy = FEW[0].arrays()
    for images in (ops.conv2d(x, w), ops.conv2d_input_grad(dy, w, x.shape)):
        assert images.transpose(0, 2, 3, 1).flags.c_contiguous
    assert ops.conv2d_weight_grad(x, dy, w.shape).flags.c_contiguous


def test_conv2d_window_as_ints():
    x, w = np.ones((1, 2, 7, 7), np.float32), np.ones((2, 1, 3, 3), np.float32)
    expected = ops.conv2d(x, w, None, (2, 2), (1, 1), (2, 2), 2)
    cases.assert_equal(ops.conv2d(x, w, stride=2, padding=1, dilation=2, groups=2), expected)
    cases.assert_equal(
        ops.conv2d(x, w, stride=[2, 2], padding=np.array([1, 1]), dilation=2, groups=np.int8(2)), expected
    )
