"""What :mod:`nnpar.integrations.spark.barrier` starts: one process of the training, with the samples in its folder."""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from nnpar import checkpoints, threads
from nnpar.distributed import DataParallel, world
from nnpar.integrations.spark.partitions import Partition, PartitionLoader, Spilled, by_content
from nnpar.trainer import Trainer

# Files in the folder.
STATE, RESULT, JOB, VALIDATION, RUN = "state.safetensors", "result.safetensors", "job", "validation", "run.json"


def main(folders: Sequence[str]) -> None:
    """Train, and leave the trainer's state in the folder of rank 0.

    Parameters
    ----------
    folders : sequence of str
        In the order of ranks.
    """
    comm = world.world()
    rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
    folder = Path(folders[rank])
    try:
        if size != len(folders):
            raise RuntimeError(f"MPI: expected {len(folders)} processes, got {size}: is mpi4py made for MPICH?")
        # What Spark has brought here itself, from the driver.
        model, loss, optimizer, options = pickle.loads((folder / JOB).read_bytes())
        validation = pickle.loads((folder / VALIDATION).read_bytes())
        run = json.loads((folder / RUN).read_text())
        if threads.num_threads_source() != "NNPAR_NUM_THREADS":
            threads.set_num_threads(run["threads"])
        trainer = Trainer(model, loss, optimizer, parallel=DataParallel(comm=comm), **options)
        checkpoints.restore(trainer, folder / STATE)
        images, labels = Spilled(*run["spilled"][rank]).read(folder)
        counts = [spilled[0] for spilled in run["spilled"]]
        partition = Partition(images, labels, sum(counts[:rank]), sum(counts), by_content(images, labels))
        loader = PartitionLoader(partition, run["batch_size"], run["shuffle"])
        trainer.fit(loader, validation, run["epochs"], progress=False)
        if rank == 0:
            checkpoints.save(trainer, folder / RESULT)
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
