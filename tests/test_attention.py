"""Attention and embeddings against NumPy in float64, finite differences and PyTorch's numbers."""

import cases
import numpy as np
import pytest
from test_batch_norm import numeric_gradient
from test_norms import doubles, drawn, wave

import nnpar
from nnpar import Embedding, Graph, Input, Linear, MultiheadAttention, PositionEmbedding, Sequential
from nnpar import TransformerEncoderLayer as EncoderLayer
from nnpar import reference_tokens as reference
from nnpar._kernels import tokens
from nnpar._kernels.elementwise import Position
from nnpar.plan import Plan

# Samples, queries, keys, heads, features of a head, causal.
SHAPES = [
    (1, 1, 1, 1, 1, False),
    (2, 3, 5, 2, 4, False),
    (1, 7, 7, 3, 5, True),
    (2, 50, 31, 2, 16, False),
    (1, 197, 197, 3, 64, False),
    (2, 100, 100, 1, 33, True),
    (1, 20, 9, 2, 70, True),
    (3, 2, 130, 1, 8, False),
]


def attended(shape, p=0.0, draw=cases.normals):
    n, t, s, heads, size, causal = shape
    rng = np.random.default_rng(0)
    e = heads * size
    q, k, v, dy = (draw(rng, (n, count, e)) for count in (t, s, s, t))
    y, dq, dk, dv = (np.full((n, count, e), np.nan, np.float32) for count in (t, t, s, s))
    options = heads, causal, p, Position(3), 1
    tokens.Attention(q, k, v, y, *options)()
    tokens.AttentionGrad(dy, q, k, v, dq, dk, dv, *options)()
    return (q, k, v, dy), y, (dq, dk, dv)


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_the_reference(shape):
    """Errors of scores become relative errors of probabilities; those are a mean of values."""
    (q, k, v, dy), y, gradients = attended(shape)
    _, _, s, heads, size, causal = shape
    q, k, v, dy = doubles(q, k, v, dy)
    scores = np.sqrt(size) * abs(q).max() * abs(k).max()
    expected = reference.attention(q, k, v, heads, causal)
    cases.assert_within(y, expected, size + s + 4 + scores, abs(v).max())
    for got, want in zip(gradients, reference.attention_grad(dy, q, k, v, heads, causal), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * max(1.0, abs(want).max()))


def test_equal_keys_give_the_mean_of_the_values():
    """Nothing is rounded: probabilities are a power of two."""
    q, k = np.ones((1, 5, 4), np.float32), np.ones((1, 8, 4), np.float32)
    v, y = cases.integers(np.random.default_rng(0), (1, 8, 4)), np.empty((1, 5, 4), np.float32)
    tokens.Attention(q, k, v, y, 2, False, 0.0, Position(), 0)()
    cases.assert_equal(y, np.repeat(v.mean(axis=1, keepdims=True), 5, axis=1))


def test_twins_by_finite_differences():
    rng = np.random.default_rng(1)
    arguments = doubles(*drawn(rng, (2, 3, 4), (2, 5, 4), (2, 5, 4)))
    (dy,) = doubles(*drawn(rng, (2, 3, 4)))
    for causal in (False, True):
        for k, got in enumerate(reference.attention_grad(dy, *arguments, 2, causal)):

            def forward(value, k=k, causal=causal):
                given = list(arguments)
                given[k] = value
                return reference.attention(*given, 2, causal)

            np.testing.assert_allclose(got, numeric_gradient(forward, arguments[k], dy), rtol=1e-6, atol=1e-8)


def with_waves(layer):
    """Parameters that PyTorch had as well when the numbers below were written down."""
    for name, array in layer.parameters().items():
        shift = 0.1 if "bias" in name else 0.0
        array[...] = 0.5 * wave(*array.shape) + shift
    return layer


SELF = [0.18501325, 0.74518444, 0.70503836, -0.65221321, 1.30026393, -0.57632327, 0.95347967, 1.22868778]
CAUSAL = [0.99667365, 1.7451702, 0.57831325, -0.65221321, -0.02117612, 0.1568849, 0.95347967, 1.22868778]
CROSS = [-0.12220809, 1.01284685, 0.64698024, -1.30130512, 0.76040914, -0.16461337, 0.36856959, 1.19053495]
DX = [-0.04102677, 0.10457486, 0.430375, -0.24256603, 0.01488687, -0.10342522, 0.15125818, 0.14758593]
OF_IN_PROJ = [0.01666624, -0.09878749, 0.05878161, -0.15492192, -0.01436688, 0.01454467, 0.23534142]
OF_OUT_PROJ = [2.52053832, 1.25753535, -2.10688415, -0.19774374, 4.65704416, -3.12391689]


def test_numbers_of_pytorch():
    """What PyTorch 2.13 gives in float64."""

    def close(got, every, expected):
        np.testing.assert_allclose(got.ravel()[::every], expected, rtol=1e-4, atol=1e-5)

    x = wave(2, 3, 6) + 0.1
    layer = with_waves(MultiheadAttention(6, 2, batch_first=True))
    close(layer(x), 5, SELF)
    close(layer(x, x, x), 5, SELF)
    close(with_waves(MultiheadAttention(6, 2, batch_first=True, causal=True))(x), 5, CAUSAL)
    other = with_waves(MultiheadAttention(6, 3, kdim=4, vdim=5, batch_first=True))
    close(other(wave(2, 3, 6), wave(2, 4, 4), wave(2, 4, 5)), 5, CROSS)
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert list(other.parameters()) == names
    plan = Plan(layer, x.shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    plan.dy[...] = np.cos(wave(2, 3, 6))
    plan.run_backward()
    close(plan.dx, 5, DX)
    close(plan.gradients["in_proj_weight"], 17, OF_IN_PROJ)
    close(plan.gradients["out_proj.weight"], 7, OF_OUT_PROJ)


ENCODERS = {
    ("gelu", False): [-0.52491159, 1.03785011, 0.63267553, -1.1245513, 0.75147348, -0.92634663, 0.87766596, 2.02725359],
    ("gelu", True): [0.52304634, 0.63992676, 0.00423946, -0.41182976, 2.81227624, -1.73592624, 2.88985048, 2.40462477],
    ("relu", False): [-0.50082752, 1.10826088, 0.56250866, -1.12979727, 0.69706463, -1.00573741, 0.85879092, 2.0406345],
    ("relu", True): [0.46363962, 0.64839408, -0.04220044, -0.39002313, 2.84544045, -1.80369284, 2.88828872, 2.34734177],
}


@pytest.mark.parametrize(("activation", "norm_first"), ENCODERS)
def test_encoder_layer_has_pytorchs_numbers_and_names(activation, norm_first):
    layer = EncoderLayer(6, 2, 8, 0.0, activation, 1e-5, True, norm_first)
    for name, array in layer.parameters().items():
        array[...] = 0.5 * wave(*array.shape) + ("norm" in name and "weight" in name)
    y = layer(wave(2, 3, 6))
    np.testing.assert_allclose(y.ravel()[::5], ENCODERS[activation, norm_first], rtol=1e-4, atol=1e-5)
    assert set(layer.parameters()) == {
        "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight", "self_attn.out_proj.bias",
        "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
        "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
    }  # fmt: skip


def test_dropout_of_attention():
    """On average the output is that without; backward drops what forward dropped; batches do not matter."""
    shape = (2, 60, 50, 2, 4, False)
    (q, k, v, dy), _, _ = attended(shape)
    y, g = (np.empty_like(q) for _ in range(2))
    ones, probabilities = np.ones_like(v), np.zeros((2, 60, 8), np.float32)
    # Of equal probabilities, so that only what was dropped makes a difference.
    tokens.Attention(np.zeros_like(q), k, ones, probabilities, 2, False, 0.5, Position(3), 1)()
    assert abs(probabilities.mean() - 1) < 0.05
    assert probabilities.std() > 0.1
    assert (probabilities[0] != probabilities[1]).any()
    assert (probabilities[:, :, 0] != probabilities[:, :, 4]).any()
    assert (probabilities[:, :12] != probabilities[:, 48:]).any()
    # The output is linear in v, so that its gradient dv is the transpose of the same weights.
    tokens.Attention(q, k, v, y, 2, False, 0.5, Position(3), 1)()
    dv = np.empty_like(v)
    tokens.AttentionGrad(dy, q, k, v, g, np.empty_like(k), dv, 2, False, 0.5, Position(3), 1)()
    np.testing.assert_allclose((y * dy).sum(dtype=float), (dv * v).sum(dtype=float), rtol=1e-4)
    second, moved = np.empty_like(y[1:]), Position(3)
    moved.move(0, 1)
    tokens.Attention(q[1:], k[1:], v[1:], second, 2, False, 0.5, moved, 1)()
    np.testing.assert_array_equal(second, y[1:])


def test_gradients_with_dropout_by_differences():
    """The derivative along a direction, of the step itself: the same elements are dropped."""
    rng = np.random.default_rng(2)
    q, k, v, dy, *along = drawn(rng, *[(1, 60, 8)] * 7)
    slopes, y = [np.empty_like(q) for _ in range(3)], np.empty_like(q)
    tokens.AttentionGrad(dy, q, k, v, *slopes, 2, True, 0.25, Position(3), 1)()
    values = []
    for sign in (1, -1):
        moved = [x + np.float32(sign * 2e-3) * d for x, d in zip((q, k, v), along, strict=True)]
        tokens.Attention(*moved, y, 2, True, 0.25, Position(3), 1)()
        values.append((y.astype(float) * dy).sum())
    expected = sum((slope.astype(float) * d).sum() for slope, d in zip(slopes, along, strict=True))
    np.testing.assert_allclose((values[0] - values[1]) / 4e-3, expected, rtol=2e-3)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_same_bits_at_any_number_of_threads(count):
    def results():
        for shape in SHAPES[3:]:
            _, y, gradients = attended(shape, 0.25)
            yield from (array.tobytes() for array in (y, *gradients))
        rng = np.random.default_rng(3)
        dy, dtable = cases.normals(rng, (3000, 130)), np.empty((50, 130), np.float32)
        tokens.GatherGrad(dy, np.float32(rng.integers(0, 50, 3000)), dtable, -1)()
        yield dtable.tobytes()

    with nnpar.num_threads(1):
        serial = list(results())
    with nnpar.num_threads(count):
        assert list(results()) == serial


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_stays_in_its_head_and_query(bad):
    (q, k, v, _), clean, _ = attended((2, 5, 5, 2, 4, False))
    q[0, 2, 1] = bad
    y = np.empty_like(clean)
    tokens.Attention(q, k, v, y, 2, False, 0.0, Position(), 0)()
    assert np.isnan(y[0, 2, :4]).all()
    y[0, 2, :4] = clean[0, 2, :4]
    np.testing.assert_array_equal(y, clean)


def test_embedding_and_its_gradient():
    layer = Embedding(7, 5, padding_idx=-2)
    assert layer.padding_idx == 5
    np.testing.assert_array_equal(layer.weight[5], 0)
    index = np.array([[1, 5, 1], [6, 0, 1]])
    np.testing.assert_array_equal(layer(index), layer.weight[index])
    plan = Plan(Sequential(layer), (2, 3), training=True)
    plan.x[...] = index
    plan.run_forward()
    plan.dy[...] = dy = cases.integers(np.random.default_rng(0), (2, 3, 5))
    plan.run_backward()
    expected = np.zeros((7, 5))
    np.add.at(expected, index, dy)
    expected[5] = 0
    np.testing.assert_array_equal(plan.gradients["0.weight"], expected)


X = np.ones((2, 3, 6))
CROSS_LAYER = MultiheadAttention(6, 2, kdim=4, batch_first=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MultiheadAttention(6, 2), r"MultiheadAttention: batch_first: expected True, got False: .*\(N, T, E\)"),
        (lambda: MultiheadAttention(6, 4), "MultiheadAttention: num_heads: expected a divisor of embed_dim 6, got 4"),
        (lambda: MultiheadAttention(6, 2, 1.0), "MultiheadAttention: dropout: expected 0 <= dropout < 1, got 1"),
        (lambda: MultiheadAttention(6, 2, add_bias_kv=True), "add_bias_kv: expected False, got True"),
        (lambda: MultiheadAttention(6, 2, add_zero_attn=True), "add_zero_attn: expected False, got True"),
        (lambda: MultiheadAttention(6, 2, batch_first=True)(X[0]), r"query: expected shape \(3, T, 6\), got \(3, 6\)"),
        (
            lambda: MultiheadAttention(6, 2, batch_first=True)(X, X),
            "expected one input, or query, key and value, got 2",
        ),
        (lambda: CROSS_LAYER(X), r"MultiheadAttention: key: expected shape \(2, S, 4\), got \(2, 3, 6\)"),
        (lambda: CROSS_LAYER(X, X[..., :4], X[:, :2]), "MultiheadAttention: value: expected 3 tokens, as many as keys"),
        (lambda: EncoderLayer(6, 2), "TransformerEncoderLayer: batch_first: expected True"),
        (lambda: EncoderLayer(6, 4), "TransformerEncoderLayer: nhead: expected a divisor of d_model 6, got 4"),
        (lambda: EncoderLayer(6, 2, activation="tanh"), "TransformerEncoderLayer: activation: expected one of"),
        (lambda: Embedding(2**24 + 1, 1), r"Embedding: num_embeddings: expected at most 2\^24"),
        (lambda: Embedding(5, 2, 5), "Embedding: padding_idx: expected less than 5, got 5"),
        (lambda: Embedding(5, 2, max_norm=1.0), "Embedding: max_norm: expected None, got 1.0"),
        (lambda: Embedding(5, 2, sparse=True), "Embedding: sparse: expected False, got True"),
        (lambda: Embedding(5, 2)([[5]]), "Embedding: input: expected whole numbers from 0 to 4, got 5"),
        (lambda: Embedding(5, 2)([[-1]]), "expected whole numbers from 0 to 4, got -1"),
        (lambda: Embedding(5, 2)([[0.5]]), "expected whole numbers from 0 to 4, got 0.5"),
        (lambda: Embedding(5, 2)([[np.nan]]), "expected whole numbers from 0 to 4, got nan"),
        (lambda: Sequential(Linear(3, 3), Embedding(5, 2))(X[0, :, :3]), r"layer '1' \(Embedding\): .*another layer"),
        (lambda: Plan(Embedding(5, 2), (2, 3), training=True, needs_dx=True), r"Embedding\): indices have no gradient"),
        (lambda: PositionEmbedding(4, 6)(X), r"PositionEmbedding: input: expected shape \(N, 4, 6\), got \(2, 3, 6\)"),
        (lambda: PositionEmbedding(1, 6, True), "PositionEmbedding: tokens: expected at least 2, got 1"),
        (lambda: nnpar.Tokens()(X[0]), r"Tokens: input: expected shape \(N, C, ...\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_samples_give_no_output():
    layer = EncoderLayer(6, 2, 9, batch_first=True)
    assert layer(np.zeros((0, 3, 6))).shape == (0, 3, 6)
    plan = Plan(layer, (0, 3, 6), training=True, needs_dx=True)
    plan.run_forward()
    plan.run_backward()
    assert not any(gradient.any() for gradient in plan.gradients.values())


def test_models_are_saved_and_loaded(tmp_path):
    """Every layer on tokens, and every normalisation."""
    query, image = Input((5, 6)), Input((3, 4, 4))
    a = MultiheadAttention(6, 3, 0.1, batch_first=True, causal=True)(query)
    a = MultiheadAttention(6, 2, bias=False, kdim=4, batch_first=True)(a, Linear(6, 4)(a), a)
    a = EncoderLayer(6, 2, 9, 0.2, "relu", 1e-3, True, True, False)(nnpar.RMSNorm((5, 6))(a))
    a = nnpar.LayerNorm(6, elementwise_affine=False)(a)
    b = nnpar.GroupNorm(1, 3)(nnpar.InstanceNorm2d(3, affine=True)(nnpar.LocalResponseNorm(3)(image)))
    b = nnpar.Dropout2d(0.1)(nnpar.BatchNorm2d(3, affine=False)(b))
    b = nnpar.Slice(1, 0, 1)(PositionEmbedding(17, 3, True)(nnpar.Tokens()(b)))
    model = Graph((query, image), (a, b))
    model.save(tmp_path / "model.safetensors")
    again = nnpar.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    rng = np.random.default_rng(0)
    x = cases.normals(rng, (2, 5, 6)), cases.normals(rng, (2, 3, 4, 4))
    for got, expected in zip(again(*x), model(*x), strict=True):
        np.testing.assert_array_equal(got, expected)
    table = Sequential(Embedding(5, 2, padding_idx=1))
    table.save(tmp_path / "table.safetensors")
    np.testing.assert_array_equal(nnpar.load(tmp_path / "table.safetensors")([[4, 1]]), table([[4, 1]]))
