"""A model lowered for one input shape: the list of its steps, and one arena for all that they read and write."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import recompute as recomputation
from nnpar import threads
from nnpar._checks import Array
from nnpar._kernels.elementwise import Add, Position
from nnpar._kernels.step import Program, Step, aligned_empty
from nnpar.convolution import get_precision
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Call, Lowering
from nnpar.layers.nodes import INPUT, Node, child
from nnpar.losses import Loss
from nnpar.memory import Lifetime, arrange
from nnpar.shapes import Shape


@dataclass(frozen=True)
class Memory:
    """Bytes that a plan holds.

    Attributes
    ----------
    arena : int
        Activations, gradients of activations and scratch memory, those in one place that are never needed at once.
    apart : int
        The same if each had a place of its own.
    again_flops, again_bytes : float
        Arithmetic operations and bytes moved to compute activations again, instead of keeping them.
    """

    arena: int
    apart: int
    again_flops: float = 0.0
    again_bytes: float = 0.0


class Arena:
    """Memory for plans of which one runs at a time: as much as the largest of them wants."""

    def __init__(self) -> None:
        self._memory = aligned_empty(0)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """So many bytes, perhaps those that were taken before."""
        if self._memory.nbytes < nbytes:
            self._memory = aligned_empty(nbytes)
        return self._memory[:nbytes]


class PackedWeights:
    """Weights that do not change any more, as kernels read them: packed once for all plans of a model."""

    def __init__(self) -> None:
        self._memory: dict[tuple[int, str], NDArray[np.uint8]] = {}

    def give(self, step: Step, node: int) -> None:
        """Let the step of the model's node `node` read packed weights, if it does."""
        if step.prepacked_bytes:
            key = node, step.name
            fill = key not in self._memory
            memory = self._memory.setdefault(key, aligned_empty(step.prepacked_bytes if fill else 0))
            step.prepack(memory, fill)

    @property
    def nbytes(self) -> int:
        """What they take."""
        return sum(memory.nbytes for memory in self._memory.values())


class Plan:
    """Steps of a model for batches of one shape, forward and, in training, backward.

    Nothing is allocated before an array is asked for, or the plan runs.

    Parameters
    ----------
    model : Layer
    input_shape : tuple
        (N, C, H, W) or (N, F).
    training : bool
        Whether dropout acts, batch normalisation takes the batch's statistics, and the backward pass is wanted.
    loss : Loss, optional
        Then `run` goes from x and target to the loss and, in training, all gradients.
    gradients : mapping of str to ndarray, optional
        For each parameter the array that gets its gradient; new arrays otherwise.
    position : Position, optional
        Where training stands, for dropout.
    needs_dx : bool
        Whether the gradient of the input is wanted.
    arena : Arena, optional
        Memory that this plan shares with others, of which one runs at a time; its own otherwise.
    weights : PackedWeights, optional
        In prediction: says that the model's parameters and statistics do not change any more, and holds what is made of
        them once.
    recompute : bool
        In training: whether the backward pass computes some activations again, so that the plan needs half the memory
        or less, if there is a way. No bit of a result changes.

    Attributes
    ----------
    x, y : ndarray
        Input, to be filled before a run, and output. A run may overwrite x.
    dy, dx : ndarray
        In training: gradient of y, which is to be filled before the backward pass if there is no loss, and of x, if
        it is wanted.
    target, result : ndarray
        With a loss: targets, to be filled; the sum of losses and the number of correct samples.
    gradients : dict of str to ndarray
    memory : Memory

    Raises
    ------
    ValueError
        If the model cannot take such an input; the error names the layer.
    """

    def __init__(
        self,
        model: Layer,
        input_shape: Shape,
        *,
        training: bool,
        loss: Loss | None = None,
        gradients: Mapping[str, Array] | None = None,
        position: Position | None = None,
        needs_dx: bool = False,
        arena: Arena | None = None,
        weights: PackedWeights | None = None,
        recompute: bool = False,
    ) -> None:
        model.output_shape(input_shape)
        nodes = model.nodes()
        self.gradients: dict[str, Array] = dict(gradients or {})
        self._calls: list[Call] = []
        self._once: list[Call] = []
        self._constants: dict[int, NDArray[np.uint8]] = {}
        self._weights = weights
        self._x = Buffer(input_shape)
        self._dx: Buffer | None = None
        places = self._lower_forward(nodes, training, position or Position())
        if weights is not None:
            self._once = [call for call in self._calls if call.once]
            self._calls = [call for call in self._calls if not call.once]
        self._y = places[-1].y
        self._forward_count = len(self._calls)
        self._dy = Buffer(self._y.shape) if training else None
        if loss is not None:
            self.target: NDArray[Any] = loss.new_target(self._y.shape)
            self.result = np.zeros(2)
            self._calls.append(Call("loss", loss.step, (self._y, self.target, self._dy, self.result)))
        self._backward_start = len(self._calls)
        if training:
            self._lower_backward(nodes, places, needs_dx)
            if recompute:
                self._recompute()
        self._memory: Memory | None = None
        self._arena: NDArray[np.uint8] | None = None
        self._shared = arena or Arena()

    def _lower_forward(self, nodes: list[Node], training: bool, position: Position) -> list[Lowering]:
        readers = [0] * len(nodes)
        readers[-1] = 1
        input_readers = 0
        for node in nodes:
            for number in node.inputs:
                if number == INPUT:
                    input_readers += 1
                else:
                    readers[number] += 1
        writers: dict[int, Call] = {}
        shared = {id(self._x)} if input_readers > 1 else set()
        places: list[Lowering] = []
        for index, node in enumerate(nodes):
            inputs = tuple(self._x if number == INPUT else places[number].y for number in node.inputs)
            owned = tuple(id(x.memory) not in shared for x in inputs)
            at = Lowering(
                node.name or type(node.layer).__name__, index, inputs, node.inputs, owned, training,
                self._weights is not None, position, self._calls, writers,
            )  # fmt: skip
            node.layer.forward(at)
            if readers[index] > 1:
                shared.add(id(at.y.memory))
            places.append(at)
        return places

    def _lower_backward(self, nodes: list[Node], places: list[Lowering], needs_dx: bool) -> None:
        wants: list[bool] = []
        for node in nodes:
            before = [needs_dx if number == INPUT else wants[number] for number in node.inputs]
            wants.append(bool(node.layer._arrays) or any(before))
        gradients: dict[int, list[tuple[Buffer, bool]]] = {len(nodes) - 1: [(self._dy, True)]}  # type: ignore[list-item]
        for index in reversed(range(len(nodes))):
            if not wants[index]:
                continue
            node, at = nodes[index], places[index]
            at.needs = tuple(needs_dx if number == INPUT else wants[number] for number in node.inputs)
            at.dy, at.owns_dy = self._sum(at.name, gradients.pop(index))
            at.gradients = {key: self._gradient(node.name, key, array) for key, array in node.layer._arrays.items()}
            node.layer.backward(at)
            for source, dx, owned in at.contributions:
                gradients.setdefault(source, []).append((dx, owned))
        if needs_dx:
            self._dx, _ = self._sum("input", gradients[INPUT])

    def _recompute(self) -> None:
        """Change the backward pass to one that needs less memory."""
        assert self._dy is not None
        forward, backward = self._calls[: self._forward_count], self._calls[self._backward_start :]
        loss = self._calls[self._forward_count : self._backward_start]
        passes = recomputation.Passes(forward, loss, backward, self._x, self._y, self._dy, self._dx)
        self._calls[self._backward_start :] = recomputation.backward(passes, lambda call: _make(call, _nowhere))

    def _sum(self, name: str, parts: list[tuple[Buffer, bool]]) -> tuple[Buffer, bool]:
        """The sum of the gradients that the readers of one value pass back, in the order in which they come."""
        total, owned = parts[0]
        for part, part_owned in parts[1:]:
            result = total if owned else part if part_owned else Buffer(total.shape)
            self._calls.append(Call(name, Add, (total, part, result)))
            total, owned = result, True
        return total, owned

    def _gradient(self, prefix: str, attribute: str, parameter: Array) -> Array:
        return self.gradients.setdefault(child(prefix, attribute), np.empty_like(parameter))

    def _arrange(self) -> None:
        """Find out how long each buffer lives, how much scratch memory each step wants, and where all lie, with the
        number of threads and the precision of now.
        """
        end = len(self._calls)
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        memories: dict[int, Buffer] = {}

        def use(buffer: Buffer, when: int) -> None:
            key = id(buffer.memory)
            memories[key] = buffer.memory
            first[key] = min(first.get(key, when), when)
            last[key] = max(last.get(key, when), when)

        constants = {id(buffer.memory) for call in self._once for buffer in call.buffers()}
        use(self._x, -1)
        use(self._y, end)
        for when, call in enumerate(self._calls):
            for buffer in call.buffers():
                if id(buffer.memory) not in constants:
                    use(buffer, when)
        if self._dy is not None:
            use(self._dy, self._forward_count)
        if self._dx is not None:
            use(self._dx, end)
        trial = [_make(call, _nowhere) for call in self._calls]
        self._costs = [(step.name, step.flops, step.bytes) for step in trial]
        lifetimes = [Lifetime(memories[key].nbytes, first[key], last[key]) for key in memories]
        lifetimes += [Lifetime(step.workspace_bytes, when, when) for when, step in enumerate(trial)]
        offsets, size = arrange(lifetimes)
        self._offsets = dict(zip(memories, offsets, strict=False))
        self._scratch = list(zip(offsets[len(memories) :], (s.workspace_bytes for s in trial), strict=True))
        again = [step for call, step in zip(self._calls, trial, strict=True) if call.again]
        self._memory = Memory(
            size,
            sum(life.nbytes for life in lifetimes),
            sum(step.flops for step in again),
            sum(step.bytes for step in again),
        )

    @property
    def memory(self) -> Memory:
        """Bytes that the plan holds, or would hold if it ran now."""
        if self._memory is None:
            self._arrange()
        assert self._memory is not None
        return self._memory

    def allocate(self) -> None:
        """Make the steps and their memory, unless they are there."""
        if self._arena is not None:
            return
        self._arrange()
        self._arena = self._shared.take(self.memory.arena)
        # Kept alive by the steps that still read them once their weights are packed.
        self._constants = {id(b.memory): aligned_empty(b.nbytes) for call in self._once for b in call.buffers()}
        for call in self._once:
            _make(call, self._array)()
        steps = []
        for call, (offset, nbytes) in zip(self._calls, self._scratch, strict=True):
            step = _make(call, self._array)
            step.layer = call.layer
            if self._weights is not None:
                self._weights.give(step, call.node)
            if nbytes:
                step.bind(self._arena[offset : offset + nbytes])
            steps.append(step)
        self._constants = {}
        self._steps = steps
        self._forward = Program(steps[: self._forward_count])
        self._backward = Program(steps[self._backward_start :])
        self._all = Program(steps)

    def _array(self, buffer: Buffer) -> NDArray[Any]:
        key = id(buffer.memory)
        if key in self._constants:
            return buffer.array(self._constants[key])
        assert self._arena is not None
        return buffer.array(self._arena[self._offsets[key] :])

    def _array_of(self, buffer: Buffer | None, name: str) -> Array:
        if buffer is None:
            raise AttributeError(f"Plan: {name}: this plan was made without it")
        self.allocate()
        return self._array(buffer)

    @functools.cached_property
    def x(self) -> Array:
        return self._array_of(self._x, "x")

    @functools.cached_property
    def y(self) -> Array:
        return self._array_of(self._y, "y")

    @functools.cached_property
    def dy(self) -> Array:
        return self._array_of(self._dy, "dy")

    @functools.cached_property
    def dx(self) -> Array:
        return self._array_of(self._dx, "dx")

    @property
    def forward_steps(self) -> list[Step]:
        """The steps from x to y."""
        self.allocate()
        return self._steps[: self._forward_count]

    @property
    def backward_steps(self) -> list[Step]:
        """The steps from dy to the gradients."""
        self.allocate()
        return self._steps[self._backward_start :]

    def run(self) -> None:
        """Forward, loss if there is one, and in training backward, in one call."""
        self.allocate()
        self._all.run()

    def run_forward(self) -> None:
        """Compute y from x."""
        self.allocate()
        self._forward.run()

    def run_backward(self) -> None:
        """Compute dx and the gradients from dy, after `run_forward`; dy may be overwritten."""
        self.allocate()
        self._backward.run()

    def flops_forward(self) -> dict[str, float]:
        """Arithmetic operations of each layer's steps from x to y."""
        work: dict[str, float] = {}
        for call, (_, flops, _) in zip(self._calls[: self._forward_count], self._step_costs(), strict=False):
            work[call.layer] = work.get(call.layer, 0.0) + flops
        return work

    def __str__(self) -> str:
        """One line for each step: layer, what it does, work; and once the plan has run, its share of the time."""
        times = self._seconds()
        total = sum(times)
        header = f"{'layer':<24} {'step':<36} {'MFLOP':>9} {'MB':>9}"
        lines = [header + (f" {'ms':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>6}" if total else "")]
        for call, (name, flops, nbytes), seconds in zip(self._calls, self._step_costs(), times, strict=True):
            step = " + ".join([name, *(key for key in ("residual", "relu") if key in call.options)])
            step = f"again: {step}" if call.again else step
            line = f"{call.layer:<24} {step:<36} {flops / 1e6:9.2f} {nbytes / 1e6:9.2f}"
            if total:
                rates = (flops / seconds / 1e9, nbytes / seconds / 1e9) if seconds else (0.0, 0.0)
                line += f" {1e3 * seconds:9.3f} {seconds / total:6.1%} {rates[0]:8.1f} {rates[1]:6.1f}"
            lines.append(line)
        memory = self.memory
        lines.append(f"arena {memory.arena / 1e6:.2f} MB; {memory.apart / 1e6:.2f} MB without overlap")
        if any(call.again for call in self._calls):
            seconds = sum(time for call, time in zip(self._calls, times, strict=True) if call.again)
            lines.append(
                f"computed again: {memory.again_flops / 1e6:.2f} MFLOP, {memory.again_bytes / 1e6:.2f} MB"
                + (f", {1e3 * seconds:.3f} ms, {seconds / total:.1%} of the time" if total else "")
            )
        return "\n".join(lines)

    def _step_costs(self) -> list[tuple[str, float, float]]:
        """Name, arithmetic operations and bytes of each step."""
        if self._memory is None:
            self._arrange()
        return self._costs

    def _seconds(self) -> list[float]:
        """Mean time of each step, zeros before the first run."""
        if self._arena is None:
            return [0.0] * len(self._calls)
        if self._all.runs:
            return self._all.seconds
        loss = [0.0] * (self._backward_start - self._forward_count)
        return self._forward.seconds + loss + self._backward.seconds


class PlanCache:
    """Plans that are used in turn, the latest ones of them, in one arena.

    Parameters
    ----------
    most : int
        Plans that are kept: shapes that vary must not fill the memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._arena = Arena()
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    def get(self, key: tuple[Any, ...], make: Callable[[Arena], Plan]) -> Plan:
        """The plan of that key, for the number of threads and the precision of now; made in the arena if need be."""
        key += threads.get_num_threads(), get_precision()
        plan = self._plans.pop(key, None) or make(self._arena)
        self._plans[key] = plan
        while len(self._plans) > self._most:
            self._plans.popitem(last=False)
        return plan


def _make(call: Call, array: Any) -> Step:
    arguments = [array(value) if isinstance(value, Buffer) else value for value in call.arguments]
    options = {key: array(value) if isinstance(value, Buffer) else value for key, value in call.options.items()}
    return call.make(*arguments, **options)


_SOMEWHERE = aligned_empty(64)


def _nowhere(buffer: Buffer) -> NDArray[Any]:
    """An array of the buffer's shape and strides without memory: enough to learn what a step will want."""
    return buffer.array(np.lib.stride_tricks.as_strided(_SOMEWHERE, (buffer.nbytes,), (1,)))
