"""Training on several processes and machines, by MPI: ``mpiexec -n 4 python train.py`` (``pip install 'nnpar[mpi]'``).

The same program runs with and without MPI: alone, it is one process of one.
"""

from nnpar.distributed.data_parallel import DataParallel, scaled_lr
from nnpar.distributed.pipeline import PipelineParallel
from nnpar.distributed.ranks import Ranks
from nnpar.distributed.world import threads_of_a_rank, world

__all__ = ["DataParallel", "PipelineParallel", "Ranks", "scaled_lr", "threads_of_a_rank", "world"]
