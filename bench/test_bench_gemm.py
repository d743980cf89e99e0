"""Matrix products of dense layers, and square ones."""

import cases
import pytest

from nnpar import benchmark as bench

CASES = [case for case in cases.GEMM_CASES if case.benchmark]


@pytest.mark.parametrize("case", CASES, ids=cases.name_of)
def test_gemm(measure, case):
    measure(lambda: bench.gemm(case.name, case.m, case.n, case.k))
