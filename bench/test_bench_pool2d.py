"""Pooling of known networks, forward and gradient."""

import cases
import pytest

from nnpar import arrays, shapes
from nnpar import benchmark as bench
from nnpar._kernels import pool

CASES = [case for case in cases.POOL2D_CASES if case.benchmark]


def max_pool2d_grad(name, case):
    shape = shapes.pool2d(case.x_shape, *case.window, "max_pool2d_grad")
    window = (shape.kernel_size, shape.stride, shape.padding)
    y, dx = arrays.empty(case.y_shape), arrays.empty(case.x_shape)
    argmax = arrays.bytes_like(y)
    pool.MaxPool2d(bench.numbers(case.x_shape, 1), y, argmax, *window)()
    step = pool.MaxPool2dGrad(bench.numbers(case.y_shape, 2), argmax, dx, *window)
    return bench.Operation(name, str(case.x_shape), step, dx)


def avg_pool2d(name, case):
    shape = shapes.pool2d(case.x_shape, *case.window, "avg_pool2d")
    y = arrays.empty(case.y_shape)
    x = bench.numbers(case.x_shape, 1)
    step = pool.AvgPool2d(x, y, shape.kernel_size, shape.stride, shape.padding, True)
    return bench.Operation(name, str(case.x_shape), step, y)


def avg_pool2d_grad(name, case):
    shape = shapes.pool2d(case.x_shape, *case.window, "avg_pool2d_grad")
    dx = arrays.empty(case.x_shape)
    dy = bench.numbers(case.y_shape, 2)
    step = pool.AvgPool2dGrad(dy, dx, shape.kernel_size, shape.stride, shape.padding, True)
    return bench.Operation(name, str(case.x_shape), step, dx)


@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_max_pool2d(measure, case):
    measure(lambda: bench.max_pool2d(f"{case.name} max", case.x_shape, *case.window))


@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_max_pool2d_grad(measure, case):
    measure(lambda: max_pool2d_grad(f"{case.name} max_grad", case))


@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_avg_pool2d(measure, case):
    measure(lambda: avg_pool2d(f"{case.name} avg", case))


@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_avg_pool2d_grad(measure, case):
    measure(lambda: avg_pool2d_grad(f"{case.name} avg_grad", case))
