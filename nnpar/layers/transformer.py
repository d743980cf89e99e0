"""A transformer's block, made of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnpar import _checks
from nnpar.layers.activation import GELU, ReLU
from nnpar.layers.attention import MultiheadAttention, batch_first_only
from nnpar.layers.base import Layer
from nnpar.layers.composite import Composite
from nnpar.layers.dropout import Dropout, probability
from nnpar.layers.layer_norm import LayerNorm
from nnpar.layers.linear import Linear
from nnpar.layers.merging import Add
from nnpar.layers.nodes import Wiring, child

ACTIVATIONS: dict[str, Callable[[], Layer]] = {"relu": ReLU, "gelu": GELU}


class TransformerEncoderLayer(Composite):
    """Attention, then a dense layer of each token, each with a residual and a layer normalisation, as PyTorch's
    ``nn.TransformerEncoderLayer``: Vaswani et al., arXiv:1706.03762, figure 1, left.

    Parameters
    ----------
    d_model : int
        Features of a token.
    nhead : int
        Heads, a divisor of d_model.
    dim_feedforward : int
        Width of the dense layer.
    dropout : float
        0 <= dropout < 1.
    activation : str
        ``"relu"`` or ``"gelu"``.
    layer_norm_eps : float
    batch_first : bool
        Must be said to be True: PyTorch's default, (T, N, E), is not supported.
    norm_first : bool
        Whether normalisation comes before attention and dense layer, instead of after the sum: Xiong et al.,
        arXiv:2002.04745.
    bias : bool
        Whether dense layers and normalisations have biases.

    Attributes
    ----------
    self_attn : MultiheadAttention
    linear1, linear2 : Linear
    norm1, norm2 : LayerNorm

    Raises
    ------
    ValueError
        If an argument is out of range or not supported, or the input is not of shape (N, T, d_model).

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import TransformerEncoderLayer
    >>> TransformerEncoderLayer(8, 2, 16, batch_first=True)(np.zeros((4, 5, 8))).shape
    (4, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        who = "TransformerEncoderLayer"
        self.d_model = _checks.integer(d_model, who, "d_model", 1)
        self.nhead = _checks.integer(nhead, who, "nhead", 1)
        if self.d_model % self.nhead != 0:
            raise ValueError(f"{who}: nhead: expected a divisor of d_model {d_model}, got {nhead}")
        self.dim_feedforward = _checks.integer(dim_feedforward, who, "dim_feedforward", 1)
        self.dropout = probability(dropout, who, "dropout")
        if activation not in ACTIVATIONS:
            raise ValueError(f"{who}: activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        batch_first_only(batch_first, who)
        self.activation, self.norm_first, self.bias = activation, bool(norm_first), bool(bias)
        self.self_attn = MultiheadAttention(self.d_model, self.nhead, self.dropout, self.bias, batch_first=True)
        self.linear1 = Linear(self.d_model, self.dim_feedforward, self.bias)
        self.linear2 = Linear(self.dim_feedforward, self.d_model, self.bias)
        self.norm1 = LayerNorm(self.d_model, layer_norm_eps, bias=self.bias)
        self.norm2 = LayerNorm(self.d_model, layer_norm_eps, bias=self.bias)
        self._act = ACTIVATIONS[activation]()
        self._drops = {name: Dropout(self.dropout) for name in ("dropout", "dropout1", "dropout2")}
        self._adds = {name: Add() for name in ("add1", "add2")}
        super().__init__()

    def wire(self, wiring: Wiring, name: str, *inputs: int) -> int:
        (x,) = inputs
        parts = {
            "self_attn": self.self_attn, "linear1": self.linear1, "linear2": self.linear2, "norm1": self.norm1,
            "norm2": self.norm2, "activation": self._act, **self._drops, **self._adds,
        }  # fmt: skip

        def chain(value: int, *names: str) -> int:
            for part in names:
                value = parts[part].wire(wiring, child(name, part), value)
            return value

        def add(part: str, a: int, b: int) -> int:
            return wiring.add(child(name, part), self._adds[part], a, b)

        attend = "self_attn", "dropout1"
        dense = "linear1", "activation", "dropout", "linear2", "dropout2"
        if self.norm_first:
            x = add("add1", x, chain(x, "norm1", *attend))
            return add("add2", x, chain(x, "norm2", *dense))
        x = chain(add("add1", x, chain(x, *attend)), "norm1")
        return chain(add("add2", x, chain(x, *dense)), "norm2")

    def settings(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "nhead": self.nhead,
            "dim_feedforward": self.dim_feedforward,
            "dropout": self.dropout,
            "activation": self.activation,
            "layer_norm_eps": self.norm1.eps,
            "batch_first": True,
            "norm_first": self.norm_first,
            "bias": self.bias,
        }
