"""ops.gemm and ops.linear against NumPy in float64 and against ONNX Runtime."""

import itertools

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpar import ops, reference
from nnpar._kernels.gemm import gemm_step

SMALL = cases.small(cases.GEMM_CASES)
# Cases for what does not depend on every size: tails, several blocks of each axis, both orientations.
FEW = [
    case for case in SMALL if case.name in ("gemm-7x65x17", "gemm-97x129x1031", "gemm-7x300x1100", "gemm-300x7x1100")
]

# Views of an operand of shape (rows, cols) with all kinds of strides, by the shape of the array they are cut from.
LAYOUTS = {
    "contiguous": lambda draw, rows, cols: draw((rows, cols)),
    "transposed": lambda draw, rows, cols: draw((cols, rows)).T,
    "padded-rows": lambda draw, rows, cols: draw((rows, cols + 3))[:, 1 : cols + 1],
    "padded-transposed": lambda draw, rows, cols: draw((cols, rows + 2))[:, :rows].T,
    "reversed": lambda draw, rows, cols: draw((rows, cols))[::-1, ::-1],
    "reversed-columns": lambda draw, rows, cols: draw((rows, cols))[:, ::-1],
    "reversed-transposed": lambda draw, rows, cols: draw((cols, rows))[::-1].T,
    "steps": lambda draw, rows, cols: draw((2 * rows, 3 * cols))[::2, ::3],
    "steps-transposed": lambda draw, rows, cols: draw((3 * cols, 2 * rows))[::-3, ::2].T,
    "one-row": lambda draw, rows, cols: np.broadcast_to(draw((cols,)), (rows, cols)),
    "one-column": lambda draw, rows, cols: np.broadcast_to(draw((rows, 1)), (rows, cols)),
    "one-number": lambda draw, rows, cols: np.broadcast_to(draw(()), (rows, cols)),
}


def operands(case, left="contiguous", right="contiguous", seed=0):
    rng = np.random.default_rng(seed)

    def draw(shape):
        return cases.integers(rng, shape)

    return LAYOUTS[left](draw, case.m, case.k), LAYOUTS[right](draw, case.k, case.n)


def nans(*shape):
    return np.full(shape, np.nan, np.float32)


def doubles(*arrays):
    return [None if array is None else array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("case", SMALL, ids=cases.name_of)
def test_gemm(case):
    a, b = case.arrays()
    out = nans(case.m, case.n)
    assert ops.gemm(a, b, out=out) is out
    cases.assert_equal(out, reference.gemm(*doubles(a, b)))


@pytest.mark.parametrize("case", [case for case in SMALL if case.k > 17], ids=cases.name_of)
def test_gemm_is_as_exact_as_float32_allows(case):
    a, b = case.arrays(draw=cases.normals)
    expected, magnitude = reference.gemm(*doubles(a, b)), reference.gemm(*doubles(abs(a), abs(b)))
    cases.assert_within(ops.gemm(a, b), expected, case.k, magnitude)
    cases.assert_within(ops.gemm(b.T, a.T), expected.T, case.k, magnitude.T)


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize("left", LAYOUTS)
def test_gemm_takes_any_strides(case, left):
    rights = LAYOUTS if case is FEW[0] else [left, "contiguous", "transposed"]
    for right in rights:
        a, b = operands(case, left, right)
        cases.assert_equal(ops.gemm(a, b), reference.gemm(*doubles(a, b)))


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("beta", [0.0, 1.0, -2.0])
def test_gemm_alpha_beta(case, alpha, beta):
    for layout in ("contiguous", "transposed", "steps"):
        a, b = operands(case, layout, layout)
        out = cases.integers(np.random.default_rng(1), (case.m, case.n))
        expected = reference.gemm(*doubles(a, b), alpha=alpha, beta=beta, out=out.astype(np.float64))
        assert ops.gemm(a, b, alpha=alpha, beta=beta, out=out) is out
        cases.assert_equal(out, expected)


def test_gemm_rounds_alpha_and_beta_once():
    case, alpha, beta = FEW[0], float(np.float32(0.3)), float(np.float32(-1.7))
    a, b = case.arrays(draw=cases.normals)
    old = cases.normals(np.random.default_rng(1), (case.m, case.n))
    expected = reference.gemm(*doubles(a, b), alpha=alpha, beta=beta, out=old.astype(np.float64))
    magnitude = reference.gemm(*doubles(abs(a), abs(b)), alpha=alpha, beta=-beta, out=abs(old).astype(np.float64))
    cases.assert_within(ops.gemm(a, b, alpha=alpha, beta=beta, out=old), expected, case.k + 2, magnitude)


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("view", ["padded-rows", "padded-transposed", "reversed", "steps"])
def test_gemm_leaves_what_surrounds_out(case, beta, view):
    """The old values of out are NaN where they must not be read."""
    a, b = case.arrays()
    whole = []

    def draw(shape):
        whole.append(np.full(shape, 7, np.float32))
        return whole[0]

    out = LAYOUTS[view](draw, case.m, case.n)
    out[...] = np.nan if beta == 0 else 3
    expected = whole[0].copy()
    LAYOUTS[view](lambda shape: expected, case.m, case.n)[...] = reference.gemm(*doubles(a, b)) + 3 * beta
    assert ops.gemm(a, b, beta=beta, out=out) is out
    cases.assert_equal(whole[0], expected)


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_gemm_step_writes_into_padded_rows(case, beta, layout):
    """Steps of a plan write parts of larger arrays in place; ops would copy."""
    a, b = operands(case, layout, layout)
    whole = np.full((case.m + 2, case.n + 5), 7, np.float32)
    out = whole[1:-1, 2:-3]
    out[...] = np.nan if beta == 0 else 3
    expected = whole.copy()
    expected[1:-1, 2:-3] = reference.gemm(*doubles(a, b)) + 3 * beta
    step = gemm_step(a, b, out, None, False, 1.0, beta)
    step()
    cases.assert_equal(whole, expected)
    if beta == 0:
        step()  # a step runs again
        cases.assert_equal(whole, expected)


def test_gemm_step_refuses_what_it_cannot_do():
    a = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="contiguous rows"):
        gemm_step(a, a, np.ones((2, 4), np.float32)[:, ::2])
    with pytest.raises(ValueError, match="bias needs beta = 0"):
        gemm_step(a, a, np.ones((2, 2), np.float32), a[0], False, 1.0, 1.0)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (0, 3, 0)])
def test_gemm_of_empty_matrices(m, n, k):
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    cases.assert_equal(ops.gemm(a, b), np.zeros((m, n)))
    cases.assert_equal(ops.gemm(a, b, out=nans(m, n)), np.zeros((m, n)))
    cases.assert_equal(ops.gemm(a, b, beta=2.0, out=np.full((m, n), 3, np.float32)), np.full((m, n), 6))


sizes = st.one_of(st.integers(0, 20), st.sampled_from([63, 64, 65, 97]))
layouts = st.sampled_from(sorted(LAYOUTS))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes, sizes, sizes, layouts, layouts, st.sampled_from([1.0, 0.5, -2.0]), st.sampled_from([0.0, 1.0, -0.5]))
def test_gemm_of_any_shape(m, n, k, left, right, alpha, beta):
    a, b = operands(cases.GemmCase("any", m, n, k), left, right)
    out = cases.integers(np.random.default_rng(1), (m, n))
    expected = reference.gemm(*doubles(a, b), alpha=alpha, beta=beta, out=out.astype(np.float64))
    cases.assert_equal(ops.gemm(a, b, alpha=alpha, beta=beta, out=out), expected)


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize(("trans_a", "trans_b"), [*itertools.product([0, 1], repeat=2)])
def test_gemm_against_onnx(case, trans_a, trans_b):
    a, b = operands(case, *("transposed" if flag else "contiguous" for flag in (trans_a, trans_b)))
    c = cases.integers(np.random.default_rng(1), (case.m, case.n))
    stored = a.T if trans_a else a, b.T if trans_b else b
    (expected,) = cases.run_onnx("Gemm", *stored, c, transA=trans_a, transB=trans_b, alpha=0.5, beta=-2.0)
    cases.assert_equal(ops.gemm(a, b, alpha=0.5, beta=-2.0, out=c), expected)


@pytest.mark.parametrize("case", SMALL, ids=cases.name_of)
def test_linear(case):
    x, w = case.arrays()
    w = np.ascontiguousarray(w.T)
    for bias in (None, cases.integers(np.random.default_rng(1), (case.n,))):
        out = nans(case.m, case.n)
        assert ops.linear(x, w, bias, out=out) is out
        cases.assert_equal(out, reference.linear(*doubles(x, w, bias)))


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
@pytest.mark.parametrize(
    ("left", "right"), [("contiguous", "transposed"), ("transposed", "reversed"), ("steps", "steps")]
)
def test_linear_takes_any_strides(case, left, right):
    x, b = operands(case, left, right)
    bias = cases.integers(np.random.default_rng(1), (2 * case.n,))[::-2]
    cases.assert_equal(ops.linear(x, b.T, bias), reference.linear(*doubles(x, b.T, bias)))


@pytest.mark.parametrize("case", FEW, ids=cases.name_of)
def test_linear_against_onnx(case):
    x, w = case.arrays()
    bias = cases.integers(np.random.default_rng(1), (case.n,))
    (expected,) = cases.run_onnx("Gemm", x, w.T, bias, transB=1)
    cases.assert_equal(ops.linear(x, w.T, bias), expected)


def test_linear_without_inputs_is_the_bias():
    x, w = np.ones((3, 0), np.float32), np.ones((2, 0), np.float32)
    cases.assert_equal(ops.linear(x, w, [1.0, 2.0]), [[1, 2]] * 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("turned", [False, True])
def test_gemm_propagates_nan(value, turned):
    """0 * NaN is NaN: no zero is skipped."""
    a, b = np.zeros((7, 300), np.float32), np.ones((300, 65), np.float32)
    b[299, 64] = value
    y = ops.gemm(b.T, a.T).T if turned else ops.gemm(a, b)
    assert np.isnan(y[:, 64]).all()
    cases.assert_equal(y[:, :64], np.zeros((7, 64)))
