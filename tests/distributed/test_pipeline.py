"""Pipeline parallelism: the bits of one process, on any number of stages."""

import itertools

import mpi
import numpy as np
import pytest

import nnpar
from nnpar import SGD, Flatten, Linear, ReLU, Sequential, Trainer

mpi.required()
PipelineParallel = pytest.importorskip("nnpar.distributed").PipelineParallel
from nnpar.distributed.pipeline import balanced  # noqa: E402


@pytest.mark.parametrize("kind", ["plain", "uneven", "accumulate", "loader"])
def test_the_same_bits_on_any_number_of_stages(kind):
    """Batch normalisation, dropout, weights of samples, averages, state of the optimizer, validation."""
    found = [mpi.work(ranks, "pipeline", kind) for ranks in (1, 2, 3, 4)]
    for ranks, each in enumerate(found, 1):
        assert len(each["stages"]) == ranks - 1
        assert len(each["models"]) == 1
        for name in ("digest", "models", "record"):
            assert each[name] == found[0][name], name
    assert found[0]["record"]["validation_accuracy"] > 0.7


def test_activations_that_are_computed_again_change_nothing():
    plain, again = (mpi.work(ranks, "pipeline", kind) for ranks, kind in ((1, "deep"), (3, "deep-again")))
    assert again["dropped"]
    assert (again["digest"], again["models"]) == (plain["digest"], plain["models"])


def test_pipelines_side_by_side(tmp_path):
    """Two of one stage and two of two: half of the samples in each."""
    found = {ranks: mpi.work(ranks, "pipeline", "mesh", tmp_path / str(ranks), 1) for ranks in (1, 2, 4)}
    assert [len(each["stages"]) for each in found.values()] == [0, 0, 1]
    assert all(len(each["models"]) == 1 for each in found.values())
    # Microbatches are the same on two and four processes, and so is all but the sums over pipelines.
    weights = {ranks: np.load(tmp_path / f"{ranks}.npz") for ranks in (2, 4)}
    for name in weights[2].files:
        np.testing.assert_allclose(weights[4][name], weights[2][name], rtol=1e-5, atol=1e-6)
    alone, together = (found[ranks]["record"]["validation_accuracy"] for ranks in (1, 2))
    assert together == pytest.approx(alone, abs=0.1)


def test_goes_on_with_another_number_of_stages(tmp_path):
    whole = mpi.work(1, "pipeline", "plain", tmp_path / "whole", 3)
    for ranks, epochs in ((2, 1), (3, 2), (1, 3)):
        end = mpi.work(ranks, "pipeline", "plain", tmp_path / "run", epochs)
    assert (end["digest"], end["record"]) == (whole["digest"], whole["record"])


def test_one_process_is_accumulation_of_microbatches():
    """Against a trainer that knows nothing of pipelines."""
    x = np.random.default_rng(0).standard_normal((64, 12), np.float32)
    y = np.arange(64) % 3
    models = []
    for options in ({"parallel": PipelineParallel(microbatches=4)}, {"accumulate": 4}):
        nnpar.manual_seed(0)
        trainer = Trainer(Sequential(Linear(12, 8), ReLU(), Linear(8, 3)), optimizer=SGD(0.1), **options)
        size = 64 if "parallel" in options else 16
        trainer.fit((x, y), epochs=3, batch_size=size, shuffle=False, progress=False)
        models.append(trainer.model.state())
    for name, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][name])


def test_the_norm_is_clipped():
    x = np.random.default_rng(0).standard_normal((64, 12), np.float32) * 10
    y = np.arange(64) % 3
    weights = []
    for options in ({"parallel": PipelineParallel(microbatches=1)}, {}):
        nnpar.manual_seed(0)
        trainer = Trainer(Sequential(Linear(12, 8), ReLU(), Linear(8, 3)), optimizer=SGD(0.1), clip_norm=0.1, **options)
        trainer.train_step(x, y)
        weights.append(trainer.model.state())
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 6])
def test_stages_are_balanced(stages):
    rng = np.random.default_rng(stages)
    for _ in range(20):
        costs = rng.integers(0, 9, 6).astype(float)
        cuts = balanced(costs.tolist(), stages)
        every = [
            max(costs[a:b].sum() for a, b in itertools.pairwise([0, *inner, 6]))
            for inner in itertools.combinations(range(1, 6), stages - 1)
        ]
        assert len(cuts) == stages - 1
        assert all(a < b for a, b in itertools.pairwise([0, *cuts, 6]))
        assert max(costs[a:b].sum() for a, b in itertools.pairwise([0, *cuts, 6])) == min(every)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PipelineParallel(microbatches=0), "PipelineParallel: microbatches: expected at least 1, got 0"),
        (lambda: Trainer(Linear(2, 2), parallel=PipelineParallel()), "model: expected a Sequential of at least 1"),
        (
            lambda: Trainer(Sequential(Flatten(), Linear(4, 2)), parallel=PipelineParallel(boundaries=[1])),
            r"boundaries: expected 0 ascending numbers between 0 and 2, got \[1\]",
        ),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
