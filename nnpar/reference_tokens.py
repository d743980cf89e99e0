"""Normalisations within a sample and attention in plain NumPy, which other tests compare the kernels with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def row_norm(x: Array, gamma: Array, beta: Array | float, eps: float, centred: bool) -> tuple[Array, Array, Array]:
    """Each row of x (rows, cols) less its mean, if it is centred, over its deviation, times gamma, plus beta.

    Returns
    -------
    y : ndarray of shape (rows, cols)
    mean, invstd : ndarray of shape (rows,)
    """
    mean = x.mean(axis=1) if centred else np.zeros_like(x[:, 0])
    invstd = 1 / np.sqrt(((x - mean[:, None]) ** 2).mean(axis=1) + eps)
    return (x - mean[:, None]) * invstd[:, None] * gamma + beta, mean, invstd


def row_norm_grad(
    dy: Array, x: Array, mean: Array, invstd: Array, gamma: Array, centred: bool
) -> tuple[Array, Array, Array]:
    """Gradients dx, dgamma and dbeta of :func:`row_norm`."""
    xhat = (x - mean[:, None]) * invstd[:, None]
    g = dy * gamma
    rest = xhat * (g * xhat).mean(axis=1, keepdims=True)
    if centred:
        rest = rest + g.mean(axis=1, keepdims=True)
    return (g - rest) * invstd[:, None], (dy * xhat).sum(axis=0), dy.sum(axis=0)


def group_norm(x: Array, groups: int, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    """Each group of channels of each sample of x (N, C, ...) less its mean over its deviation, times gamma, plus beta.

    Returns
    -------
    y : ndarray of shape (N, C, ...)
    mean, invstd : ndarray of shape (N, groups)
    """
    parts = x.reshape(len(x), groups, -1)
    mean, invstd = parts.mean(axis=2), 1 / np.sqrt(parts.var(axis=2) + eps)
    xhat = ((parts - mean[..., None]) * invstd[..., None]).reshape(x.shape)
    channels = (-1, *(1,) * (x.ndim - 2))
    return xhat * gamma.reshape(channels) + beta.reshape(channels), mean, invstd


def group_norm_grad(
    dy: Array, x: Array, groups: int, mean: Array, invstd: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    """Gradients dx, dgamma and dbeta of :func:`group_norm`."""
    parts = x.reshape(len(x), groups, -1)
    xhat = (parts - mean[..., None]) * invstd[..., None]
    g = (dy * gamma.reshape(-1, *(1,) * (x.ndim - 2))).reshape(parts.shape)
    dx = g - g.mean(axis=2, keepdims=True) - xhat * (g * xhat).mean(axis=2, keepdims=True)
    axes = (0, *range(2, x.ndim))
    return (
        (dx * invstd[..., None]).reshape(x.shape),
        (dy * xhat.reshape(x.shape)).sum(axis=axes),
        dy.sum(axis=axes),
    )


def _nearby(v: Array, before: int, after: int) -> Array:
    """The sum over the channels c - before to c + after of v (N, C, ...)."""
    padded = np.zeros((v.shape[0], v.shape[1] + before + after, *v.shape[2:]), v.dtype)
    padded[:, before : before + v.shape[1]] = v
    parts = [padded[:, k : k + v.shape[1]] for k in range(before + after + 1)]
    total: Array = np.sum(parts, axis=0)
    return total


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """Images (N, C, ...) over a power of the squares of channels nearby, see :class:`nnpar.LocalResponseNorm`."""
    y: Array = x * (k + alpha / size * _nearby(x * x, size // 2, (size - 1) // 2)) ** -beta
    return y


def local_response_norm_grad(dy: Array, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """Gradient of :func:`local_response_norm`."""
    base = k + alpha / size * _nearby(x * x, size // 2, (size - 1) // 2)
    sums = _nearby(dy * x * base ** (-beta - 1), (size - 1) // 2, size // 2)
    dx: Array = dy * base**-beta - 2 * alpha * beta / size * x * sums
    return dx


def softmax_grad(dy: Array, y: Array, factor: float) -> Array:
    """Gradient of y = softmax(factor * x) over the last axis."""
    dx: Array = factor * (dy - (dy * y).sum(axis=-1, keepdims=True)) * y
    return dx


def _heads(x: Array, heads: int) -> Array:
    """(N, T, heads * d) as (N, heads, T, d)."""
    heads_first: Array = x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)
    return heads_first


def _joined(x: Array) -> Array:
    joined: Array = x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)
    return joined


def _probabilities(q: Array, k: Array, causal: bool) -> Array:
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[3])
    if causal:
        scores = np.where(np.tri(*scores.shape[2:]) > 0, scores, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def attention(q: Array, k: Array, v: Array, heads: int, causal: bool = False) -> Array:
    """softmax(q k^T / sqrt(d)) v of each head of d features; q (N, T, E), k and v (N, S, E)."""
    q, k, v = (_heads(x, heads) for x in (q, k, v))
    y: Array = _joined(_probabilities(q, k, causal) @ v)
    return y


def attention_grad(
    dy: Array, q: Array, k: Array, v: Array, heads: int, causal: bool = False
) -> tuple[Array, Array, Array]:
    """Gradients dq, dk and dv of :func:`attention`."""
    dy, q, k, v = (_heads(x, heads) for x in (dy, q, k, v))
    p = _probabilities(q, k, causal)
    ds = softmax_grad(dy @ v.transpose(0, 1, 3, 2), p, 1 / np.sqrt(q.shape[3]))
    return _joined(ds @ k), _joined(ds.transpose(0, 1, 3, 2) @ q), _joined(p.transpose(0, 1, 3, 2) @ dy)
