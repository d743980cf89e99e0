"""Models of normalisations and layers on tokens for test_plan.py: how each is made, and its input's shape."""

from nnpar import (
    Add,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv2d,
    Graph,
    Input,
    Linear,
    ReLU,
    Residual,
    Sequential,
)


def sum_of_sequences():
    """Batch normalisation, which reads channels last, of a sum of values that lie in the order of the axes."""
    x = Input((3, 4))
    return Graph(x, Linear(4, 2)(ReLU()(Add()(BatchNorm1d(3)(Linear(4, 4)(x)), x))))


MODELS = {
    "norm of features": (lambda: Sequential(Linear(4, 5), BatchNorm1d(5), ReLU(), Linear(5, 2)), (6, 4)),
    "norm of sequences": (sum_of_sequences, (2, 3, 4)),
    "norm of volumes": (lambda: Sequential(BatchNorm3d(2), ReLU(), BatchNorm3d(2)), (2, 2, 3, 2, 2)),
    "norm that is not affine": (
        lambda: Sequential(Conv2d(2, 3, 1), BatchNorm2d(3, affine=False), ReLU(), Residual(BatchNorm2d(3, affine=False))),
        (2, 2, 4, 4),
    ),
    "norm of each batch": (
        lambda: Sequential(Conv2d(2, 3, 1), BatchNorm2d(3, track_running_stats=False), ReLU()), (3, 2, 4, 4)
    ),
    "linear on tokens": (lambda: Sequential(Linear(4, 5), ReLU(), Linear(5, 3, bias=False)), (2, 3, 4)),
    "linear on images": (lambda: Sequential(Conv2d(2, 3, 1), Linear(4, 5), ReLU(), Conv2d(3, 2, 1)), (2, 2, 3, 4)),
}  # fmt: skip
