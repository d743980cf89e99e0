"""nnpar: prepared steps, as its own benchmarks make them. Their arrays are those of the inputs' files."""

import functools
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import operations
from library import Array, Pair, Prepared
from numpy.typing import NDArray

import nnpar
from nnpar import arrays, benchmark
from nnpar._kernels import batch_norm, runtime
from nnpar._kernels.step import Program, Step
from nnpar._kernels.strided import StridedCopy
from nnpar.benchmark import Operation
from nnpar.optimizers import Optimizer
from nnpar.plan import Plan
from nnpar.shapes import Shape


class Nnpar:
    """The steps that ops and layers run."""

    def __init__(self, threads: int) -> None:
        nnpar.set_num_threads(threads)
        self._threads = threads
        self.versions = {"nnpar": nnpar.__version__, "isa": runtime.isa()}

    def ceilings(self) -> dict[str, float]:
        """GFLOP/s of multiply-adds; GB/s of a ReLU to other memory or of SGD in place, over large arrays."""
        return {
            "gflops": max(benchmark.multiply_add_peak(self._threads) for _ in range(3)),
            "gbs": max(step.bytes / min(_time(step) for _ in range(3)) / 1e9 for step in self._large_steps),
        }

    @functools.cached_property
    def _large_steps(self) -> tuple[Step, Step]:
        """Made once: large arrays take long to fill."""
        optimizer = nnpar.SGD(momentum=0.9)
        update = operations.update("update", optimizer, benchmark.MEMORY_SHAPE[0])
        optimizer.advance()
        return benchmark.relu("relu", benchmark.MEMORY_SHAPE).step, update.step

    def gemm(self, a: Array, b: Array) -> Prepared:
        return _prepared(benchmark.gemm("gemm", a.shape[0], b.shape[1], a.shape[1]))

    def conv2d(self, x: Array, w: Array, bias: Array, **window: Any) -> Prepared:
        return _prepared(benchmark.conv2d("conv2d", x.shape, w.shape, **window))

    def conv2d_input_grad(self, dy: Array, w: Array, input_shape: Shape, **window: Any) -> Prepared:
        return _prepared(benchmark.conv2d("conv2d", input_shape, w.shape, **window, which="input_grad"))

    def conv2d_weight_grad(self, x: Array, dy: Array, weight_shape: Shape, **window: Any) -> Prepared:
        return _prepared(benchmark.conv2d("conv2d", x.shape, weight_shape, **window, which="weight_grad"))

    def relu(self, x: Array) -> Prepared:
        return _prepared(benchmark.relu("relu", x.shape))

    def relu_grad(self, dy: Array, y: Array) -> Prepared:
        return _prepared(operations.relu_grad("relu_grad", y.shape))

    def function(self, x: Array, name: str) -> Prepared:
        return _prepared(operations.function(name, x.shape))

    def function_grad(self, x: Array, dy: Array, name: str) -> Prepared:
        return _prepared(operations.function_grad(name, x.shape))

    def layer(
        self, dy: Array, parameters: Array, name: str, settings: dict[str, Any], backward: bool, **inputs: Array
    ) -> Prepared:
        """A plan's memory is used again, so that inputs and dy are copied into it each time."""
        model = operations.layer(name, settings, parameters)
        plan = Plan(model, [x.shape for x in inputs.values()], training=backward, needs_dx=backward)
        fill = _copies([arrays.ready(x) for x in inputs.values()], plan.inputs)
        slope = _copies([arrays.ready(dy)], plan.output_gradients if backward else [])

        def run() -> None:
            fill.run()
            plan.run_forward()
            if backward:
                slope.run()
                plan.run_backward()

        steps = [*plan.forward_steps, *(plan.backward_steps if backward else [])]
        flops, moved = (sum(getattr(step, cost) for step in steps) for cost in ("flops", "bytes"))
        return Prepared(run, lambda _: plan.input_gradients[0] if backward else plan.y, flops, moved)

    def max_pool2d(self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        return _prepared(benchmark.max_pool2d("max_pool2d", x.shape, kernel_size, stride, padding))

    def max_pool2d_grad(self, x: Array, dy: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        return _prepared(operations.max_pool2d_grad("max_pool2d_grad", x.shape, kernel_size, stride, padding))

    def avg_pool2d(self, x: Array, kernel_size: Pair, stride: Pair) -> Prepared:
        return _prepared(operations.avg_pool2d("avg_pool2d", x.shape, kernel_size, stride))

    def avg_pool2d_grad(self, dy: Array, input_shape: Shape, kernel_size: Pair, stride: Pair) -> Prepared:
        return _prepared(operations.avg_pool2d_grad("avg_pool2d_grad", input_shape, kernel_size, stride))

    def batch_norm2d(self, x: Array, gamma: Array, beta: Array, eps: float, relu: bool) -> Prepared:
        images, y = arrays.ready(x), arrays.empty(x.shape)
        mean, invstd = np.empty_like(gamma), np.empty_like(gamma)
        program = Program(
            [
                batch_norm.BatchStatistics(images, mean, invstd, eps, None, None, 0.0),
                batch_norm.BatchNormalize(images, mean, invstd, gamma, beta, None, y, relu),
            ]
        )
        flops, moved = (sum(getattr(step, cost) for step in program.steps) for cost in ("flops", "bytes"))
        return Prepared(program.run, lambda _: y, flops, moved)

    def batch_norm2d_grad(
        self, dy: Array, x: Array, mean: Array, invstd: Array, gamma: Array, y: Array | None = None
    ) -> Prepared:
        dy, x, dx, y = arrays.ready(dy), arrays.ready(x), arrays.empty(x.shape), None if y is None else arrays.ready(y)
        dgamma, dbeta = np.empty_like(gamma), np.empty_like(gamma)
        step = batch_norm.BatchNormGrad(dy, x, y, mean, invstd, gamma, dx, dgamma, dbeta, None)
        return Prepared(step, lambda _: dx, step.flops, step.bytes)

    def softmax(self, logits: Array) -> Prepared:
        return _prepared(operations.softmax("softmax", logits.shape))

    def softmax_cross_entropy(self, logits: Array, labels: Array) -> Prepared:
        return _prepared(operations.cross_entropy("softmax_cross_entropy", logits.shape))

    def sgd(self, parameters: Array, gradients: Array, lr: float, momentum: float) -> Prepared:
        return _update(nnpar.SGD(lr, momentum), parameters.size)

    def adam(self, parameters: Array, gradients: Array, lr: float) -> Prepared:
        return _update(nnpar.Adam(lr), parameters.size)

    def train_step(
        self, x: Array, labels: NDArray[np.int64], parameters: Array, name: str, lr: float, momentum: float
    ) -> Prepared:
        model = operations.network(name, parameters)
        trainer = nnpar.Trainer(model, optimizer=nnpar.SGD(lr, momentum))
        images = arrays.ready(x)
        trainer.train_step(images, labels)
        steps = [*trainer.plan.forward_steps, *trainer.plan.backward_steps]
        flops, moved = (sum(getattr(step, cost) for step in steps) for cost in ("flops", "bytes"))
        return Prepared(partial(trainer.train_step, images, labels), np.atleast_1d, flops, moved)

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """The images are copied to channels-last memory, the outputs to an array of their own."""
        model = operations.network(name, parameters, statistics)
        steps = Plan(model, x.shape, training=False).forward_steps
        flops, moved = (sum(getattr(step, cost) for step in steps) for cost in ("flops", "bytes"))
        return Prepared(partial(nnpar.Predictor(model), x), np.array, flops, moved)


def _copies(sources: Sequence[Array], targets: Sequence[Array]) -> Program:
    return Program([StridedCopy(x, y) for x, y in zip(sources, targets, strict=False)])


def _prepared(operation: Operation) -> Prepared:
    step = operation.step
    return Prepared(step, lambda _: operation.result, step.flops, step.bytes)


def _update(optimizer: Optimizer, size: int) -> Prepared:
    operation = operations.update("update", optimizer, size)
    step = operation.step

    def run() -> None:
        optimizer.advance()
        step()

    return Prepared(run, lambda _: operation.result, step.flops, step.bytes)


def _time(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started
