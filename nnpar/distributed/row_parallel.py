"""Training on images that are divided by their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar.distributed.batch_norm import SumsOfAll
from nnpar.distributed.buckets import BUCKET_MB
from nnpar.distributed.mesh import Place
from nnpar.distributed.model_parallel import ModelParallel
from nnpar.distributed.rows import GatherRows, RowParallelConv2d, RowsLayer, ScatterRows
from nnpar.layers.activation import Activation, PReLU, ReLU
from nnpar.layers.base import Layer
from nnpar.layers.batch_norm import BatchNorm, BatchNorm2d
from nnpar.layers.conv import Conv2d
from nnpar.layers.dropout import Dropout2d
from nnpar.layers.lowering import Together
from nnpar.layers.merging import Add
from nnpar.layers.pooling import AvgPool2d, MaxPool2d

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from nnpar.gradients import Batch, Gradients


class RowParallel(ModelParallel):
    """Processes that share the rows of images: ``Trainer(model, parallel=RowParallel())`` under ``mpiexec -n 2 python
    train.py``, or alone.

    Every process makes the same model and reads all images of a batch; with ``Mesh(data=2, tensor=2)``, each two of
    them read half of them. Between `ScatterRows` and `GatherRows` a process computes its rows: in `RowParallelConv2d`,
    convolutions of 1x1, `BatchNorm2d`, whose statistics are of all rows, activations, `Dropout2d`, sums, and poolings
    without overlap. Gradients of those layers are summed over processes, in their order; layers before and after
    are computed by each, and stay the same in all. Process 0 prints, logs and saves.

    Parameters
    ----------
    comm : Mesh or mpi4py.MPI.Comm, optional
        What the layers' `Rows` were given; all processes by default.
    bucket_mb : float
        See :class:`DataParallel`, for the mesh's axis `data`.

    Raises
    ------
    ImportError
        If mpiexec has started the program, and mpi4py is missing.
    ValueError
        If an argument is out of range. From `Trainer`: if a layer stands where it does not work; the error names it.

    Notes
    -----
    All machines must have the same instruction set: what is not divided is computed by each process, in the same bits.

    Examples
    --------
    >>> from nnpar import Flatten, Linear, MaxPool2d, ReLU, Sequential, Trainer, data
    >>> from nnpar.distributed import GatherRows, RowParallel, RowParallelConv2d, Rows, ScatterRows
    >>> train, test = data.digits()
    >>> rows = Rows(8)
    >>> convolution = RowParallelConv2d(1, 16, 3, rows=rows)
    >>> head = GatherRows(rows.pooled(2)), Flatten(), Linear(256, 10)
    >>> model = Sequential(ScatterRows(rows), convolution, ReLU(), MaxPool2d(2), *head)
    >>> history = Trainer(model, parallel=RowParallel()).fit(train, test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.8
    True
    """

    def __init__(self, comm: Place = None, bucket_mb: float = BUCKET_MB) -> None:
        super().__init__(comm, bucket_mb)
        self._sums = None
        if self.axis.comm is not None and self.axis.size > 1:
            self._sums = SumsOfAll(self.axis.comm, lambda: 1.0)
        self._divided: list[slice] = []

    def check(self, model: Layer) -> None:
        self._divided_layers(model)

    def _divided_layers(self, model: Layer) -> set[int]:
        """Identities of the layers that see a process's rows only."""
        divided: list[bool] = []
        found: set[int] = set()
        nodes = model.nodes()
        for node in nodes:
            layer, own = node.layer, [divided[number] if number >= 0 else False for number in node.inputs]
            who = layer.describe(node.name)
            if layer.trained_by not in ("", "RowParallel"):
                raise ValueError(f"{who}: expected Trainer(parallel={layer.trained_by}(...)), got RowParallel")
            if isinstance(layer, (RowsLayer, RowParallelConv2d)):
                if layer.rows.axis.size != self.axis.size:
                    raise ValueError(
                        f"{who}: expected {self.axis.size} processes, as RowParallel has, got {layer.rows.axis.size}"
                    )
                if own[0] == isinstance(layer, ScatterRows):
                    raise ValueError(
                        f"{who}: input: expected {'whole images' if own[0] else 'rows of images, after ScatterRows'}"
                    )
            elif any(own) and not (all(own) and _works_on_rows(layer)):
                raise ValueError(
                    f"{who}: expected whole images, on whose rows alone it does not work; put a GatherRows before it"
                )
            elif not any(own) and isinstance(layer, BatchNorm) and self.axis.size > 1:
                raise ValueError(f"{who}: expected it between ScatterRows and GatherRows, as its statistics are summed")
            if isinstance(layer, RowParallelConv2d) or any(own):
                found.add(id(layer))
            divided.append(not isinstance(layer, GatherRows) and (isinstance(layer, ScatterRows) or any(own)))
        if any(divided[number] for number in model.output_nodes(nodes)):
            raise ValueError("RowParallel: expected a model whose output is whole, got rows; put a GatherRows last")
        return found

    def attach(self, gradients: Gradients) -> None:
        """All begin with the weights of process 0."""
        self._begin_as_first(gradients, [gradients.values, *gradients.statistics])
        layers = self._divided_layers(gradients.model)
        self._divided = []
        for slot in gradients.slots:
            if id(slot.layer) in layers:
                self._divided.append(slice(slot.start, slot.start + slot.size))
        size = self.axis.size
        share = -(-sum(part.stop - part.start for part in self._divided) // size)
        self._sent, self._received = np.zeros((size, share), np.float32), np.zeros((size, share), np.float32)

    def together(self, gradients: Gradients) -> Together | None:
        return self._sums

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        if self._sums is not None:
            self._sums.begin()
        totals = super().compute(gradients, batches, epoch)
        if self.axis.comm is not None and self.axis.size > 1:
            self._sum(self.axis.comm, gradients.flat)
        return totals

    def _sum(self, comm: Comm, flat: Array) -> None:
        """Each process adds up a share of the gradients of divided layers, in the processes' order, and all get it."""
        joined, start = self._sent.reshape(-1), 0
        for part in self._divided:
            stop = start + part.stop - part.start
            joined[start:stop] = flat[part]
            start = stop
        comm.Alltoall(self._sent, self._received)
        total = self._received[0]
        for other in self._received[1:]:
            np.add(total, other, out=total)
        comm.Allgather(total, self._sent)
        start = 0
        for part in self._divided:
            stop = start + part.stop - part.start
            flat[part] = joined[start:stop]
            start = stop


def _works_on_rows(layer: Layer) -> bool:
    """Whether a layer does with some rows what it does with them in whole images."""
    if isinstance(layer, (MaxPool2d, AvgPool2d)):
        window = layer._window
        return (
            window.kernel_size[0] == window.stride[0]
            and window.before[0] == window.after[0] == 0
            and window.dilation[0] == 1
            and not window.ceil_mode
        )
    if isinstance(layer, Conv2d):
        return layer.kernel_size[0] == layer.stride[0] == 1 and layer._before[0] == layer._after[0] == 0
    return isinstance(layer, (BatchNorm2d, ReLU, Activation, PReLU, Dropout2d, Add))
