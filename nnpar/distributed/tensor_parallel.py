"""Training with tensor parallelism, and what all processes have of a model and of a run, put together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import arrays
from nnpar._checks import Array
from nnpar._kernels.step import PythonStep, Step
from nnpar.distributed.buckets import BUCKET_MB
from nnpar.distributed.mesh import Place
from nnpar.distributed.model_parallel import ModelParallel
from nnpar.distributed.tensor import COLUMN, ROW, TensorParallelDropout, TensorParallelLinear
from nnpar.io import tensors
from nnpar.layers.activation import Activation, ReLU
from nnpar.layers.base import Layer
from nnpar.layers.dropout import Dropout
from nnpar.layers.merging import Add
from nnpar.layers.nodes import child
from nnpar.optimizers import LAMB, LARS
from nnpar.parameters import ALIGNMENT

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from nnpar.gradients import Gradients
    from nnpar.parameters import Slot


class TensorParallel(ModelParallel):
    """Processes that share dense layers, made as :class:`TensorParallelLinear`: ``Trainer(model,
    parallel=TensorParallel())`` under ``mpiexec -n 2 python train.py``, or alone.

    Every process makes the same model, and computes all samples of a batch; with ``Mesh(data=2, tensor=2)``, each two
    of them compute half of the samples. Parameters that are not split begin as those of process 0, which alone prints,
    logs and calls callbacks, and stay the same in all, since their gradients do.

    Parameters
    ----------
    comm : Mesh or mpi4py.MPI.Comm, optional
        What the layers were given; all processes by default.
    bucket_mb : float
        See :class:`DataParallel`, for the mesh's axis `data`; so is
    sync_batch_norm : bool

    Raises
    ------
    ImportError
        If mpiexec has started the program, and mpi4py is missing.
    ValueError
        If an argument is out of range. From `Trainer`: if the model's layers do not fit together, or the optimizer is
        LARS or LAMB, which want norms of whole layers. From `fit`: if callbacks want to keep the best model, which no
        process has as a whole; see :func:`full_state_dict`.

    Notes
    -----
    Checkpoints hold the whole: a run goes on with any number of processes, and also with plain layers in one.

    Between a layer split by column and one split by row only activations, `TensorParallelDropout` and sums may stand.
    All machines must have the same instruction set: what is not split is computed by each process, in the same bits.

    Examples
    --------
    >>> from nnpar import Flatten, ReLU, Sequential, Trainer, data
    >>> from nnpar.distributed import TensorParallel, TensorParallelLinear
    >>> train, test = data.digits()
    >>> first, second = TensorParallelLinear(64, 128), TensorParallelLinear(128, 10, split="row")
    >>> trainer = Trainer(Sequential(Flatten(), first, ReLU(), second), parallel=TensorParallel())
    >>> history = trainer.fit(train, validation=test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.8
    True
    """

    def __init__(self, comm: Place = None, bucket_mb: float = BUCKET_MB, sync_batch_norm: bool = False) -> None:
        super().__init__(comm, bucket_mb, sync_batch_norm)
        self.divides_layers = self.axis.size > 1
        # By the identity of this process's array: the whole, and what makes a whole this process's part.
        self._wholes: dict[int, tuple[Array, Callable[[Array], Array]]] = {}

    def check(self, model: Layer) -> None:
        slices: list[bool] = []
        nodes = model.nodes()
        for node in nodes:
            layer, own = node.layer, [slices[number] if number >= 0 else False for number in node.inputs]
            who = layer.describe(node.name)
            if layer.trained_by not in ("", "TensorParallel"):
                raise ValueError(f"{who}: expected Trainer(parallel={layer.trained_by}(...)), got TensorParallel")
            if isinstance(layer, TensorParallelLinear):
                if layer._axis.size != self.axis.size:
                    raise ValueError(
                        f"{who}: expected {self.axis.size} processes, as TensorParallel has, got {layer._axis.size}"
                    )
                if own[0] != (layer.split == ROW) and self.axis.size > 1:
                    expected = (
                        "a slice, of a layer split by column without gather" if layer.split == ROW else "the whole"
                    )
                    raise ValueError(f"{who}: input: expected {expected}, got {'a slice' if own[0] else 'the whole'}")
                slices.append(layer.split == COLUMN and not layer.gather and self.axis.size > 1)
            elif any(own):
                if not all(own) or not isinstance(layer, (ReLU, Activation, TensorParallelDropout, Add)):
                    hint = "; there is TensorParallelDropout" if isinstance(layer, Dropout) else ""
                    raise ValueError(f"{who}: expected no slice of the features, on which it does not work{hint}")
                slices.append(True)
            else:
                slices.append(False)
        if any(slices[number] for number in model.output_nodes(nodes)):
            raise ValueError("TensorParallel: expected a model whose output is whole, got a slice; set gather=True")

    def attach(self, gradients: Gradients) -> None:
        """What is not split begins as that of process 0."""
        if self.axis.size > 1 and isinstance(gradients.optimizer, (LARS, LAMB)):
            got = type(gradients.optimizer).__name__
            raise ValueError(f"TensorParallel: optimizer: expected one without norms of layers, got {got}")
        views = [gradients.values[slot.start : slot.start + slot.size] for slot in gradients.slots if not _split(slot)]
        self._begin_as_first(gradients, [*views, *gradients.statistics])

    def collect(self, gradients: Gradients) -> None:
        """Put together what is split of the weights, the optimizer's state and the average."""
        if self.axis.size == 1:
            return
        self._optimizer, self._collected = gradients.optimizer, gradients.optimizer.steps_done
        self._wholes = {}
        for slot in filter(_split, gradients.slots):
            array = slot.layer._arrays[slot.attribute]
            self._wholes[id(array)] = _whole(slot, array), partial(_own, slot)
        flat = FlatLayout(gradients.slots)
        averages = [] if gradients.average is None else gradients.average.averages
        for array in (*gradients.optimizer.state.values(), *averages):
            if array.shape == gradients.values.shape:
                self._wholes[id(array)] = flat.whole(array), flat.own

    def whole_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self._wholes and self._optimizer.steps_done != self._collected:
            raise RuntimeError("TensorParallel: there was a step since all processes put their parts together")
        return {
            name: self._wholes[id(array)][0] if id(array) in self._wholes else array for name, array in arrays.items()
        }

    def take_whole(self, arrays: Mapping[str, NDArray[Any]], whole: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            if id(array) in self._wholes:
                _, own_part = self._wholes[id(array)]
                np.copyto(array, own_part(whole[name]))

    def clip(self, flat: Array, slots: Sequence[Slot], most: float) -> tuple[Step, Callable[[], float]]:
        if self.axis.comm is None or self.axis.size == 1:
            return super().clip(flat, slots, most)
        clip = _ClipNormOfAll(self.axis.comm, flat, slots, most)
        return PythonStep(clip, "clip_norm", 3.0 * flat.nbytes), lambda: clip.norm


class _ClipNormOfAll:
    """Called, it scales the gradients if their Euclidean norm, with the slices of all processes, is above `most`."""

    def __init__(self, comm: Comm, flat: Array, slots: Sequence[Slot], most: float) -> None:
        self.norm = 0.0
        self._comm, self._flat, self._most = comm, flat, most
        self._parts = [(flat[slot.start : slot.start + slot.size], _split(slot)) for slot in slots]

    def __call__(self) -> None:
        squares = [0.0, 0.0]
        for part, split in self._parts:
            squares[split] += float(np.einsum("i,i", part, part, dtype=np.float64))
        self.norm = math.sqrt(squares[False] + self._comm.allreduce(squares[True]))
        if math.isfinite(self.norm) and self.norm > self._most:
            np.multiply(self._flat, np.float32(self._most / (self.norm + 1e-6)), out=self._flat)


class FlatLayout:
    """Where parameters lie in flat arrays of a process, and of a model that is not divided.

    Parameters
    ----------
    slots : sequence of Slot
        This process's.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._starts: list[int] = []
        self._size = self._own_size = 0
        for slot in slots:
            self._starts.append(self._size)
            self._size += _padded(math.prod(_whole_shape(slot)))
            self._own_size += _padded(slot.size)

    def whole(self, own: Array) -> Array:
        """Of all processes, which call this together."""
        whole = arrays.zeros((self._size,))
        for slot, start in zip(self._slots, self._starts, strict=True):
            part = own[slot.start : slot.start + slot.size].reshape(slot.layer._arrays[slot.attribute].shape)
            joined = _whole(slot, part).reshape(-1)
            whole[start : start + joined.size] = joined
        return whole

    def own(self, whole: Array) -> Array:
        """The opposite: what this process has of it."""
        own = arrays.zeros((self._own_size,))
        for slot, start in zip(self._slots, self._starts, strict=True):
            shape = _whole_shape(slot)
            part = whole[start : start + math.prod(shape)].reshape(shape)
            own[slot.start : slot.start + slot.size] = _own(slot, part).reshape(-1)
        return own


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _split(slot: Slot) -> bool:
    return isinstance(slot.layer, TensorParallelLinear) and slot.layer.is_split(slot.attribute)


def _whole(slot: Slot, own: Array) -> Array:
    return slot.layer.whole(slot.attribute, own) if isinstance(slot.layer, TensorParallelLinear) else own


def _own(slot: Slot, whole: Array) -> Array:
    return slot.layer.slice_of(slot.attribute, whole) if isinstance(slot.layer, TensorParallelLinear) else whole


def _whole_shape(slot: Slot) -> tuple[int, ...]:
    if isinstance(slot.layer, TensorParallelLinear):
        return slot.layer.shape_of(slot.attribute)
    return slot.layer._arrays[slot.attribute].shape


def full_state_dict(model: Layer) -> dict[str, Array]:
    """The state of a model whose layers are divided among processes, as a plain model has it: with `Linear` in place of
    each `TensorParallelLinear`, under the same names. All processes call it together.

    Parameters
    ----------
    model : Layer

    Returns
    -------
    dict of str to ndarray of float32
        Copies, whole and the same in all processes.

    Examples
    --------
    >>> from nnpar import Linear, Sequential
    >>> from nnpar.distributed import TensorParallelLinear, full_state_dict
    >>> model = Sequential(TensorParallelLinear(8, 32), TensorParallelLinear(32, 4, split="row"))
    >>> plain = Sequential(Linear(8, 32), Linear(32, 4))
    >>> plain.load_state_dict(full_state_dict(model))
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    found: dict[str, Array] = {}
    for node in model.nodes():
        layer = node.layer
        for attribute, array in {**layer._arrays, **layer._statistics}.items():
            whole = layer.whole(attribute, array) if isinstance(layer, TensorParallelLinear) else array.copy()
            found[child(node.name, attribute)] = whole
    return found


def load_full_state_dict(model: Layer, state_dict: Mapping[str, ArrayLike] | str | os.PathLike[str]) -> None:
    """Give each process its part of a whole model's state: the opposite of :func:`full_state_dict`.

    Parameters
    ----------
    model : Layer
    state_dict : mapping of str to array_like, or path-like
        Or a file of it, which each process reads.

    Raises
    ------
    ValueError
        If names or shapes are not those of the model.

    Examples
    --------
    >>> from nnpar import Linear, Sequential
    >>> from nnpar.distributed import TensorParallelLinear, load_full_state_dict
    >>> load_full_state_dict(Sequential(TensorParallelLinear(8, 4)), Sequential(Linear(8, 4)).state_dict())
    """
    given: dict[str, Any]
    given = dict(state_dict) if isinstance(state_dict, Mapping) else tensors.read(state_dict)[0]
    for node in model.nodes():
        if isinstance(node.layer, TensorParallelLinear):
            for attribute in node.layer._arrays:
                name, shape = child(node.name, attribute), node.layer.shape_of(attribute)
                if name in given:
                    whole: NDArray[Any] = np.asarray(given[name])
                    if whole.shape != shape:
                        raise ValueError(f"load_full_state_dict: {name}: expected shape {shape}, got {whole.shape}")
                    given[name] = node.layer.slice_of(attribute, whole)
    model.load_state_dict(given)
