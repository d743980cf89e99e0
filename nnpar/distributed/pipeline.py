"""Pipeline parallelism: each process computes some layers in a row, for one part of a batch after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.elementwise import Add
from nnpar._kernels.optimizer import Scale
from nnpar._kernels.step import PythonStep, Step
from nnpar.batches import take
from nnpar.distributed.mesh import Axis, Mesh
from nnpar.distributed.ranks import Ranks, mean_statistics
from nnpar.layers.composite import Sequential
from nnpar.plan import Plan, PlanCache

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from nnpar.gradients import Batch, Gradients
    from nnpar.layers.base import Layer
    from nnpar.parameters import Slot
    from nnpar.shapes import Shape

FORWARD, BACKWARD, RESULT = 1, 2, 3  # tags of messages
MOST_PLANS = 4  # shapes of microbatches
BYTES_AS_FLOPS = 10.0  # arithmetic operations in the time in which a byte is moved, for the balance of stages


class PipelineParallel(Ranks):
    """Processes that share the layers of a Sequential: ``Trainer(model, parallel=PipelineParallel())`` under ``mpiexec
    -n 4 python train.py``, or alone.

    A batch is cut into microbatches. Process k computes stage k for one after the other: forward for as many as there
    are stages after it, then one backward and one forward in turn (1F1B), so that it keeps the activations of few. The
    gradients of the microbatches are added in their order: the weights are the same bits for any number of processes.

    Activations, gradients and the optimizer's state are those of a process's own stage; weights come together in all
    for validation, and at the end of `fit`. Each process reads the batches; the first uses the images, the last the
    targets.

    With a mesh of several pipelines, each computes its part of every batch, as :class:`DataParallel` does; then sums
    over pipelines are MPI's.

    Parameters
    ----------
    microbatches : int
        Of a batch; the more, the less stages wait for each other.
    boundaries : sequence of int, optional
        The numbers of the layers with which the second and all later stages begin. By default stages take about as
        long, by the operations and bytes of a plan.
    input_shape : tuple of int, optional
        Of one sample: needed for the balance of stages.
    comm : Mesh or mpi4py.MPI.Comm, optional
        Of a mesh the axes `pipeline` and `data`; one pipeline of all processes by default.

    Raises
    ------
    ImportError
        If mpiexec has started the program, and mpi4py is missing.
    ValueError
        If an argument is out of range. From `Trainer`: if the model is no Sequential of at least as many layers as
        processes.

    Examples
    --------
    >>> from nnpar import Trainer, data, zoo
    >>> from nnpar.distributed import PipelineParallel
    >>> train, test = data.digits()
    >>> trainer = Trainer(zoo.digits_cnn(), parallel=PipelineParallel(microbatches=4))
    >>> history = trainer.fit(train, validation=test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.5
    True
    """

    def __init__(
        self,
        microbatches: int = 8,
        boundaries: Sequence[int] | None = None,
        input_shape: Shape | None = None,
        comm: Mesh | Comm | None = None,
    ) -> None:
        super().__init__(comm.comm if isinstance(comm, Mesh) else comm)
        self._pipe, self._data = Axis(self._comm, self.rank, self.size), Axis(None, 0, 1)
        if isinstance(comm, Mesh):
            if comm.tensor.size > 1:
                raise ValueError(f"PipelineParallel: comm: expected a mesh with tensor=1, got {comm!r}")
            self._pipe, self._data = comm.pipeline, comm.data
        self.microbatches = _checks.integer(microbatches, "PipelineParallel", "microbatches", 1)
        self._wanted = None
        if boundaries is not None:
            self._wanted = list(_checks.integers(boundaries, "PipelineParallel", "boundaries", 1))
        self._input_shape = input_shape
        self.boundaries: list[int] = []
        self._part = slice(0, 0)
        self._plans: list[PlanCache] = []
        self._sends: list[tuple[Request, NDArray[Any]]] = []

    @property
    def is_last(self) -> bool:
        """Whether this process computes the loss."""
        return self._pipe.rank == self._pipe.size - 1

    def part(self, model: Layer, slots: Sequence[Slot], size: int) -> slice:
        who = "PipelineParallel"
        super().part(model, slots, size)
        if not isinstance(model, Sequential) or len(model) < self._pipe.size:
            got = f"{len(model)} layers" if isinstance(model, Sequential) else type(model).__name__
            raise ValueError(f"{who}: model: expected a Sequential of at least {self._pipe.size} layers, got {got}")
        self.boundaries = self._wanted if self._wanted is not None else self._balanced(model)
        edges = [0, *self.boundaries, len(model)]
        if len(edges) != self._pipe.size + 1 or any(a >= b for a, b in itertools.pairwise(edges)):
            raise ValueError(
                f"{who}: boundaries: expected {self._pipe.size - 1} ascending numbers between 0 and {len(model)}, "
                f"got {self.boundaries}"
            )
        starts = [_first_slot(slots, model, edge, size) for edge in edges]
        self._slices = [slice(a, b) for a, b in itertools.pairwise(starts)]
        self._part = self._slices[self._pipe.rank]
        self._stage = Sequential(*list(model)[edges[self._pipe.rank] : edges[self._pipe.rank + 1]])
        self._before = list(model)[: edges[self._pipe.rank]]
        self._first_index = sum(len(layer.nodes()) for layer in self._before)
        self._statistics = [
            [array for layer in list(model)[a:b] for node in layer.nodes() for array in node.layer._statistics.values()]
            for a, b in itertools.pairwise(edges)
        ]
        return self._part

    def _balanced(self, model: Sequential) -> list[int]:
        """Boundaries that make the longest stage as short as can be."""
        if self._pipe.size == 1:
            return []
        shape = self._input_shape
        if shape is None:
            raise ValueError("PipelineParallel: input_shape: expected the shape of a sample, or boundaries, got none")
        costs = np.zeros(len(model))
        for layer, flops, nbytes in Plan(model, (8, *shape), training=True).costs():
            costs[int(layer.partition(".")[0])] += flops + BYTES_AS_FLOPS * nbytes
        return balanced(costs.tolist(), self._pipe.size)

    def attach(self, gradients: Gradients) -> None:
        """All begin with the weights of process 0."""
        own = {
            (id(slot.layer), slot.attribute): gradients.by_name[slot.name]
            for slot in gradients.slots
            if self._part.start <= slot.start < self._part.stop
        }
        self._gradients = {
            f"{node.name}.{attribute}": own[id(node.layer), attribute]
            for node in self._stage.nodes()
            for attribute in node.layer._arrays
        }
        self._sum = np.zeros(self._part.stop - self._part.start, np.float32)
        flat = gradients.flat[self._part]
        self._scale, self._take_sum = Scale(flat, flat), Scale(self._sum, flat)
        self._add = Add(self._sum, flat, self._sum)
        # As many microbatches are on their way between this stage and the last.
        self._plans = [PlanCache(MOST_PLANS) for _ in range(self._pipe.size - self._pipe.rank)]
        self.share_arrays([gradients.values, *gradients.statistics])

    def clip(self, flat: Array, slots: Sequence[Slot], most: float) -> tuple[Step, Callable[[], float]]:
        own = [slot for slot in slots if self._part.start <= slot.start < self._part.stop]
        clip = _ClipNorm(self._pipe.comm, flat[self._part], [flat[s.start : s.start + s.size] for s in own], most)
        return PythonStep(clip, "clip_norm", 3.0 * clip.flat.nbytes), lambda: clip.norm

    def parts(self, number: int, count: int) -> list[slice]:
        first, last = (count * (self._data.rank + k) // self._data.size for k in (0, 1))
        cuts = [first + (last - first) * k // self.microbatches for k in range(self.microbatches + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(cuts)]

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        lane = [part for parts in batches for part in parts if len(part)]
        results = np.zeros((len(lane), 4))
        self._sum[...] = 0.0
        plans: dict[int, Plan] = {}
        ahead = min(self._pipe.size - 1 - self._pipe.rank, len(lane))
        for number in range(ahead):
            plans[number] = self._forward(gradients, lane[number], number, epoch)
        for number in range(len(lane)):
            if number + ahead < len(lane):
                later = number + ahead
                plans[later] = self._forward(gradients, lane[later], later, epoch)
            results[number] = self._backward(gradients, plans.pop(number), lane[number], epoch)
        for request, _ in self._sends:
            request.Wait()
        self._sends = []
        totals = np.zeros(4)
        for result in results:
            totals += result
        if self._data.size > 1:
            totals = self._sum_over_pipelines(totals, sum(map(len, lane)))
        self._take_sum.by(1.0 / totals[2] if totals[2] else 0.0)
        return totals

    def _sum_over_pipelines(self, totals: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
        """Sums of this stage's gradients and of the losses' results; statistics become the mean over samples."""
        assert self._data.comm is not None
        from mpi4py import MPI

        self._data.comm.Allreduce(MPI.IN_PLACE, self._sum)
        return mean_statistics(self._data.comm, totals, samples, self._statistics[self._pipe.rank])

    def _forward(self, gradients: Gradients, batch: Batch, number: int, epoch: int) -> Plan:
        plan = self._plan(gradients, batch, number)
        if self._pipe.rank == 0:
            take(batch.images, batch.index, plan.x)
        else:
            self._receive(plan.x, self._pipe.rank - 1, FORWARD)
        gradients.position.move(epoch, batch.sample)
        if self.is_last:
            take(batch.targets, batch.index, plan.target.reshape(len(batch), *batch.targets.shape[1:]))
            if batch.weights is not None and plan.sample_weights is not None:
                take(batch.weights, batch.index, plan.sample_weights)
            plan.run()  # backward at once
        else:
            plan.run_forward()
            self._send(plan.y, self._pipe.rank + 1, FORWARD)
        gradients.latest = plan
        return plan

    def _backward(self, gradients: Gradients, plan: Plan, batch: Batch, epoch: int) -> NDArray[np.float64]:
        """Adds to the sum of gradients; returns the loss's result."""
        if self.is_last:
            result: NDArray[np.float64] = plan.result.copy()
        else:
            assert self._pipe.comm is not None
            result = np.empty(4)
            self._pipe.comm.Recv(result, self._pipe.rank + 1, RESULT)
            self._receive(plan.dy, self._pipe.rank + 1, BACKWARD)
            gradients.position.move(epoch, batch.sample)
            plan.run_backward()
        if self._pipe.rank > 0:
            assert self._pipe.comm is not None
            self._sends.append((self._pipe.comm.Isend(result, self._pipe.rank - 1, RESULT), result))
            self._send(plan.dx, self._pipe.rank - 1, BACKWARD)
        self._scale.by(result[2])
        self._add()
        return result

    def _plan(self, gradients: Gradients, batch: Batch, number: int) -> Plan:
        """Of this stage for such a microbatch, in memory of its own among those that are on their way."""
        weighted, dtype = batch.weights is not None, batch.targets.dtype
        shape = (len(batch), *batch.images.shape[1:])
        for layer in self._before:
            shape = layer.output_shape(shape)

        def make(arena: Any) -> Plan:
            return Plan(
                self._stage,
                shape,
                training=True,
                loss=gradients.loss if self.is_last else None,
                gradients=self._gradients,
                position=gradients.position,
                needs_dx=self._pipe.rank > 0,
                arena=arena,
                recompute=gradients.recompute,
                sample_weights=weighted,
                target_dtype=dtype,
                first_index=self._first_index,
            )

        return self._plans[number % len(self._plans)].get((shape, weighted, dtype), make)

    def _send(self, array: Array, rank: int, tag: int) -> None:
        assert self._pipe.comm is not None
        copy = _in_memory_order(array).copy()
        self._sends.append((self._pipe.comm.Isend(copy, rank, tag), copy))
        self._sends = [(request, buffer) for request, buffer in self._sends if not request.Test()]

    def _receive(self, array: Array, rank: int, tag: int) -> None:
        assert self._pipe.comm is not None
        memory = _in_memory_order(array)
        self._pipe.comm.Recv(memory, rank, tag)

    def collect(self, gradients: Gradients) -> None:
        """All stages' weights, statistics and averages in all processes, and the optimizer's state in process 0."""
        if self._pipe.comm is None or self._pipe.size == 1:
            return
        averages = [] if gradients.average is None else gradients.average.averages
        first = 1  # average of this stage's statistics
        for rank, part in enumerate(self._slices):
            statistics = self._statistics[rank]
            of_stage = [gradients.values[part], *statistics]
            if averages:
                of_stage += [averages[0][part], *averages[first : first + len(statistics)]]
                first += len(statistics)
            for array in of_stage:
                self._pipe.comm.Bcast(array, rank)
            for array in gradients.optimizer.state.values():
                if array.shape == gradients.values.shape and rank != 0 and self._data.rank == 0:
                    if self._pipe.rank == rank:
                        self._pipe.comm.Send(array[part], 0)
                    elif self._pipe.rank == 0:
                        self._pipe.comm.Recv(array[part], rank)


class _ClipNorm:
    """Called, it scales this stage's gradients if the Euclidean norm of all stages' is above `most`. Squares are added
    up for each parameter, and then in the order of these, whatever stages they are in.
    """

    def __init__(self, comm: Comm | None, flat: Array, parameters: Sequence[Array], most: float) -> None:
        self.flat, self.norm = flat, 0.0
        self._comm, self._parameters, self._most = comm, parameters, most

    def __call__(self) -> None:
        squares = [float(np.einsum("i,i", each, each, dtype=np.float64)) for each in self._parameters]
        stages = [squares] if self._comm is None else self._comm.allgather(squares)
        self.norm = math.sqrt(sum(itertools.chain.from_iterable(stages)))
        if math.isfinite(self.norm) and self.norm > self._most:
            np.multiply(self.flat, np.float32(self._most / (self.norm + 1e-6)), out=self.flat)


def balanced(costs: Sequence[float], stages: int) -> list[int]:
    """Where to cut so that the largest sum is as small as can be; no part is empty.

    Parameters
    ----------
    costs : sequence of float
    stages : int

    Returns
    -------
    list of int
        Where the second and later parts begin.

    Examples
    --------
    >>> from nnpar.distributed.pipeline import balanced
    >>> balanced([1.0, 1.0, 4.0, 1.0, 2.0], 3)
    [2, 3]
    """
    count = len(costs)
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    best = sums.copy()  # of the first k layers in one stage
    best[0] = np.inf
    cuts: list[list[int]] = [[] for _ in range(count + 1)]
    for stage in range(1, stages):
        longest, found = np.full(count + 1, np.inf), list(cuts)
        for end in range(stage + 1, count + 1):
            starts = range(stage, end)
            worst = [max(best[start], sums[end] - sums[start]) for start in starts]
            k = int(np.argmin(worst))
            longest[end], found[end] = worst[k], [*cuts[starts[k]], starts[k]]
        best, cuts = longest, found
    return cuts[count]


def _first_slot(slots: Sequence[Slot], model: Sequential, layer: int, size: int) -> int:
    """Where the parameters of that layer and those after it begin."""
    later = {id(node.layer) for each in list(model)[layer:] for node in each.nodes()}
    return next((slot.start for slot in slots if id(slot.layer) in later), size)


def _in_memory_order(array: Array) -> Array:
    """The elements of a plan's array as they lie, a view."""
    flat: Array = array.transpose(np.argsort([-stride for stride in array.strides], kind="stable")).reshape(-1)
    assert np.may_share_memory(flat, array)
    return flat
