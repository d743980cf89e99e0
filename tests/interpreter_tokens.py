"""The part of the interpreter that runs normalisations and layers on tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

import nnpar
from nnpar.layers.batch_norm import BatchNorm

Values = dict[str, np.ndarray[Any, Any]]


def _of_channels(values: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values (C) beside x (N, C, ...)."""
    return np.reshape(values, (-1, *(1,) * (x.ndim - 2)))


def forward(
    layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], training: bool, kept: dict[str, Any]
) -> Any:
    x = xs[0]
    match layer:
        case BatchNorm():
            axes = (0, *range(2, x.ndim))
            own = training or not layer.track_running_stats
            mean, var = (x.mean(axes), x.var(axes)) if own else (p["running_mean"], p["running_var"])
            kept["invstd"] = _of_channels(1 / np.sqrt(var + layer.eps), x)
            kept["xhat"] = (x - _of_channels(mean, x)) * kept["invstd"]
            return kept["xhat"] * _of_channels(p.get("weight", 1.0), x) + _of_channels(p.get("bias", 0.0), x)
    raise NotImplementedError(type(layer).__name__)


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
    raise NotImplementedError(type(layer).__name__)
