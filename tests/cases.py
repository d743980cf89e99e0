"""The cases that correctness, gradient and benchmark tests share, the arrays of a case, and how results are compared.

Sizes lie around the edges at which kernels change: tiles of 6 rows; panels of 64, 16, 8 or 4 columns and vectors of 16,
8, 4 or 1 floats, by instruction set; blocks of 1024 steps and 96 rows in matrix multiplication; runs of 16 channels,
blocks of 96 pixels, strips of 256 or 512 pixels and 64 chunks in convolution, blocks of 4 and 7 pixels if it is
depthwise; 256 channels in pooling; rows of 512 floats in batch normalisation.

Most tests draw small integers. Their products and sums are exact in float32, in any order: the result has to be equal,
and no tolerance can hide a wrong element. Real numbers are compared with float64, within the bound of `assert_within`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime

Array = np.ndarray[Any, np.dtype[np.float32]]
Pair = tuple[int, int]
Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], Array]

U = 2.0**-24  # unit roundoff of float32
TINY = 2.0**-126  # smallest normal number: what is smaller counts as zero


def integers(rng: np.random.Generator, shape: Shape, low: int = -3, high: int = 3) -> Array:
    """Draw float32 integers so small that sums of up to 10^6 products are exact."""
    return rng.integers(low, high, shape, endpoint=True).astype(np.float32)


def normals(rng: np.random.Generator, shape: Shape) -> Array:
    """Draw normally distributed float32 numbers."""
    return rng.standard_normal(shape, np.float32)


def channels_last(images: Array) -> Array:
    """Return the same (N, C, H, W) in the memory layout that the kernels read."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class GemmCase:
    """A product (m, k) @ (k, n)."""

    name: str
    m: int
    n: int
    k: int
    benchmark: bool = False

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k

    def arrays(self, seed: int = 0, draw: Draw = integers) -> tuple[Array, Array]:
        """Return a (m, k) and b (k, n)."""
        rng = np.random.default_rng(seed)
        return draw(rng, (self.m, self.k)), draw(rng, (self.k, self.n))


@dataclass(frozen=True)
class Conv2dCase:
    """A convolution of (n, c, h, w) to oc channels."""

    name: str
    n: int
    c: int
    h: int
    w: int
    oc: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    benchmark: bool = False

    @property
    def x_shape(self) -> Shape:
        return (self.n, self.c, self.h, self.w)

    @property
    def w_shape(self) -> Shape:
        return (self.oc, self.c // self.groups, *self.kernel)

    @property
    def y_shape(self) -> Shape:
        return (self.n, self.oc, *_positions(self))

    @property
    def window(self) -> tuple[Pair, Pair, Pair, int]:
        """The arguments stride, padding, dilation, groups."""
        return (self.stride, self.padding, self.dilation, self.groups)

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.y_shape) * math.prod(self.w_shape[1:])

    def arrays(self, seed: int = 0, draw: Draw = integers) -> tuple[Array, Array, Array, Array]:
        """Return x, w, bias and dy, the images in channels-last memory."""
        rng = np.random.default_rng(seed)
        x, w, bias, dy = (draw(rng, shape) for shape in (self.x_shape, self.w_shape, (self.oc,), self.y_shape))
        return channels_last(x), w, bias, channels_last(dy)


@dataclass(frozen=True)
class Pool2dCase:
    """A pooling of (n, c, h, w)."""

    name: str
    n: int
    c: int
    h: int
    w: int
    kernel: Pair
    stride: Pair | None = None
    padding: Pair | tuple[Pair, Pair] = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    benchmark: bool = False

    @property
    def x_shape(self) -> Shape:
        return (self.n, self.c, self.h, self.w)

    @property
    def y_shape(self) -> Shape:
        return (self.n, self.c, *self._windows)

    @property
    def sides(self) -> tuple[Pair, Pair]:
        """Padding (before, after) each axis."""
        top, left = self.padding
        return (top, left) if isinstance(top, tuple) else ((top, top), (left, left))

    @property
    def _windows(self) -> list[int]:
        """How many there are along each axis, counted: those inside the padding and, rounded up, one more that begins
        before the image's end, if the last one ends before the padding does.
        """
        counts = []
        step = self.stride or self.kernel
        for size, k, s, (before, after), d in zip(
            (self.h, self.w), self.kernel, step, self.sides, self.dilation, strict=True
        ):
            span = d * (k - 1)
            begins = range(-before, size, s)
            inside = sum(begin + span < size + after for begin in begins)
            last = -before + (inside - 1) * s + span
            more = self.ceil_mode and inside < len(begins) and (inside == 0 or last < size + after - 1)
            counts.append(inside + more)
        return counts

    @property
    def window(self) -> tuple[Pair, Pair | None, Any]:
        """The arguments kernel_size, stride, padding."""
        return (self.kernel, self.stride, self.padding)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that are given by name."""
        return {"dilation": self.dilation, "ceil_mode": self.ceil_mode}

    @property
    def onnx(self) -> dict[str, Any]:
        """The same as ONNX has them."""
        (top, bottom), (left, right) = self.sides
        return {
            "kernel_shape": self.kernel, "strides": self.stride or self.kernel, "pads": (top, left, bottom, right),
            "dilations": self.dilation, "ceil_mode": int(self.ceil_mode),
        }  # fmt: skip

    @property
    def flops(self) -> float:
        return float(math.prod(self.y_shape) * math.prod(self.kernel))

    def arrays(self, seed: int = 0, draw: Draw = integers) -> tuple[Array, Array]:
        """Return x and dy in channels-last memory."""
        rng = np.random.default_rng(seed)
        return channels_last(draw(rng, self.x_shape)), channels_last(draw(rng, self.y_shape))


@dataclass(frozen=True)
class BatchNormCase:
    """A batch normalisation of (n, c, h, w)."""

    name: str
    n: int
    c: int
    h: int
    w: int
    benchmark: bool = False

    @property
    def x_shape(self) -> Shape:
        return (self.n, self.c, self.h, self.w)

    @property
    def flops(self) -> float:
        return 9.0 * math.prod(self.x_shape)

    def arrays(self, seed: int = 0, draw: Draw = integers) -> tuple[Array, Array, Array, Array, Array]:
        """Return x, dy and a residual in channels-last memory, gamma and beta."""
        rng = np.random.default_rng(seed)
        x, dy, residual = (channels_last(draw(rng, self.x_shape)) for _ in range(3))
        return x, dy, residual, draw(rng, (self.c,)), draw(rng, (self.c,))


def _positions(case: Conv2dCase) -> Pair:
    """Return (OH, OW): how often the window fits along each axis."""
    sizes = zip((case.h, case.w), case.kernel, case.stride, case.padding, case.dilation, strict=True)
    oh, ow = ((size + 2 * pad - d * (k - 1) - 1) // step + 1 for size, k, step, pad, d in sizes)
    return oh, ow


def _gemm(*sizes: tuple[int, int, int], prefix: str = "gemm", benchmark: bool = False) -> list[GemmCase]:
    return [GemmCase(f"{prefix}-{m}x{n}x{k}", m, n, k, benchmark) for m, n, k in sizes]


GEMM_CASES = [
    # Every height of tile, whole and partial vectors, one panel or two, the summed axis from one step.
    *_gemm(*((m, n, k) for m in (1, 5, 6, 7) for n in (1, 3, 4, 5, 9, 17, 33, 64, 65) for k in (1, 17))),
    *_gemm(*((m, 31, 19) for m in (2, 3, 4, 11, 12, 13, 24, 25, 95, 96, 97, 193))),  # blocks of rows
    *_gemm(*((13, n, 7) for n in (2, 7, 8, 15, 31, 32, 47, 48, 49, 127, 128, 129, 257))),  # panels
    *_gemm(*((7, 37, k) for k in (15, 16, 31, 32, 33, 512, 1023, 1024, 1025, 2050))),  # blocks of the summed axis
    *_gemm((97, 129, 1031), (101, 103, 107), (193, 67, 1031)),  # several of each
    *_gemm((7, 530, 1030), (95, 577, 15), (6, 1100, 33)),  # panels packed by who multiplies them; thin products
    *_gemm((96, 1025, 129), (7, 1024, 128), (31, 1031, 257)),  # of a large matrix, one by one
    *_gemm((7, 300, 1100), (1, 513, 97), (3, 1031, 515), (3, 2049, 65)),  # cheaper as the transposed product
    *_gemm((300, 7, 1100), (513, 1, 97), (1031, 3, 515)),
    # LeNet's dense layers at a batch of 64, ResNet's and VGG's last ones; the products that convolutions of LeNet, of
    # colour images and of 64 channels would be; square ones.
    *_gemm((64, 120, 400), (64, 84, 120), (64, 10, 84), (6272, 16, 150), prefix="lenet", benchmark=True),
    *_gemm((32, 1000, 2048), (1, 1000, 2048), prefix="resnet50", benchmark=True),
    *_gemm((32, 4096, 25088), prefix="vgg16", benchmark=True),
    *_gemm((128, 10, 512), prefix="mlp", benchmark=True),
    *_gemm((65536, 32, 27), (64, 1024, 576), prefix="im2col", benchmark=True),
    *_gemm(*((size, size, size) for size in (256, 512, 1024, 2048)), prefix="square", benchmark=True),
]


def _depthwise(
    name: str,
    n: int,
    c: int,
    h: int,
    w: int,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Conv2dCase:
    return Conv2dCase(f"depthwise-{name}", n, c, h, w, c, kernel, stride, padding, dilation, c)


def _layers(*cases: Conv2dCase) -> list[Conv2dCase]:
    return [replace(case, benchmark=True) for case in cases]


def _same(name: str, n: int, c: int, size: int, oc: int, kernel: int, stride: int = 1, groups: int = 1) -> Conv2dCase:
    """Square images, padded so that the stride alone decides the size of the result."""
    pad = kernel // 2
    return Conv2dCase(name, n, c, size, size, oc, (kernel, kernel), (stride, stride), (pad, pad), (1, 1), groups)


# Layers of known networks, at batches that keep most below 4 GFLOP. Names are network-stage-what.
LAYERS = _layers(
    _same("lenet-1", 64, 1, 28, 6, 5),
    Conv2dCase("lenet-2", 64, 6, 14, 14, 16, (5, 5)),
    # VGG-16, and a small one for images of 32 pixels.
    _same("vgg-1-1", 8, 3, 224, 64, 3),
    _same("vgg-2-1", 2, 64, 112, 128, 3),
    _same("vgg-3-2", 1, 256, 56, 256, 3),
    _same("vgg-4-2", 1, 512, 28, 512, 3),
    _same("vgg-5-1", 4, 512, 14, 512, 3),
    _same("vgg_small-1-1", 64, 3, 32, 64, 3),
    _same("vgg_small-1-2", 64, 64, 32, 64, 3),
    _same("vgg_small-2-2", 64, 128, 16, 128, 3),
    _same("vgg_small-3-2", 64, 256, 8, 256, 3),
    # ResNet-20 for images of 32 pixels; ResNet-18 and ResNet-50, which share stages and names.
    _same("resnet20-stem", 128, 3, 32, 16, 3),
    _same("resnet20-1", 128, 16, 32, 16, 3),
    _same("resnet20-2-stride", 128, 16, 32, 32, 3, 2),
    _same("resnet20-2-shortcut", 128, 16, 32, 32, 1, 2),
    _same("resnet20-2", 128, 32, 16, 32, 3),
    _same("resnet20-3-stride", 128, 32, 16, 64, 3, 2),
    _same("resnet20-3", 128, 64, 8, 64, 3),
    _same("resnet-stem", 16, 3, 224, 64, 7, 2),
    _same("resnet-2-3x3", 16, 64, 56, 64, 3),
    _same("resnet-3-3x3", 16, 128, 28, 128, 3),
    _same("resnet-4-3x3", 16, 256, 14, 256, 3),
    _same("resnet-5-3x3", 16, 512, 7, 512, 3),
    _same("resnet-3-stride", 8, 128, 56, 128, 3, 2),
    _same("resnet-5-stride", 16, 256, 14, 512, 3, 2),
    _same("resnet18-3-shortcut", 16, 64, 56, 128, 1, 2),
    _same("resnet-3-shortcut", 8, 256, 56, 512, 1, 2),
    _same("resnet-2-1x1", 8, 64, 56, 256, 1),
    _same("resnet-2-1x1-reduce", 8, 256, 56, 64, 1),
    _same("resnet-4-1x1", 8, 256, 14, 1024, 1),
    _same("resnet-5-1x1-reduce", 8, 2048, 7, 512, 1),
    # MobileNet, EfficientNet, ConvNeXt, Inception, U-Net.
    _same("mobilenet-depthwise", 8, 96, 56, 96, 3, groups=96),
    _same("mobilenet-depthwise-stride", 8, 64, 112, 64, 3, 2, 64),
    _same("mobilenet-depthwise-deep", 16, 512, 14, 512, 3, groups=512),
    _same("mobilenet-depthwise-deep-stride", 16, 512, 14, 512, 3, 2, 512),
    _same("mobilenet-depthwise-last", 8, 960, 7, 960, 3, groups=960),
    _same("mobilenet-pointwise", 8, 32, 112, 64, 1),
    _same("mobilenet-pointwise-deep", 16, 512, 14, 512, 1),
    _same("efficientnet-depthwise", 8, 240, 28, 240, 5, groups=240),
    _same("convnext-depthwise", 8, 96, 56, 96, 7, groups=96),
    _same("inception-5x5", 8, 48, 35, 64, 5),
    Conv2dCase("inception-1x7", 8, 192, 17, 17, 192, (1, 7), padding=(0, 3)),
    Conv2dCase("inception-7x1", 8, 192, 17, 17, 192, (7, 1), padding=(3, 0)),
    _same("unet-1", 1, 32, 256, 32, 3),
    _same("unet-2", 1, 64, 128, 64, 3),
)


CONV2D_CASES = [
    # 1x1, whose im2col matrix is the image itself.
    Conv2dCase("one-pixel", 1, 1, 1, 1, 1, (1, 1)),
    Conv2dCase("1x1", 2, 9, 5, 7, 17, (1, 1)),
    Conv2dCase("1x1-many", 2, 257, 5, 7, 261, (1, 1)),
    Conv2dCase("1x1-stride", 2, 16, 7, 6, 5, (1, 1), (2, 3)),
    Conv2dCase("1x1-padding", 1, 10, 3, 4, 6, (1, 1), padding=(1, 2)),
    # Output channels around vectors and panels.
    *(Conv2dCase(f"oc-{oc}", 1, 9, 4, 5, oc, (2, 2)) for oc in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129)),
    Conv2dCase("shared-panels", 1, 9, 24, 25, 133, (1, 1)),  # blocks of pixels times uneven shares of panels
    # Input channels around the threshold for few, and of black-and-white and colour images.
    *(Conv2dCase(f"c-{c}", 2, c, 5, 6, 6, (3, 3), padding=(1, 1)) for c in (1, 2, 3, 4, 7, 8, 9, 16, 17, 65, 97)),
    # The same for the input gradient, where the output channels are summed.
    *(Conv2dCase(f"few-oc-{oc}", 1, 5, 6, 5, oc, (3, 2), (2, 1), (1, 1)) for oc in (1, 2, 8, 9)),
    # Pixels around tiles of 6 and blocks of 96.
    *(Conv2dCase(f"pixels-{p}", 1, 9, 1, p, 5, (1, 2), padding=(0, 1)) for p in (2, 4, 5, 6, 10, 11, 94, 95, 96, 191)),
    *(Conv2dCase(f"few-pixels-{p}", 1, 3, p, 1, 5, (2, 1), padding=(1, 0)) for p in (4, 5, 6, 94, 95, 96)),
    # Strides, paddings, dilations and their mixtures; windows that leave rows and columns over.
    Conv2dCase("stride-2", 2, 9, 9, 8, 7, (3, 3), (2, 2), (1, 1)),
    Conv2dCase("stride-over-kernel", 2, 9, 11, 10, 7, (2, 2), (3, 4)),
    Conv2dCase("stride-over-kernel-few", 1, 2, 11, 10, 3, (2, 1), (3, 4), (1, 0)),
    Conv2dCase("stride-over-image", 2, 10, 3, 2, 9, (2, 2), (7, 9), (1, 1)),
    Conv2dCase("rows", 1, 9, 8, 5, 6, (5, 1), (2, 1), (2, 0)),
    Conv2dCase("columns", 1, 9, 5, 8, 6, (1, 5), (1, 3), (0, 2)),
    Conv2dCase("rectangle", 2, 3, 7, 9, 5, (2, 5), (3, 2), (1, 3), (2, 1)),
    Conv2dCase("dilation", 1, 9, 9, 11, 5, (3, 3), (1, 1), (2, 3), (2, 3)),
    Conv2dCase("dilation-stride", 2, 9, 9, 11, 5, (3, 2), (2, 3), (3, 1), (2, 4)),
    Conv2dCase("dilation-of-stride", 1, 9, 9, 8, 5, (3, 3), (2, 2), (1, 2), (2, 2)),
    Conv2dCase("padding-rows-few", 2, 3, 5, 6, 4, (3, 2), padding=(2, 0)),
    Conv2dCase("padding-columns-few", 2, 3, 5, 6, 4, (2, 3), padding=(0, 2)),
    Conv2dCase("padding-over-kernel-few", 1, 2, 3, 2, 5, (2, 2), (1, 2), (4, 5)),
    Conv2dCase("padding-over-kernel", 1, 9, 3, 2, 5, (2, 2), (1, 2), (4, 5)),
    Conv2dCase("kernel-over-image", 2, 9, 2, 3, 5, (5, 7), (1, 1), (2, 3)),
    Conv2dCase("kernel-over-image-few", 2, 2, 1, 2, 3, (5, 6), (2, 1), (3, 2)),
    Conv2dCase("kernel-is-image", 3, 9, 4, 5, 7, (4, 5)),
    Conv2dCase("no-tap-inside", 1, 9, 1, 1, 9, (2, 2), (2, 2), (1, 1), (2, 2)),
    Conv2dCase("no-tap-inside-few", 2, 2, 1, 1, 3, (2, 2), (2, 2), (1, 1), (2, 2)),
    Conv2dCase("many-taps", 1, 2, 31, 33, 3, (29, 31), padding=(1, 0)),
    Conv2dCase("very-many-taps", 1, 9, 60, 62, 2, (53, 55), padding=(1, 2)),
    # Groups, up to one for each channel.
    Conv2dCase("groups-2", 2, 18, 5, 6, 10, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    Conv2dCase("groups-3-few", 1, 6, 6, 5, 9, (3, 2), (2, 1), (1, 1), (1, 2), 3),
    Conv2dCase("groups-panels", 1, 18, 3, 4, 134, (2, 2), (1, 1), (0, 0), (1, 1), 2),
    Conv2dCase("groups-multiplier", 1, 5, 6, 7, 15, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    # Depthwise: channels around vectors and blocks of 12 KB of weights; pixels around blocks of 4 and 7 and tiles of 6.
    *(
        _depthwise(f"c-{c}", 2, c, 5, 8, (3, 3), padding=(1, 1))
        for c in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100)
    ),
    _depthwise("channel-blocks", 1, 201, 6, 7, (7, 5), padding=(3, 2)),
    *(_depthwise(f"3x3-{p}", 1, 9, 3, p, (3, 3), padding=(1, 1)) for p in (1, 2, 3, 4, 5, 6, 7, 9, 14, 15)),
    *(_depthwise(f"5x5-{p}", 2, 9, p, p, (5, 5), padding=(2, 2)) for p in (1, 2, 3, 4, 6, 7, 8, 11)),
    *(_depthwise(f"7x7-{p}", 1, 17, p, p, (7, 7), padding=(3, 3)) for p in (1, 4, 7, 13)),
    *(_depthwise(f"tiles-{p}", 1, 9, 2, p, (2, 2), (1, 2)) for p in (2, 3, 10, 11, 12, 13, 14, 25)),
    _depthwise("1x1", 2, 9, 5, 7, (1, 1)),
    _depthwise("1x1-stride-padding", 2, 17, 5, 6, (1, 1), (2, 3), (1, 2)),
    _depthwise("no-padding", 2, 17, 9, 10, (3, 3)),
    _depthwise("stride", 2, 17, 9, 8, (3, 3), (2, 2), (1, 1)),
    _depthwise("stride-5x5", 1, 9, 14, 15, (5, 5), (2, 2), (2, 2)),
    _depthwise("stride-height", 1, 9, 9, 10, (3, 3), (2, 1), (1, 1)),
    _depthwise("stride-width", 1, 9, 9, 10, (3, 5), (1, 3), (1, 2)),
    _depthwise("stride-over-kernel", 2, 9, 11, 10, (2, 3), (3, 4), (0, 1)),
    _depthwise("stride-over-image", 2, 9, 3, 2, (2, 2), (7, 9), (1, 1)),
    _depthwise("rows", 1, 9, 8, 5, (5, 1), (1, 1), (2, 0)),
    _depthwise("columns", 1, 9, 5, 8, (1, 5), (1, 1), (0, 2)),
    _depthwise("rectangle", 2, 5, 9, 11, (4, 3), (1, 1), (2, 0)),
    _depthwise("dilation", 1, 9, 9, 11, (3, 3), (1, 1), (2, 3), (2, 3)),
    _depthwise("dilation-height", 1, 9, 9, 11, (3, 3), (1, 1), (2, 1), (2, 1)),
    _depthwise("dilation-stride", 2, 9, 9, 11, (3, 2), (2, 3), (3, 1), (2, 4)),
    _depthwise("dilation-of-stride", 1, 9, 12, 13, (3, 4), (4, 6), (1, 2), (2, 4)),
    _depthwise("padding-over-kernel", 1, 9, 3, 2, (3, 3), (1, 1), (4, 5)),
    _depthwise("padding-over-kernel-stride", 1, 9, 3, 2, (2, 3), (1, 2), (4, 5)),
    _depthwise("kernel-over-image", 2, 9, 2, 3, (5, 7), (1, 1), (2, 3)),
    _depthwise("kernel-over-image-stride", 2, 9, 2, 3, (7, 5), (2, 2), (3, 2)),
    _depthwise("kernel-is-image", 3, 9, 7, 5, (7, 5)),
    _depthwise("no-tap-inside", 1, 9, 1, 1, (2, 2), (2, 2), (1, 1), (2, 2)),
    _depthwise("many-taps", 1, 3, 31, 33, (29, 31), padding=(1, 0)),
    _depthwise("chunks", 3, 40, 20, 21, (3, 3), padding=(1, 1)),
    _depthwise("chunks-stride", 2, 24, 33, 30, (5, 5), (2, 2), (2, 2)),
    # Chunks and strips of the weight gradient: rows longer than a strip, short rows, images that end inside a strip.
    Conv2dCase("long-rows", 2, 3, 3, 521, 4, (2, 3), (1, 2), (1, 1)),
    Conv2dCase("longer-rows", 1, 9, 3, 613, 7, (2, 3), (1, 1), (1, 1)),
    Conv2dCase("short-rows", 1, 9, 613, 1, 7, (3, 1), (1, 1), (1, 0)),
    Conv2dCase("images", 19, 9, 5, 7, 11, (3, 3), (1, 1), (1, 1)),
    Conv2dCase("images-few", 23, 3, 7, 5, 6, (3, 3), (1, 1), (1, 1)),
    Conv2dCase("blocks", 1, 101, 6, 7, 67, (2, 2)),
    # Strips of the weight gradient that are packed, from 256 channels on both sides; blocks of 132 by 256; strips of
    # 128 pixels.
    *(Conv2dCase(f"packed-c-{c}", 1, c, 4, 7, 257, (1, 1)) for c in (131, 132, 133, 255, 256, 257, 273)),
    *(Conv2dCase(f"packed-oc-{oc}", 1, 256, 5, 7, oc, (2, 1), padding=(1, 0)) for oc in (17, 255, 256, 257, 321)),
    Conv2dCase("packed-c-for-few", 1, 257, 5, 7, 64, (1, 1)),
    Conv2dCase("packed-both", 2, 259, 6, 7, 261, (1, 2), padding=(0, 1)),
    Conv2dCase("packed-stride", 2, 257, 9, 11, 266, (2, 2), (2, 2), (1, 0)),
    Conv2dCase("packed-groups", 2, 514, 5, 4, 516, (2, 1), (1, 1), (1, 0), (1, 1), 2),
    Conv2dCase("packed-strips", 1, 256, 51, 5, 257, (1, 1)),
    Conv2dCase("packed-no-tap-inside", 1, 256, 1, 1, 257, (2, 2), (2, 2), (1, 1), (2, 2)),
    *(Conv2dCase(f"packed-rows-{ow}", 1, 257, 2, ow, 257, (1, 1)) for ow in (127, 128, 129)),
    Conv2dCase("chunks-of-strips", 2, 9, 131, 5, 7, (5, 5), padding=(2, 2)),
    Conv2dCase("chunks-of-strips-few", 4, 3, 101, 3, 5, (33, 3), padding=(16, 1)),
    # Planes of few channels: around tiles of 64 pixels and of six rows (kernel row, channel); an image in bands, a band
    # in steps of a few rows of dy, or of one.
    *(Conv2dCase(f"planes-{w}", 2, 3, 4, w, 5, (3, 3), padding=(1, 1)) for w in (13, 14, 15, 29, 30, 31, 62, 63)),
    *(Conv2dCase(f"planes-c-{c}", 1, c, 5, 7, 6, (2, 3), (2, 1), (1, 1)) for c in (1, 5, 6, 11, 12, 13)),
    *(Conv2dCase(f"planes-oc-{oc}", 1, 2, 4, 19, oc, (3, 3), (1, 2), (1, 1)) for oc in (15, 16, 17, 31, 32, 33, 49)),
    Conv2dCase("bands", 1, 2, 67, 9, 5, (5, 3), padding=(2, 1)),
    Conv2dCase("bands-stride", 2, 3, 101, 11, 6, (7, 7), (2, 2), (3, 3)),
    Conv2dCase("scatter-bands", 1, 3, 67, 41, 31, (5, 5), padding=(2, 1)),  # of rows of dx
    Conv2dCase("scatter-images", 17, 6, 13, 14, 16, (5, 5)),
    Conv2dCase("scatter-panels", 2, 13, 7, 5, 3, (2, 11), padding=(0, 5)),
    Conv2dCase("scatter-padding", 2, 6, 3, 4, 5, (3, 3), padding=(4, 5)),  # more than the kernel has
    Conv2dCase("steps", 1, 2, 27, 61, 190, (3, 3), padding=(1, 1)),
    Conv2dCase("steps-stride", 1, 1, 40, 90, 300, (5, 5), (2, 2), (2, 2)),
    Conv2dCase("steps-of-one-row", 1, 1, 5, 101, 701, (3, 3)),
    # Frames of few channels: tiles of up to 12 pixels; vectors and panels; whole windows; bands; pieces of long rows.
    *(Conv2dCase(f"framed-{w}", 2, 3, 3, w, 16, (3, 3), padding=(1, 1)) for w in (6, 7, 11, 12, 13, 24, 25)),
    *(Conv2dCase(f"framed-oc-{oc}", 1, 3, 4, 9, oc, (3, 3), (1, 2), (1, 1)) for oc in (1, 15, 16, 17, 33, 65, 129)),
    *(Conv2dCase(f"framed-window-{k}", 3, 1, 7, 8, 6, (k, k), padding=(k // 2, k // 2)) for k in (3, 5)),
    Conv2dCase("framed-dilation", 2, 3, 9, 8, 7, (3, 3), (2, 1), (2, 1), (3, 1)),
    Conv2dCase("framed-bands", 2, 3, 37, 150, 5, (5, 3), (2, 1), (2, 1)),
    Conv2dCase("framed-bands-of-one-row", 1, 5, 3, 2600, 2, (2, 2), padding=(1, 0)),
    Conv2dCase("framed-pieces", 1, 2, 5, 151, 65, (2, 3), padding=(0, 1)),
    *LAYERS,
]


POOL2D_CASES = [
    Pool2dCase("one-pixel", 1, 1, 1, 1, (1, 1)),
    *(Pool2dCase(f"c-{c}", 2, c, 6, 5, (2, 2)) for c in (1, 3, 7, 8, 9, 16, 17, 63, 64, 65, 129)),
    Pool2dCase("overlap", 2, 5, 9, 8, (3, 3), (2, 2), (1, 1)),
    *(Pool2dCase(f"overlap-c-{c}", 1, c, 7, 8, (3, 3), (2, 2), (1, 1)) for c in (1, 4, 6, 8, 15, 16, 17, 31, 65)),
    *(Pool2dCase(f"global-c-{c}", 2, c, 4, 3, (4, 3)) for c in (255, 256, 257, 530)),
    Pool2dCase("gaps-in-rows", 2, 5, 11, 9, (2, 2), (3, 2)),
    Pool2dCase("gaps-in-rows-padding", 1, 20, 10, 9, (2, 3), (4, 3), (1, 0)),
    Pool2dCase("dense", 1, 4, 5, 6, (3, 3), (1, 1), (1, 1)),
    Pool2dCase("gaps", 2, 3, 11, 10, (2, 2), (3, 4)),
    Pool2dCase("gaps-padding", 1, 3, 11, 10, (2, 3), (4, 5), (1, 1)),
    Pool2dCase("rectangle", 2, 3, 7, 9, (2, 3), (1, 2), (1, 0)),
    Pool2dCase("rows", 1, 6, 9, 4, (4, 1), (3, 1), (2, 0)),
    Pool2dCase("columns", 1, 6, 4, 9, (1, 4), (1, 3), (0, 2)),
    Pool2dCase("whole-image", 3, 10, 7, 7, (7, 7)),
    Pool2dCase("kernel-over-image", 2, 3, 2, 3, (4, 5), (1, 1), (2, 1)),
    Pool2dCase("one-pixel-padding", 1, 2, 1, 1, (2, 2), (1, 1), (1, 1)),
    Pool2dCase("positions-256", 1, 2, 17, 19, (16, 16), (1, 1), (0, 0)),
    # Padding on one side, rounded up, windows with gaps inside; some without a pixel of the image.
    Pool2dCase("uneven", 2, 5, 8, 7, (3, 2), (2, 1), ((2, 0), (0, 1))),
    Pool2dCase("same-upper", 1, 17, 7, 8, (2, 2), (1, 1), ((0, 1), (0, 1))),
    Pool2dCase("ceil", 2, 6, 8, 9, (3, 3), (2, 2), ceil_mode=True),
    Pool2dCase("ceil-tiles", 1, 33, 5, 7, (2, 2), ceil_mode=True),
    Pool2dCase("ceil-padding", 1, 4, 6, 5, (3, 3), (2, 2), (1, 1), ceil_mode=True),
    Pool2dCase("ceil-nothing-more", 1, 3, 6, 6, (2, 2), (3, 4), (1, 1), ceil_mode=True),
    Pool2dCase("ceil-uneven", 1, 3, 7, 6, (4, 3), (3, 2), ((1, 2), (2, 0)), ceil_mode=True),
    Pool2dCase("ceil-over-image", 1, 3, 2, 2, (3, 3), (2, 2), ceil_mode=True),
    Pool2dCase("dilated", 2, 5, 9, 8, (3, 2), (1, 2), dilation=(2, 3)),
    Pool2dCase("dilated-tiles", 1, 16, 9, 9, (2, 2), (2, 2), dilation=(2, 2)),
    Pool2dCase("dilated-padding", 1, 7, 8, 9, (3, 3), (2, 1), (2, 3), (2, 2)),
    Pool2dCase("dilated-over-image", 1, 3, 2, 3, (2, 2), (1, 1), (2, 3), (3, 4)),
    Pool2dCase("all", 2, 9, 9, 8, (3, 2), (2, 3), ((3, 1), (0, 2)), (2, 3), ceil_mode=True),
    Pool2dCase("lenet", 8, 6, 28, 28, (2, 2), benchmark=True),
    Pool2dCase("vgg-1", 8, 64, 224, 224, (2, 2), benchmark=True),
    Pool2dCase("resnet-stem", 8, 64, 112, 112, (3, 3), (2, 2), (1, 1), benchmark=True),
    Pool2dCase("resnet-last", 8, 2048, 7, 7, (7, 7), benchmark=True),
]


BATCH_NORM_CASES = [
    BatchNormCase("two-values", 2, 1, 1, 1),
    # Channels around vectors, and around rows of 512 floats: many pixels in one, two, one, parts of one.
    *(BatchNormCase(f"c-{c}", 2, c, 5, 7) for c in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)),
    *(BatchNormCase(f"wide-{c}", 3, c, 2, 3) for c in (100, 255, 256, 257, 511, 512, 513, 1027)),
    # Pixels around four rows at once, and those that are left over.
    *(BatchNormCase(f"pixels-{p}", 1, c, 1, p) for c in (3, 65) for p in (2, 3, 15, 16, 17, 63, 64, 65, 481)),
    *(BatchNormCase(f"pixels-of-one-{p}", 1, 1, 1, p) for p in (511, 512, 513, 2047, 2048, 2049)),
    # Several blocks of 32,768 elements or 64 pixels; images that end inside a block.
    BatchNormCase("blocks-1", 3, 1, 201, 167),
    BatchNormCase("blocks-6", 5, 6, 59, 61),
    BatchNormCase("blocks-80", 3, 80, 31, 19),
    BatchNormCase("blocks-600", 5, 600, 7, 6),
    # LeNet-5's, ResNet's first and last ones, and MobileNetV2's.
    BatchNormCase("lenet", 8, 6, 28, 28, benchmark=True),
    BatchNormCase("resnet-1", 8, 64, 112, 112, benchmark=True),
    BatchNormCase("resnet-2", 8, 256, 56, 56, benchmark=True),
    BatchNormCase("resnet-5", 8, 2048, 7, 7, benchmark=True),
    BatchNormCase("mobilenet", 8, 24, 56, 56, benchmark=True),
]


def small(cases: list[Any], most_flops: float = 3.5e7) -> list[Any]:
    """Return the cases that are quick to check; the others are left to the benchmarks."""
    return [case for case in cases if case.flops <= most_flops]


def name_of(case: Any) -> str | None:
    """Name a case in pytest's output; None for what is not a case."""
    return getattr(case, "name", None)


def assert_equal(actual: Array, expected: np.ndarray[Any, Any]) -> None:
    """Check that two results are the same float32 numbers, NaN included."""
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, np.asarray(expected).astype(np.float32), strict=True)


def assert_within(
    actual: Array, expected: np.ndarray[Any, Any], terms: float, magnitude: np.ndarray[Any, Any] | float
) -> None:
    """Check |actual - expected| <= 2 terms u magnitude, plus what counts as zero.

    A sum of k products in float32, added in any order, is off by at most k u |a| |b| (1 + O(k u)): Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1. `magnitude` is |a| |b|: the same computation on absolute values.
    """
    assert actual.dtype == np.float32
    assert actual.shape == np.shape(expected)
    error = np.abs(actual.astype(np.float64) - expected)
    bound = 2 * terms * U * magnitude + max(terms, 1) * TINY
    assert np.isfinite(error).all()
    worst = np.max(error / bound, initial=0.0)
    assert worst <= 1.0, f"error is {worst:.3g} times its bound"


def run_onnx(operator: str, *inputs: Array, outputs: int = 1, **attributes: Any) -> list[np.ndarray[Any, Any]]:
    """Run one operator of ONNX by onnxruntime, on one thread."""
    names = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(outputs)]
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    results = [value(name=names[1][0], shape=None)]
    results += [value(name=name, elem_type=onnx.TensorProto.INT64, shape=None) for name in names[1][1:]]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, *names, **attributes)],
        operator,
        [value(name=name, shape=array.shape) for name, array in zip(names[0], inputs, strict=True)],
        results,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names[0], map(np.ascontiguousarray, inputs), strict=True)))
