"""Attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import elementwise, tokens
from nnpar._kernels.elementwise import Position
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.composite import Composite
from nnpar.layers.dropout import probability
from nnpar.layers.embedding import only
from nnpar.layers.linear import Linear, rows_of, weight_grad
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.nodes import Wiring, child
from nnpar.shapes import Shape

SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class Attention(Layer):
    """The heads of a `MultiheadAttention`, side by side, before they are mixed: with one input, which is query, key and
    value, or with all three.
    """

    channels_last = False
    in_proj_weight = Parameter()
    in_proj_bias = Parameter()
    q_proj_weight = Parameter()
    k_proj_weight = Parameter()
    v_proj_weight = Parameter()

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float, bias: bool, kdim: int, vdim: int, causal: bool
    ) -> None:
        self.dims = embed_dim, kdim, vdim
        self.num_heads, self.dropout, self.causal = num_heads, dropout, causal
        if self.dims == (embed_dim,) * 3:
            self._arrays = {"in_proj_weight": self._weight((3 * embed_dim, embed_dim))}
        else:
            shapes = [(embed_dim, dim) for dim in self.dims]
            self._arrays = {name: self._weight(shape) for name, shape in zip(SEPARATE, shapes, strict=True)}
        if bias:
            self._arrays["in_proj_bias"] = new_parameter(
                initializers.zeros, (3 * embed_dim,), "MultiheadAttention", "in_proj_bias"
            )

    def _weight(self, shape: Shape) -> Array:
        return new_parameter(initializers.xavier_uniform, shape, "MultiheadAttention", "in_proj_weight")

    def describe(self, name: str) -> str:
        return f"layer {name!r} (MultiheadAttention)" if name else "MultiheadAttention"

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self.merged_shape([input_shape], name)

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        who = self.describe(name)
        if len(input_shapes) not in (1, 3):
            raise ValueError(f"{who}: expected one input, or query, key and value, got {len(input_shapes)}")
        shapes = tuple(input_shapes) if len(input_shapes) == 3 else (input_shapes[0],) * 3
        n = shapes[0][0]
        for what, length, shape, dim in zip(("query", "key", "value"), "TSS", shapes, self.dims, strict=True):
            if len(shape) != 3 or shape[0] != n or shape[2] != dim:
                raise ValueError(f"{who}: {what}: expected shape ({n}, {length}, {dim}), got {shape}")
        if shapes[1][1] != shapes[2][1]:
            raise ValueError(f"{who}: value: expected {shapes[1][1]} tokens, as many as keys, got {shapes[2][1]}")
        return shapes[0]

    def settings(self) -> dict[str, Any]:
        return {"dims": self.dims, "num_heads": self.num_heads, "dropout": self.dropout, "causal": self.causal}

    def _projections(self, arrays: Any) -> list[tuple[Any, Any]]:
        """Weight and bias, or their gradients, that each input is multiplied with."""
        e = self.dims[0]
        bias = arrays.get("in_proj_bias")
        if "in_proj_weight" in arrays:
            weights = [arrays["in_proj_weight"][k * e : (k + 1) * e] for k in range(3)]
        else:
            weights = [arrays[name] for name in SEPARATE]
        return [(w, None if bias is None else bias[k * e : (k + 1) * e]) for k, w in enumerate(weights)]

    def forward(self, at: Lowering) -> None:
        e = self.dims[0]
        n, t, _ = at.x.shape
        if len(at.inputs) == 1:
            projected = [Buffer((n, t, 3 * e))]
            at.step(
                gemm_step, rows_of(at.x), self.in_proj_weight.T, rows_of(projected[0]), self.in_proj_bias,
                prepacked=at.frozen,
            )  # fmt: skip
        else:
            projected = [Buffer((*x.shape[:2], e)) for x in at.inputs]
            for x, (weight, bias), y in zip(at.inputs, self._projections(self._arrays), projected, strict=True):
                at.step(gemm_step, rows_of(x), weight.T, rows_of(y), bias)
        at.saved["projected"] = projected
        at.y = Buffer((n, t, e))
        at.step(_attention, self._options(at), at.y, *projected, writes=at.y)

    def _options(self, at: Lowering) -> tuple[int, bool, float, Position, int]:
        return self.num_heads, self.causal, self.dropout if at.training else 0.0, at.position, at.index

    def backward(self, at: Lowering) -> None:
        projected = at.saved["projected"]
        slopes = [buffer.like() for buffer in projected]
        at.step(_attention_grad, self._options(at), at.dy, *projected, *slopes)
        if len(at.inputs) == 1:
            pairs = [(self.in_proj_weight, None)]
            gradients = [(at.gradients["in_proj_weight"], at.gradients.get("in_proj_bias"))]
        else:
            pairs, gradients = self._projections(self._arrays), self._projections(at.gradients)
        for number, (slope, (weight, _), (dweight, dbias)) in enumerate(zip(slopes, pairs, gradients, strict=True)):
            x = at.inputs[number]
            at.step(weight_grad, rows_of(slope), rows_of(x), dweight)
            if dbias is not None:
                at.step(elementwise.BiasGrad, rows_of(slope), dbias)
            if at.needs[number]:
                dx = x.like()
                at.step(gemm_step, rows_of(slope), weight, rows_of(dx))
                at.pass_back(dx, number)


def _thirds(arrays: Sequence[Array]) -> list[Array]:
    """Query, key and value, or of one array the thirds of its features."""
    if len(arrays) == 3:
        return list(arrays)
    e = arrays[0].shape[2] // 3
    return [arrays[0][:, :, k * e : (k + 1) * e] for k in range(3)]


def _attention(options: tuple[int, bool, float, Position, int], y: Array, *projected: Array) -> Step:
    q, k, v = _thirds(projected)
    return tokens.Attention(q, k, v, y, *options)


def _attention_grad(options: tuple[int, bool, float, Position, int], dy: Array, *arrays: Array) -> Step:
    half = len(arrays) // 2
    q, k, v = _thirds(arrays[:half])
    dq, dk, dv = _thirds(arrays[half:])
    return tokens.AttentionGrad(dy, q, k, v, dq, dk, dv, *options)


class MultiheadAttention(Composite):
    """Attention of several heads, as PyTorch's ``nn.MultiheadAttention``: Vaswani et al., arXiv:1706.03762.

    Each head has ``softmax(q k^T / sqrt(d)) v``, where q, k and v are d features of the query, key and value, after a
    dense layer. ``out_proj``, another, mixes the heads. With one input it attends to itself; with three, query
    (N, T, E), key (N, S, kdim) and value (N, S, vdim), to others. The output is of shape (N, T, E); the weights are not
    returned.

    Parameters
    ----------
    embed_dim : int
    num_heads : int
        A divisor of embed_dim.
    dropout : float
        Probability that a weight is dropped in training, 0 <= dropout < 1.
    bias : bool
        Whether the dense layers have biases.
    add_bias_kv, add_zero_attn : bool
        True is not supported.
    kdim, vdim : int, optional
        Features of key and value; embed_dim by default.
    batch_first : bool
        Must be said to be True: PyTorch's default, (T, N, E), is not supported.
    causal : bool
        Whether each query sees the keys up to its own position only.

    Attributes
    ----------
    out_proj : Linear

    Raises
    ------
    ValueError
        If an argument is out of range or not supported, or the inputs have other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import MultiheadAttention
    >>> attention = MultiheadAttention(8, 2, batch_first=True)
    >>> attention(np.zeros((4, 5, 8))).shape
    (4, 5, 8)
    >>> list(attention.parameters())
    ['in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias']
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        causal: bool = False,
    ) -> None:
        who = "MultiheadAttention"
        self.embed_dim = _checks.integer(embed_dim, who, "embed_dim", 1)
        self.num_heads = _checks.integer(num_heads, who, "num_heads", 1)
        if self.embed_dim % self.num_heads != 0:
            raise ValueError(f"{who}: num_heads: expected a divisor of embed_dim {embed_dim}, got {num_heads}")
        self.dropout = probability(dropout, who, "dropout")
        only(add_bias_kv, False, who, "add_bias_kv")
        only(add_zero_attn, False, who, "add_zero_attn")
        self.kdim = self.embed_dim if kdim is None else _checks.integer(kdim, who, "kdim", 1)
        self.vdim = self.embed_dim if vdim is None else _checks.integer(vdim, who, "vdim", 1)
        batch_first_only(batch_first, who)
        self.bias, self.causal = bool(bias), bool(causal)
        self.attention = Attention(
            self.embed_dim, self.num_heads, self.dropout, self.bias, self.kdim, self.vdim, self.causal
        )
        self.out_proj = Linear(self.embed_dim, self.embed_dim, self.bias)
        if self.bias:
            self.out_proj.bias = initializers.zeros((self.embed_dim,))
        super().__init__()

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        return self.attention.merged_shape(input_shapes, name)

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        # One symbol three times is one input.
        distinct = inputs[:1] if len(set(inputs)) == 1 and self.kdim == self.vdim == self.embed_dim else inputs
        return self.out_proj.wire(wiring, child(name, "out_proj"), wiring.add(name, self.attention, *distinct))

    def settings(self) -> dict[str, Any]:
        return {
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.bias,
            "kdim": self.kdim,
            "vdim": self.vdim,
            "batch_first": True,
            "causal": self.causal,
        }


def batch_first_only(batch_first: bool, who: str) -> None:
    """The caller knows that tokens are (N, T, E)."""
    if batch_first is not True:
        raise ValueError(f"{who}: batch_first: expected True, got {batch_first}: inputs are of shape (N, T, E)")
