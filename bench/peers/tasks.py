"""What is measured: operations on the shapes of tests/cases.py and bench/operations.py."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cases
import operations
from numpy.typing import NDArray

from nnpar.benchmark import numbers
from nnpar.shapes import Shape

Inputs = dict[str, Callable[[], NDArray[Any]]]

FORWARD, INPUT_GRAD, WEIGHT_GRAD = "forward", "input gradient", "weight gradient"  # of convolutions
BACKWARD, UPDATE, STEP, BOTH = "backward", "update", "training step", "forward and backward"
INFERENCE = {1: "inference of 1", 32: "inference of 32"}  # by batch


@dataclass(frozen=True)
class Task:
    """One operation on one shape.

    Attributes
    ----------
    case : str
        Name of the shape.
    group : str
        Of cases that are summed up together.
    which : str
        The pass.
    operation : str
        Method of the libraries.
    inputs : dict
        Makers of its arrays.
    options : dict
        Its other arguments.
    shape : str
        For people.
    """

    case: str
    group: str
    which: str
    operation: str
    inputs: Inputs
    options: dict[str, Any]
    shape: str

    @property
    def name(self) -> str:
        """Group, case and pass."""
        return f"{self.group}: {self.case} {self.which}"


MEMORY, LAYERS, NETWORKS = "memory-bound", "layer", "network"
CONVOLUTIONS = ["conv 3x3", "conv 1x1", "conv 5x5, 1x7", "conv strided", "conv depthwise"]
GROUPS = [*CONVOLUTIONS, "gemm square", "gemm awkward", MEMORY, LAYERS, NETWORKS]


def tasks() -> list[Task]:
    """All of them, in the order of `GROUPS`."""
    found = [*_convolutions(), *_products(), *_activations(), *_pools(), *_batch_norms(), *_losses(), *_updates()]
    found += [*_functions(), *_layers(), *_networks(), *_inference()]
    return sorted(found, key=lambda task: GROUPS.index(task.group))


def _arrays(**shapes_and_seeds: tuple[tuple[int, ...], int]) -> Inputs:
    """The numbers that nnpar.benchmark and bench/operations.py take for the same arguments."""
    return {name: partial(numbers, shape, seed) for name, (shape, seed) in shapes_and_seeds.items()}


def _kind(case: cases.Conv2dCase) -> str:
    if case.groups > 1:
        return "conv depthwise"
    if case.stride != (1, 1):
        return "conv strided"
    return {(3, 3): "conv 3x3", (1, 1): "conv 1x1"}.get(case.kernel, "conv 5x5, 1x7")


def _convolutions() -> Iterator[Task]:
    for case in cases.CONV2D_CASES:
        if case.benchmark:
            x, w, dy = (case.x_shape, 1), (case.w_shape, 2), (case.y_shape, 3)
            window = dict(zip(("stride", "padding", "dilation", "groups"), case.window, strict=True))
            task = partial(Task, case.name, _kind(case), shape=f"{case.x_shape} * {case.w_shape}")
            yield task(FORWARD, "conv2d", _arrays(x=x, w=w, bias=((case.oc,), 4)), window)
            options = {**window, "input_shape": case.x_shape}
            yield task(INPUT_GRAD, "conv2d_input_grad", _arrays(dy=dy, w=w), options)
            options = {**window, "weight_shape": case.w_shape}
            yield task(WEIGHT_GRAD, "conv2d_weight_grad", _arrays(x=x, dy=dy), options)


def _products() -> Iterator[Task]:
    for case in cases.GEMM_CASES:
        if case.benchmark:
            group = "gemm square" if case.m == case.n == case.k else "gemm awkward"
            inputs = _arrays(a=((case.m, case.k), 1), b=((case.k, case.n), 2))
            yield Task(case.name, group, FORWARD, "gemm", inputs, {}, f"({case.m}, {case.k}) @ ({case.k}, {case.n})")


def _activations() -> Iterator[Task]:
    for shape in operations.ACTIVATIONS:
        task = partial(Task, f"relu-{_label(shape)}", MEMORY, options={}, shape=str(shape))
        yield task(FORWARD, "relu", _arrays(x=(shape, 1)))
        yield task(BACKWARD, "relu_grad", _arrays(dy=(shape, 1), y=(shape, 2)))


def _pools() -> Iterator[Task]:
    """The maximum except over whole images, the mean except with padding."""
    for case in cases.POOL2D_CASES:
        if case.benchmark:
            x, dy, stride = (case.x_shape, 1), (case.y_shape, 2), case.stride or case.kernel
            window: dict[str, Any] = {"kernel_size": case.kernel, "stride": stride}
            shape = f"{case.x_shape}, window {case.kernel}, stride {stride}"
            if case.kernel != (case.h, case.w):
                options = {**window, "padding": case.padding}
                task = partial(Task, f"max-{case.name}", MEMORY, options=options, shape=shape)
                yield task(FORWARD, "max_pool2d", _arrays(x=x))
                yield task(BACKWARD, "max_pool2d_grad", _arrays(x=x, dy=dy))
            if case.padding == (0, 0):
                task = partial(Task, f"avg-{case.name}", MEMORY, shape=shape)
                yield task(FORWARD, "avg_pool2d", _arrays(x=x), window)
                yield task(BACKWARD, "avg_pool2d_grad", _arrays(dy=dy), {**window, "input_shape": case.x_shape})


def _batch_norms() -> Iterator[Task]:
    """Training: statistics and normalisation together; alone, and with the ReLU that follows."""
    for case in cases.BATCH_NORM_CASES:
        if case.benchmark:
            x, y, dy = (case.x_shape, 1), (case.x_shape, 2), (case.x_shape, 3)
            vectors: Inputs = {
                name: partial(operations.positive, case.c, seed)
                for seed, name in enumerate(("gamma", "beta", "mean", "invstd"), 10)
            }
            gamma, beta, mean, invstd = vectors.values()
            for name, relu in (("batch_norm", False), ("batch_norm_relu", True)):
                task = partial(Task, f"{name}-{case.name}", MEMORY, shape=str(case.x_shape))
                inputs = {**_arrays(x=x), "gamma": gamma, "beta": beta}
                yield task(FORWARD, "batch_norm2d", inputs, {"eps": 1e-5, "relu": relu})
                inputs = {**_arrays(dy=dy, x=x), "mean": mean, "invstd": invstd, "gamma": gamma}
                yield task(BACKWARD, "batch_norm2d_grad", inputs | (_arrays(y=y) if relu else {}), {})


def _losses() -> Iterator[Task]:
    """The loss and its gradient together; and the softmax alone."""
    for shape in operations.LOGITS:
        yield Task(f"softmax-{_label(shape)}", MEMORY, FORWARD, "softmax", _arrays(logits=(shape, 1)), {}, str(shape))
        inputs: Inputs = {**_arrays(logits=(shape, 1)), "labels": partial(operations.labels, shape[0], shape[1])}
        case = f"cross_entropy-{_label(shape)}"
        yield Task(case, MEMORY, BACKWARD, "softmax_cross_entropy", inputs, {}, str(shape))


def _updates() -> Iterator[Task]:
    for size in operations.PARAMETERS:
        inputs = _arrays(parameters=((size,), 1), gradients=((size,), 2))
        yield Task(f"sgd-{size}", MEMORY, UPDATE, "sgd", inputs, {"lr": 1e-3, "momentum": 0.9}, str((size,)))
        yield Task(f"adam-{size}", MEMORY, UPDATE, "adam", inputs, {"lr": 1e-3}, str((size,)))


def _functions() -> Iterator[Task]:
    shape: Shape = (8, 64, 56, 56)
    for name in operations.FUNCTIONS:
        task = partial(Task, name.lower(), LAYERS, options={"name": name}, shape=str(shape))
        yield task(FORWARD, "function", _arrays(x=(shape, 1)))
        yield task(BACKWARD, "function_grad", _arrays(x=(shape, 1), dy=(shape, 2)))


def _layers() -> Iterator[Task]:
    for case, (name, settings, shapes) in operations.LAYERS.items():
        inputs: Inputs = {
            **_arrays(**{f"x{number}": (shape, number) for number, shape in enumerate(shapes)}),
            **_arrays(dy=(operations.layer(name, settings).output_shapes(shapes)[0], 9)),
            "parameters": partial(operations.layer_parameters, name, settings),
        }
        for which in (FORWARD, BOTH):
            options = {"name": name, "settings": settings, "backward": which == BOTH}
            yield Task(case, LAYERS, which, "layer", inputs, options, ", ".join(map(str, shapes)))


def _networks() -> Iterator[Task]:
    """Forward, loss, backward and update by SGD with momentum. The result is the loss; the learning rate is 0, which
    costs the same, so that all runs have one."""
    for name, (batch, size, _) in operations.NETWORKS.items():
        inputs: Inputs = {
            **_arrays(x=((batch, *size), 1)),
            "labels": partial(operations.targets, name),
            "parameters": partial(operations.parameters, name),
        }
        options = {"name": name, "lr": 0.0, "momentum": 0.9}
        yield Task(name, NETWORKS, STEP, "train_step", inputs, options, f"batch of {(batch, *size)}")


def _inference() -> Iterator[Task]:
    """From images as NumPy has them, (N, C, H, W) one after the other, to the outputs as an array of NumPy: what a
    server does for each request, its layout of images included. Weights are prepared beforehand as each library likes.
    """
    for name, (_, size, _) in operations.NETWORKS.items():
        for batch, which in INFERENCE.items():
            inputs: Inputs = {
                **_arrays(x=((batch, *size), 1)),
                "parameters": partial(operations.parameters, name),
                "statistics": partial(operations.statistics, name),
            }
            yield Task(name, NETWORKS, which, "predict", inputs, {"name": name}, f"{size}")


def _label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
