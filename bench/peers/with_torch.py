"""PyTorch eager, images and weights of convolutions in either memory format.

Its result of each run is a new tensor, as in any program; the allocator reuses the memory of the one before.
"""

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from library import Array, Pair, Prepared
from numpy.typing import NDArray
from torch.nn import functional
from torch_networks import network

aten = torch.ops.aten


class TorchChannelsLast:
    """What depends on the memory format: images."""

    _format = torch.channels_last

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_grad_enabled(False)
        self.versions = {"torch": torch.__version__}

    def conv2d(
        self, x: Array, w: Array, bias: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Prepared:
        arguments = (self._images(x), self._images(w), torch.from_numpy(bias), stride, padding, dilation, groups)
        return Prepared(partial(functional.conv2d, *arguments), _numpy)

    def conv2d_input_grad(self, dy: Array, w: Array, input_shape: tuple[int, ...], **window: Any) -> Prepared:
        x = torch.empty(input_shape, memory_format=self._format)
        return self._conv2d_grad(x, self._images(w), self._images(dy), 0, **window)

    def conv2d_weight_grad(self, x: Array, dy: Array, weight_shape: tuple[int, ...], **window: Any) -> Prepared:
        w = torch.empty(weight_shape, memory_format=self._format)
        return self._conv2d_grad(self._images(x), w, self._images(dy), 1, **window)

    def _conv2d_grad(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        dy: torch.Tensor,
        which: int,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Prepared:
        mask = [index == which for index in range(3)]
        arguments = (dy, x, w, None, stride, padding, dilation, False, (0, 0), groups, mask)
        return Prepared(partial(aten.convolution_backward, *arguments), lambda grads: _numpy(grads[which]))

    def relu(self, x: Array) -> Prepared:
        return Prepared(partial(torch.relu, self._images(x)), _numpy)

    def relu_grad(self, dy: Array, y: Array) -> Prepared:
        return Prepared(partial(aten.threshold_backward, self._images(dy), self._images(y), 0), _numpy)

    def function(self, x: Array, name: str) -> Prepared:
        return Prepared(partial(_layer(name), self._images(x)), _numpy)

    def function_grad(self, x: Array, dy: Array, name: str) -> Prepared:
        images = self._images(x).requires_grad_()
        with torch.enable_grad():
            y = _layer(name)(images)
        run = partial(torch.autograd.grad, y, images, self._images(dy), retain_graph=True)
        return Prepared(run, lambda gradients: _numpy(gradients[0]))

    def layer(
        self, dy: Array, parameters: Array, name: str, settings: dict[str, Any], backward: bool, **inputs: Array
    ) -> Prepared:
        """Inputs and dy are copied each time, as nnpar's plan wants it."""
        apply = _layer(name, **settings)
        sources, slope = [self._images(x) for x in inputs.values()], self._images(dy)
        trained = list(apply.parameters()) if isinstance(apply, torch.nn.Module) else []
        torch.nn.utils.vector_to_parameters(torch.from_numpy(parameters), trained)
        arrays = [torch.empty_like(x) for x in sources]

        def run() -> torch.Tensor:
            for array, source in zip(arrays, sources, strict=True):
                array.copy_(source)
            if not backward:
                return apply(*arrays)
            leaves = [array.detach().requires_grad_() for array in arrays]
            with torch.enable_grad():
                y = apply(*leaves)
            return torch.autograd.grad(y, [*leaves, *trained], slope.clone(memory_format=torch.preserve_format))[0]

        return Prepared(run, _numpy)

    def max_pool2d(self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        run = partial(aten.max_pool2d_with_indices, self._images(x), kernel_size, stride, padding)
        return Prepared(run, lambda y_and_indices: _numpy(y_and_indices[0]))

    def max_pool2d_grad(self, x: Array, dy: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        images = self._images(x)
        indices = aten.max_pool2d_with_indices(images, kernel_size, stride, padding)[1]
        arguments = (self._images(dy), images, kernel_size, stride, padding, (1, 1), False, indices)
        return Prepared(partial(aten.max_pool2d_with_indices_backward, *arguments), _numpy)

    def avg_pool2d(self, x: Array, kernel_size: Pair, stride: Pair) -> Prepared:
        return Prepared(partial(aten.avg_pool2d, self._images(x), kernel_size, stride), _numpy)

    def avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...], kernel_size: Pair, stride: Pair) -> Prepared:
        x = torch.empty(input_shape, memory_format=self._format)
        arguments = (self._images(dy), x, kernel_size, stride, (0, 0), False, True, None)
        return Prepared(partial(aten.avg_pool2d_backward, *arguments), _numpy)

    def batch_norm2d(self, x: Array, gamma: Array, beta: Array, eps: float, relu: bool) -> Prepared:
        images, weight, bias = self._images(x), torch.from_numpy(gamma), torch.from_numpy(beta)

        def run() -> torch.Tensor:
            y = functional.batch_norm(images, None, None, weight, bias, True, 0.1, eps)
            return y.relu_() if relu else y

        return Prepared(run, _numpy)

    def batch_norm2d_grad(
        self, dy: Array, x: Array, mean: Array, invstd: Array, gamma: Array, y: Array | None = None
    ) -> Prepared:
        grad, images, output = self._images(dy), self._images(x), None if y is None else self._images(y)
        vectors = (torch.from_numpy(gamma), None, None, torch.from_numpy(mean), torch.from_numpy(invstd))

        def run() -> torch.Tensor:
            g = grad if output is None else aten.threshold_backward(grad, output, 0)
            return aten.native_batch_norm_backward(g, images, *vectors, True, 1e-5, (True, True, True))[0]

        return Prepared(run, _numpy)

    def train_step(
        self, x: Array, labels: NDArray[Any], parameters: Array, name: str, lr: float, momentum: float
    ) -> Prepared:
        model = network(name, torch.from_numpy(parameters)).to(memory_format=self._format)
        images, classes = self._images(x), torch.from_numpy(labels)
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum)
        predict = self._compiled(model)

        def run() -> torch.Tensor:
            with torch.enable_grad():
                optimizer.zero_grad(set_to_none=True)
                loss = functional.cross_entropy(predict(images), classes)
                loss.backward()
                optimizer.step()
            return loss.detach()

        return Prepared(run, lambda loss: _numpy(loss.reshape(1)))

    def predict(self, x: Array, parameters: Array, statistics: Array, name: str) -> Prepared:
        """The images are copied to the memory format."""
        model = network(name, torch.from_numpy(parameters), torch.from_numpy(statistics)).eval()
        model = model.to(memory_format=self._format)

        def run() -> NDArray[Any]:
            with torch.inference_mode():
                y: NDArray[Any] = model(self._images(x)).numpy()
            return y

        return Prepared(run, np.asarray)

    def _compiled(self, model: torch.nn.Module) -> Any:
        return model

    def _images(self, array: Array) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.contiguous(memory_format=self._format) if tensor.ndim == 4 else tensor


class Torch(TorchChannelsLast):
    """The default format, and what has no images."""

    _format = torch.contiguous_format

    def gemm(self, a: Array, b: Array) -> Prepared:
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        out = torch.empty(len(a), b.shape[1])
        return Prepared(partial(torch.mm, left, right, out=out), _numpy)

    def softmax(self, logits: Array) -> Prepared:
        return Prepared(partial(torch.softmax, torch.from_numpy(logits), 1), _numpy)

    def softmax_cross_entropy(self, logits: Array, labels: NDArray[Any]) -> Prepared:
        scores, classes = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)

        def run() -> torch.Tensor:
            with torch.enable_grad():
                loss = functional.cross_entropy(scores, classes)
                return torch.autograd.grad(loss, scores)[0]

        return Prepared(run, _numpy)

    def sgd(self, parameters: Array, gradients: Array, lr: float, momentum: float) -> Prepared:
        return _update(partial(torch.optim.SGD, lr=lr, momentum=momentum), parameters, gradients)

    def adam(self, parameters: Array, gradients: Array, lr: float) -> Prepared:
        return _update(partial(torch.optim.Adam, lr=lr), parameters, gradients)


class TorchCompile:
    """Whole networks by torch.compile, channels-last. One operation alone leaves it nothing to fuse."""

    def __init__(self, threads: int) -> None:
        self._eager = _Compiling(threads)
        self.versions = self._eager.versions
        self.train_step = self._eager.train_step


class _Compiling(TorchChannelsLast):
    def _compiled(self, model: torch.nn.Module) -> Any:
        return torch.compile(model)


def _layer(name: str, **settings: Any) -> Any:
    """A layer as nnpar names it, with its arguments."""
    if name == "Permute":
        return lambda x: x.permute(settings["dims"]).contiguous()
    functions = {"Mul": torch.mul, "MatMul": torch.matmul}
    return functions.get(name) or getattr(torch.nn, name)(**settings)


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.contiguous().numpy()
    return array


def _update(make: Any, parameters: Array, gradients: Array) -> Prepared:
    """The faster of PyTorch's two ways, tried on a copy."""

    def step(**kind: bool) -> tuple[torch.nn.Parameter, Any]:
        flat = torch.nn.Parameter(torch.from_numpy(parameters.copy()))
        flat.grad = torch.from_numpy(gradients)
        return flat, make([flat], **kind).step

    def seconds(kind: dict[str, bool]) -> float:
        run = step(**kind)[1]
        times = []
        for _ in range(4):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return min(times)

    flat, run = step(**min(({"fused": True}, {"foreach": True}), key=seconds))
    return Prepared(run, lambda _: flat.numpy())
