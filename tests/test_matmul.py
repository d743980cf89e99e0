"""Batches of products against NumPy in float64; maxima, comparisons and choices against NumPy."""

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnpar
from nnpar import Equal, Less, LessOrEqual, MatMul, Max, Maximum, Minimum, Where
from nnpar._kernels.gemm import BatchedGemm
from nnpar.plan import Plan

SIZES = [1, 2, 5, 6, 7, 13, 16, 17, 33, 64, 65, 130]


def product(a, b):
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.full((*shape, a.shape[-2], b.shape[-1]), np.nan, np.float32)
    BatchedGemm(np.broadcast_to(a, (*shape, *a.shape[-2:])), np.broadcast_to(b, (*shape, *b.shape[-2:])), c)()
    return c


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_batches_of_products(size, turned):
    rng = np.random.default_rng(0)
    for m, n, k in [(size, 5, 3), (5, size, 3), (3, 5, size), (size, size, 7)]:
        a, b = cases.integers(rng, (3, 2, m, k)), cases.integers(rng, (3, 2, k, n))
        expected = a.astype(np.float64) @ b
        left = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if turned[0] else a
        right = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2) if turned[1] else b
        cases.assert_equal(product(left, right), expected)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((2, 3, 4, 5), (5, 6)), ((4, 5), (3, 5, 6)), ((2, 1, 4, 5), (3, 5, 6)), ((0, 4, 5), (0, 5, 6)),
     ((2, 4, 0), (2, 0, 3)), ((2, 0, 3), (2, 3, 4)), ((3, 4), (4, 5))],
)  # fmt: skip
def test_other_axes_broadcast(a_shape, b_shape):
    rng = np.random.default_rng(0)
    a, b = cases.integers(rng, a_shape), cases.integers(rng, b_shape)
    cases.assert_equal(MatMul()(a, b), np.matmul(a.astype(np.float64), b))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 5))
def test_products_are_as_exact_as_float32_allows(sizes, batch):
    m, n, k = sizes
    rng = np.random.default_rng(0)
    a, b = cases.normals(rng, (batch, m, k)), cases.normals(rng, (batch, k, n))
    cases.assert_within(product(a, b), a.astype(np.float64) @ b, k, abs(a).astype(np.float64) @ abs(b))


def test_threads_change_no_bit():
    rng = np.random.default_rng(0)
    a, b = cases.normals(rng, (7, 100, 90)), cases.normals(rng, (7, 90, 110))
    results = []
    for threads in (1, 2, 3):
        with nnpar.num_threads(threads):
            results.append(product(a, b.swapaxes(-1, -2).copy().swapaxes(-1, -2)).tobytes())
    assert len(set(results)) == 1


def gradients(layer, inputs, dy):
    plan = Plan(layer, [x.shape for x in inputs], training=True, needs_dx=True)
    for place, x in zip(plan.inputs, inputs, strict=True):
        place[...] = x
    plan.run_forward()
    plan.dy[...] = dy
    plan.run_backward()
    return [dx.copy() for dx in plan.input_gradients]


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((2, 3, 4), (2, 4, 5)), ((2, 3, 4, 6), (2, 1, 6, 5)), ((2, 3), (3, 4))]
)
def test_gradients_of_products(a_shape, b_shape):
    rng = np.random.default_rng(0)
    a, b = cases.integers(rng, a_shape), cases.integers(rng, b_shape)
    dy = cases.integers(rng, np.matmul(a, b).shape)
    da, db = gradients(MatMul(), [a, b], dy)
    cases.assert_equal(da, dy.astype(np.float64) @ b.swapaxes(-1, -2))
    expected = a.astype(np.float64).swapaxes(-1, -2) @ dy
    cases.assert_equal(db, expected.sum(1, keepdims=True) if b_shape[1] == 1 else expected)


SPECIAL = np.array([[-np.inf, -1.5, -0.0, 0.0, 1.0, 2.0, np.inf, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("layer", "function"),
    [(Maximum, np.maximum), (Minimum, np.minimum), (Less, np.less), (LessOrEqual, np.less_equal), (Equal, np.equal)],
)
def test_pairs(layer, function):
    a = np.repeat(SPECIAL, 8, axis=1)
    b = np.tile(SPECIAL, 8)
    np.testing.assert_array_equal(layer()(a, b), function(a, b).astype(np.float32))
    if layer in (Less, LessOrEqual, Equal):
        np.testing.assert_array_equal(layer(1.0)(a), function(a, 1.0).astype(np.float32))
        assert layer(1.0).settings() == {"value": 1.0}


def test_gradients_of_extremes_go_to_what_was_taken():
    a, b = np.array([[1.0, 2.0, 3.0]], np.float32), np.array([[2.0, 2.0, 2.0]], np.float32)
    dy = np.array([[10.0, 20.0, 30.0]], np.float32)
    for layer, to_a in ((Maximum(), [0, 10, 30]), (Minimum(), [10, 10, 0])):
        da, db = gradients(layer, [a, b], dy)
        np.testing.assert_array_equal(da, [to_a])
        np.testing.assert_array_equal(db, dy - [to_a])


def test_where_takes_one_and_leaves_the_other():
    mask = np.array([[1, 0, 1, 0]], np.float32)
    a = np.array([[1, np.nan, -np.inf, np.inf]], np.float32)
    b = np.array([[np.nan, 2, np.inf, 3]], np.float32)
    np.testing.assert_array_equal(Where()(mask, a, b), [[1, 2, -np.inf, 3]])
    dmask, da, db = gradients(Where(), [mask, a, b], np.array([[1, 2, 3, 4]], np.float32))
    np.testing.assert_array_equal(dmask, np.zeros((1, 4)))
    np.testing.assert_array_equal(da, [[1, 0, 3, 0]])
    np.testing.assert_array_equal(db, [[0, 2, 0, 4]])


@pytest.mark.parametrize("dim", [(0,), (1,), (-1,), (0, 1, 2, 3), (1, 2), (0, 3), (2, 3)])
@pytest.mark.parametrize("keepdim", [True, False])
def test_largest_elements(dim, keepdim):
    x = np.random.default_rng(0).standard_normal((3, 4, 2, 300)).astype(np.float32)
    np.testing.assert_array_equal(Max(dim, keepdim)(x), x.max(axis=dim, keepdims=keepdim))
    x[1, 2, 0, 5] = np.nan
    np.testing.assert_array_equal(Max(dim, keepdim)(x), x.max(axis=dim, keepdims=keepdim))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatMul()(np.ones((2, 3)), np.ones((2, 3))), r"MatMul: expected inputs of shapes \(..., m, k\)"),
        (lambda: MatMul()(np.ones((2, 3, 4)), np.ones((3, 4, 5))), "MatMul: expected inputs whose shapes broadcast"),
        (lambda: MatMul()(np.ones((2, 3))), "MatMul: expected two inputs, got 1"),
        (lambda: Less()(np.ones((2, 3))), "Less: expected two inputs, got 1"),
        (lambda: Less(1.0)(np.ones((2, 3)), np.ones((2, 3))), "Less: expected one input beside a value, got 2"),
        (lambda: Equal(np.inf), "Equal: value: expected a finite number"),
        (lambda: Where()(np.ones((2, 3)), np.ones((2, 3))), "Where: expected three inputs, got 2"),
        (lambda: Max((1,))(np.ones((2, 0))), "Max: input: expected at least one element"),
        (lambda: Max((2,))(np.ones((2, 1))), "Max: dim: expected an axis of 2, got 2"),
        (lambda: nnpar.Expand((-1, 3))(np.ones((2, 2))), "Expand: input: expected 1 where"),
        (lambda: nnpar.Expand((3,))(np.ones((2, 2))), "Expand: input: expected shape"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
