"""Pooling of known networks, forward and gradient."""

import cases
import operations
import pytest

from nnpar import benchmark as bench

CASES = [case for case in cases.POOL2D_CASES if case.benchmark]
MAKERS = {
    "max": bench.max_pool2d,
    "max_grad": operations.max_pool2d_grad,
    "avg": operations.avg_pool2d,
    "avg_grad": operations.avg_pool2d_grad,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_pool2d(measure, case, kind):
    measure(lambda: MAKERS[kind](f"{case.name} {kind}", case.x_shape, *case.window))
