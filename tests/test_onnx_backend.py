"""ONNX's own tests of operators and models, run by nnpar: ``pytest -s tests/test_onnx_backend.py`` ends with counts."""

import re
import unittest
import warnings
from collections import Counter

import numpy as np
import onnx
import onnx.backend.test
import pytest

import nnpar
from nnpar.io.onnx import backend
from nnpar.io.onnx.exporter import to_proto

# Tests of single operators, by the beginnings of their names; the others are models, of which all are included.
OPERATORS = (
    "abs_|add_|averagepool_|basic_conv_|batchnorm_|cast_FLOAT_to_FLOAT|celu_|clip_|concat_|constant_|"
    "constantofshape_|conv_|convtranspose_|depthtospace_|div_|dropout_|elu_|erf_|exp_|flatten_|gather_|"
    "gelu_|gemm_|globalaveragepool_|globalmaxpool_|group_normalization_|hardsigmoid_|hardswish_|identity_|"
    "instancenorm_|layer_normalization_|leakyrelu_|log_|logsoftmax_|lrn_|matmul_|maxpool_|mean_|mish_|"
    "mul_|neg_|prelu_|reciprocal_|reduce_mean_|reduce_sum_|relu_|reshape_|resize_|rms_normalization_|"
    "selu_|shape_|sigmoid_|size_|slice_|softmax_|softplus_|softsign_|spacetodepth_|split_|sqrt_|"
    "squeeze_|sub_|sum_|tanh_|training_dropout_|transpose_|unsqueeze_|upsample_"
)
# Those that are not about float32, or about operators that nobody asked for.
OTHERS = "int8|constant_pad|identity_(opt|sequence)|strnorm|sequence_model|gradient_of|shrink|sign_model|GLU"
# What nnpar cannot do, by what it says of it.
REASONS = {
    r"GatherElements|SplitToSequence|of exponent|Pow": "no layer for it",
    r"training_mode=True": "dropout of random numbers that others draw",
    r"more than 1 output|storage_order=1": "positions of the largest elements as outputs",
    r"Not compatible with backend|expected float32 data|: to FLOAT": "other types than float32",
}
PASSING = 658  # so that no reason hides what has once been possible
counts: Counter[str] = Counter()


def suite() -> dict[str, unittest.TestCase]:
    """The tests by name, each a method of a test case."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = onnx.backend.test.BackendTest(backend.NnparBackend, __name__).test_cases.values()
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


def test_the_interface() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x = np.array([[-1.0, 2.0]], np.float32)
    for inputs in ([x], {"x": x}):
        (y,) = backend.run_node(node, inputs)
        np.testing.assert_array_equal(y, [[0, 2]])
    model = to_proto(nnpar.Sequential(nnpar.ReLU()), (2,))
    prepared = backend.prepare(model)
    for rows in (1, 3, 1):
        np.testing.assert_array_equal(prepared.run(np.repeat(x, rows, axis=0)).output, [[0, 2]] * rows)
    np.testing.assert_array_equal(backend.run_model(model, [x])[0], [[0, 2]])
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(model)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    assert not backend.is_compatible(model)
    with pytest.raises(ValueError, match="device: expected 'CPU', got 'CUDA:0'"):
        backend.prepare(model, "CUDA:0")


def test_an_input_that_is_a_parameter_may_change() -> None:
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"])
    types = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", (1, 2)), ("w", (2, 1)))]
    graph = onnx.helper.make_graph([node], "g", types, [onnx.helper.make_tensor_value_info("y", 1, (1, 1))])
    prepared = backend.prepare(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]))
    x = np.array([[1, 2]], np.float32)
    for a, b in [(1, 1), (3, 0), (1, 1), *((k, k) for k in range(12))]:
        (y,) = prepared.run([x, np.array([[a], [b]], np.float32)])
        assert y.item() == a + 2 * b


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Comes last: how many passed, were skipped and why."""
    with capsys.disabled():
        print(f"\nonnx.backend.test: {counts['passed']} passed, {counts['failed']} failed")
        for kind, count in counts.most_common():
            if kind.startswith("skipped"):
                print(f"  {count} {kind}")
    assert counts["failed"] == 0
    if counts.total() == len(TESTS):  # all were run
        assert counts["passed"] >= PASSING
