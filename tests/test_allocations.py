"""After the first training step, none allocates: a small C library counts what a process asks of the allocator."""

import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's other names are glibc's"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
]

# Counted are requests while a plan or an update runs, of any size, but for OpenMP's notes on its threads, under 4 KB;
# and in a whole training step, which Python drives, those above 4 KB: batches, activations and gradients are larger.
PROGRAM = """
    import ctypes, json, sys
    import numpy as np
    import nnpar
    from nnpar import *

    counter = ctypes.CDLL(sys.argv[1])
    counter.start_counting.argtypes = [ctypes.c_size_t]
    counter.stop_counting.restype = ctypes.c_size_t

    def count(run, size=0):
        counter.start_counting(size)
        run()
        return counter.stop_counting()

    def branches():
        x = Input((3, 16, 16))
        y = Concat(Conv2d(3, 12, 5, padding=2), Sequential(MaxPool2d(3, 1, 1), Conv2d(3, 12, 3, padding=1)))(x)
        y = Dropout(0.1)(ReLU()(Conv2d(24, 24, 3, padding=1, groups=24)(y)))
        return Graph(x, Linear(24 * 64, 10)(Flatten()(Conv2d(24, 24, 3, 2, 1)(y))))

    MODELS = {
        "mlp": (zoo.mlp, (64, 1, 28, 28)),
        "lenet5": (zoo.lenet5, (64, 1, 28, 28)),
        "resnet20": (zoo.resnet20, (8, 3, 32, 32)),
        "branches": (branches, (16, 3, 16, 16)),
    }

    found = {}
    for name, (make, shape) in MODELS.items():
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])
        trainer = Trainer(make(), optimizer=SGD(0.01, 0.9))
        for _ in range(3):
            trainer.train_step(x, y)
        found[name] = {
            "run": count(trainer.plan.run),
            "update": count(trainer._gradients.change.run),
            "step": count(lambda: trainer.train_step(x, y), 4097),
        }
    x, y = np.zeros((2048, 1, 4, 4), np.float32), np.zeros(2048, np.int64)
    trainer = Trainer(Sequential(Flatten(), Linear(16, 10)))
    trainer.train_step(x, y)
    found["many labels"] = {"step": count(lambda: trainer.train_step(x, y), 4097)}
    found["an array"] = {"step": count(lambda: np.empty(8192, np.uint8), 4097)}
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """The library that counts."""
    library = tmp_path_factory.mktemp("counter") / "count_allocations.so"
    source = Path(__file__).with_name("count_allocations.c")
    subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_training_step_allocates_nothing(counter, threads):
    environment = os.environ | {"LD_PRELOAD": str(counter), "NNPAR_NUM_THREADS": str(threads)}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(counter)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found.pop("an array") == {"step": 1}, "it counts"
    assert len(found) == 5
    assert not [(name, what, count) for name, counts in found.items() for what, count in counts.items() if count]
