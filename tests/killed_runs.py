"""Kill a training run again and again at random moments, also within a save, until it is done: its weights are those of
the run that was left alone. ``python tests/killed_runs.py 50``, for 50 kills.
"""

import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import nnpar
from nnpar.callbacks import Checkpoint

EPOCHS = 60


def run(folder: Path) -> None:
    """Train to the end, from where the folder's checkpoint left off."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((60, 1, 12, 12)).astype(np.float32), rng.integers(0, 3, 60)
    nnpar.manual_seed(1)
    body = nnpar.Conv2d(1, 8, 3), nnpar.BatchNorm2d(8), nnpar.ReLU(), nnpar.Flatten(), nnpar.Dropout(0.2)
    trainer = nnpar.Trainer(nnpar.Sequential(*body, nnpar.Linear(800, 3)), average=0.9)
    checkpoint = Checkpoint(folder, every_steps=2)
    trainer.fit((images, labels), epochs=EPOCHS, batch_size=5, progress=False, callbacks=[checkpoint], resume=folder)
    with trainer.averaged():
        averaged = trainer.model.state_dict()
    arrays = [*trainer.model.state().values(), *averaged.values(), *trainer.optimizer.state.values()]
    print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(), trainer.steps_done)


def start(folder: Path) -> "subprocess.Popen[str]":
    """The run in a process of its own."""
    command = [sys.executable, __file__, "run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path) -> str:
    """What the run prints when it is done."""
    output, errors = start(folder).communicate(timeout=300)
    assert output, errors
    return output


def main(kills: int) -> None:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as parent:
        began = time.monotonic()
        whole = finish(Path(parent, "whole"))
        seconds = time.monotonic() - began
        done, finished = 0, 0
        while done < kills:
            folder = Path(parent, f"run-{finished}")
            process = start(folder)
            try:
                output, errors = process.communicate(timeout=rng.uniform(0.15, 0.6) * seconds)
                assert output == whole, f"after {done} kills: {output or errors}"
                finished += 1
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                done += 1
        assert finish(folder) == whole
        print(f"killed {done} times, finished {finished + 1} runs, each with the hash of the run that was left alone")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
        run(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
