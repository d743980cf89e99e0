"""The range test of learning rates."""

import numpy as np
import pytest

import nnpar
from nnpar import SGD, Flatten, Linear, Sequential, data
from nnpar.lr_finder import find_lr

TRAIN, _ = data.digits()


def linear():
    nnpar.manual_seed(0)
    return Sequential(Flatten(), Linear(64, 10))


def test_rates_grow_by_a_factor_and_the_model_stays():
    model = linear()
    before = {name: array.copy() for name, array in model.parameters().items()}
    optimizer = SGD(0.5)
    found = find_lr(model, TRAIN, optimizer=optimizer, low=1e-5, high=1e-1, steps=50)
    np.testing.assert_allclose(found.lrs, np.geomspace(1e-5, 1e-1, 50))
    assert optimizer.lr == 0.5
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_it_ends_when_the_loss_grows():
    found = find_lr(linear(), TRAIN, optimizer=SGD(), low=1e-4, high=1e4, steps=200)
    assert 50 < len(found.lrs) < 200
    assert found.suggestion * 10 in found.lrs
    assert min(found.losses) < 0.5 * found.losses[0]


def test_the_losses_are_those_of_training_with_these_rates():
    model, rates = linear(), np.geomspace(1e-3, 1.0, 20)
    trainer = nnpar.Trainer(linear(), optimizer=SGD())
    values = []
    for rate, batch in zip(rates, data.Loader(TRAIN, 32).batches(trainer.seed, 0), strict=False):
        trainer.optimizer.lr = rate
        values.append(trainer.train_step(batch.images, batch.labels))
    found = find_lr(model, data.Loader(TRAIN, 32), optimizer=SGD(), low=1e-3, high=1.0, steps=20)
    weights = 0.9 ** np.arange(20)[::-1]
    expected = [np.average(values[: k + 1], weights=weights[-k - 1 :]) for k in range(len(found.losses))]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-6)


def test_it_draws(tmp_path):
    pytest.importorskip("matplotlib")
    found = find_lr(linear(), TRAIN, steps=20)
    found.plot().savefig(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "told"), [({"low": 0}, "0 < low < high"), ({"high": 1e-7}, "0 < low < high"), ({"steps": 3}, "steps")]
)
def test_bad_arguments(options, told):
    with pytest.raises(ValueError, match=told):
        find_lr(linear(), TRAIN, **options)


def test_data_that_are_not_finite():
    images = np.full((20, 1, 8, 8), np.nan, np.float32)
    with pytest.raises(ValueError, match="first step"):
        find_lr(linear(), (images, np.zeros(20, np.int64)))
