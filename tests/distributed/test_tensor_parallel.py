"""Dense layers divided among processes: within rounding what one process computes."""

import shutil

import mpi
import numpy as np
import pytest

import nnpar
from nnpar import Dropout, LayerNorm, Linear, ReLU, Sequential, Trainer

mpi.required()
distributed = pytest.importorskip("nnpar.distributed")
Axis, TensorParallel, TensorParallelLinear = (
    distributed.Axis,
    distributed.TensorParallel,
    distributed.TensorParallelLinear,
)

TOLERANCE = 2e-6  # of the largest element; the largest seen is 3e-7


def work(ranks, scenario, *arguments):
    return mpi.work(ranks, scenario, *arguments, worker=mpi.MODEL_WORKER)


@pytest.mark.parametrize(("ranks", "sizes"), [(1, (12, 11, 7)), (2, (12, 11, 7)), (2, (64, 96, 10)), (3, (8, 13, 3))])
def test_values_and_gradients_are_those_of_plain_layers(ranks, sizes):
    """Weights too, whatever the processes' seeds are."""
    found = work(ranks, "tensor_layers", *sizes)
    assert found["same"] == [True] * ranks
    for errors in found["errors"]:
        assert len(errors) == 10
        assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_gradient_is_the_slope(ranks):
    found = work(ranks, "tensor_slope")
    assert found["found"] == pytest.approx(found["expected"], rel=1e-3)


def test_training_ends_with_the_weights_of_one_process(tmp_path):
    """Clipped by the norm of all slices; process 0's weights at first; a mesh with data, of which validation counts
    each sample once.
    """
    found, weights = [], []
    for ranks, data in ((1, 1), (2, 1), (3, 1), (2, 2), (4, 2)):
        found.append(work(ranks, "tensor_train", data, tmp_path / "weights.npz"))
        weights.append(dict(np.load(tmp_path / "weights.npz")))
        assert found[-1]["restored"] == [True] * ranks
        assert found[-1]["agreed"]
        assert found[-1]["calls"] == [1] + [0] * (ranks - 1)
        assert found[-1]["same"] <= TOLERANCE
    for each, own in zip(found[1:], weights[1:], strict=True):
        assert each["record"] == pytest.approx(found[0]["record"], rel=1e-5)
        assert own.keys() == weights[0].keys()
        for name, array in own.items():
            largest = abs(weights[0][name]).max()
            assert abs(array - weights[0][name]).max() <= 1e-5 * largest, name


def test_a_run_goes_on_on_any_number_of_processes(tmp_path):
    """The same bits on as many, within rounding on others, and in one with plain layers."""
    whole = work(2, "tensor_resume", tmp_path / "whole", 3)
    assert whole["steps"] == 21
    # Before the first step, where a checkpoint is due, after each epoch and at the end.
    assert whole["collected"] == [0, 4, 7, 8, 12, 14, 16, 20, 21, 21]
    assert work(2, "tensor_resume", tmp_path / "two", 1)["steps"] == 7
    for ranks, *plain in ((1,), (2,), (3,), (1, "plain")):
        folder = tmp_path / f"{ranks}{plain}"
        shutil.copytree(tmp_path / "two", folder)
        found = work(ranks, "tensor_resume", folder, 3, *plain)
        assert found["steps"] == 21
        if ranks == 2:
            assert found["digests"] == whole["digests"]
        for name, expected in whole["weights"].items():
            expected, own = np.array(expected), np.array(found["weights"][name])
            assert abs(own - expected).max() <= 2e-5 * abs(expected).max(), name


@pytest.mark.parametrize("ranks", [2, 3])
def test_activations_that_are_computed_again_change_nothing(ranks):
    assert work(ranks, "tensor_recompute")["same"] == [True] * ranks


def test_dropout_draws_for_each_slice():
    found = work(3, "tensor_dropout")
    assert found["kept"] == pytest.approx(0.5, abs=0.05)
    assert found["both"] == pytest.approx(0.125, abs=0.03)


def test_what_does_not_work_says_so(tmp_path):
    found = work(2, "tensor_errors", tmp_path)
    expected = [
        r"layer '1' (TensorParallelLinear): expected Trainer(parallel=TensorParallel(...)), got DataParallel",
        r"layer '1' (TensorParallelLinear): expected Trainer(parallel=TensorParallel(...)), got Parallel",
        "TensorParallel: optimizer: expected one without norms of layers, got LAMB",
        "TensorParallelLinear: a process has only a slice of it",
        "Checkpoint: best: expected False with TensorParallel",
        "EarlyStopping: restore_best: expected False with TensorParallel and a Checkpoint",
        "load_full_state_dict: 1.weight: expected shape (10, 64), got (5, 64)",
    ]
    for message, start in zip(found["found"], expected, strict=True):
        assert message.startswith(start)
    assert found["same"]
    assert "gather=True" in found["shown"]


PAIR = Axis(None, 0, 2)  # of two processes, without messages


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("column", False)], "expected a model whose output is whole, got a slice; set gather=True"),
        ([("column", False), ("column", True)], "layer '1' .*expected the whole, got a slice"),
        ([("column", True), ("row", False)], "layer '1' .*expected a slice.*, got the whole"),
        ([("row", False)], "layer '0' .*expected a slice.*, got the whole"),
        ([("column", False), LayerNorm(4), ("row", False)], "layer '1' .*LayerNorm.*expected no slice of the features"),
        ([("column", False), Dropout(), ("row", False)], "there is TensorParallelDropout"),
    ],
)
def test_layers_that_do_not_fit_together(layers, message):
    made = [
        TensorParallelLinear(8, 8, split=x[0], gather=x[1], comm=PAIR) if isinstance(x, tuple) else x for x in layers
    ]
    with pytest.raises(ValueError, match=message):
        Trainer(Sequential(*made), parallel=TensorParallel(PAIR))


def test_layers_of_another_number_of_processes():
    model = Sequential(TensorParallelLinear(8, 8, gather=True, comm=PAIR))
    with pytest.raises(ValueError, match="expected 1 processes, as TensorParallel has, got 2"):
        Trainer(model, parallel=TensorParallel())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "both"}, "split: expected 'column' or 'row', got 'both'"),
        ({"split": "row", "gather": True}, "gather: expected False with split='row'"),
        ({"in_features": 0}, "in_features: expected at least 1, got 0"),
        ({"out_features": 1}, "out_features: expected at least 2, the number of processes, got 1"),
        ({"in_features": 1, "split": "row"}, "in_features: expected at least 2, the number of processes, got 1"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"TensorParallelLinear: {message}"):
        TensorParallelLinear(**{"in_features": 4, "out_features": 4, "comm": PAIR, **options})


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected shape \(N, 4\), 8 divided among processes.*got \(3, 8\)"):
        TensorParallelLinear(8, 4, split="row", comm=PAIR)(np.zeros((3, 8)))


def test_one_process_is_a_plain_layer():
    nnpar.manual_seed(0)
    plain = Sequential(Linear(8, 6), ReLU(), Linear(6, 2))
    nnpar.manual_seed(0)
    own = Sequential(TensorParallelLinear(8, 6), ReLU(), TensorParallelLinear(6, 2, split="row"))
    x = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    np.testing.assert_array_equal(own(x), plain(x))
    assert own.parameters().keys() == plain.parameters().keys()
