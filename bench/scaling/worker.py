"""What each rank of a measurement does: ``mpiexec -n 2 python worker.py NETWORK SAMPLES_PER_RANK BUCKET_MB STEPS``.

Rank 0 prints one JSON object: seconds of each training step, when each bucket was ready within the step, the buckets'
bytes, and seconds of an Allreduce of several sizes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnpar import SGD, Trainer, get_num_threads, manual_seed, zoo
from nnpar._kernels.step import recorders
from nnpar.distributed import DataParallel

WARM_UP = 3
SHAPES = {"mnist_cnn": (1, 28)}  # channels, and height and width, of other images than CIFAR's
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 24)  # bytes


class Timed(DataParallel):
    """Notes when buckets are ready."""

    def hooks(self, gradients: Any) -> Any:
        self.times = {}
        return [(names, partial(self._note, k, send)) for k, (names, send) in enumerate(super().hooks(gradients))]

    def _note(self, bucket: int, send: Callable[[], None]) -> None:
        self.times[bucket] = time.monotonic()
        send()


def main(name: str, samples: int, bucket_mb: float, steps: int) -> None:
    """Measure, and print."""
    parallel = Timed(bucket_mb=bucket_mb)
    manual_seed(0)
    trainer = Trainer(zoo.MODELS[name](), optimizer=SGD(1e-3, momentum=0.9), parallel=parallel)
    rng = np.random.default_rng(0)
    count = samples * parallel.size
    channels, size = SHAPES.get(name, (3, 32))
    x = rng.standard_normal((count, size, size, channels), np.float32).transpose(0, 3, 1, 2)
    y = rng.integers(0, 10, count)
    ready: list[list[float]] = []

    def record(ran: Any, stamps: list[float]) -> None:
        """When each bucket was ready: the time of all steps before it but for what was spent on sending."""
        if len(ran) <= 10:  # not the plan
            return
        spent, found = 0.0, {}
        for step, begin, end in zip(ran, stamps, stamps[1:], strict=False):
            if step.name == "exchange":
                found |= {k: begin - stamps[0] - spent for k, when in parallel.times.items() if begin <= when < end}
                spent += end - begin
        in_order = np.maximum.accumulate([found[k] for k in sorted(found)])
        ready.append([*in_order, stamps[-1] - stamps[0] - spent])

    recorders.append(record)
    seconds = []
    for step in range(WARM_UP + steps):
        parallel.wait()
        begin = time.perf_counter()
        trainer.train_step(x, y)
        parallel.wait()
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    recorders.remove(record)
    result = {
        "ranks": parallel.size,
        "threads": get_num_threads(),
        "samples": count,
        "seconds": np.max(parallel.gather(seconds), axis=0).tolist(),
        "ready": np.median(ready[-steps:], axis=0).tolist(),
        "bucket_bytes": parallel.bucket_sizes(),
        "allreduce": allreduce_seconds(parallel),
    }
    if parallel.rank == 0:
        print(json.dumps(result), flush=True)


def allreduce_seconds(parallel: DataParallel) -> list[tuple[int, float]]:
    """The median of each size."""
    if parallel.size == 1:
        return []
    from mpi4py import MPI

    found = []
    for nbytes in SIZES:
        values, times = np.zeros(nbytes // 4, np.float32), []
        for _ in range(7):
            MPI.COMM_WORLD.Barrier()
            begin = time.perf_counter()
            MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, values)
            times.append(time.perf_counter() - begin)
        found.append((nbytes, float(np.median(times[1:]))))
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
