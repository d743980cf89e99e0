"""Train on shards while a machine that holds some of them is lost: ``mpiexec -n 2 python tests/hdfs_training.py TRAIN
VALIDATION PID``, the addresses of Parquet files and the process to kill in the middle of the epoch. Fails unless each
sample was read once, after that too, and the network has learnt.
"""

import os
import signal
import sys
import time

import numpy as np

import nnpar
from nnpar import data, zoo
from nnpar.callbacks import Callback
from nnpar.data import Loader, Parquet, Source
from nnpar.distributed import DataParallel

BATCH, WANTED_ACCURACY = 64, 0.85


class Recorded(Source):
    """A source, and which of its samples were read."""

    def __init__(self, source):
        self.source, self.name, self.read_samples = source, source.name, []

    def __len__(self):
        return len(self.source)

    def order(self, seed, epoch, batch_size):
        return self.source.order(seed, epoch, batch_size)

    def read(self, index):
        samples = self.source.read(index)
        self.read_samples += index.tolist()
        return samples


class Kill(Callback):
    """After so many steps, a process."""

    def __init__(self, step, pid):
        self.step, self.pid, self.time = step, pid, None

    def on_step_end(self, trainer):
        if trainer.steps_done == self.step and trainer.parallel.rank == 0:
            os.kill(self.pid, signal.SIGKILL)
            self.time = time.time()
            print(f"step {self.step}: killed process {self.pid}", flush=True)


times = []  # at which row groups were asked for
load = Parquet._load


def timed_load(source, number):
    times.append(time.time())
    return load(source, number)


Parquet._load = timed_load
train_path, validation_path, pid = sys.argv[1], sys.argv[2], int(sys.argv[3])
nnpar.manual_seed(0)
parallel = DataParallel(shards=8)
source = Recorded(data.Parquet(train_path, mixed=2, streams=2, cache_mb=4))
steps = -(-len(source) // BATCH)
trainer = nnpar.Trainer(zoo.mnist_cnn(), parallel=parallel)
kill = Kill(steps // 3, pid)
start = time.perf_counter()
trainer.fit(Loader(source, BATCH, prefetch=2), epochs=1, callbacks=[kill], progress=False)
seconds = time.perf_counter() - start
found = parallel.gather((source.read_samples, np.array(times)))
result = trainer.evaluate(Loader(data.Parquet(validation_path), 256, shuffle=False))
if parallel.rank == 0:
    samples = np.sort(np.concatenate([read for read, _ in found]))
    np.testing.assert_array_equal(samples, np.arange(len(source)), "each sample once")
    for rank, (read, asked) in enumerate(found):
        later = int((asked > kill.time).sum())
        print(f"rank {rank}: {len(read)} samples; {len(asked) - later} row groups before the kill, {later} after it")
        assert later > 0, "expected that all processes read on after the kill"
    print(f"each of {len(samples)} samples once; {seconds:.1f} s; accuracy {result['accuracy']:.3f}")
    assert result["accuracy"] > WANTED_ACCURACY
