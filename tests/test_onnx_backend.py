"""ONNX's own tests of operators and models, run by nnpar: ``pytest -s tests/test_onnx_backend.py`` ends with counts."""

import re
import unittest
import warnings
from collections import Counter

import numpy as np
import onnx.backend.test
import pytest

from nnpar.io.onnx.backend import NnparBackend

# Tests of single operators, by the beginnings of their names; the others are models, of which all are included.
OPERATORS = (
    "averagepool_|basic_conv_|batchnorm_|concat_|constant_|constantofshape_|conv_|dropout_|flatten_|gemm_|"
    "globalaveragepool_|group_normalization_|identity_|instancenorm_|layer_normalization_|lrn_|maxpool_|reduce_mean_|"
    "relu_|reshape_|rms_normalization_|shape_|size_|squeeze_|upsample_"
)
# Those that are not about float32, or about operators that nobody asked for.
OTHERS = "int8|constant_pad|identity_(opt|sequence)|strnorm|sequence_model|gradient_of|shrink|sign_model|Embedding|GLU"
# What nnpar cannot do, by what it says of it.
REASONS = {
    r"this operator|of data that depend on the model's inputs|expected a constant, got data": "no layer for it",
    r"expected \(N, C, H, W\)|expected 2 and 3 of": "windows and means over other axes than an image's",
    r"ceil_mode=1|dilations=|padding: expected at most half|pads \(.*before": "pooling with such a window",
    r"training_mode=1|more than 1 output|storage_order=1": "statistics or positions as outputs",
    r"from shape|perm=|axis=[02]|inputs of different shapes": "arrays in any order and shape",
    r"transA=1|input 2 of shape": "products of transposed data, sums with matrices",
    r"Not compatible with backend": "float64",
}
counts: Counter[str] = Counter()


def suite() -> dict[str, unittest.TestCase]:
    """The tests by name, each a method of a test case."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = onnx.backend.test.BackendTest(NnparBackend, __name__).test_cases.values()
    return {
        name: case(name)
        for case in cases
        for name in dir(case)
        if re.fullmatch("test_.*_cpu", name)
        and ("Node" not in case.__name__ or re.match(f"test_({OPERATORS})", name))
        and not re.search(OTHERS, name)
    }


TESTS = suite()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TESTS)
def test_of_onnx(name: str) -> None:
    try:
        getattr(TESTS[name], name)()
    except (ValueError, unittest.SkipTest) as error:
        reason = next((reason for said, reason in REASONS.items() if re.search(said, str(error))), None)
        counts[f"skipped: {reason}" if reason else "failed"] += 1
        if reason is None:
            raise
        pytest.skip(reason)
    except BaseException:
        counts["failed"] += 1
        raise
    counts["passed"] += 1


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Comes last: how many passed, were skipped and why."""
    with capsys.disabled():
        print(f"\nonnx.backend.test: {counts['passed']} passed, {counts['failed']} failed")
        for kind, count in counts.most_common():
            if kind.startswith("skipped"):
                print(f"  {count} {kind}")
    assert counts["failed"] == 0
