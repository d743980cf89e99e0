"""Activations that are computed again: less memory, the same bits."""

import hashlib

import numpy as np
import pytest
from test_plan import MODELS, made

import nnpar
from nnpar import (
    Add,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Trainer,
    recompute,
    zoo,
)
from nnpar.losses import CrossEntropy
from nnpar.plan import Plan

BATCHES = {"vgg_small": (64, 3, 32, 32), "resnet20": (128, 3, 32, 32), "resnet18": (16, 3, 224, 224)}
WORK = {"vgg_small": 0.15, "resnet20": 0.1, "resnet18": 0.1}  # of the arithmetic, at most done again


@pytest.fixture
def greedy(monkeypatch):
    """No share of the memory is small enough: all that helps is dropped."""
    monkeypatch.setattr(recompute, "SHARE", 0.0)


def gradients(name, **options):
    """A hash of the gradients of two runs, and the plan."""
    model, shape, rng = made(name)
    plan = Plan(model, shape, training=True, needs_dx=True, **options)
    digest = hashlib.sha256()
    for _ in range(2):
        plan.x[...] = rng.standard_normal(shape)
        plan.run_forward()
        digest.update(plan.y.tobytes())
        plan.dy[...] = rng.standard_normal(plan.dy.shape)
        plan.run_backward()
        for array in (plan.y, plan.dx, *plan.gradients.values(), *model.state().values()):
            digest.update(array.tobytes())
    return digest.hexdigest(), plan


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("threads", [1, 3])
def test_no_bit_changes(name, threads, greedy):
    expected, kept = gradients(name)
    with nnpar.num_threads(threads):
        found, plan = gradients(name, recompute=True)
    assert found == expected
    assert plan.memory.arena <= kept.memory.arena


def everything():
    """Dropout, in place and not, pooling, branches that join, a sum with a second reader, normalisation."""
    x = Input((3, 16, 16))
    a = Dropout(0.3)(ReLU()(BatchNorm2d(8)(Conv2d(3, 8, 3, padding=1)(x))))
    b = Concat(None, Sequential(Conv2d(8, 8, 3, padding=1), Dropout(0.2), ReLU()), MaxPool2d(3, 1, 1))(a)
    c = ReLU()(BatchNorm2d(8)(Conv2d(24, 8, 1)(b)))
    d = ReLU()(Add()(BatchNorm2d(8)(Conv2d(8, 8, 3, padding=1)(c)), c))
    e = Add()(d, a)
    return Graph(x, Linear(8 * 64, 5)(Dropout(0.5)(Flatten()(MaxPool2d(2)(ReLU()(Conv2d(8, 8, 1)(e)))))))


def trained(make, shape, classes, steps=4, **options):
    nnpar.manual_seed(0)
    trainer = Trainer(make(), optimizer=nnpar.SGD(0.05, 0.9), **options)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        losses.append(trainer.train_step(rng.standard_normal(shape), rng.integers(0, classes, shape[0])))
    state = b"".join(array.tobytes() for array in trainer.model.state().values())
    return losses, hashlib.sha256(state).hexdigest(), trainer.plan


def test_training_is_the_same(greedy):
    """Losses, weights, running statistics, after several steps with dropout."""
    *expected, kept = trained(everything, (6, 3, 16, 16), 5)
    *found, plan = trained(everything, (6, 3, 16, 16), 5, recompute=True)
    assert found == expected
    assert plan.memory.arena < kept.memory.arena
    again = {call.make.__name__ for call in plan._calls if call.again}
    assert {"CopyChannels", "conv_step"} <= again
    assert "BatchStatistics" not in again


def chain():
    """Blocks whose normalisation and dropout are much cheaper than their memory."""
    blocks = [[Conv2d(8, 8, 3, padding=1), BatchNorm2d(8), ReLU(), Dropout(0.3)] for _ in range(6)]
    return Sequential(*(layer for block in blocks for layer in block), Flatten(), Linear(8 * 1024, 5))


def test_normalisation_and_dropout_are_the_same_again(greedy):
    *expected, kept = trained(chain, (6, 8, 32, 32), 5)
    *found, plan = trained(chain, (6, 8, 32, 32), 5, recompute=True)
    assert found == expected
    assert plan.memory.arena < kept.memory.arena
    again = {call.make.__name__ for call in plan._calls if call.again}
    assert {"_normalize", "Dropout"} <= again


@pytest.mark.parametrize("name", ["vgg_small", "resnet20"])
def test_training_of_known_networks_is_the_same(name):
    make, shape = zoo.MODELS[name], (8, 3, 32, 32)
    assert trained(make, shape, 10, 2, recompute=True)[:2] == trained(make, shape, 10, 2)[:2]


@pytest.mark.parametrize("name", BATCHES)
def test_half_the_memory_for_little_work(name):
    with nnpar.num_threads(1):  # each has scratch memory
        kept, plan = (
            Plan(zoo.MODELS[name](), BATCHES[name], training=True, loss=CrossEntropy(), recompute=again)
            for again in (False, True)
        )
        assert kept.memory.again_flops == 0
        assert 0 < plan.memory.arena <= 0.5 * kept.memory.arena
    work = sum(flops for _, flops, _ in kept._step_costs())
    assert 0 < plan.memory.again_flops < WORK[name] * work
    assert "again: batch_norm2d_normalize + relu" in str(plan)
    assert "computed again: " in str(plan).splitlines()[-1]
    assert "again" not in str(kept)


def test_a_plan_that_predicts_has_nothing_to_compute_again():
    names = [
        [step.name for step in Plan(zoo.resnet20(), (2, 3, 32, 32), training=False, recompute=again).forward_steps]
        for again in (False, True)
    ]
    assert names[0] == names[1]
