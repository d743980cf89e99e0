"""RMSprop, Adagrad, LARS, LAMB, clipping, averages and schedules: against plain formulae in float64, step by step."""

import math

import numpy as np
import pytest

import nnpar
from nnpar import BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential, Trainer, optimizers, schedules
from nnpar.data import Dataset

RNG = np.random.default_rng(0)


def rmsprop(w, g, s, step, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g = g + weight_decay * w
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
    root = np.sqrt(s["v"] - s["m"] ** 2 * centered) + eps
    s["b"] = momentum * s.get("b", 0) + g / root
    return w - lr * s["b"]


def adagrad(w, g, s, step, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    g = g + weight_decay * w
    s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return w - lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def lars(w, g, s, step, lr=0.1, momentum=0.9, weight_decay=0.0, trust_coefficient=1e-3, eps=1e-8):
    ratio = 1.0
    if w.ndim > 1:
        norm, slope = np.linalg.norm(w), np.linalg.norm(g)
        ratio = trust_coefficient * norm / (slope + weight_decay * norm + eps) if norm * slope > 0 else 1.0
        g = g + weight_decay * w
    s["b"] = momentum * s.get("b", 0) + lr * ratio * g
    return w - s["b"]


def lamb(w, g, s, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    r = s["m"] / (1 - betas[0] ** step) / (np.sqrt(s["v"] / (1 - betas[1] ** step)) + eps)
    ratio = 1.0
    if w.ndim > 1:
        r = r + weight_decay * w
        norms = np.linalg.norm(w), np.linalg.norm(r)
        ratio = norms[0] / norms[1] if min(norms) > 0 else 1.0
    return w - lr * ratio * r


CASES = [
    (optimizers.RMSprop, rmsprop, {}),
    (optimizers.RMSprop, rmsprop, {"alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1, "eps": 0.01}),
    (optimizers.RMSprop, rmsprop, {"alpha": 0.9, "centered": True, "eps": 0.1}),
    (optimizers.Adagrad, adagrad, {}),
    (optimizers.Adagrad, adagrad, {"lr_decay": 0.5, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
    (optimizers.LARS, lars, {}),
    (optimizers.LARS, lars, {"lr": 2.0, "momentum": 0.5, "weight_decay": 0.01, "trust_coefficient": 0.02}),
    (optimizers.LAMB, lamb, {}),
    (optimizers.LAMB, lamb, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.2}),
]


def network():
    nnpar.manual_seed(0)
    body = [Conv2d(1, 6, 3), BatchNorm2d(6), ReLU(), Flatten(), Linear(6 * 6 * 6, 40), ReLU(), Linear(40, 3)]
    return Sequential(*body)


IMAGES, LABELS = RNG.standard_normal((40, 1, 8, 8), np.float32), RNG.integers(0, 3, 40)


def bits(model):
    return b"".join(array.tobytes() for array in model.state().values())


@pytest.mark.parametrize(("cls", "formula", "options"), CASES, ids=str)
def test_updates(cls, formula, options):
    trainer = Trainer(network(), optimizer=cls(**options))
    states = {}
    for step in range(1, 5):
        before = {name: array.astype(np.float64) for name, array in trainer.model.parameters().items()}
        trainer.train_step(IMAGES, LABELS)
        for name, array in trainer.model.parameters().items():
            gradient = trainer._gradients.by_name[name].astype(np.float64)
            expected = formula(before[name], gradient, states.setdefault(name, {}), step, **options)
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("make", [*{case[0] for case in CASES}], ids=lambda cls: cls.__name__)
def test_threads_change_no_bit(make):
    results = []
    for threads in (1, 2, 3):
        with nnpar.num_threads(threads):
            schedule = schedules.LinearWarmup(1, schedules.CosineAnnealingLR(2))
            trainer = Trainer(
                network(), optimizer=make(), clip_norm=0.5, clip_value=0.1, average=0.9, schedule=schedule
            )
            trainer.fit((IMAGES, LABELS), validation=(IMAGES, LABELS), epochs=2, batch_size=16, progress=False)
            own = bits(trainer.model)
            with trainer.averaged() as model:
                results.append((own, bits(model)))
            assert bits(trainer.model) == own
    assert results[0] == results[1] == results[2]
    assert results[0][0] != results[0][1]


@pytest.mark.parametrize("value", [None, 0.02])
def test_clipping(value):
    """Of values first, then of the norm; SGD of rate 1 shows the gradients that it got."""
    gradients = {}
    for clip in (False, True):
        settings = {"clip_norm": 0.1, "clip_value": value} if clip else {}
        trainer = Trainer(network(), optimizer=nnpar.SGD(1.0), **settings)
        before = {name: array.copy() for name, array in trainer.model.parameters().items()}
        trainer.train_step(IMAGES, LABELS)
        gradients[clip] = {name: before[name] - array for name, array in trainer.model.parameters().items()}
    whole = np.concatenate([array.ravel() for array in gradients[False].values()]).astype(np.float64)
    whole = whole if value is None else np.clip(whole, -value, value)
    assert np.linalg.norm(whole) > 0.1
    clipped = np.concatenate([array.ravel() for array in gradients[True].values()])
    np.testing.assert_allclose(clipped, whole * (0.1 / np.linalg.norm(whole)), atol=3e-7)


def test_a_norm_that_is_not_finite_changes_nothing():
    class Inf(nnpar.CustomLoss):
        def compute(self, output, target):
            return np.ones(len(output))

        def compute_gradient(self, output, target):
            return np.full(output.shape, np.inf)

    trainer = Trainer(network(), loss=Inf(), clip_norm=1.0)
    before = bits(trainer.model)
    with pytest.raises(FloatingPointError, match=r"gradient's norm is (inf|nan) at step 1"):
        trainer.train_step(IMAGES, np.zeros((40, 3)))
    assert bits(trainer.model) == before


def test_the_average_is_that_of_the_formula():
    trainer = Trainer(network(), optimizer=nnpar.SGD(0.5), average=0.75)
    with pytest.raises(ValueError, match="averaged: expected a training step before"), trainer.averaged():
        pass
    expected = {}
    for step in range(4):
        trainer.train_step(IMAGES, LABELS)
        for name, array in trainer.model.state().items():
            expected[name] = array.astype(np.float64) if step == 0 else 0.75 * expected[name] + 0.25 * array
    with trainer.averaged() as model:
        for name, array in model.state().items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="expected a trainer with an average"), Trainer(network()).averaged():
        pass


def test_rates_of_the_schedules():
    """Closed formulae; the last are PyTorch's OneCycleLR(max_lr=1, total_steps=10)."""
    cosine = schedules.CosineAnnealingLR(4, eta_min=0.1)
    assert cosine.lr(0.5, 0, 10) == 0.5
    assert cosine.lr(0.5, 10, 10) == pytest.approx(0.1 + 0.4 * (1 + math.cos(math.pi / 4)) / 2)
    assert cosine.lr(0.5, 99, 10) == pytest.approx(0.1)
    steps = schedules.MultiStepLR([1, 3], gamma=0.5)
    assert [steps.lr(8.0, epoch * 5, 5) for epoch in range(5)] == [8, 4, 4, 2, 2]
    assert schedules.ExponentialLR(0.5).lr(8.0, 11, 5) == 2
    assert schedules.StepLR(2).lr(1.0, 4, 1) == pytest.approx(0.01)
    warm = schedules.LinearWarmup(1, steps, start_factor=0.5)
    assert [warm.lr(8.0, step, 4) for step in (0, 2, 4, 8, 16)] == [4, 6, 8, 4, 2]
    cycle = schedules.OneCycleLR(1.0, epochs=2)
    expected = [0.04, 0.52, 1.0, 0.9504846320, 0.8117456540, 0.6112620219, 0.3887399781, 0.1882563460, 0.0495173680]
    assert [cycle.lr(0.3, step, 5) for step in range(9)] == pytest.approx(expected, rel=1e-4)
    assert cycle.lr(0.3, 9, 5) == pytest.approx(4e-6)
    line = schedules.OneCycleLR(1.0, epochs=2, anneal_strategy="linear")
    assert line.lr(0.3, 1, 5) == pytest.approx(0.52)


def test_a_plateau_lowers_the_rate():
    plateau = schedules.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    rates = []
    for loss in [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]:
        plateau.after_epoch(loss)
        rates.append(plateau.lr(1.0, 0, 1))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]


def test_the_trainer_follows_its_schedule():
    class Recorded(schedules.Schedule):
        def __init__(self):
            self.asked, self.told = [], []

        def lr(self, base, step, steps_per_epoch):
            self.asked.append((base, step, steps_per_epoch))
            return 0.01

        def after_epoch(self, loss):
            self.told.append(loss)

    schedule = Recorded()
    trainer = Trainer(network(), optimizer=nnpar.SGD(0.3), schedule=schedule)
    for _ in range(2):
        history = trainer.fit(Dataset(IMAGES, LABELS), epochs=1, batch_size=16, progress=False)
    assert schedule.asked == [(0.3, step, 3) for step in range(6)]
    assert schedule.told == list(history["loss"])
    assert list(history["lr"]) == [0.01, 0.01]
    with pytest.raises(ValueError, match="train_step: expected a trainer without a schedule"):
        trainer.train_step(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.RMSprop(alpha=1.5), "RMSprop: alpha: expected at most 1, got 1.5"),
        (lambda: optimizers.RMSprop(lr=-1), "RMSprop: lr: expected at least 0"),
        (lambda: optimizers.Adagrad(lr_decay=-1), "Adagrad: lr_decay: expected at least 0"),
        (lambda: optimizers.LARS(trust_coefficient=-1), "LARS: trust_coefficient: expected at least 0"),
        (lambda: optimizers.LAMB(betas=(0.9, 1)), "LAMB: betas: expected numbers below 1"),
        (lambda: optimizers.LAMB(betas=(0.9,)), "LAMB: betas: expected two numbers"),
        (lambda: schedules.StepLR(0), "StepLR: step_size: expected at least 1, got 0"),
        (lambda: schedules.CosineAnnealingLR(4, eta_min=-1), "CosineAnnealingLR: eta_min: expected at least 0"),
        (lambda: schedules.ExponentialLR(0), "ExponentialLR: gamma: expected a number above 0"),
        (lambda: schedules.OneCycleLR(1.0, 5, anneal_strategy="step"), "anneal_strategy: expected 'cos' or 'linear'"),
        (lambda: schedules.OneCycleLR(1.0, 5, pct_start=2), "OneCycleLR: pct_start: expected at most 1"),
        (lambda: schedules.ReduceLROnPlateau(factor=1), "ReduceLROnPlateau: factor: expected a number below 1"),
        (lambda: schedules.LinearWarmup(0), "LinearWarmup: epochs: expected a number above 0"),
        (lambda: Trainer(network(), clip_norm=0), "Trainer: clip_norm: expected a number above 0"),
        (lambda: Trainer(network(), clip_value=-1), "Trainer: clip_value: expected a number above 0"),
        (lambda: Trainer(network(), average=1.0), "Trainer: average: expected a decay of at least 0 and below 1"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_is_one():
    with pytest.raises(TypeError, match="Trainer: schedule: expected a Schedule, got float"):
        Trainer(network(), schedule=0.1)
    with pytest.raises(TypeError, match="LinearWarmup: then: expected a Schedule, got float"):
        schedules.LinearWarmup(1, 0.1)
