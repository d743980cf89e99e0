"""Models of functions of elements, arithmetic and what moves numbers for test_plan.py: how each is made, and its
input's shape."""

import itertools

from nnpar import (
    ELU,
    GELU,
    Add,
    Affine,
    BatchNorm2d,
    ChannelShuffle,
    Concatenate,
    ConstantPad,
    Conv2d,
    ConvTranspose2d,
    Div,
    Exp,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    Hardtanh,
    Input,
    Linear,
    LogSoftmax,
    MaxPool2d,
    Mean,
    Mul,
    Permute,
    PixelShuffle,
    PReLU,
    ReLU,
    ReLU6,
    Reshape,
    Scale,
    Sequential,
    Shift,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Sub,
    Sum,
    Tanh,
    ZeroPad2d,
)

# Each before each other: what one reads again in the backward pass the other must leave.
FUNCTIONS = {
    "relu": ReLU, "relu6": ReLU6, "elu": ELU, "gelu": GELU, "sigmoid": Sigmoid, "tanh": Tanh, "exp": Exp,
    "softmax": lambda: Softmax(1), "log softmax": lambda: LogSoftmax(1), "prelu": PReLU, "scale": lambda: Scale((5,)),
    "hardtanh": lambda: Hardtanh(0.25, 2.0), "reshape": lambda: Reshape((0, 5)), "affine": lambda: Affine(0.5, -0.3),
}  # fmt: skip


def _pair(a, b):
    return lambda: Sequential(Linear(3, 5), FUNCTIONS[a](), FUNCTIONS[b](), Linear(5, 2))


def squeeze_and_excitation():
    x = Input((3, 4, 4))
    y = BatchNorm2d(4)(Conv2d(3, 4, 3, padding=1, bias=False)(x))
    gate = Sigmoid()(Conv2d(2, 4, 1)(ReLU()(Conv2d(4, 2, 1)(GlobalAvgPool2d()(y)))))
    return Graph(x, ReLU()(Add()(Mul()(y, gate), y)))


def fractions():
    """A quotient that is read again, by a function that would overwrite it."""
    x = Input((6,))
    a, b = Linear(6, 4)(x), Shift((1,))(Exp()(Linear(6, 1)(x)))
    return Graph(x, Sigmoid()(Div()(Sub()(a, b), b)))


def parts():
    """Images cut and joined along several axes, and read in both memory layouts."""
    x = Input((4, 4, 6))
    y = Conv2d(4, 4, 1)(x)
    left, right = Slice(3, 0, 2)(y), Tanh()(Slice(3, 2, None, 2)(y))
    joined = Concatenate(3)(left, right, Slice(-1, None, None, -3)(y))
    return Graph(x, Flatten()(Permute((0, 2, 1, 3))(ChannelShuffle(2)(joined))))


def pooled_and_saturated():
    """The pooling takes the ReLU's gradient, for which it reads its output."""
    return Sequential(Conv2d(2, 3, 3, padding=1), ReLU(), MaxPool2d(2), Sigmoid(), Conv2d(3, 2, 1))


def normalised_sum_and_saturated():
    """Batch normalisation takes a sum and a ReLU, for which it reads its output."""
    x = Input((2, 4, 4))
    a = Conv2d(2, 2, 1)(x)
    return Graph(x, Conv2d(2, 2, 1)(Sigmoid()(ReLU()(Add()(BatchNorm2d(2)(Conv2d(2, 2, 1, bias=False)(a)), a)))))


MODELS = {f"{a}, {b}": (_pair(a, b), (4, 3)) for a, b in itertools.product(FUNCTIONS, repeat=2)} | {
    "squeeze and excitation": (squeeze_and_excitation, (2, 3, 4, 4)),
    "fractions": (fractions, (3, 6)),
    "parts": (parts, (2, 4, 4, 6)),
    "pooled and saturated": (pooled_and_saturated, (2, 2, 4, 4)),
    "normalised sum and saturated": (normalised_sum_and_saturated, (2, 2, 4, 4)),
    "view and function": (
        lambda: Sequential(Linear(6, 6), Sigmoid(), Reshape((0, 2, 3)), Tanh(), Flatten(), Linear(6, 2)), (3, 6),
    ),
    "images of functions": (
        lambda: Sequential(Conv2d(2, 3, 1), SiLU(), PReLU(3), Softmax(1), Softmax(3)), (2, 2, 3, 4),
    ),
    "pads": (
        lambda: Sequential(
            ZeroPad2d((1, 0, 0, 2)), Conv2d(2, 3, 3), ConstantPad((0, 0, -1, 1), (0, 1, 0, 0), 0.5), GELU(),
        ),
        (2, 2, 4, 4),
    ),
    "transposed convolutions": (
        lambda: Sequential(
            Conv2d(2, 4, 1), Sigmoid(), ConvTranspose2d(4, 6, 3, 2, 1, 1, 2), ReLU(), ConvTranspose2d(6, 2, 2),
        ),
        (2, 2, 3, 4),
    ),
    "shuffles": (lambda: Sequential(Conv2d(2, 8, 1), PixelShuffle(2), Sum((1, 3), True), Mean((2,))), (2, 2, 3, 3)),
}  # fmt: skip
