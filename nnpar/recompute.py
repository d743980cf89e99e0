"""Less memory for more work: activations that the backward pass computes again instead of keeping them.

Only a plan's list of calls changes. A value that is dropped is read by the forward pass alone; before the first call of
the backward pass that needs it, copies of the calls that wrote it run again, into memory of their own, after those of
dropped values that they read. The same steps on the same values give the same bits: dropout's masks depend on nothing
but where training stands, and a batch's statistics are kept, so that the running ones move once.

Which values are dropped: of those that are alive when the plan holds the most memory, the ones that are cheapest to
compute for each byte, until half is left. So normalisation, ReLU and pooling come first, and convolutions where that is
not enough. Where dropping one value more does not help, since others would have to be computed first, the search begins
again with every second value kept, every third, and so on: Chen, Xu, Zhang, Guestrin, arXiv:1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from nnpar._kernels.step import Step
from nnpar.layers.lowering import Buffer, Call
from nnpar.memory import Lifetime, arrange, most_at_once

SHARE = 0.5  # of the memory that is left, or less
FARTHEST = 8  # values from one that is kept to the next, when a search begins
FLOPS_PER_SECOND, BYTES_PER_SECOND = 1e11, 1e10  # of one core, about: only their ratio matters


@dataclass
class Passes:
    """The calls of a plan in training.

    Attributes
    ----------
    forward, loss, backward : list of Call
    x, y, dy, dx : Buffer
        Input, output, and their gradients, the last if it is wanted. They are never dropped.
    """

    forward: list[Call]
    loss: list[Call]
    backward: list[Call]
    x: Buffer
    y: Buffer
    dy: Buffer
    dx: Buffer | None

    def __post_init__(self) -> None:
        """Note for each value of the forward pass, by the identity of its memory, the calls that write it."""
        self.writers: dict[int, list[int]] = {}
        self.memories: dict[int, Buffer] = {}
        self.outputs: list[set[int]] = []
        seen = {id(self.x.memory)}
        for number, call in enumerate(self.forward):
            here = {id(buffer.memory): buffer.memory for buffer in call.buffers()}
            written = here.keys() - seen | (set() if call.writes is None else {id(call.writes.memory)})
            seen |= here.keys()
            self.memories |= here
            self.outputs.append(written)
            for key in filter(written.__contains__, here):
                self.writers.setdefault(key, []).append(number)

    def droppable(self) -> list[int]:
        """Values that could be computed again."""
        held = {id(self.x.memory), id(self.y.memory)}
        return [
            key
            for key, calls in self.writers.items()
            if key not in held and all(self.forward[number].repeatable for number in calls)
        ]


class _Rewriting:
    """The calls of a backward pass in the making."""

    def __init__(self, passes: Passes, dropped: set[int]) -> None:
        self.passes, self.dropped = passes, dropped
        self.calls: list[Call] = []
        self.origins: list[Call] = []  # of which they are copies
        self.done: set[int] = set()  # calls of the forward pass that are there again
        self.again: dict[int, Buffer] = {}  # the new memory of what they write
        for call in passes.backward:
            self._restore(buffer for buffer in call.buffers() if id(buffer.memory) in dropped)
            self._append(call, dropped, again=False)

    def _restore(self, buffers: Iterable[Buffer]) -> None:
        """Append the calls that compute these values again, and all that they need, in the forward pass's order."""
        needed: list[int] = []
        waiting = [id(buffer.memory) for buffer in buffers]
        while waiting:
            for number in self.passes.writers[waiting.pop()]:
                if number in self.done:
                    continue
                self.done.add(number)
                needed.append(number)
                reads = {id(buffer.memory) for buffer in self.passes.forward[number].buffers()}
                waiting += sorted(reads & self.dropped)
        for number in sorted(needed):
            self._append(self.passes.forward[number], self.dropped | self.passes.outputs[number], again=True)

    def _append(self, call: Call, moved: set[int], again: bool) -> None:
        """A copy of the call, with the new memory in place of that which is moved."""

        def new(value: Any) -> Any:
            if not isinstance(value, Buffer) or id(value.memory) not in moved:
                return value
            old = value.memory
            memory = self.again.setdefault(id(old), old.like())
            return memory.view(value.shape, value.channels_last)

        arguments, options = tuple(map(new, call.arguments)), {key: new(value) for key, value in call.options.items()}
        self.calls.append(replace(call, arguments=arguments, options=options, again=again))
        self.origins.append(call)


def backward(passes: Passes, make: Callable[[Call], Step]) -> list[Call]:
    """The backward pass of a plan that needs half the memory, or as little as there can be.

    Parameters
    ----------
    passes : Passes
    make : callable
        Makes a call's step, without memory, so that its work and its scratch memory are known.
    """
    steps = {id(call): make(call) for call in (*passes.forward, *passes.loss, *passes.backward)}
    read = {id(buffer.memory) for call in passes.backward for buffer in call.buffers()}
    droppable = passes.droppable()

    unread = set(droppable) - read  # computed again only for others

    def price(key: int) -> float:
        """Seconds for a byte, with what has to be computed before."""
        needed: set[int] = set()
        waiting = [key]
        while waiting:
            for number in set(passes.writers[waiting.pop()]) - needed:
                needed.add(number)
                waiting += {id(buffer.memory) for buffer in passes.forward[number].buffers()} & unread
        again = [steps[id(passes.forward[number])] for number in needed]
        work = sum(step.flops / FLOPS_PER_SECOND + step.bytes / BYTES_PER_SECOND for step in again)
        return work / max(1, passes.memories[key].nbytes)

    in_order = [key for key in droppable if key in read]
    cheapest_first = sorted(in_order, key=price)
    target = SHARE * _Attempt(passes, steps, unread).arena()
    found: list[_Attempt] = []
    for distance in range(1, FARTHEST + 1):  # with 1, all are kept at first
        start = unread | {key for place, key in enumerate(in_order) if place % distance}
        found.append(_reduced(_Attempt(passes, steps, start), cheapest_first, target))
        if found[-1].arena() <= target:
            return found[-1].backward
    return min(found, key=_Attempt.arena).backward


def _reduced(best: _Attempt, cheapest_first: list[int], target: float) -> _Attempt:
    """Without more and more of the values that are alive at the peak, until it is low enough or none lowers it."""
    while best.peak > target or best.arena() > target:
        attempts = (best.without(key) for key in cheapest_first if key not in best.dropped and best.is_alive(key))
        better = next((attempt for attempt in attempts if attempt.peak < best.peak), None)
        if better is None:
            break
        best = better
    return best


class _Attempt:
    """A backward pass without certain values, and what memory the plan then needs."""

    def __init__(self, passes: Passes, steps: dict[int, Step], dropped: set[int]) -> None:
        self.passes, self.steps, self.dropped = passes, steps, dropped
        rewriting = _Rewriting(passes, dropped)
        self.backward = rewriting.calls
        before = [*passes.forward, *passes.loss]
        calls = [*before, *self.backward]
        uses = [(passes.x, -1), (passes.y, len(calls))]
        uses += [(buffer, when) for when, call in enumerate(calls) for buffer in call.buffers()]
        uses += [(passes.dy, len(passes.forward))] + ([] if passes.dx is None else [(passes.dx, len(calls))])
        self.lifetimes: dict[int, Lifetime] = {}
        for buffer, when in uses:
            key = id(buffer.memory)
            old = self.lifetimes.get(key, Lifetime(buffer.memory.nbytes, when, when))
            self.lifetimes[key] = old._replace(first=min(old.first, when), last=max(old.last, when))
        self.scratch = [
            Lifetime(steps[id(call)].workspace_bytes, when, when)
            for when, call in enumerate([*before, *rewriting.origins])
        ]
        self.peak, self.when = most_at_once([*self.lifetimes.values(), *self.scratch])

    def without(self, key: int) -> _Attempt:
        """The same, without one value more."""
        return _Attempt(self.passes, self.steps, self.dropped | {key})

    def arena(self) -> int:
        """Bytes of all that the plan holds."""
        return arrange([*self.lifetimes.values(), *self.scratch])[1]

    def is_alive(self, key: int) -> bool:
        """Whether a value of the forward pass is kept when the plan holds the most."""
        return self.lifetimes[key].first <= self.when <= self.lifetimes[key].last
