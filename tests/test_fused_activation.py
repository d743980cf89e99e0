"""A ReLU in the same step as the sums that it is taken of: the bits of the two done one after the other."""

import cases
import numpy as np
import pytest

from nnpar import ops, shapes
from nnpar.convolution import ALGORITHMS, fits


def same_bits(actual, expected):
    np.testing.assert_array_equal(np.ascontiguousarray(actual).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("case", cases.small(cases.CONV2D_CASES), ids=cases.name_of)
def test_conv2d(case):
    x, w, bias, _ = case.arrays(draw=cases.normals)
    if x.size:
        x.flat[x.size // 2] = np.nan
    shape = shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
    for algorithm in ALGORITHMS:
        for add in (None, bias) if fits(algorithm, shape, "forward") else ():
            y = ops.conv2d(x, w, add, *case.window, algorithm=algorithm)
            fused = ops.conv2d(x, w, add, *case.window, algorithm=algorithm, activation="relu")
            same_bits(fused, np.ascontiguousarray(ops.relu(y)))


@pytest.mark.parametrize("case", cases.small(cases.GEMM_CASES), ids=cases.name_of)
def test_linear(case):
    x, w = case.arrays(draw=cases.normals)
    bias = cases.normals(np.random.default_rng(1), (case.n,)).astype(np.float32)
    x, w = x.astype(np.float32), np.ascontiguousarray(w.T.astype(np.float32))
    if case.m and case.k:
        x[case.m // 2, case.k // 2] = np.nan
    for add in (None, bias):
        for weight in (w, np.asfortranarray(w)):
            same_bits(ops.linear(x, weight, add, activation="relu"), ops.relu(ops.linear(x, weight, add)))


@pytest.mark.parametrize(
    "run", [lambda **a: ops.linear([[1]], [[1]], **a), lambda **a: ops.conv2d([[[[1]]]], [[[[1]]]], **a)]
)
def test_unknown_activation(run):
    with pytest.raises(ValueError, match=r"(linear|conv2d): activation: expected None or 'relu', got 'tanh'"):
        run(activation="tanh")
