"""Models for small images of digits."""

from __future__ import annotations

from nnpar.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential


def digits_cnn(num_classes: int = 10, in_channels: int = 1) -> Sequential:
    """For the 8x8 images of :func:`nnpar.data.digits`: two convolutions of 32 and 64 channels, dropout, 128, 10.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 8, 8), output (N, num_classes). 151,306 parameters, 1.3 M multiply-adds.
    """
    return Sequential(
        Conv2d(in_channels, 32, 3, padding=1),
        ReLU(),
        Conv2d(32, 64, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Dropout(0.25),
        Linear(64 * 4 * 4, 128),
        ReLU(),
        Linear(128, num_classes),
    )


def mlp(num_classes: int = 10, in_channels: int = 1) -> Sequential:
    """Two hidden layers of 512 for 28x28 images.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 28, 28), output (N, num_classes). 669,706 parameters, 0.7 M multiply-adds.
    """
    return Sequential(
        Flatten(), Linear(in_channels * 28 * 28, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, num_classes)
    )


def lenet5(num_classes: int = 10, in_channels: int = 1) -> Sequential:
    """LeNet-5 with ReLU and max pooling: LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86(11), 1998, figure
    2.

    The paper's has 60,000 parameters: 900 fewer in the second convolution, which reads only some of the channels, 850
    fewer in the output layer, which is fixed, and 44 in its pooling.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 28, 28), output (N, num_classes). 61,706 parameters, 0.4 M multiply-adds.
    """
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
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
        Linear(84, num_classes),
    )


def mnist_cnn(num_classes: int = 10, in_channels: int = 1) -> Sequential:
    """Convolutions of 32 and 64 channels, pooling, 128, 10, for 28x28 images: that of PyTorch's MNIST example.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    Sequential
        Input (N, in_channels, 28, 28), output (N, num_classes). 1,199,882 parameters, 12.0 M multiply-adds.
    """
    return Sequential(
        Conv2d(in_channels, 32, 3),
        ReLU(),
        Conv2d(32, 64, 3),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * 12 * 12, 128),
        ReLU(),
        Linear(128, num_classes),
    )
