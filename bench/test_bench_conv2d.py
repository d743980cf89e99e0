"""Convolutions of known networks: forward, and both gradients."""

import cases
import pytest

from nnpar import benchmark as bench

CASES = [case for case in cases.CONV2D_CASES if case.benchmark]


@pytest.mark.parametrize("which", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_conv2d(measure, case, which):
    name = f"{case.name} {which}"
    measure(lambda: bench.conv2d(name, case.x_shape, case.w_shape, *case.window, which=which))
