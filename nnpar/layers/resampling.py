"""Resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks, resampling
from nnpar._checks import Array, Pair
from nnpar._kernels import pool
from nnpar._kernels.step import Step
from nnpar.layers.along_axes import AlongPixels
from nnpar.layers.base import AXES
from nnpar.layers.broadcasting import arithmetic
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.resampling import Taps
from nnpar.shapes import Shape


class Resize(AlongPixels):
    """Resampled sequences, images or volumes, as ONNX's Resize along the axes after the channels.

    Parameters
    ----------
    size : int or tuple of int, optional
        Along each axis.
    scale_factor : float or tuple of float, optional
        How many times larger each axis becomes: one of the two is needed. With both, the result has that size, and
        places are found by the factor.
    mode : {"nearest", "linear", "cubic"}
    coordinate_transformation_mode : str
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric" or
        "tf_crop_and_resize": which place of the input belongs to one of the output, see ONNX's documentation.
    nearest_mode : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}
    cubic_coeff_a : float
    exclude_outside : bool
        Whether places outside the image weigh nothing, rather than the border being repeated there.
    antialias : bool
        Whether to average over all places that become one where the image becomes smaller.
    roi : tuple of float, optional
        With "tf_crop_and_resize": where each axis begins, then where each ends, of 0 to 1.
    extrapolation_value : float
        With "tf_crop_and_resize": of places outside the image.

    Raises
    ------
    ValueError
        If an argument has a value that there is not; when it is used: if it does not fit the input's axes.

    Examples
    --------
    >>> from nnpar import Resize
    >>> Resize(4, mode="linear")([[[0.0, 4.0]]])
    array([[[0., 1., 3., 4.]]], dtype=float32)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        coordinate_transformation_mode: str = "half_pixel",
        nearest_mode: str = "round_prefer_floor",
        cubic_coeff_a: float = -0.75,
        exclude_outside: bool = False,
        antialias: bool = False,
        roi: Sequence[float] | None = None,
        extrapolation_value: float = 0.0,
    ) -> None:
        self._set_size(size, scale_factor)
        self.mode = _one_of(mode, resampling.MODES, "mode")
        self.coordinate_transformation_mode = _one_of(
            coordinate_transformation_mode, resampling.COORDINATES, "coordinate_transformation_mode"
        )
        self.nearest_mode = _one_of(nearest_mode, resampling.NEAREST, "nearest_mode")
        self.cubic_coeff_a = _checks.number(cubic_coeff_a, "Resize", "cubic_coeff_a")
        self.exclude_outside, self.antialias = bool(exclude_outside), bool(antialias)
        self.roi = None if roi is None else tuple(_checks.number(value, "Resize", "roi") for value in roi)
        self.extrapolation_value = _checks.number(extrapolation_value, "Resize", "extrapolation_value")
        if (self.roi is None) != (self.coordinate_transformation_mode != "tf_crop_and_resize"):
            raise ValueError("Resize: roi: expected with 'tf_crop_and_resize', and there only")
        for name in ("antialias", "exclude_outside"):
            if getattr(self, name) and self.mode == "nearest":
                raise ValueError(f"Resize: {name}: expected False with mode 'nearest', got True")

    def _set_size(self, size: int | Sequence[int] | None, scale_factor: float | Sequence[float] | None) -> None:
        who = type(self).__name__
        if size is None and scale_factor is None:
            raise ValueError(f"{who}: scale_factor: expected it or size, got neither")
        if size is not None:
            checked = _checks.integer if np.ndim(size) == 0 else _checks.integers
            size = checked(size, who, "size", 1)
        if scale_factor is not None:
            each = [scale_factor] if np.ndim(scale_factor) == 0 else list(scale_factor)  # type: ignore[arg-type]
            factors = tuple(_checks.number(factor, who, "scale_factor") for factor in each)
            if min(factors, default=0.0) <= 0.0:
                raise ValueError(f"{who}: scale_factor: expected numbers above 0, got {scale_factor!r}")
            factors = tuple(int(factor) if factor.is_integer() else factor for factor in factors)
            scale_factor = factors[0] if np.ndim(scale_factor) == 0 else factors
        self.size, self.scale_factor = size, scale_factor
        self._arrays = {}

    def _sizes(self, input_shape: Shape, who: str) -> tuple[Shape, tuple[float, ...]]:
        axes = self.axes_of(input_shape, who)
        for name, value in (("size", self.size), ("scale_factor", self.scale_factor)):
            if isinstance(value, tuple) and len(value) != axes:
                raise ValueError(f"{who}: {name}: expected {axes} for input of shape {input_shape}, got {value}")
        scales = self.scale_factor if isinstance(self.scale_factor, tuple) else (self.scale_factor,) * axes
        if self.size is None:
            sizes = tuple(math.floor(n * s) for n, s in zip(input_shape[2:], scales, strict=True))  # type: ignore[operator]
        else:
            sizes = self.size if isinstance(self.size, tuple) else (self.size,) * axes
        if min(sizes) < 1:
            raise ValueError(f"{who}: scale_factor: expected at least one pixel of {input_shape}, got {sizes}")
        each = zip(scales, sizes, input_shape[2:], strict=True)
        return sizes, tuple(size / n if scale is None else scale for scale, size, n in each)

    def _given(self) -> dict[str, Any]:
        """Of size and scale_factor what was given."""
        sizes = {"size": self.size, "scale_factor": self.scale_factor}
        return {name: value for name, value in sizes.items() if value is not None}

    def resized(self, input_shape: Shape) -> tuple[Shape, tuple[float, ...]]:
        """Sizes of the output after the channels, and how many times those of the input they are to be."""
        return self._sizes(input_shape, self.describe(""))

    def output_pixels(self, input_shape: Shape, who: str) -> Shape:
        return self._sizes(input_shape, who)[0]

    def taps(self, input_shape: Shape) -> list[Taps | None]:
        axes = len(input_shape) - 2
        roi = self.roi or (0.0,) * axes + (1.0,) * axes
        if len(roi) != 2 * axes:
            raise ValueError(f"Resize: roi: expected {2 * axes} for input of shape {input_shape}, got {roi}")
        sizes, scales = self.resized(input_shape)
        tables = [
            resampling.resized(
                n, size, scale, self.mode, self.coordinate_transformation_mode, self.nearest_mode, self.cubic_coeff_a,
                self.exclude_outside, self.antialias, (roi[axis], roi[axes + axis]),
            )
            for axis, (n, size, scale) in enumerate(zip(input_shape[2:], sizes, scales, strict=True))
        ]  # fmt: skip
        # Tables that leave an axis as it is are not needed.
        needed = [scale != 1.0 or size != n or self.roi is not None
                  for scale, size, n in zip(scales, sizes, input_shape[2:], strict=True)]  # fmt: skip
        return [table if need else None for table, need in zip(tables, needed, strict=True)]

    def forward(self, at: Lowering) -> None:
        if self.extrapolation_value == 0.0:
            super().forward(at)
            return
        # Where there is no pixel the sum is 0: with the value subtracted before and added after, it is the value.
        x = at.x
        at.inputs = (x.like(),)
        at.step(_add, x, -self.extrapolation_value, at.x, writes=at.x)
        super().forward(at)
        at.step(_add, at.y, self.extrapolation_value, at.y, writes=at.y)

    def settings(self) -> dict[str, Any]:
        settings = self._given() | {
            "mode": self.mode,
            "coordinate_transformation_mode": self.coordinate_transformation_mode,
        }
        more = {
            "nearest_mode": (self.nearest_mode, "round_prefer_floor"),
            "cubic_coeff_a": (self.cubic_coeff_a, -0.75),
            "exclude_outside": (self.exclude_outside, False),
            "antialias": (self.antialias, False),
            "roi": (self.roi, None),
            "extrapolation_value": (self.extrapolation_value, 0.0),
        }
        return settings | {name: value for name, (value, default) in more.items() if value != default}


def _add(x: Array, value: float, y: Array) -> Step:
    return arithmetic("add", x, np.full(1, value, np.float32), y)


def _one_of(value: str, values: Sequence[str], name: str) -> str:
    if value not in values:
        raise ValueError(f"Resize: {name}: expected {', '.join(map(repr, values))}, got {value!r}")
    return value


# PyTorch's modes: ONNX's, coordinates without and with align_corners, and the number of axes that they are for.
_TORCH_MODES = {
    "nearest": ("nearest", "asymmetric", None),
    "nearest-exact": ("nearest", "half_pixel", None),
    "linear": ("linear", "half_pixel", 1),
    "bilinear": ("linear", "half_pixel", 2),
    "bicubic": ("cubic", "half_pixel", 2),
    "trilinear": ("linear", "half_pixel", 3),
}


class Upsample(Resize):
    """Larger or smaller sequences, images or volumes, as PyTorch's ``nn.Upsample``.

    Parameters
    ----------
    size : int or tuple of int, optional
        Along each axis: it or the factor is needed.
    scale_factor : float or tuple of float, optional
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear"}
        "linear" is for sequences, "trilinear" for volumes, "bilinear" and "bicubic" for images.
    align_corners : bool, optional
        Whether the outermost pixels' middles stay where they are; not for the nearest pixel.

    Raises
    ------
    ValueError
        If an argument has a value that there is not; when it is used: if it does not fit the input's axes.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Upsample
    >>> Upsample(scale_factor=2)(np.array([[[[1.0, 2.0]]]]))[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    >>> Upsample(size=(1, 3), mode="bilinear", align_corners=True)(np.array([[[[1.0, 2.0]]]])).ravel()
    array([1. , 1.5, 2. ], dtype=float32)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        if size is not None and scale_factor is not None:
            raise ValueError("Upsample: size: expected it or scale_factor, got both")
        self._set_size(size, scale_factor)
        if mode not in _TORCH_MODES:
            raise ValueError(f"Upsample: mode: expected {', '.join(map(repr, _TORCH_MODES))}, got {mode!r}")
        if align_corners is not None and mode.startswith("nearest"):
            raise ValueError(f"Upsample: align_corners: expected None with mode {mode!r}, got {align_corners!r}")
        self.torch_mode, self.align_corners = mode, None if align_corners is None else bool(align_corners)
        self.mode, coordinates, _ = _TORCH_MODES[mode]
        self.coordinate_transformation_mode = "align_corners" if align_corners else coordinates
        self.nearest_mode = "floor" if mode == "nearest" else "round_prefer_ceil"
        self.cubic_coeff_a, self.exclude_outside, self.antialias = -0.75, False, False
        self.roi, self.extrapolation_value = None, 0.0

    def axes_of(self, input_shape: Shape, who: str) -> int:
        axes, wanted = super().axes_of(input_shape, who), _TORCH_MODES[self.torch_mode][2]
        if wanted is not None and axes != wanted:
            raise ValueError(
                f"{who}: input: expected shape {AXES[wanted]} for mode {self.torch_mode!r}, got {input_shape}"
            )
        return axes

    def _whole(self, input_shape: Shape) -> Pair | None:
        """How many times each pixel of images is repeated, if that is all."""
        if self.torch_mode != "nearest" or self.scale_factor is None or len(input_shape) != 4:
            return None
        _, (h, w) = self.resized(input_shape)
        return (int(h), int(w)) if h % 1 == 0 and w % 1 == 0 else None

    def forward(self, at: Lowering) -> None:
        scale = at.saved["whole"] = self._whole(at.x.shape)
        if scale is None:
            super().forward(at)
            return
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(pool.Upsample2d, at.x, at.y, scale)

    def backward(self, at: Lowering) -> None:
        if at.saved["whole"] is None:
            super().backward(at)
        elif at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(pool.Upsample2dGrad, at.dy, dx, at.saved["whole"])
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        settings = self._given() | {"mode": self.torch_mode}
        return settings | ({} if self.align_corners is None else {"align_corners": self.align_corners})
