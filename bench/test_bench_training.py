"""A training step and a prediction of whole networks: what a user waits for, Python's share included."""

import hashlib

import numpy as np
import pytest

import nnpar
from nnpar import SGD, Trainer, zoo
from nnpar._kernels import runtime

NETWORKS = [
    ("digits_cnn", (64, 1, 8, 8)),
    ("mlp", (128, 1, 28, 28)),
    ("lenet5", (64, 1, 28, 28)),
    ("mnist_cnn", (64, 1, 28, 28)),
]
NETWORK = pytest.mark.parametrize(("name", "shape"), NETWORKS, ids=[name for name, _ in NETWORKS])


def trainer_and_batch(name, shape):
    nnpar.manual_seed(0)
    rng = np.random.default_rng(0)
    trainer = Trainer(zoo.MODELS[name](), optimizer=SGD(0.01, momentum=0.9))
    return trainer, rng.random(shape, np.float32), rng.integers(0, 10, shape[0])


def record(benchmark, group, threads, peak, trainer, shape, digest, hashes):
    """Group, hash and, if times were taken, rates. FLOPs are those of the plan's steps."""
    benchmark.group = group
    benchmark.extra_info |= {"threads": threads, "isa": runtime.isa(), "shape": str(shape), "sha256": digest}
    if benchmark.enabled:
        plan = trainer.plan
        seconds = benchmark.stats.stats.median
        gflops = sum(step.flops for step in plan.forward_steps + plan.backward_steps) / seconds / 1e9
        benchmark.extra_info |= {
            "images_per_second": shape[0] / seconds,
            "gflops": gflops,
            "share_of_peak": gflops / peak(threads),
        }
    assert hashes.setdefault(group, digest) == digest


@NETWORK
def test_training_step(benchmark, threads, peak, hashes, name, shape):
    with nnpar.num_threads(threads):
        trainer, x, y = trainer_and_batch(name, shape)
        for _ in range(3):
            trainer.train_step(x, y)
        weights = b"".join(array.tobytes() for array in trainer.model.parameters().values())
        benchmark(trainer.train_step, x, y)
        digest = hashlib.sha256(weights).hexdigest()[:12]
        record(benchmark, f"train {name}", threads, peak, trainer, shape, digest, hashes)


@NETWORK
def test_prediction(benchmark, threads, peak, hashes, name, shape):
    with nnpar.num_threads(threads):
        trainer, x, _ = trainer_and_batch(name, shape)
        digest = hashlib.sha256(trainer.predict(x).tobytes()).hexdigest()[:12]
        benchmark(trainer.predict, x)
        record(benchmark, f"predict {name}", threads, peak, trainer, shape, digest, hashes)
