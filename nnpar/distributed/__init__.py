"""Training on several processes and machines, by MPI: ``mpiexec -n 4 python train.py`` (``pip install 'nnpar[mpi]'``).

The same program runs with and without MPI: alone, it is one process of one.
"""

from nnpar.distributed.data_parallel import DataParallel, scaled_lr
from nnpar.distributed.mesh import Axis, Mesh
from nnpar.distributed.model_parallel import ModelParallel
from nnpar.distributed.pipeline import PipelineParallel
from nnpar.distributed.ranks import Ranks
from nnpar.distributed.row_parallel import RowParallel
from nnpar.distributed.rows import GatherRows, RowParallelConv2d, Rows, ScatterRows, rows_of
from nnpar.distributed.tensor import TensorParallelDropout, TensorParallelLinear
from nnpar.distributed.tensor_parallel import TensorParallel, full_state_dict, load_full_state_dict
from nnpar.distributed.world import threads_of_a_rank

__all__ = [
    "Axis",
    "DataParallel",
    "GatherRows",
    "Mesh",
    "ModelParallel",
    "PipelineParallel",
    "Ranks",
    "RowParallel",
    "RowParallelConv2d",
    "Rows",
    "ScatterRows",
    "TensorParallel",
    "TensorParallelDropout",
    "TensorParallelLinear",
    "full_state_dict",
    "load_full_state_dict",
    "rows_of",
    "scaled_lr",
    "threads_of_a_rank",
]
