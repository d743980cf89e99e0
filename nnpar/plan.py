"""A model lowered for one input shape: the list of its steps, and one arena for all that they read and write."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnpar import recompute as recomputation
from nnpar import threads
from nnpar._checks import Array
from nnpar._kernels.elementwise import Add, Position
from nnpar._kernels.step import Program, PythonStep, Step, aligned_empty
from nnpar.convolution import get_precision
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Call, Lowering, Together, relayout
from nnpar.layers.nodes import INPUT, Node, child, input_numbers
from nnpar.losses import Loss
from nnpar.memory import Lifetime, arrange, scratch_of_threads
from nnpar.shapes import Shape


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


class Memory(NamedTuple):
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
    input_shapes : tuple of int, or sequence of them
        (N, C, H, W), (N, F) or another, one for each input of the model.
    training : bool
        Whether dropout acts, batch normalisation takes the batch's statistics, and the backward pass is wanted.
    loss : Loss, optional
        Then `run` goes from x and target to the loss and, in training, all gradients.
    gradients : mapping of str to ndarray, optional
        For each parameter the array that gets its gradient; new arrays otherwise.
    position : Position, optional
        Where training stands, for dropout.
    needs_dx : bool
        Whether the gradients of the inputs are wanted.
    arena : Arena, optional
        Memory that this plan shares with others, of which one runs at a time; its own otherwise.
    weights : PackedWeights, optional
        In prediction: says that the model's parameters and statistics do not change any more, and holds what is made of
        them once.
    recompute : bool
        In training: whether the backward pass computes some activations again, so that the plan needs half the memory
        or less, if there is a way. No bit of a result changes.
    sample_weights : bool
        With a loss: whether each sample has a weight.
    target_dtype : data type
        With a loss: of the targets, class numbers or others.
    hooks : sequence of (collection of str, callable)
        In training: each is called in the backward pass as soon as the gradients of these parameters are final.
    together : Together, optional
        In training: who makes the sums of batch normalisations those of several processes.
    first_index : int
        The first layer's number, for dropout: not 0 where the model is a part of another.

    Attributes
    ----------
    x, y : ndarray
        Input, to be filled before a run, and output. A run may overwrite x.
    inputs, outputs : tuple of ndarray
        All of them, if there are several.
    dy, dx : ndarray
        In training: gradient of y, which is to be filled before the backward pass if there is no loss, and of x, if
        it is wanted.
    output_gradients, input_gradients : tuple of ndarray
        All of them, if there are several.
    nodes : list of Node
    target, result : ndarray
        With a loss: targets, to be filled; the sum of the losses, the number of correct samples, the sum of the
        weights, and the number of samples that count.
    sample_weights : ndarray or None
        The weights, to be filled, if there are any.
    gradients : dict of str to ndarray
    memory : Memory

    Raises
    ------
    ValueError
        If the model cannot take such an input; the error names the layer. If it has several outputs and there is a
        loss, or several inputs or outputs and activations shall be computed again.
    """

    def __init__(
        self,
        model: Layer,
        input_shapes: Shape | Sequence[Shape],
        *,
        training: bool,
        loss: Loss | None = None,
        gradients: Mapping[str, Array] | None = None,
        position: Position | None = None,
        needs_dx: bool = False,
        arena: Arena | None = None,
        weights: PackedWeights | None = None,
        recompute: bool = False,
        sample_weights: bool = False,
        target_dtype: DTypeLike = np.int64,
        hooks: Sequence[tuple[Collection[str], Callable[[], None]]] = (),
        together: Together | None = None,
        first_index: int = 0,
    ) -> None:
        shapes = _several(input_shapes)
        model.output_shapes(shapes)
        self.nodes = nodes = model.nodes(len(shapes))
        output_nodes = model.output_nodes(nodes)
        if len(output_nodes) > 1 and loss is not None:
            raise ValueError(f"loss: expected a model with one output, got {len(output_nodes)}")
        if len(output_nodes) + len(shapes) > 2 and recompute:
            raise ValueError(
                f"recompute: expected a model with one input and one output, got {len(shapes)} and {len(output_nodes)}"
            )
        self.gradients: dict[str, Array] = dict(gradients or {})
        self._calls: list[Call] = []
        self._once: list[Call] = []
        self._constants: dict[int, NDArray[np.uint8]] = {}
        self._weights = weights
        self._saves_memory = recompute  # threads' scratch memory, too, lies wherever there is room
        self._inputs = [Buffer(shape) for shape in shapes]
        self._dxs: list[Buffer] = []
        places = self._lower_forward(nodes, output_nodes, training, position or Position(), together, first_index)
        if weights is not None:
            self._once = [call for call in self._calls if call.once]
            self._calls = [call for call in self._calls if not call.once]
        self._outputs = [places[number].y for number in output_nodes]
        self._forward_count = len(self._calls)
        self._dys = [y.like() for y in self._outputs] if training else []
        if loss is not None:
            self.target: NDArray[Any] = loss.new_target(self._outputs[0].shape, target_dtype)
            self.result = np.zeros(4)
            self.sample_weights = np.ones(self._outputs[0].shape[0], np.float32) if sample_weights else None
            self._lower_loss(loss)
        self._backward_start = len(self._calls)
        if training:
            self._lower_backward(nodes, output_nodes, places, needs_dx)
            if recompute:
                self._recompute()
            if hooks:
                self._insert_hooks(hooks)
        self._memory: Memory | None = None
        self._arena: NDArray[np.uint8] | None = None
        self._shared = arena or Arena()

    def _lower_forward(
        self,
        nodes: list[Node],
        output_nodes: list[int],
        training: bool,
        position: Position,
        together: Together | None,
        first_index: int,
    ) -> list[Lowering]:
        readers = Counter([*output_nodes, *(number for node in nodes for number in node.inputs)])
        writers: dict[int, Call] = {}
        read_again: dict[int, str] = {}
        shared = {id(x) for k, x in enumerate(self._inputs) if readers[INPUT - k] > 1}
        places: list[Lowering] = []
        for index, node in enumerate(nodes):
            inputs = tuple(places[k].y if k >= 0 else self._inputs[INPUT - k] for k in node.inputs)
            owned = tuple(id(x.memory) not in shared for x in inputs)
            at = Lowering(
                node.name or type(node.layer).__name__, first_index + index, inputs, node.inputs, owned, training,
                self._weights is not None, position, self._calls, writers, read_again, together,
            )  # fmt: skip
            at.lay_out(node.layer.channels_last)
            node.layer.forward(at)
            if at.reads_y and read_again.get(id(at.y.memory)) != "values":
                read_again[id(at.y.memory)] = at.reads_y
            if readers[index] > 1:
                shared.add(id(at.y.memory))
            places.append(at)
        return places

    def _lower_loss(self, loss: Loss) -> None:
        """The loss of y and its gradient, where it reads the memory layout of an array of y's shape."""
        y, dy = self._outputs[0], self._dys[0] if self._dys else None
        if y.lies_as(Buffer(y.shape).channels_last):
            self._calls.append(Call("loss", loss.step, (y, self.target, dy, self.result, self.sample_weights)))
            return
        copy, slope = Buffer(y.shape), None if dy is None else Buffer(y.shape)
        self._calls.append(Call("loss", relayout, (y, copy)))
        self._calls.append(Call("loss", loss.step, (copy, self.target, slope, self.result, self.sample_weights)))
        if slope is not None:
            self._calls.append(Call("loss", relayout, (slope, dy)))

    def _lower_backward(
        self, nodes: list[Node], output_nodes: list[int], places: list[Lowering], needs_dx: bool
    ) -> None:
        wants: list[bool] = []
        for node in nodes:
            before = [wants[number] if number >= 0 else needs_dx for number in node.inputs]
            wants.append(bool(node.layer._arrays) or any(before))
        gradients: dict[int, list[tuple[Buffer, bool]]] = {}
        for number, dy in zip(output_nodes, self._dys, strict=True):
            gradients.setdefault(number, []).append((dy, True))
        for index in reversed(range(len(nodes))):
            if not wants[index]:
                continue
            node, at = nodes[index], places[index]
            at.needs = tuple(wants[number] if number >= 0 else needs_dx for number in node.inputs)
            at.dy, at.owns_dy = self._sum(at.name, gradients.pop(index))
            at.gradients = {key: self._gradient(node.name, key, array) for key, array in node.layer._arrays.items()}
            node.layer.backward(at)
            for source, dx, owned in at.contributions:
                gradients.setdefault(source, []).append((dx, owned))
        if needs_dx:
            self._dxs = [self._sum("input", gradients[number])[0] for number in input_numbers(len(self._inputs))]

    def _recompute(self) -> None:
        """Change the backward pass to one that needs less memory."""
        forward, backward = self._calls[: self._forward_count], self._calls[self._backward_start :]
        loss = self._calls[self._forward_count : self._backward_start]
        passes = recomputation.Passes(
            forward,
            loss,
            backward,
            self._inputs[0],
            self._outputs[0],
            self._dys[0],
            self._dxs[0] if self._dxs else None,
        )
        self._calls[self._backward_start :] = recomputation.backward(passes, lambda call: _make(call, _nowhere))

    def _sum(self, name: str, parts: list[tuple[Buffer, bool]]) -> tuple[Buffer, bool]:
        """The sum of the gradients that the readers of one value pass back, in the order in which they come."""
        total, owned = parts[0]
        for part, part_owned in parts[1:]:
            result = total if owned else part if part_owned else total.like()
            self._calls.append(Call(name, Add, (total, part, result)))
            total, owned = result, True
        return total, owned

    def _gradient(self, prefix: str, attribute: str, parameter: Array) -> Array:
        return self.gradients.setdefault(child(prefix, attribute), np.empty_like(parameter))

    def _insert_hooks(self, hooks: Sequence[tuple[Collection[str], Callable[[], None]]]) -> None:
        """Calls of the functions, each after the last step that writes into a gradient of its parameters."""
        last = dict.fromkeys(self.gradients, -1)
        places = sorted((_address(array), array.nbytes, name) for name, array in self.gradients.items())
        begins = np.array([address for address, _, _ in places])
        for when, call in enumerate(self._calls[self._backward_start :], self._backward_start):
            for value in (*call.arguments, *call.options.values()):
                if isinstance(value, np.ndarray) and value.nbytes:
                    address, nbytes, name = places[max(int(np.searchsorted(begins, _address(value), "right")) - 1, 0)]
                    if address <= _address(value) < address + nbytes:
                        last[name] = when
        found = [(max(last[name] for name in names), function) for names, function in hooks]
        for when, function in sorted(found, key=operator.itemgetter(0), reverse=True):
            self._calls.insert(when + 1, Call("", PythonStep, (function, "exchange")))

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
        for x in self._inputs:
            use(x, -1)
        for y in self._outputs:
            use(y, end)
        for when, call in enumerate(self._calls):
            for buffer in call.buffers():
                if id(buffer.memory) not in constants:
                    use(buffer, when)
        for dy in self._dys:
            use(dy, self._forward_count)
        for dx in self._dxs:
            use(dx, end)
        trial = [_make(call, _nowhere) for call in self._calls]
        self._costs = [(step.name, step.flops, step.bytes) for step in trial]
        lifetimes = [Lifetime(memories[key].nbytes, first[key], last[key]) for key in memories]
        self._rows = (0, 0) if self._saves_memory else scratch_of_threads(trial)
        scratch = [step.workspace_bytes if self._saves_memory else step.shared_bytes for step in trial]
        lifetimes += [Lifetime(nbytes, when, when) for when, nbytes in enumerate(scratch)]
        offsets, size = arrange(lifetimes)
        self._offsets = dict(zip(memories, offsets, strict=False))
        self._scratch = list(zip(offsets[len(memories) :], scratch, strict=True))
        of_threads = math.prod(self._rows)
        again = [step for call, step in zip(self._calls, trial, strict=True) if call.again]
        self._memory = Memory(
            size + of_threads,
            sum(life.nbytes for life in lifetimes) + of_threads,
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
        rows = self._arena[: math.prod(self._rows)].reshape(self._rows)
        self._arena = self._arena[rows.nbytes :]
        for call, (offset, nbytes) in zip(self._calls, self._scratch, strict=True):
            step = _make(call, self._array)
            step.layer = call.layer
            if self._weights is not None:
                self._weights.give(step, call.node)
            step.bind(self._arena[offset : offset + nbytes], None if self._saves_memory else rows)
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

    def _arrays_of(self, buffers: Sequence[Buffer], name: str) -> tuple[Array, ...]:
        if not buffers:
            raise AttributeError(f"Plan: {name}: this plan was made without it")
        self.allocate()
        return tuple(self._array(buffer) for buffer in buffers)

    @functools.cached_property
    def inputs(self) -> tuple[Array, ...]:
        return self._arrays_of(self._inputs, "x")

    @functools.cached_property
    def outputs(self) -> tuple[Array, ...]:
        return self._arrays_of(self._outputs, "y")

    @functools.cached_property
    def output_gradients(self) -> tuple[Array, ...]:
        return self._arrays_of(self._dys, "dy")

    @functools.cached_property
    def input_gradients(self) -> tuple[Array, ...]:
        return self._arrays_of(self._dxs, "dx")

    @functools.cached_property
    def x(self) -> Array:
        return self.inputs[0]

    @functools.cached_property
    def y(self) -> Array:
        return self.outputs[0]

    @functools.cached_property
    def dy(self) -> Array:
        return self.output_gradients[0]

    @functools.cached_property
    def dx(self) -> Array:
        return self.input_gradients[0]

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

    def costs(self) -> list[tuple[str, float, float]]:
        """Layer, arithmetic operations and bytes of each step."""
        return [
            (call.layer, flops, nbytes)
            for call, (_, flops, nbytes) in zip(self._calls, self._step_costs(), strict=True)
        ]

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


def _several(shapes: Shape | Sequence[Shape]) -> list[Shape]:
    """The shapes of all inputs, of which there may be one alone."""
    return [tuple(shapes)] if shapes and isinstance(shapes[0], int) else list(shapes)  # type: ignore[arg-type]


def _make(call: Call, array: Any) -> Step:
    arguments = [array(value) if isinstance(value, Buffer) else value for value in call.arguments]
    options = {key: array(value) if isinstance(value, Buffer) else value for key, value in call.options.items()}
    return call.make(*arguments, **options)


_SOMEWHERE = aligned_empty(64)


def _nowhere(buffer: Buffer) -> NDArray[Any]:
    """An array of the buffer's shape and strides without memory: enough to learn what a step will want."""
    return buffer.array(np.lib.stride_tricks.as_strided(_SOMEWHERE, (buffer.nbytes,), (1,)))
