"""Which algorithm computes a convolution.

Every pass of every convolution goes through :func:`forward`, :func:`input_grad` or :func:`weight_grad`, and these ask
:func:`choose`. It looks at the shape alone, never at a clock or the number of threads, so that the same model gives
the same bits wherever the instruction set is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

from nnpar._checks import Array
from nnpar._kernels import conv, conv_weight_grad, depthwise, framed, gemm, planar, scatter, winograd
from nnpar._kernels.step import Step
from nnpar.shapes import Conv2dShape

__all__ = ["ALGORITHMS", "choose", "fits", "forward", "get_precision", "input_grad", "set_precision", "weight_grad"]

Algorithm = Literal["indirect", "depthwise", "gemm", "framed", "winograd", "planar", "scatter"]
Pass = Literal["forward", "input_grad", "weight_grad"]
Precision = Literal["fast", "exact"]

ALGORITHMS: tuple[Algorithm, ...] = ("indirect", "depthwise", "gemm", "framed", "winograd", "planar", "scatter")


def _gemm_weight_grad(_: conv.Geometry, x: Array, dy: Array, dw: Array) -> Step:
    """Dw (OC, C) = dy^T (OC, pixels) x (pixels, C), for a 1x1 kernel."""
    pixels, pixels_of_dy = (array.transpose(0, 2, 3, 1).reshape(-1, array.shape[1]) for array in (x, dy))
    return gemm.gemm_step(pixels_of_dy.T, pixels, dw.reshape(dw.shape[:2]))


_FORWARD = {
    "indirect": conv.Conv2d,
    "depthwise": depthwise.DepthwiseConv2d,
    "framed": framed.FramedConv2d,
    "winograd": winograd.WinogradConv2d,
}
_INPUT_GRAD = {
    "indirect": conv.Conv2dInputGrad,
    "depthwise": depthwise.DepthwiseConv2dInputGrad,
    "winograd": winograd.WinogradConv2dInputGrad,
    "planar": planar.PlanarConv2dInputGrad,
    "scatter": scatter.ScatterConv2dInputGrad,
}
_WEIGHT_GRAD: dict[str, Callable[[conv.Geometry, Array, Array, Array], Step]] = {
    "indirect": conv_weight_grad.Conv2dWeightGrad,
    "depthwise": depthwise.DepthwiseConv2dWeightGrad,
    "gemm": _gemm_weight_grad,
    "framed": framed.FramedConv2dWeightGrad,
    "winograd": winograd.WinogradConv2dWeightGrad,
}

PREPACKED_BYTES = 16 << 20  # more transformed weights take longer to read than they save of a few tiles' products

_precision: Precision = "fast"


def set_precision(precision: Precision) -> None:
    """Choose between speed and the rounding errors of plain sums, for all that is prepared from now on.

    Parameters
    ----------
    precision : {"fast", "exact"}
        With "exact" no convolution uses Winograd's algorithm, whose rounding errors are 4 to 20 times those of a plain
        sum. "fast" is the default.

    Raises
    ------
    ValueError
        If it is neither.

    See Also
    --------
    nnpar.convolution.choose : the algorithms and their error bounds
    """
    global _precision
    if precision not in ("fast", "exact"):
        raise ValueError(f"set_precision: expected 'fast' or 'exact', got {precision!r}")
    _precision = precision


def get_precision() -> Precision:
    """What :func:`set_precision` chose."""
    return _precision


def fits(algorithm: Algorithm, shape: Conv2dShape, which: Pass) -> bool:
    """Whether an algorithm can compute a pass of a convolution.

    Parameters
    ----------
    algorithm : str
        One of `ALGORITHMS`.
    shape : nnpar.shapes.Conv2dShape
    which : {"forward", "input_grad", "weight_grad"}

    Returns
    -------
    bool
    """
    if algorithm == "depthwise":
        return shape.groups == shape.input_shape[1] == shape.weight_shape[0]
    if algorithm == "gemm":
        return (
            which == "weight_grad"
            and (*shape.weight_shape[2:], *shape.stride, shape.groups) == (1,) * 5
            and shape.padding == (0, 0)
        )
    if algorithm == "framed":
        return (
            which != "input_grad"
            and shape.groups == 1
            and shape.dilation[1] == 1
            and min(shape.input_shape + shape.output_shape) >= 1
        )
    if algorithm == "winograd":
        return (
            shape.weight_shape[2:] in ((3, 3), (5, 5))
            and shape.stride == (1, 1)
            and shape.dilation == (1, 1)
            and shape.groups == 1
            and min(shape.output_shape) >= 1
            and (which != "input_grad" or max(shape.padding) < shape.weight_shape[2])
        )
    if algorithm in ("planar", "scatter"):
        return (
            which == "input_grad"
            and shape.groups == 1
            and min(shape.input_shape + shape.output_shape) >= 1
            and (algorithm == "planar" or (*shape.stride, *shape.dilation) == (1,) * 4)
        )
    return True


def choose(shape: Conv2dShape, which: Pass, prepacked: bool = False) -> Algorithm:
    """The algorithm for a pass of a convolution, by its shape alone.

    =========== ========================================================== ===========================================
    algorithm   chosen for                                                 error of an output, at most
    =========== ========================================================== ===========================================
    `winograd`  3x3 or 5x5, stride 1, no dilation or groups, 8 channels    ``2 (k + 40) u M``
                or more to read, 16 tiles of 4x4 outputs or more; 4 where
                transformed weights, up to 16 MB, come prepacked
    `depthwise` each channel a group of its own, as many out as in;        ``2 k u M``
                not for the weight gradient of a single channel
    `gemm`      the weight gradient of 1x1 kernels, stride 1, no padding,  ``2 k u M``
                from 256 channels on both sides
    `planar`    the input gradient towards 3 channels or fewer, up to 6    ``2 k u M``
                but for 3x3 by `winograd`; not for 1x1, stride 1
    `scatter`   `planar` would be, but stride 1, no dilation, and          ``2 k u M``
                channels * kernel width just below a multiple of 16
    `framed`    the weight gradient from up to 16 channels, forward up to  ``2 k u M``
                8, or 16 if a kernel row has more than 3 positions; not
                with one position, groups or dilated rows
    `indirect`  all else                                                   ``2 k u M``
    =========== ========================================================== ===========================================

    `k` is the number of products in the sum, ``u = 2**-24``. `M` is the same sum over absolute values. For `winograd`,
    `k` is the number of products of transformed values: of the channels read, or of tiles in the weight gradient; and
    `M` is the whole computation over absolute values: transforms, products and transform back. In practice errors are
    far below both bounds, and those of `winograd` 4 to 20 times larger than those of plain sums.

    The environment variable ``NNPAR_CONV`` names an algorithm to be used wherever it fits.

    Parameters
    ----------
    shape : nnpar.shapes.Conv2dShape
    which : {"forward", "input_grad", "weight_grad"}
    prepacked : bool
        Whether the weights are packed once, for many runs.

    Returns
    -------
    {"indirect", "depthwise", "gemm", "framed", "winograd", "planar", "scatter"}

    Raises
    ------
    ValueError
        If ``NNPAR_CONV`` names no algorithm.
    """
    wanted = os.environ.get("NNPAR_CONV") or None
    if wanted is not None and wanted not in ALGORITHMS:
        raise ValueError(f"NNPAR_CONV: expected one of {', '.join(ALGORITHMS)}, got {wanted!r}")
    usable: list[Algorithm] = [
        name for name in ALGORITHMS if fits(name, shape, which) and (name != "winograd" or _precision == "fast")
    ]
    for name in usable:
        if name == wanted:
            return name
    if "depthwise" in usable and (shape.groups > 1 or which != "weight_grad"):
        return "depthwise"
    if "gemm" in usable and min(shape.weight_shape[:2]) >= 256:
        return "gemm"
    winograd_pays = "winograd" in usable and _winograd_pays(shape, which, prepacked)
    if "planar" in usable and _planar_pays(shape, winograd_pays):
        return "scatter" if "scatter" in usable and _scatter_pays(shape) else "planar"
    if winograd_pays:
        return "winograd"
    return "framed" if "framed" in usable and _framed_pays(shape, which) else "indirect"


def _winograd_pays(shape: Conv2dShape, which: Pass, prepacked: bool) -> bool:
    """Whether the products saved outweigh the transforms."""
    n, channels = shape.input_shape[:2]
    out_channels = shape.weight_shape[0]
    height, width = shape.input_shape[2:] if which == "input_grad" else shape.output_size
    tiles = n * -(-height // 4) * -(-width // 4)
    read = {"forward": channels, "input_grad": out_channels, "weight_grad": min(channels, out_channels)}[which]
    kernel = shape.weight_shape[2]
    least = {3: 128, 5: 64}[kernel]
    transformed = 4 * (kernel + 3) ** 2 * channels * out_channels
    least_tiles = 4 if prepacked and transformed <= PREPACKED_BYTES else 16
    return tiles >= least_tiles and read >= 8 and channels * out_channels >= least


def _planar_pays(shape: Conv2dShape, winograd_pays: bool) -> bool:
    """Whether vectors of pixels are fuller than those of so few channels, and that pays for making planes."""
    winograd_3x3 = winograd_pays and shape.weight_shape[2] == 3
    return shape.input_shape[1] <= (3 if winograd_3x3 else 6) and max(*shape.weight_shape[2:], *shape.stride) > 1


def _scatter_pays(shape: Conv2dShape) -> bool:
    """Whether vectors of kernel columns and channels are nearly full, so that no planes are needed."""
    floats = shape.input_shape[1] * shape.weight_shape[3]
    return 4 * floats >= 3 * 16 * -(-floats // 16)


def _framed_pays(shape: Conv2dShape, which: Pass) -> bool:
    """Whether the runs of a kernel row are so short that it pays to frame the images and read whole rows."""
    width = shape.weight_shape[3]
    return width > 1 and shape.input_shape[1] <= (16 if which == "weight_grad" or width > 3 else 8)


def _named(algorithm: str | None, shape: Conv2dShape, which: Pass, prepacked: bool = False) -> Algorithm:
    """The algorithm that was asked for, or the choice."""
    if algorithm is None:
        return choose(shape, which, prepacked)
    for name in ALGORITHMS:
        if name == algorithm:
            if not fits(name, shape, which):
                raise ValueError(
                    f"algorithm: {algorithm!r} cannot compute the {which} pass of weights {shape.weight_shape}, stride "
                    f"{shape.stride}, padding {shape.padding}, dilation {shape.dilation}, groups {shape.groups}"
                )
            return name
    raise ValueError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {algorithm!r}")


def forward(
    shape: Conv2dShape,
    x: Array,
    w: Array,
    bias: Array | None,
    y: Array,
    relu: bool = False,
    algorithm: str | None = None,
    prepacked: bool = False,
) -> Step:
    """The step y = conv2d(x, w) + bias, or the ReLU of it.

    Parameters
    ----------
    shape : nnpar.shapes.Conv2dShape
    x, y : ndarray of shape (N, C, H, W) and (N, OC, OH, OW), float32, channels-last memory
    w : ndarray of shape (OC, C / groups, KH, KW), float32, contiguous
    bias : ndarray of shape (OC,), float32, contiguous, or None
    relu : bool
        Whether ``max(., 0)`` comes last, while the sums are still in registers.
    algorithm : str, optional
        One of `ALGORITHMS` instead of the choice, also in exact precision.
    prepacked : bool
        Whether w is packed once, by `Step.prepack`, before the step runs.

    Returns
    -------
    Step

    Raises
    ------
    ValueError
        If there is no such algorithm, or it cannot compute this.
    """
    make = _FORWARD[_named(algorithm, shape, "forward", prepacked)]
    return make(conv.Geometry(shape), x, w, bias, y, relu, prepacked)


def input_grad(shape: Conv2dShape, dy: Array, w: Array, dx: Array, algorithm: str | None = None) -> Step:
    """The step dx = gradient with respect to x, see :func:`forward`."""
    return _INPUT_GRAD[_named(algorithm, shape, "input_grad")](conv.Geometry(shape), dy, w, dx)


def weight_grad(shape: Conv2dShape, x: Array, dy: Array, dw: Array, algorithm: str | None = None) -> Step:
    """The step dw = gradient with respect to w, see :func:`forward`."""
    return _WEIGHT_GRAD[_named(algorithm, shape, "weight_grad")](conv.Geometry(shape), x, dy, dw)
