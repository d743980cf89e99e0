"""Batch normalisation of known networks: statistics, normalisation, both gradients' sums and dx."""

import cases
import operations
import pytest

from nnpar import arrays
from nnpar import benchmark as bench
from nnpar._kernels import batch_norm

CASES = [case for case in cases.BATCH_NORM_CASES if case.benchmark]


def vectors(channels, count):
    return [operations.positive(channels, seed) for seed in range(10, 10 + count)]


def statistics(name, case):
    mean, invstd, running_mean, running_var = vectors(case.c, 4)
    x = bench.numbers(case.x_shape, 1)
    step = batch_norm.BatchStatistics(x, mean, invstd, 1e-5, running_mean, running_var, 0.1)
    return bench.Operation(name, str(case.x_shape), step, mean)


def normalize(name, case, residual=None):
    x, y = bench.numbers(case.x_shape, 1), arrays.empty(case.x_shape)
    step = batch_norm.BatchNormalize(x, *vectors(case.c, 4), residual, y, True)
    return bench.Operation(name, str(case.x_shape), step, y)


def normalize_add(name, case):
    return normalize(name, case, bench.numbers(case.x_shape, 2))


def grad(name, case, y=None):
    dy, x, dx = bench.numbers(case.x_shape, 1), bench.numbers(case.x_shape, 2), arrays.empty(case.x_shape)
    mean, invstd, gamma, dgamma, dbeta = vectors(case.c, 5)
    step = batch_norm.BatchNormGrad(dy, x, y, mean, invstd, gamma, dx, dgamma, dbeta, None)
    return bench.Operation(name, str(case.x_shape), step, dx)


def grad_relu(name, case):
    return grad(name, case, bench.numbers(case.x_shape, 3))


def grad_relu_of_x(name, case):
    dy, x, dx = bench.numbers(case.x_shape, 1), bench.numbers(case.x_shape, 2), arrays.empty(case.x_shape)
    mean, invstd, gamma, dgamma, dbeta, beta = vectors(case.c, 6)
    step = batch_norm.BatchNormGrad(dy, x, None, mean, invstd, gamma, dx, dgamma, dbeta, None, beta, relu_of_x=True)
    return bench.Operation(name, str(case.x_shape), step, dx)


@pytest.mark.parametrize(
    "make", [statistics, normalize, normalize_add, grad, grad_relu, grad_relu_of_x], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_batch_norm(measure, make, case):
    measure(lambda: make(f"{case.name} {make.__name__}", case))
