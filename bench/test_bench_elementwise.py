"""What memory limits: activations, dropout, bias gradients, losses, optimizer updates."""

import numpy as np
import pytest

from nnpar import SGD, Adam, AdamW, arrays
from nnpar import benchmark as bench
from nnpar._kernels import elementwise, loss

# LeNet-5's and VGG-16's first activations at a batch of 8, and a matrix of a dense layer.
SHAPES = [(8, 6, 28, 28), (8, 64, 224, 224), (128, 4096)]
# Batches of MNIST and ImageNet.
LOGITS = [(64, 10), (256, 1000)]
# Parameters of LeNet-5, ResNet-20 and ResNet-18.
SIZES = [61_706, 272_474, 11_689_512]


def relu_grad(name, shape):
    dx = arrays.empty(shape)
    step = elementwise.ReluGrad(bench.numbers(shape, 1), bench.numbers(shape, 2), dx)
    return bench.Operation(name, str(shape), step, dx)


def dropout(name, shape):
    y = arrays.empty(shape)
    step = elementwise.Dropout(bench.numbers(shape, 1), y, 0.5, elementwise.Position(0), 1)
    return bench.Operation(name, str(shape), step, y)


def bias_grad(name, shape):
    db = arrays.empty(shape[1:2])
    return bench.Operation(name, str(shape), elementwise.BiasGrad(bench.numbers(shape, 1), db), db)


def cross_entropy(name, shape):
    grad = arrays.empty(shape)
    labels = np.arange(shape[0]) * 7 % shape[1]
    step = loss.SoftmaxCrossEntropy(bench.numbers(shape, 1), labels, grad, np.empty(2))
    return bench.Operation(name, str(shape), step, grad)


def softmax(name, shape):
    y = arrays.empty(shape)
    return bench.Operation(name, str(shape), loss.Softmax(bench.numbers(shape, 1), y), y)


def mse(name, shape):
    grad = arrays.empty(shape)
    step = loss.SquaredError(bench.numbers(shape, 1), bench.numbers(shape, 2), grad, np.empty(2))
    return bench.Operation(name, str(shape), step, grad)


def update(name, optimizer, size):
    """The second step again and again: unlike the first, it reads the momentum."""
    parameters = bench.numbers((size,), 1)
    step = optimizer.attach(parameters, bench.numbers((size,), 2))
    optimizer.advance()
    step()
    optimizer.advance()
    return bench.Operation(name, str((size,)), step, parameters)


def label(shape):
    return "x".join(map(str, shape))


@pytest.mark.parametrize("make", [bench.relu, relu_grad, dropout, bias_grad], ids=lambda make: make.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_activation(measure, make, shape):
    measure(lambda: make(f"{make.__name__} {label(shape)}", shape))


@pytest.mark.parametrize("make", [softmax, cross_entropy, mse], ids=lambda make: make.__name__)
@pytest.mark.parametrize("shape", LOGITS, ids=label)
def test_loss(measure, make, shape):
    measure(lambda: make(f"{make.__name__} {label(shape)}", shape))


@pytest.mark.parametrize("kind", ["sgd", "sgd_momentum", "adam", "adamw"])
@pytest.mark.parametrize("size", SIZES)
def test_optimizer(measure, kind, size):
    optimizers = {"sgd": SGD(1e-3), "sgd_momentum": SGD(1e-3, momentum=0.9), "adam": Adam(), "adamw": AdamW()}
    measure(lambda: update(f"{kind} {size}", optimizers[kind], size))
