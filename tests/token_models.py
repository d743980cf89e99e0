"""Models of normalisations and layers on tokens for test_plan.py: how each is made, and its input's shape."""

from nnpar import (
    Add,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv2d,
    Flatten,
    Graph,
    GroupNorm,
    Input,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    MultiheadAttention,
    PositionEmbedding,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Slice,
    Tokens,
    TransformerEncoderLayer,
)


def sum_of_sequences():
    """Batch normalisation, which reads channels last, of a sum of values that lie in the order of the axes."""
    x = Input((3, 4))
    return Graph(x, Linear(4, 2)(ReLU()(Add()(BatchNorm1d(3)(Linear(4, 4)(x)), x))))


def cross_attention(**options):
    """Query, key and value from layers of their own, and one of them read twice."""
    x = Input((5, 4))
    query, key, value = (Linear(4, width)(x) for width in (6, options.get("kdim", 6), options.get("vdim", 6)))
    attended = MultiheadAttention(6, 3, batch_first=True, **options)(query, key, value)
    return Graph(x, Add()(attended, query))


def norms_of_one_value():
    """What several read must not be overwritten."""
    x = Input((4, 3, 3))
    a = Conv2d(4, 4, 1)(x)
    normed = [layer(a) for layer in (GroupNorm(2, 4), LocalResponseNorm(3, alpha=0.5), LayerNorm(3), InstanceNorm2d(4))]
    return Graph(x, Add()(Add()(*normed[:2]), Add()(*normed[2:])))


def vision_transformer(**options):
    return Sequential(
        Conv2d(1, 6, 2, 2), Tokens(), PositionEmbedding(7, 6, class_token=True),
        TransformerEncoderLayer(6, 2, 10, 0.0, batch_first=True, **options),
        TransformerEncoderLayer(6, 3, 8, 0.0, batch_first=True, **options),
        LayerNorm(6), Slice(1, 0, 1), Flatten(), Linear(6, 3),
    )  # fmt: skip


MODELS = {
    "norm of features": (lambda: Sequential(Linear(4, 5), BatchNorm1d(5), ReLU(), Linear(5, 2)), (6, 4)),
    "norm of sequences": (sum_of_sequences, (2, 3, 4)),
    "norm of volumes": (lambda: Sequential(BatchNorm3d(2), ReLU(), BatchNorm3d(2)), (2, 2, 3, 2, 2)),
    "norm that is not affine": (
        lambda: Sequential(
            Conv2d(2, 3, 1), BatchNorm2d(3, affine=False), ReLU(), Residual(BatchNorm2d(3, affine=False))
        ),
        (2, 2, 4, 4),
    ),
    "norm of each batch": (
        lambda: Sequential(Conv2d(2, 3, 1), BatchNorm2d(3, track_running_stats=False), ReLU()), (3, 2, 4, 4)
    ),
    "linear on tokens": (lambda: Sequential(Linear(4, 5), ReLU(), Linear(5, 3, bias=False)), (2, 3, 4)),
    "linear on images": (lambda: Sequential(Conv2d(2, 3, 1), Linear(4, 5), ReLU(), Conv2d(3, 2, 1)), (2, 2, 3, 4)),
    "layer norm": (lambda: Sequential(Linear(4, 6), LayerNorm(6), ReLU(), LayerNorm((3, 6), bias=False)), (2, 3, 4)),
    "layer norm without parameters": (lambda: Residual(LayerNorm(6, 0.1, elementwise_affine=False)), (5, 6)),
    "layer norm of images": (lambda: Sequential(Conv2d(2, 3, 1), LayerNorm((3, 4, 5)), Conv2d(3, 2, 1)), (2, 2, 4, 5)),
    "rms norm": (lambda: Sequential(RMSNorm(4), Linear(4, 6), RMSNorm((3, 6), 0.1), ReLU()), (2, 3, 4)),
    "group norm": (
        lambda: Sequential(Conv2d(2, 6, 1), GroupNorm(3, 6), ReLU(), MaxPool2d(2), GroupNorm(2, 6, affine=False)),
        (3, 2, 4, 6),
    ),
    "group norm and relu": (lambda: Sequential(GroupNorm(1, 4), ReLU(), Conv2d(4, 2, 1)), (3, 4, 4, 3)),
    "group norm of features": (lambda: Sequential(Linear(4, 6), GroupNorm(2, 6), ReLU()), (3, 4)),
    "instance norm": (
        lambda: Sequential(Conv2d(2, 3, 1), InstanceNorm2d(3, affine=True), ReLU(), InstanceNorm2d(3)), (2, 2, 4, 5)
    ),
    "instance norm of sequences": (lambda: Sequential(InstanceNorm1d(3, affine=True), Linear(5, 2)), (2, 3, 5)),
    "local response norm": (
        lambda: Sequential(Conv2d(2, 7, 1), LocalResponseNorm(5, 0.3), ReLU(), LocalResponseNorm(4, 0.5, 0.6, 2.0)),
        (2, 2, 3, 4),
    ),
    "norms of one value": (norms_of_one_value, (2, 4, 3, 3)),
    "attention": (lambda: Sequential(Linear(4, 6), MultiheadAttention(6, 2, batch_first=True), ReLU()), (2, 5, 4)),
    "causal attention": (
        lambda: Residual(MultiheadAttention(6, 3, bias=False, batch_first=True, causal=True)), (2, 5, 6)
    ),
    "cross attention": (cross_attention, (2, 5, 4)),
    "cross attention of other widths": (lambda: cross_attention(kdim=4, vdim=5), (2, 5, 4)),
    "positions": (lambda: Sequential(Linear(4, 3), PositionEmbedding(5, 3), Flatten(), Linear(15, 2)), (2, 5, 4)),
    "positions of a relu": (
        lambda: Sequential(Linear(4, 3), ReLU(), PositionEmbedding(5, 3), ReLU(), Linear(3, 2)), (2, 5, 4)
    ),
    "tokens of a relu": (
        lambda: Sequential(
            Conv2d(2, 3, 1), Tokens(), ReLU(), PositionEmbedding(7, 3, True), Slice(1, 0, 1), Flatten(), ReLU(),
        ),
        (2, 2, 2, 3),
    ),
    "vision transformer": (vision_transformer, (2, 1, 4, 6)),
    "vision transformer, norm first": (lambda: vision_transformer(norm_first=True, bias=False), (2, 1, 4, 6)),
}  # fmt: skip
