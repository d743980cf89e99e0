"""Models by name, ready to train."""

from __future__ import annotations

from collections.abc import Callable

from nnpar.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential

__all__ = ["MODELS", "digits_cnn", "lenet5", "mlp", "mnist_cnn"]


def digits_cnn() -> Sequential:
    """For the 8x8 images of :func:`nnpar.data.digits`: two convolutions of 32 and 64 channels, dropout, 128, 10.

    Returns
    -------
    Sequential
        Input (N, 1, 8, 8), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 32, 3, padding=1),
        ReLU(),
        Conv2d(32, 64, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Dropout(0.25),
        Linear(64 * 4 * 4, 128),
        ReLU(),
        Linear(128, 10),
    )


def mlp() -> Sequential:
    """Two hidden layers of 512 for 28x28 images.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(Flatten(), Linear(28 * 28, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))


def lenet5() -> Sequential:
    """LeNet-5 with ReLU and max pooling: LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86(11), 1998, figure
    2.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(400, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, 10),
    )


def mnist_cnn() -> Sequential:
    """Convolutions of 32 and 64 channels, pooling, 128, 10, for 28x28 images.

    Returns
    -------
    Sequential
        Input (N, 1, 28, 28), output (N, 10).
    """
    return Sequential(
        Conv2d(1, 32, 3),
        ReLU(),
        Conv2d(32, 64, 3),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * 12 * 12, 128),
        ReLU(),
        Linear(128, 10),
    )


MODELS: dict[str, Callable[[], Sequential]] = {
    "digits_cnn": digits_cnn,
    "mlp": mlp,
    "lenet5": lenet5,
    "mnist_cnn": mnist_cnn,
}
