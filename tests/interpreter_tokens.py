"""The part of the interpreter that runs normalisations and layers on tokens."""

from __future__ import annotations

from typing import Any

import interpreter_arrays
import numpy as np

import nnpar
from nnpar import reference_tokens
from nnpar.layers.attention import Attention
from nnpar.layers.batch_norm import BatchNorm
from nnpar.layers.group_norm import GroupNormalization
from nnpar.layers.layer_norm import RowNormalization

Values = dict[str, np.ndarray[Any, Any]]


def _of_channels(values: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values (C) beside x (N, C, ...)."""
    return np.reshape(values, (-1, *(1,) * (x.ndim - 2)))


def _rows(layer: RowNormalization, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.reshape(-1, int(np.prod(layer.normalized_shape)))


def _affine(p: Values, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weight and bias, flat; 1 and 0 where there is none."""
    return p.get("weight", np.ones(size)).reshape(-1), p.get("bias", np.zeros(size)).reshape(-1)


def _projections(layer: Attention, p: Values, xs: list[np.ndarray[Any, Any]]) -> list[Any]:
    """Input, weight and bias of query, key and value."""
    inputs = xs if len(xs) == 3 else xs * 3
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = np.split(p["in_proj_weight"], 3) if "in_proj_weight" in p else [p[name] for name in names]
    return list(zip(inputs, weights, np.split(p.get("in_proj_bias", np.zeros(3 * layer.dims[0])), 3), strict=True))


def forward(layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], training: bool, kept: dict[str, Any]) -> Any:
    x = xs[0]
    match layer:
        case BatchNorm():
            axes = (0, *range(2, x.ndim))
            own = training or not layer.track_running_stats
            mean, var = (x.mean(axes), x.var(axes)) if own else (p["running_mean"], p["running_var"])
            kept["invstd"] = _of_channels(1 / np.sqrt(var + layer.eps), x)
            kept["xhat"] = (x - _of_channels(mean, x)) * kept["invstd"]
            return kept["xhat"] * _of_channels(p.get("weight", 1.0), x) + _of_channels(p.get("bias", 0.0), x)
        case RowNormalization():
            rows = _rows(layer, x)
            y, *kept["statistics"] = reference_tokens.row_norm(
                rows, *_affine(p, rows.shape[1]), layer._eps(), layer.centred
            )
            return y.reshape(x.shape)
        case GroupNormalization():
            y, *kept["statistics"] = reference_tokens.group_norm(x, layer._groups, *_affine(p, x.shape[1]), layer.eps)
            return y
        case nnpar.LocalResponseNorm():
            return reference_tokens.local_response_norm(x, layer.size, layer.alpha, layer.beta, layer.k)
        case nnpar.Dropout():
            assert layer.p == 0.0
            return x
        case nnpar.Embedding():
            return p["weight"][x.astype(int)]
        case nnpar.Tokens():
            return x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
        case nnpar.PositionEmbedding():
            before = [np.repeat(p["class_token"][None], len(x), 0)] if "class_token" in p else []
            return np.concatenate([*before, x], axis=1) + p["weight"]
        case Attention():
            kept["qkv"] = [a @ weight.T + bias for a, weight, bias in _projections(layer, p, xs)]
            return reference_tokens.attention(*kept["qkv"], layer.num_heads, layer.causal)
    return interpreter_arrays.forward(layer, p, xs)


def backward(
    layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], dy: np.ndarray[Any, Any], kept: dict[str, Any]
) -> tuple[list[np.ndarray[Any, Any]], Values]:
    x = xs[0]
    grads: Values = {}
    match layer:
        case BatchNorm():
            axes = (0, *range(2, x.ndim))
            if layer.affine:
                grads = {"bias": dy.sum(axes), "weight": (dy * kept["xhat"]).sum(axes)}
            centred = dy - dy.mean(axes, keepdims=True)
            centred -= kept["xhat"] * (dy * kept["xhat"]).mean(axes, keepdims=True)
            return [centred * kept["invstd"] * _of_channels(p.get("weight", 1.0), x)], grads
        case RowNormalization():
            rows = _rows(layer, x)
            weight, _ = _affine(p, rows.shape[1])
            dx, dweight, dbias = reference_tokens.row_norm_grad(
                dy.reshape(rows.shape), rows, *kept["statistics"], weight, layer.centred
            )
            own = {"weight": dweight, "bias": dbias}
            return [dx.reshape(x.shape)], {key: own[key].reshape(p[key].shape) for key in p}
        case GroupNormalization():
            weight, _ = _affine(p, x.shape[1])
            dx, dweight, dbias = reference_tokens.group_norm_grad(dy, x, layer._groups, *kept["statistics"], weight)
            return [dx], {"weight": dweight, "bias": dbias} if layer.affine else {}
        case nnpar.LocalResponseNorm():
            arguments = layer.size, layer.alpha, layer.beta, layer.k
            return [reference_tokens.local_response_norm_grad(dy, x, *arguments)], grads
        case nnpar.Dropout():
            return [dy], grads
        case nnpar.Embedding():
            dweight = np.zeros_like(p["weight"])
            np.add.at(dweight, x.astype(int), dy)
            if layer.padding_idx is not None:
                dweight[layer.padding_idx] = 0
            return [np.zeros(x.shape)], {"weight": dweight}
        case nnpar.Tokens():
            return [dy.transpose(0, 2, 1).reshape(x.shape)], grads
        case nnpar.PositionEmbedding():
            grads["weight"] = dy.sum(0)
            if "class_token" not in p:
                return [dy], grads
            return [dy[:, 1:]], grads | {"class_token": dy[:, 0].sum(0, keepdims=True)}
        case Attention():
            slopes = reference_tokens.attention_grad(dy, *kept["qkv"], layer.num_heads, layer.causal)
            parts = [
                (slope @ weight, np.tensordot(slope, a, ((0, 1), (0, 1))), slope.sum((0, 1)))
                for slope, (a, weight, _) in zip(slopes, _projections(layer, p, xs), strict=True)
            ]
            dxs, dweights, dbiases = (list(column) for column in zip(*parts, strict=True))
            if "in_proj_weight" in p:
                grads["in_proj_weight"] = np.concatenate(dweights)
            else:
                grads |= dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), dweights, strict=True))
            if "in_proj_bias" in p:
                grads["in_proj_bias"] = np.concatenate(dbiases)
            return dxs if len(xs) == 3 else [sum(dxs)], grads
    return interpreter_arrays.backward(layer, p, xs, dy)
