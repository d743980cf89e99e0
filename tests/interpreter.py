"""A model run node by node with nnpar.reference, in float64: no fusion, no shared memory, no steps. It is the oracle of
plans."""

from __future__ import annotations

from typing import Any

import interpreter_tokens
import numpy as np

import nnpar
from nnpar import reference
from nnpar.layers.nodes import INPUT

Values = dict[str, np.ndarray[Any, Any]]


def _window(layer: nnpar.Conv2d | nnpar.ConvTranspose2d) -> tuple[Any, ...]:
    return layer.stride, layer.padding, layer.dilation, layer.groups


def _pooling(layer: nnpar.MaxPool2d | nnpar.AvgPool2d) -> dict[str, Any]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return {name: getattr(layer, name) for name in names}


def _forward(
    layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], training: bool, kept: dict[str, Any]
) -> Any:
    x = xs[0]
    match layer:
        case nnpar.Conv2d():
            return reference.conv2d(x, p["weight"], p.get("bias"), *_window(layer))
        case nnpar.ConvTranspose2d():
            y = reference.conv2d_input_grad(x, p["weight"], layer.output_shape(x.shape), *_window(layer))
            return y + p["bias"][:, None, None] if "bias" in p else y
        case nnpar.Linear():
            return x @ p["weight"].T + p.get("bias", 0.0)
        case nnpar.ReLU():
            return np.maximum(x, 0)
        case nnpar.Flatten():
            return x.reshape(len(x), -1)
        case nnpar.GlobalAvgPool2d():
            return x.mean(axis=(2, 3), keepdims=True)
        case nnpar.MaxPool2d():
            y, kept["argmax"] = reference.max_pool2d(x, **_pooling(layer), return_argmax=True)
            return y
        case nnpar.AvgPool2d():
            return reference.avg_pool2d(x, **_pooling(layer), count_include_pad=layer.count_include_pad)
        case nnpar.Upsample():
            return reference.upsample2d(x, layer.scale_factor)
    return interpreter_tokens.forward(layer, p, xs, training, kept)


def _backward(
    layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], dy: np.ndarray[Any, Any], kept: dict[str, Any]
) -> tuple[list[np.ndarray[Any, Any]], Values]:
    x = xs[0]
    grads: Values = {}
    match layer:
        case nnpar.Conv2d():
            grads["weight"] = reference.conv2d_weight_grad(x, dy, p["weight"].shape, *_window(layer))
            if "bias" in p:
                grads["bias"] = dy.sum((0, 2, 3))
            return [reference.conv2d_input_grad(dy, p["weight"], x.shape, *_window(layer))], grads
        case nnpar.ConvTranspose2d():
            grads["weight"] = reference.conv2d_weight_grad(dy, x, p["weight"].shape, *_window(layer))
            if "bias" in p:
                grads["bias"] = dy.sum((0, 2, 3))
            return [reference.conv2d(dy, p["weight"], None, *_window(layer))], grads
        case nnpar.Linear():
            grads["weight"] = np.tensordot(dy, x, (range(dy.ndim - 1),) * 2)
            if "bias" in p:
                grads["bias"] = dy.sum(tuple(range(dy.ndim - 1)))
            return [dy @ p["weight"]], grads
        case nnpar.ReLU():
            return [dy * (x > 0)], grads
        case nnpar.Add() if xs[0].shape == xs[1].shape:
            return [dy, dy], grads
        case nnpar.Concatenate() if layer.dim == 1:
            return np.split(dy, np.cumsum([x.shape[1] for x in xs])[:-1], axis=1), grads
        case nnpar.Flatten():
            return [dy.reshape(x.shape)], grads
        case nnpar.GlobalAvgPool2d():
            return [np.broadcast_to(dy, x.shape) / (x.shape[2] * x.shape[3])], grads
        case nnpar.MaxPool2d():
            return [reference.max_pool2d_grad(dy, kept["argmax"], x.shape, **_pooling(layer))], grads
        case nnpar.AvgPool2d():
            counts = layer.count_include_pad
            return [reference.avg_pool2d_grad(dy, x.shape, **_pooling(layer), count_include_pad=counts)], grads
        case nnpar.Upsample():
            return [reference.upsample2d_grad(dy, x.shape, layer.scale_factor)], grads
    return interpreter_tokens.backward(layer, p, xs, dy, kept)


def run(
    model: nnpar.Layer, x: np.ndarray[Any, Any], dy: np.ndarray[Any, Any] | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None, Values]:
    """y, and with dy, as in training, dx and the parameters' gradients by name."""
    nodes = model.nodes()
    values: dict[int, np.ndarray[Any, Any]] = {INPUT: x.astype(np.float64)}
    kept: list[dict[str, Any]] = [{} for _ in nodes]
    parameters = [
        {key: a.astype(np.float64) for key, a in {**n.layer._arrays, **n.layer._statistics}.items()} for n in nodes
    ]
    for i, node in enumerate(nodes):
        inputs = [values[k] for k in node.inputs]
        values[i] = _forward(node.layer, parameters[i], inputs, dy is not None, kept[i])
    y = values[len(nodes) - 1]
    if dy is None:
        return y, None, {}
    slopes: dict[int, Any] = {len(nodes) - 1: dy.astype(np.float64)}
    gradients: Values = {}
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        inputs = [values[k] for k in node.inputs]
        dxs, own = _backward(node.layer, parameters[i], inputs, slopes[i], kept[i])
        gradients |= {f"{node.name}.{key}" if node.name else key: value for key, value in own.items()}
        for k, dx in zip(node.inputs, dxs, strict=True):
            slopes[k] = slopes.get(k, 0) + dx
    return y, slopes[INPUT], gradients
