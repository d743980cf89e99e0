"""Vectors from a table, for tokens and positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import elementwise, tokens
from nnpar._kernels.step import Step
from nnpar._kernels.strided import StridedCopy
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.broadcasting import arithmetic
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.nodes import INPUT
from nnpar.shapes import Shape

MOST_NUMBERS = 1 << 24  # whole numbers below are exact in float32


class Embedding(Layer):
    """Replace each index by its row of a table, as PyTorch's ``nn.Embedding``.

    It reads an input of the model itself, whole numbers in float32; there is no gradient of them.

    Parameters
    ----------
    num_embeddings : int
        Rows, 2^24 at most; indices go from 0 to ``num_embeddings - 1``.
    embedding_dim : int
    padding_idx : int, optional
        A row that is zeros at first, and that training leaves as it is; a negative one counts from the end.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As in PyTorch, where only the defaults are supported.

    Attributes
    ----------
    weight : ndarray of shape (num_embeddings, embedding_dim), float32
        Drawn from the standard normal distribution.

    Raises
    ------
    ValueError
        If an argument is out of range or not supported; if the layer reads another layer; if an index is no whole
        number or out of range.

    Examples
    --------
    >>> from nnpar import Embedding
    >>> Embedding(10, 3)([[4, 2], [0, 9]]).shape
    (2, 2, 3)
    """

    channels_last = False
    weight = Parameter()

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        self.num_embeddings = rows = _checks.integer(num_embeddings, "Embedding", "num_embeddings", 1)
        self.embedding_dim = _checks.integer(embedding_dim, "Embedding", "embedding_dim", 1)
        if rows > MOST_NUMBERS:
            raise ValueError(f"Embedding: num_embeddings: expected at most 2^24, got {rows}")
        given = {"max_norm": max_norm, "norm_type": norm_type, "scale_grad_by_freq": scale_grad_by_freq}
        for name, default in (("max_norm", None), ("norm_type", 2.0), ("scale_grad_by_freq", False)):
            only(given[name], default, "Embedding", name)
        only(sparse, False, "Embedding", "sparse")
        if padding_idx is not None:
            padding_idx = _checks.integer(padding_idx, "Embedding", "padding_idx", -rows)
            if padding_idx >= rows:
                raise ValueError(f"Embedding: padding_idx: expected less than {rows}, got {padding_idx}")
            padding_idx %= rows
        self.padding_idx = padding_idx
        self._arrays = {"weight": new_parameter(_normal(1.0), (rows, self.embedding_dim), "Embedding")}
        if padding_idx is not None:
            self._arrays["weight"][padding_idx] = 0.0

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return *input_shape, self.embedding_dim

    def check_values(self, values: Array, name: str = "") -> None:
        wrong = ~((values >= 0) & (values < self.num_embeddings) & (values == np.floor(values)))
        if wrong.any():
            raise ValueError(
                f"{self.describe(name)}: input: expected whole numbers from 0 to {self.num_embeddings - 1}, "
                f"got {values[wrong].flat[0]:g}"
            )

    def forward(self, at: Lowering) -> None:
        if at.input_nodes[0] > INPUT:
            raise ValueError(
                f"{self.describe(at.name)}: expected an input of the model to read indices from, got another layer"
            )
        at.y = Buffer((*at.x.shape, self.embedding_dim), channels_last=False)
        at.step(tokens.Gather, at.x, self.weight, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            raise ValueError(f"{self.describe(at.name)}: indices have no gradient")
        without = -1 if self.padding_idx is None else self.padding_idx
        at.step(tokens.GatherGrad, at.dy, at.x, at.gradients["weight"], without)

    def settings(self) -> dict[str, Any]:
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
        }


class PositionEmbedding(Layer):
    """Add to each token what its position says, which is learned: Gehring et al., arXiv:1705.03122. With a class token,
    put that before all others first: Dosovitskiy et al., arXiv:2010.11929.

    Parameters
    ----------
    tokens : int
        Of the output.
    embedding_dim : int
    class_token : bool
        Whether there is a class token; then the input has a token less.

    Attributes
    ----------
    weight : ndarray of shape (tokens, embedding_dim), float32
        Drawn from a normal distribution of deviation 0.02.
    class_token : ndarray of shape (1, embedding_dim), float32, or None
        Zeros at first.

    Raises
    ------
    ValueError
        If an argument is out of range, or the input is not of shape (N, T, E), or images of E channels whose pixels are
        T tokens.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import PositionEmbedding
    >>> PositionEmbedding(5, 3, class_token=True)(np.zeros((2, 4, 3))).shape
    (2, 5, 3)
    """

    channels_last = False
    weight = Parameter()
    class_token = Parameter()

    def __init__(self, tokens: int, embedding_dim: int, class_token: bool = False) -> None:
        who = "PositionEmbedding"
        self.tokens = _checks.integer(tokens, who, "tokens", 1 + bool(class_token))
        self.embedding_dim = _checks.integer(embedding_dim, who, "embedding_dim", 1)
        self._arrays = {"weight": new_parameter(_normal(0.02), (self.tokens, self.embedding_dim), who)}
        if class_token:
            self._arrays["class_token"] = new_parameter(initializers.zeros, (1, self.embedding_dim), who)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        expected = self.tokens - (self.class_token is not None), self.embedding_dim
        if input_shape[1:] != expected:
            raise ValueError(
                f"{self.describe(name)}: input: expected shape (N, {expected[0]}, {expected[1]}), got {input_shape}"
            )
        return input_shape[0], self.tokens, self.embedding_dim

    def forward(self, at: Lowering) -> None:
        if self.class_token is None:
            at.y = at.overwritable()
            at.step(_add, at.x, self.weight, at.y, writes=at.y)
            return
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=False)
        x, y = flat(at.x), flat(at.y)
        at.step(_put_first, self.class_token, at.y)
        at.step(elementwise.CopyChannels, x, y, 0, self.embedding_dim, x.shape[1], writes=y)
        at.step(_add, at.y, self.weight, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        dweight, dim = at.gradients["weight"], self.embedding_dim
        at.step(elementwise.BiasGrad, at.dy, dweight)
        if self.class_token is None:
            if at.needs_dx:
                at.pass_back(at.dy, owned=at.owns_dy)
            return
        # The class token's gradient is that of the first position.
        at.step(elementwise.CopyChannels, dweight.reshape(1, -1), at.gradients["class_token"], 0, 0, dim)
        if at.needs_dx:
            dx = at.x.like()
            at.step(elementwise.CopyChannels, flat(at.dy), flat(dx), dim, 0, flat(dx).shape[1])
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "embedding_dim": self.embedding_dim,
            "class_token": self.class_token is not None,
        }


class Tokens(Layer):
    """The pixels of images as tokens, (N, C, H, W) to (N, H * W, C): no copy, since images are channels-last.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Tokens
    >>> Tokens()(np.zeros((2, 3, 4, 5))).shape
    (2, 20, 3)
    """

    channels_last = True

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if len(input_shape) < 3:
            raise ValueError(f"{self.describe(name)}: input: expected shape (N, C, ...), got {input_shape}")
        return input_shape[0], math.prod(input_shape[2:]), input_shape[1]

    def forward(self, at: Lowering) -> None:
        at.y = at.x.view(self.output_shape(at.x.shape, at.name), channels_last=False)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            at.pass_back(at.dy.view(at.x.shape, channels_last=True), owned=at.owns_dy)

    def settings(self) -> dict[str, Any]:
        return {}


def _add(x: Array, weight: Array, y: Array) -> Step:
    return arithmetic("add", x, weight, y)


def _put_first(token: Array, y: Array) -> Step:
    """The class token (1, E) before the others of each sample of y (N, T, E)."""
    first = y[:, :1]
    return StridedCopy(np.broadcast_to(token, first.shape), first)


def flat(x: Buffer) -> Buffer:
    """Each sample as one row."""
    return x.view((x.shape[0], math.prod(x.shape[1:])))


def only(value: Any, default: Any, who: str, name: str) -> None:
    """An argument of PyTorch of which only the default is supported."""
    if value != default:
        raise ValueError(f"{who}: {name}: expected {default}, got {value!r}: no other is supported")


def _normal(deviation: float) -> initializers.Initializer:
    return lambda shape: initializers._normal(shape, deviation)
