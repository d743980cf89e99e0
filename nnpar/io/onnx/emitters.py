"""Layers as ONNX nodes: one function for each, found by its class in EMITTERS; each returns its output's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from nnpar import _checks, layers
from nnpar.io.onnx.exporter import Emitter
from nnpar.layers.attention import Attention


def _pads(layer: Any) -> list[int]:
    """Padding before all axes, then after."""
    before, after = _checks.sides(layer.padding, "onnx.save", "padding", layer.axes)
    return [*before, *after]


def _conv(e: Emitter, layer: layers.Conv1d | layers.Conv2d) -> str:
    return e.emit(
        "Conv", *e.inputs, *e.parameters("weight", "bias"), kernel_shape=layer.kernel_size, strides=layer.stride,
        pads=_pads(layer), dilations=layer.dilation, group=layer.groups,
    )  # fmt: skip


def _conv_transpose(e: Emitter, layer: layers.ConvTranspose1d | layers.ConvTranspose2d) -> str:
    return e.emit(
        "ConvTranspose", *e.inputs, *e.parameters("weight", "bias"), kernel_shape=layer.kernel_size,
        strides=layer.stride, pads=layer.padding * 2, output_padding=layer.output_padding, dilations=layer.dilation,
        group=layer.groups,
    )  # fmt: skip


def _linear(e: Emitter, layer: layers.Linear) -> str:
    if len(e.input_shapes[0]) == 2:
        return e.emit("Gemm", *e.inputs, *e.parameters("weight", "bias"), transB=1)
    y = e.emit("MatMul", *e.inputs, e.emit("Transpose", e.parameter("weight"), perm=[1, 0]))
    return y if layer.bias is None else e.emit("Add", y, e.parameter("bias"))


def _batch_norm(e: Emitter, layer: Any) -> str:
    if not layer.track_running_stats:
        raise ValueError("onnx.save: batch normalisation without running statistics is not supported")
    ones, zeros = np.ones(layer.num_features, np.float32), np.zeros(layer.num_features, np.float32)
    affine = [
        e.parameter("weight", ones if layer.weight is None else layer.weight),
        e.parameter("bias", zeros if layer.bias is None else layer.bias),
    ]
    statistics = e.parameters("running_mean", "running_var")
    return e.emit("BatchNormalization", *e.inputs, *affine, *statistics, epsilon=layer.eps)


def _layer_norm(e: Emitter, layer: layers.LayerNorm) -> str:
    rows = layer.normalized_shape
    weight = np.ones(rows, np.float32) if layer.weight is None else layer.weight
    return e.emit(
        "LayerNormalization", *e.inputs, e.parameter("weight", weight), *e.parameters("bias"),
        axis=-len(rows), epsilon=layer.eps,
    )  # fmt: skip


def _rms_norm(e: Emitter, layer: layers.RMSNorm) -> str:
    (x,) = e.inputs
    axes = e.constant("axes", range(-len(layer.normalized_shape), 0))
    mean = e.emit("ReduceMean", e.emit("Mul", x, x), axes, keepdims=1)
    root = e.emit("Sqrt", e.emit("Add", mean, e.constant("eps", layer._eps(), np.float32)))
    y = e.emit("Div", x, root)
    return y if layer.weight is None else e.emit("Mul", y, e.parameter("weight"))


def _group_norm(e: Emitter, layer: Any) -> str:
    """Group and instance normalisation; an instance's groups are single channels."""
    channels = e.input_shapes[0][1]
    if getattr(layer, "track_running_stats", False):
        raise ValueError("onnx.save: instance normalisation with running statistics is not supported")
    weight = np.ones(channels, np.float32) if layer.weight is None else layer.weight
    bias = np.zeros(channels, np.float32) if layer.bias is None else layer.bias
    return e.emit(
        "GroupNormalization", *e.inputs, e.parameter("weight", weight), e.parameter("bias", bias),
        num_groups=getattr(layer, "num_groups", channels), epsilon=layer.eps,
    )  # fmt: skip


def _local_response_norm(e: Emitter, layer: layers.LocalResponseNorm) -> str:
    if layer.size % 2 == 0:  # where ONNX and PyTorch, which nnpar follows, place the window's middle differently
        raise ValueError(f"onnx.save: LocalResponseNorm of an even size, {layer.size}, has no form in ONNX")
    return e.emit("LRN", *e.inputs, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)


def _pool(operator: str) -> Callable[[Emitter, Any], str]:
    def pool(e: Emitter, layer: Any) -> str:
        window: dict[str, Any] = {
            "kernel_shape": layer.kernel_size,
            "strides": layer.stride,
            "pads": _pads(layer),
            "dilations": layer.dilation,
            "ceil_mode": int(layer.ceil_mode),
        }
        if operator == "AveragePool":
            window["count_include_pad"] = int(layer.count_include_pad)
        return e.emit(operator, *e.inputs, **window)

    return pool


def _resize(e: Emitter, layer: layers.Resize) -> str:
    axes = list(range(2, len(e.input_shapes[0])))
    sizes, scales = layer.resized(e.input_shapes[0])
    if layer.size is not None and layer.scale_factor is not None:
        raise ValueError("onnx.save: Resize with both size and scale_factor has no form in ONNX")
    # Linear without antialiasing repeats the border, which is the same.
    outside = layer.exclude_outside and (layer.mode == "cubic" or layer.antialias)
    given = ("", e.constant("sizes", sizes)) if layer.size is not None else (e.constant("scales", scales, np.float32),)
    return e.emit(
        "Resize", *e.inputs, "" if layer.roi is None else e.constant("roi", layer.roi, np.float32), *given, axes=axes,
        mode=layer.mode, coordinate_transformation_mode=layer.coordinate_transformation_mode,
        nearest_mode=layer.nearest_mode, cubic_coeff_a=layer.cubic_coeff_a, exclude_outside=int(outside),
        antialias=int(layer.antialias), extrapolation_value=layer.extrapolation_value,
    )  # fmt: skip


def _pad_with_image(mode: str) -> Callable[[Emitter, Any], str]:
    def pad(e: Emitter, layer: Any) -> str:
        before, after = zip(*layer.sides(), strict=True)
        pads = e.constant("pads", [0, 0, *before, 0, 0, *after])
        return e.emit("Pad", *e.inputs, pads, mode=mode)

    return pad


def _adaptive_pool(e: Emitter, layer: Any) -> str:
    """An average pooling where all parts are of one size, else products with matrices of the parts' shares."""
    size, out = e.input_shapes[0][2:], layer.output_pixels(e.input_shapes[0], "onnx.save")
    if all(n % k == 0 for n, k in zip(size, out, strict=True)):
        window = [n // k for n, k in zip(size, out, strict=True)]
        return e.emit("AveragePool", *e.inputs, kernel_shape=window, strides=window)
    (y,), tables = e.inputs, layer.taps(e.input_shapes[0])
    if tables[-1] is not None:
        y = e.emit("MatMul", y, e.constant("columns", tables[-1].matrix().T, np.float32))
    if len(tables) > 1 and tables[0] is not None:
        y = e.emit("MatMul", e.constant("rows", tables[0].matrix(), np.float32), y)
    return y


def _select(e: Emitter, layer: layers.Select) -> str:
    return e.emit("Gather", *e.inputs, e.constant("indices", layer.indices), axis=layer.dim)


def _embedding(e: Emitter, layer: layers.Embedding) -> str:
    return e.emit("Gather", e.parameter("weight"), e.emit("Cast", *e.inputs, to=onnx.TensorProto.INT64), axis=0)


def _position_embedding(e: Emitter, layer: layers.PositionEmbedding) -> str:
    (x,) = e.inputs
    if layer.class_token is not None:
        batch = e.emit("Shape", x, start=0, end=1)
        shape = e.emit("Concat", batch, e.constant("token_shape", [1, layer.embedding_dim]), axis=0)
        x = e.emit("Concat", e.emit("Expand", e.parameter("class_token"), shape), x, axis=1)
    return e.emit("Add", x, e.parameter("weight"))


def _tokens(e: Emitter, layer: layers.Tokens) -> str:
    shape = e.constant("shape", [0, e.input_shapes[0][1], -1])
    return e.emit("Transpose", e.emit("Reshape", *e.inputs, shape), perm=[0, 2, 1])


def _attention(e: Emitter, layer: Any) -> str:
    """softmax(q k^T / sqrt(d)) v, after q, k and v are projected and cut into heads (N, heads, T, d)."""
    heads, size = layer.num_heads, layer.dims[0] // layer.num_heads
    shape = e.constant("heads", [0, 0, heads, size])
    sources = e.inputs if len(e.inputs) == 3 else e.inputs * 3
    parts = []
    for x, (weight, bias), name in zip(sources, layer._projections(layer._arrays), "qkv", strict=True):
        y = e.emit("MatMul", x, e.emit("Transpose", e.parameter(f"{name}_weight", weight), perm=[1, 0]))
        y = y if bias is None else e.emit("Add", y, e.parameter(f"{name}_bias", bias))
        parts.append(e.emit("Transpose", e.emit("Reshape", y, shape), perm=[0, 2, 1, 3]))
    q, k, v = parts
    scores = e.emit("MatMul", q, e.emit("Transpose", k, perm=[0, 1, 3, 2]))
    scores = e.emit("Mul", scores, e.constant("scale", 1.0 / math.sqrt(size), np.float32))
    if layer.causal:
        queries, keys = e.input_shapes[0][1], e.input_shapes[-1][1]
        hidden = np.triu(np.full((queries, keys), -np.inf, np.float32), 1)
        scores = e.emit("Add", scores, e.constant("mask", hidden, np.float32))
    y = e.emit("MatMul", e.emit("Softmax", scores, axis=-1), v)
    return e.emit("Reshape", e.emit("Transpose", y, perm=[0, 2, 1, 3]), e.constant("joined", [0, 0, heads * size]))


def _dropout(e: Emitter, layer: layers.Dropout) -> str:
    return e.emit("Dropout", *e.inputs, e.constant("ratio", layer.p, np.float32))


def _plain(operator: str, **attributes: Any) -> Callable[[Emitter, Any], str]:
    """A layer that is one node without parameters."""
    return lambda e, layer: e.emit(operator, *e.inputs, **attributes)


def _with(operator: str, **names: str) -> Callable[[Emitter, Any], str]:
    """A layer that is one node, whose attributes (ONNX's name = the layer's) are the layer's."""
    return lambda e, layer: e.emit(operator, *e.inputs, **{key: getattr(layer, name) for key, name in names.items()})


def _clip(low: float | None = None, high: float | None = None) -> Callable[[Emitter, Any], str]:
    def clip(e: Emitter, layer: Any) -> str:
        ends = (layer.min_val, layer.max_val) if low is None else (low, high)
        return e.emit(
            "Clip", *e.inputs, *(e.constant(n, v, np.float32) for n, v in zip(("min", "max"), ends, strict=True))
        )

    return clip


def _silu(e: Emitter, layer: layers.SiLU) -> str:
    return e.emit("Mul", *e.inputs, e.emit("Sigmoid", *e.inputs))


def _softplus(e: Emitter, layer: layers.Softplus) -> str:
    """ONNX's has beta 1, and no threshold, which changes nothing that float32 shows from 17 on."""
    if layer.threshold < 17.0:
        raise ValueError(
            f"onnx.save: Softplus with a threshold of {layer.threshold} has no form in ONNX, 17 or more has"
        )
    beta = e.constant("beta", layer.beta, np.float32)
    return e.emit("Div", e.emit("Softplus", e.emit("Mul", *e.inputs, beta)), beta)


def _prelu(e: Emitter, layer: layers.PReLU) -> str:
    slope = layer.weight.reshape(-1, *[1] * (len(e.input_shapes[0]) - 2))
    return e.emit("PRelu", *e.inputs, e.parameter("weight", slope))


def _reshape(e: Emitter, layer: layers.Reshape) -> str:
    return e.emit("Reshape", *e.inputs, e.constant("shape", layer.shape))


def _slice(e: Emitter, layer: layers.Slice) -> str:
    far = 2**62
    start = layer.start if layer.start is not None else (0 if layer.step > 0 else far)
    end = layer.end if layer.end is not None else (far if layer.step > 0 else -far)
    limits = [
        e.constant(n, [v]) for n, v in (("starts", start), ("ends", end), ("axes", layer.dim), ("steps", layer.step))
    ]
    return e.emit("Slice", *e.inputs, *limits)


def _pad(e: Emitter, layer: layers.ConstantPad) -> str:
    return e.emit(
        "Pad",
        *e.inputs,
        e.constant("pads", [*layer.before, *layer.after]),
        e.constant("value", layer.value, np.float32),
    )


def _channel_shuffle(e: Emitter, layer: layers.ChannelShuffle) -> str:
    _, c, h, w = e.input_shapes[0]
    groups = e.constant("groups", [0, layer.groups, c // layer.groups, h, w])
    turned = e.emit("Transpose", e.emit("Reshape", *e.inputs, groups), perm=[0, 2, 1, 3, 4])
    return e.emit("Reshape", turned, e.constant("channels", [0, c, h, w]))


def _reduce(operator: str) -> Callable[[Emitter, Any], str]:
    return lambda e, layer: e.emit(operator, *e.inputs, e.constant("axes", layer.dim), keepdims=int(layer.keepdim))


def _comparison(operator: str) -> Callable[[Emitter, Any], str]:
    """Bools as 1 and 0."""

    def comparison(e: Emitter, layer: Any) -> str:
        number = [] if layer.value is None else [e.constant("value", layer.value, np.float32)]
        return e.emit("Cast", e.emit(operator, *e.inputs, *number), to=onnx.TensorProto.FLOAT)

    return comparison


def _where(e: Emitter, layer: layers.Where) -> str:
    mask, yes, no = e.inputs
    return e.emit("Where", e.emit("Cast", mask, to=onnx.TensorProto.BOOL), yes, no)


def _expand(e: Emitter, layer: layers.Expand) -> str:
    """ONNX's 1 keeps a size, too."""
    return e.emit("Expand", *e.inputs, e.constant("shape", [1 if size == -1 else size for size in layer.shape]))


def _affine(e: Emitter, layer: layers.Affine) -> str:
    y = e.emit("Mul", *e.inputs, e.constant("scale", layer.scale, np.float32))
    return e.emit("Add", y, e.constant("shift", layer.shift, np.float32))


def _with_weight(operator: str) -> Callable[[Emitter, Any], str]:
    return lambda e, layer: e.emit(operator, *e.inputs, e.parameter("weight"))


EMITTERS: dict[type[layers.Layer], Callable[[Emitter, Any], str]] = {
    Attention: _attention,
    layers.Abs: _plain("Abs"),
    layers.Affine: _affine,
    layers.AdaptiveAvgPool1d: _adaptive_pool,
    layers.AdaptiveAvgPool2d: _adaptive_pool,
    layers.Add: _plain("Add"),
    layers.AvgPool1d: _pool("AveragePool"),
    layers.AvgPool2d: _pool("AveragePool"),
    layers.AvgPool3d: _pool("AveragePool"),
    layers.BatchNorm1d: _batch_norm,
    layers.BatchNorm2d: _batch_norm,
    layers.BatchNorm3d: _batch_norm,
    layers.CELU: _with("Celu", alpha="alpha"),
    layers.ChannelShuffle: _channel_shuffle,
    layers.Concatenate: _with("Concat", axis="dim"),
    layers.ConstantPad: _pad,
    layers.Conv1d: _conv,
    layers.Conv2d: _conv,
    layers.Conv3d: _conv,
    layers.ConvTranspose1d: _conv_transpose,
    layers.ConvTranspose2d: _conv_transpose,
    layers.ConvTranspose3d: _conv_transpose,
    layers.Div: _plain("Div"),
    layers.Dropout2d: _plain("Identity"),  # ONNX has none, and in prediction it does nothing
    layers.Dropout: _dropout,
    layers.ELU: _with("Elu", alpha="alpha"),
    layers.Embedding: _embedding,
    layers.Equal: _comparison("Equal"),
    layers.Erf: _plain("Erf"),
    layers.Exp: _plain("Exp"),
    layers.Expand: _expand,
    layers.Flatten: _plain("Flatten", axis=1),
    layers.GELU: _with("Gelu", approximate="approximate"),
    layers.GlobalAvgPool2d: _plain("GlobalAveragePool"),
    layers.GlobalMaxPool2d: _plain("GlobalMaxPool"),
    layers.GroupNorm: _group_norm,
    layers.Hardsigmoid: _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    layers.Hardswish: _plain("HardSwish"),
    layers.Hardtanh: _clip(),
    layers.InstanceNorm1d: _group_norm,
    layers.InstanceNorm2d: _group_norm,
    layers.LayerNorm: _layer_norm,
    layers.LeakyReLU: _with("LeakyRelu", alpha="negative_slope"),
    layers.Less: _comparison("Less"),
    layers.LessOrEqual: _comparison("LessOrEqual"),
    layers.Linear: _linear,
    layers.LocalResponseNorm: _local_response_norm,
    layers.Log: _plain("Log"),
    layers.LogSoftmax: _with("LogSoftmax", axis="dim"),
    layers.MaxPool1d: _pool("MaxPool"),
    layers.MaxPool2d: _pool("MaxPool"),
    layers.MaxPool3d: _pool("MaxPool"),
    layers.MatMul: _plain("MatMul"),
    layers.Max: _reduce("ReduceMax"),
    layers.Maximum: _plain("Max"),
    layers.Mean: _reduce("ReduceMean"),
    layers.Minimum: _plain("Min"),
    layers.Mish: _plain("Mish"),
    layers.Mul: _plain("Mul"),
    layers.PReLU: _prelu,
    layers.Permute: _with("Transpose", perm="dims"),
    layers.PixelShuffle: lambda e, layer: e.emit("DepthToSpace", *e.inputs, blocksize=layer.upscale_factor, mode="CRD"),
    layers.PositionEmbedding: _position_embedding,
    layers.RMSNorm: _rms_norm,
    layers.ReLU6: _clip(0.0, 6.0),
    layers.ReLU: _plain("Relu"),
    layers.Reciprocal: _plain("Reciprocal"),
    layers.ReflectionPad1d: _pad_with_image("reflect"),
    layers.ReflectionPad2d: _pad_with_image("reflect"),
    layers.ReplicationPad1d: _pad_with_image("edge"),
    layers.ReplicationPad2d: _pad_with_image("edge"),
    layers.Reshape: _reshape,
    layers.Resize: _resize,
    layers.SELU: _plain("Selu"),
    layers.Select: _select,
    layers.Scale: _with_weight("Mul"),
    layers.Shift: _with_weight("Add"),
    layers.SiLU: _silu,
    layers.Sigmoid: _plain("Sigmoid"),
    layers.Slice: _slice,
    layers.Softmax: _with("Softmax", axis="dim"),
    layers.Softplus: _softplus,
    layers.Softsign: _plain("Softsign"),
    layers.Sqrt: _plain("Sqrt"),
    layers.Sub: _plain("Sub"),
    layers.Sum: _reduce("ReduceSum"),
    layers.Tanh: _plain("Tanh"),
    layers.Tokens: _tokens,
    layers.Upsample: _resize,
    layers.Where: _where,
    layers.ZeroPad2d: _pad,
}
