"""Long runs take no more memory than short ones."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_resident_memory_is_flat_over_a_hundred_epochs_of_changing_batches():
    program = """
        import numpy as np
        import nnpar
        from nnpar.callbacks import EarlyStopping

        def resident():
            pages = int(open("/proc/self/statm").read().split()[1])
            return pages * 4096 / 2**20

        rng = np.random.default_rng(0)
        images, labels = rng.standard_normal((64, 3, 16, 16)).astype(np.float32), rng.integers(0, 4, 64)
        layers = nnpar.Conv2d(3, 16, 3), nnpar.BatchNorm2d(16), nnpar.ReLU(), nnpar.MaxPool2d(2), nnpar.Flatten()
        trainer = nnpar.Trainer(nnpar.Sequential(*layers, nnpar.Linear(784, 4)), average=0.9, metrics=["f1"])
        loader = nnpar.data.Loader((images, labels), 24)
        for epoch in range(100):
            data = loader if epoch % 5 == 0 else (images, labels)
            trainer.fit(data, (images, labels), epochs=1, batch_size=1 + epoch * 7 % 64, progress=False,
                        callbacks=[EarlyStopping(patience=1000)])
            if epoch == 40:
                before = resident()
        print(before, resident())
    """
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    before, after = map(float, result.stdout.split())
    assert after < before + 4, "MiB"
