"""What memory limits: activations, dropout, bias gradients, softmax, losses, optimizer updates."""

import operations
import pytest

from nnpar import SGD, Adam, AdamW
from nnpar import benchmark as bench


def update(name, optimizer, size):
    """The second step again and again: unlike the first, it reads the momentum."""
    operation = operations.update(name, optimizer, size)
    optimizer.advance()
    operation.step()
    optimizer.advance()
    return operation


def label(shape):
    return "x".join(map(str, shape))


MAKERS = [bench.relu, operations.relu_grad, operations.dropout, operations.bias_grad]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("shape", operations.ACTIVATIONS, ids=label)
def test_activation(measure, make, shape):
    measure(lambda: make(f"{make.__name__} {label(shape)}", shape))


@pytest.mark.parametrize(
    "make", [operations.softmax, operations.cross_entropy, operations.mse], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("shape", operations.LOGITS, ids=label)
def test_loss(measure, make, shape):
    measure(lambda: make(f"{make.__name__} {label(shape)}", shape))


@pytest.mark.parametrize("kind", ["sgd", "sgd_momentum", "adam", "adamw"])
@pytest.mark.parametrize("size", operations.PARAMETERS)
def test_optimizer(measure, kind, size):
    optimizers = {"sgd": SGD(1e-3), "sgd_momentum": SGD(1e-3, momentum=0.9), "adam": Adam(), "adamw": AdamW()}
    measure(lambda: update(f"{kind} {size}", optimizers[kind], size))
