"""Operations of the benchmarks, beside those of :mod:`nnpar.benchmark`; and the sizes of those that memory limits."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnpar
from nnpar import arrays, shapes, zoo
from nnpar._checks import IntOrPair
from nnpar._kernels import activation, elementwise, loss, pool
from nnpar.benchmark import Operation, numbers
from nnpar.layers import Composite, Layer
from nnpar.optimizers import Optimizer
from nnpar.plan import Plan
from nnpar.shapes import PoolShape, Shape

# LeNet-5's and VGG-16's first activations at a batch of 8, and a matrix of a dense layer.
ACTIVATIONS: list[Shape] = [(8, 6, 28, 28), (8, 64, 224, 224), (128, 4096)]
# Batches of MNIST, ImageNet, pixels to tell ten classes apart, and words.
LOGITS: list[Shape] = [(64, 10), (256, 1000), (65536, 10), (4096, 1000)]
# Parameters of LeNet-5, ResNet-20, ResNet-18 and ResNet-50.
PARAMETERS = [61_706, 272_474, 11_689_512, 25_557_032]

# Functions of each element, beside ReLU.
FUNCTIONS = [
    "Sigmoid", "Tanh", "GELU", "SiLU", "Mish", "Softplus", "ELU", "Hardswish", "Hardsigmoid", "ReLU6", "LeakyReLU",
]  # fmt: skip
# Other layers that torch.nn has, too, by case: type, arguments, shapes of the inputs.
LAYERS: dict[str, tuple[str, dict[str, Any], list[Shape]]] = {
    "transposed-2x2": (
        "ConvTranspose2d", {"in_channels": 128, "out_channels": 64, "kernel_size": 2, "stride": 2}, [(8, 128, 28, 28)]
    ),
    "transposed-4x4": (
        "ConvTranspose2d",
        {"in_channels": 128, "out_channels": 64, "kernel_size": 4, "stride": 2, "padding": 1},
        [(8, 128, 28, 28)],
    ),
    "prelu": ("PReLU", {"num_parameters": 64}, [(8, 64, 56, 56)]),
    "softmax-channels": ("Softmax", {"dim": 1}, [(8, 64, 56, 56)]),
    "softmax-tokens": ("Softmax", {"dim": 2}, [(24, 197, 197)]),
    "layer_norm": ("LayerNorm", {"normalized_shape": 192}, [(8, 197, 192)]),
    "group_norm": ("GroupNorm", {"num_groups": 32, "num_channels": 256}, [(16, 256, 14, 14)]),
    "pixel_shuffle": ("PixelShuffle", {"upscale_factor": 2}, [(8, 64, 56, 56)]),
    "channel_shuffle": ("ChannelShuffle", {"groups": 2}, [(8, 116, 28, 28)]),
    "permute-tokens": ("Permute", {"dims": (0, 2, 1)}, [(8, 197, 192)]),
    "permute-heads": ("Permute", {"dims": (0, 2, 1, 3)}, [(8, 197, 3, 64)]),
    "upsample-bilinear": ("Upsample", {"scale_factor": 2, "mode": "bilinear"}, [(8, 64, 56, 56)]),
    "upsample-bicubic": ("Upsample", {"scale_factor": 2, "mode": "bicubic"}, [(8, 64, 28, 28)]),
    "adaptive_avg_pool": ("AdaptiveAvgPool2d", {"output_size": 7}, [(8, 512, 16, 16)]),
    "reflection_pad": ("ReflectionPad2d", {"padding": 1}, [(8, 64, 56, 56)]),
    "conv1d": ("Conv1d", {"in_channels": 64, "out_channels": 128, "kernel_size": 5, "padding": 2}, [(8, 64, 1024)]),
    "conv3d": (
        "Conv3d", {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1}, [(2, 32, 16, 28, 28)]
    ),
    "max_pool3d": ("MaxPool3d", {"kernel_size": 2}, [(2, 32, 16, 56, 56)]),
    "matmul-heads": ("MatMul", {}, [(24, 197, 64), (24, 64, 197)]),
    "mul-channels": ("Mul", {}, [(8, 64, 56, 56), (8, 64, 1, 1)]),
    "mul": ("Mul", {}, [(8, 64, 56, 56), (8, 64, 56, 56)]),
}  # fmt: skip

# Networks of nnpar.zoo: batch, shape of an image, classes.
NETWORKS: dict[str, tuple[int, Shape, int]] = {
    "mlp": (128, (1, 28, 28), 10),
    "lenet5": (64, (1, 28, 28), 10),
    "mnist_cnn": (64, (1, 28, 28), 10),
    "vgg_small": (64, (3, 32, 32), 10),
    "resnet20": (128, (3, 32, 32), 10),
    "resnet18": (16, (3, 224, 224), 1000),
    "mobilenet_v1": (16, (3, 128, 128), 1000),
    "densenet_small": (64, (3, 32, 32), 10),
    "unet_small": (16, (3, 64, 64), 2),
}


def parameters(name: str) -> NDArray[np.float32]:
    """The parameters of a network of nnpar.zoo as it is made, one after the other."""
    nnpar.manual_seed(0)
    return _joined(list(zoo.MODELS[name]().parameters().values()))


def statistics(name: str) -> NDArray[np.float32]:
    """Running statistics of its batch normalisations, one after the other, after some batches."""
    _, size, _ = NETWORKS[name]
    model = network(name, parameters(name))
    plan = Plan(model, (4, *size), training=True)
    for seed in range(10):
        plan.x[...] = numbers((4, *size), seed)
        plan.run_forward()
    return _joined(_statistics(model))


def network(name: str, values: NDArray[np.float32], running: NDArray[np.float32] | None = None) -> Composite:
    """A network of nnpar.zoo with such parameters and, if given, statistics."""
    model = zoo.MODELS[name]()
    _split(values, list(model.parameters().values()))
    if running is not None:
        _split(running, _statistics(model))
    return model


def _statistics(model: Composite) -> list[NDArray[np.float32]]:
    trained = model.parameters()
    return [array for key, array in model.state().items() if key not in trained]


def _joined(arrays: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *(array.ravel() for array in arrays)])


def _split(values: NDArray[np.float32], arrays: list[NDArray[np.float32]]) -> None:
    start = 0
    for array in arrays:
        array[...] = values[start : start + array.size].reshape(array.shape)
        start += array.size


def layer(name: str, settings: dict[str, Any], values: NDArray[np.float32] | None = None) -> Layer:
    """A layer of that type, with such parameters if they are given."""
    nnpar.manual_seed(0)
    made: Layer = getattr(nnpar, name)(**settings)
    if values is not None:
        _split(values, list(made.parameters().values()))
    return made


def layer_parameters(name: str, settings: dict[str, Any]) -> NDArray[np.float32]:
    """The parameters of a layer as it is made, one after the other."""
    return _joined(list(layer(name, settings).parameters().values()))


def labels(samples: int, classes: int) -> NDArray[np.int64]:
    """A class for each sample."""
    return np.arange(samples) * 7 % classes


def targets(name: str) -> NDArray[np.int64]:
    """A class for each sample, or pixel, of a batch of that network."""
    batch, size, classes = NETWORKS[name]
    samples, _, *pixels = zoo.MODELS[name]().output_shape((batch, *size))
    return labels(math.prod((samples, *pixels)), classes).reshape(samples, *pixels)


def positive(channels: int, seed: int) -> NDArray[np.float32]:
    """A number in [0.5, 1.5] for each channel."""
    values: NDArray[np.float32] = np.abs(numbers((channels,), seed)) + np.float32(0.5)
    return values


def relu_grad(name: str, shape: Shape) -> Operation:
    dx = arrays.empty(shape)
    return Operation(name, str(shape), elementwise.ReluGrad(numbers(shape, 1), numbers(shape, 2), dx), dx)


def function(name: str, shape: Shape) -> Operation:
    """A function of each element, by its layer's name."""
    of, x, y = getattr(nnpar, name)(), numbers(shape, 1), arrays.empty(shape)
    return Operation(name, str(shape), activation.Activation(of.kind, x, y, *of.constants), y)


def function_grad(name: str, shape: Shape) -> Operation:
    """Its gradient."""
    of, x, dx = getattr(nnpar, name)(), numbers(shape, 1), arrays.empty(shape)
    v = x if of.of_input else of(x)
    step = activation.ActivationGrad(of.kind, numbers(shape, 2), v, dx, *of.constants)
    return Operation(name, str(shape), step, dx)


def dropout(name: str, shape: Shape) -> Operation:
    y = arrays.empty(shape)
    step = elementwise.Dropout(numbers(shape, 1), y, 0.5, elementwise.Position(0), 1)
    return Operation(name, str(shape), step, y)


def bias_grad(name: str, shape: Shape) -> Operation:
    db = arrays.empty(shape[1:2])
    return Operation(name, str(shape), elementwise.BiasGrad(numbers(shape, 1), db), db)


def softmax(name: str, shape: Shape) -> Operation:
    y = arrays.empty(shape)
    return Operation(name, str(shape), activation.SoftmaxRows(numbers(shape, 1), y, False), y)


def cross_entropy(name: str, shape: Shape) -> Operation:
    grad = arrays.empty(shape)
    step = loss.SoftmaxCrossEntropy(numbers(shape, 1), labels(*shape), grad, np.empty(4))
    return Operation(name, str(shape), step, grad)


def mse(name: str, shape: Shape) -> Operation:
    grad = arrays.empty(shape)
    step = loss.SquaredError(numbers(shape, 1), numbers(shape, 2), grad, np.empty(4))
    return Operation(name, str(shape), step, grad)


def update(name: str, optimizer: Optimizer, size: int) -> Operation:
    """A step of the optimizer, which must advance before each run."""
    parameters = numbers((size,), 1)
    return Operation(name, str((size,)), optimizer.attach(parameters, numbers((size,), 2), []), parameters)


def max_pool2d_grad(
    name: str, input_shape: Shape, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> Operation:
    shape = _pooled(input_shape, kernel_size, stride, padding)
    y, dx = arrays.empty(shape.output_shape), arrays.empty(input_shape)
    argmax = arrays.bytes_like(y)
    pool.MaxPool2d(numbers(input_shape, 1), y, argmax, shape.window)()
    return Operation(
        name, str(input_shape), pool.MaxPool2dGrad(numbers(shape.output_shape, 2), argmax, dx, shape.window), dx
    )


def avg_pool2d(
    name: str, input_shape: Shape, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> Operation:
    shape = _pooled(input_shape, kernel_size, stride, padding)
    y = arrays.empty(shape.output_shape)
    return Operation(name, str(input_shape), pool.AvgPool2d(numbers(input_shape, 1), y, shape.window, True), y)


def avg_pool2d_grad(
    name: str, input_shape: Shape, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> Operation:
    shape = _pooled(input_shape, kernel_size, stride, padding)
    dx = arrays.empty(input_shape)
    return Operation(
        name, str(input_shape), pool.AvgPool2dGrad(numbers(shape.output_shape, 2), dx, shape.window, True), dx
    )


def _pooled(input_shape: Shape, kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair) -> PoolShape:
    return shapes.pool2d(input_shape, kernel_size, stride, padding, 1, False, "pool2d")
