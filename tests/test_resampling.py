"""Weighted sums along axes against matrices in float64, and the layers made of them against what defines them."""

import math

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnpar
from nnpar import (
    AdaptiveAvgPool2d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReplicationPad2d,
    Resize,
    Select,
    Upsample,
    resampling,
)
from nnpar._kernels.resample import Resample

CHANNELS = [1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 67]


def sums(x, rows, columns):
    """The same by matrices."""
    for axis, taps in ((1, rows), (2, columns)):
        if taps is not None:
            x = np.moveaxis(np.tensordot(taps.matrix().astype(np.float64), x, (1, axis)), 0, axis)
    return x


TABLES = {
    "both": (resampling.resized(6, 9, 1.5, "linear"), resampling.resized(5, 3, 0.6, "cubic", antialias=True)),
    "rows": (resampling.averaged(6, 4), None),
    "columns": (None, resampling.padded(5, 3, 2, "reflect")),
    "copies": (resampling.selected(6, [5, 0, 0]), resampling.selected(5, [1, 4])),
    "nothing": (resampling.selected(6, [-1, 2, -1]), None),
    "larger": (resampling.resized(6, 40, 40 / 6, "cubic"), resampling.resized(5, 33, 6.6, "linear")),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_sums_along_axes(name, channels):
    y = np.empty((2, 6, 5, channels))
    for rows, columns in (TABLES[name], [taps and taps.transposed for taps in TABLES[name]]):
        x = np.random.default_rng(0).standard_normal(y.shape, np.float32)
        tables = None, rows, columns, None
        shape = [n if taps is None else taps.count for n, taps in zip(x.shape, tables, strict=True)]
        y = np.full(shape, np.nan, np.float32)
        Resample(x, y, rows, columns)()
        terms = sum(0 if taps is None else int(np.diff(taps.first).max()) for taps in (rows, columns))
        magnitude = sums(abs(x).astype(np.float64), *(taps and _absolute(taps) for taps in (rows, columns)))
        cases.assert_within(y, sums(x.astype(np.float64), rows, columns), terms, magnitude)


def _absolute(taps):
    return resampling.Taps(taps.size, taps.first, taps.index, abs(taps.weight))


@st.composite
def any_taps(draw):
    size, count = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["resized", "averaged", "padded", "selected"]))
    if kind == "averaged":
        return resampling.averaged(size, count)
    if kind == "padded":
        return resampling.padded(size, count, 3, draw(st.sampled_from(["reflect", "replicate", "circular"])))
    if kind == "selected":
        return resampling.selected(size, draw(st.lists(st.integers(-1, size - 1), min_size=1)))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    coordinates = draw(st.sampled_from(resampling.COORDINATES[:-1]))
    return resampling.resized(
        size, count, count / size, mode, coordinates, antialias=mode != "nearest" and draw(st.booleans())
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(any_taps())
def test_a_table_and_its_transposed(taps):
    np.testing.assert_array_equal(taps.transposed.matrix(), taps.matrix().T)
    assert taps.transposed.count == taps.size
    assert taps.transposed.size == taps.count


def test_threads_change_no_bit():
    rows, columns = resampling.resized(64, 150, 2.3, "cubic"), resampling.resized(48, 100, 2.1, "linear")
    x = np.random.default_rng(0).standard_normal((2, 64, 48, 24), np.float32)
    results = []
    for threads in (1, 2, 3):
        with nnpar.num_threads(threads):
            y = np.empty((2, 150, 100, 24), np.float32)
            Resample(x, y, rows, columns)()
            results.append(y.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_stays_where_it_belongs(value):
    x = np.ones((1, 2, 3, 4), np.float32)
    x[0, 1, 2, 3] = value
    for layer in (ReflectionPad2d(1), Select(3, [3, 0]), Upsample(scale_factor=1.5, mode="bilinear")):
        y, reached = layer(x), layer(np.where(np.isfinite(x), 0, 1)) != 0
        np.testing.assert_array_equal(np.isfinite(y), ~reached)
        np.testing.assert_allclose(y[~reached], 1, rtol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("padding", [(1, 2, 0, 3), (0, 0, 2, 2), (0, 0, 0, 0), (3, 3, 3, 3)])
def test_pads_are_those_of_numpy(mode, padding):
    layer = {"reflect": ReflectionPad2d, "edge": ReplicationPad2d}[mode](padding)
    left, right, top, bottom = padding
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
    np.testing.assert_array_equal(layer(x), np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 9])
def test_adaptive_pooling_takes_the_mean_of_each_part(size):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 5)).astype(np.float32)
    y = AdaptiveAvgPool2d((size, 2))(x)
    for i in range(size):
        for j in range(2):
            part = x[
                :,
                :,
                math.floor(i * 7 / size) : math.ceil((i + 1) * 7 / size),
                math.floor(j * 2.5) : math.ceil((j + 1) * 2.5),
            ]
            np.testing.assert_allclose(y[:, :, i, j], part.mean((2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("indices", [[0], [2, 0, 2, -1], [-2, 1]])
def test_select_is_take(dim, indices):
    for shape in ((3, 4, 3, 5), (3, 4, 5), (4, 3)):
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        if -len(shape) <= dim < len(shape):
            np.testing.assert_array_equal(Select(dim, indices)(x), x.take(indices, dim))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Upsample(), ValueError, "Upsample: scale_factor: expected it or size, got neither"),
        (lambda: Upsample(2, 2), ValueError, "Upsample: size: expected it or scale_factor, got both"),
        (lambda: Upsample(2, mode="area"), ValueError, "Upsample: mode: expected 'nearest', .*, got 'area'"),
        (lambda: Upsample(2, align_corners=True), ValueError, "align_corners: expected None with mode 'nearest'"),
        (lambda: Upsample(0), ValueError, "Upsample: size: expected at least 1, got 0"),
        (lambda: Upsample(scale_factor=(2.0, 0.0)), ValueError, "scale_factor: expected numbers above 0"),
        (lambda: Upsample(scale_factor="two"), TypeError, "Upsample: scale_factor: expected a number"),
        (lambda: Upsample(2, mode="linear")(np.ones((1, 2, 3, 4))), ValueError, r"expected shape \(N, C, L\) for mode"),
        (lambda: Upsample((2, 3))(np.ones((1, 2, 3))), ValueError, "Upsample: size: expected 1 for input of shape"),
        (lambda: Upsample(scale_factor=0.2)(np.ones((1, 2, 3, 4))), ValueError, "expected at least one pixel"),
        (lambda: Upsample(2)(np.ones((1, 2, 0, 4))), ValueError, "Upsample: input: expected at least one pixel"),
        (lambda: Upsample(2)(np.ones((1, 2))), ValueError, "Upsample: input: expected shape"),
        (lambda: Resize(2, mode="cubical"), ValueError, "Resize: mode: expected 'nearest', 'linear', 'cubic'"),
        (lambda: Resize(2, coordinate_transformation_mode="x"), ValueError, "coordinate_transformation_mode: expected"),
        (lambda: Resize(2, roi=(0, 1)), ValueError, "Resize: roi: expected with 'tf_crop_and_resize', and there only"),
        (lambda: Resize(2, antialias=True), ValueError, "Resize: antialias: expected False with mode 'nearest'"),
        (lambda: ReflectionPad2d((1, 2)), ValueError, r"ReflectionPad2d: padding: expected an int or 4, got \(1, 2\)"),
        (lambda: ReflectionPad1d(-1), ValueError, "ReflectionPad1d: padding: expected at least 0, got -1"),
        (lambda: ReflectionPad1d(3)(np.ones((1, 2, 3))), ValueError, "more than the padding's 3 pixels"),
        (lambda: AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d: output_size: expected at least 1, got 0"),
        (lambda: AdaptiveAvgPool2d((1, 2, 3)), ValueError, "AdaptiveAvgPool2d: output_size: expected an int or 2"),
        (lambda: Select(1, [3])(np.ones((2, 3))), ValueError, r"Select: indices: expected less than 3, got \(3,\)"),
        (lambda: Select(2, [0])(np.ones((2, 3))), ValueError, "Select: dim: expected an axis of 2, got 2"),
    ],
)  # fmt: skip
def test_bad_arguments(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
