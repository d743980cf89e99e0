"""Upsampling and its gradient against NumPy and ONNX Runtime."""

import math

import cases
import numpy as np
import pytest

import nnpar
from nnpar import Upsample, ops, reference

# Shape of x, scale. Channels around vectors, in whole vectors too; images of one pixel; scales that differ.
SHAPES = [
    *(((2, c, 3, 5), (2, 2)) for c in (1, 3, 8, 15, 16, 17, 33, 64, 65)),
    ((1, 1, 1, 1), (1, 1)),
    ((2, 5, 1, 1), (3, 2)),
    ((1, 4, 7, 1), (1, 4)),
    ((3, 20, 2, 3), (5, 1)),
    ((1, 2, 3, 2), (3, 3)),
]
every_shape = pytest.mark.parametrize(("shape", "scale"), SHAPES)


def arrays_of(shape, scale):
    rng = np.random.default_rng(0)
    large = (*shape[:2], scale[0] * shape[2], scale[1] * shape[3])
    return cases.integers(rng, shape), cases.integers(rng, large)


def nans_like(array):
    return cases.channels_last(np.full(array.shape, np.nan, np.float32))


@every_shape
def test_upsample2d_and_gradient(shape, scale):
    x, dy = arrays_of(shape, scale)
    y, dx = nans_like(dy), nans_like(x)
    assert ops.upsample2d(x, scale, out=y) is y
    cases.assert_equal(y, reference.upsample2d(x.astype(np.float64), scale))
    assert ops.upsample2d_grad(dy, shape, scale, out=dx) is dx
    cases.assert_equal(dx, reference.upsample2d_grad(dy.astype(np.float64), shape, scale))


@every_shape
def test_upsample2d_grad_is_as_exact_as_float32_allows(shape, scale):
    _, dy = arrays_of(shape, scale)
    dy = cases.normals(np.random.default_rng(1), dy.shape)
    expected, magnitude = (reference.upsample2d_grad(a.astype(np.float64), shape, scale) for a in (dy, abs(dy)))
    cases.assert_within(ops.upsample2d_grad(dy, shape, scale), expected, math.prod(scale), magnitude)


@every_shape
def test_upsample2d_against_onnx(shape, scale):
    """It is a transposed convolution with ones, each channel by itself; its gradient is that convolution."""
    x, dy = arrays_of(shape, scale)
    ones = np.ones((shape[1], 1, *scale), np.float32)
    (expected,) = cases.run_onnx("ConvTranspose", x, ones, strides=scale, group=shape[1])
    cases.assert_equal(ops.upsample2d(x, scale), expected)
    (expected,) = cases.run_onnx("Conv", dy, ones, strides=scale, group=shape[1])
    cases.assert_equal(ops.upsample2d_grad(dy, shape, scale), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_upsample2d_propagates(value):
    x = np.zeros((1, 5, 2, 3), np.float32)
    x[0, 3, 1, 2] = value
    y = ops.upsample2d(x, 2)
    cases.assert_equal(y, reference.upsample2d(x, 2))
    cases.assert_equal(ops.upsample2d_grad(y, x.shape, 2), 4 * x)


@pytest.mark.parametrize("channels", [32, 33])
def test_results_past_the_caches(channels):
    """Of 64 MiB or more: by whole vectors, or as usual."""
    x = cases.channels_last(cases.integers(np.random.default_rng(0), (2, channels, 256, 256)))
    cases.assert_equal(ops.upsample2d(x, 2), x.repeat(2, axis=2).repeat(2, axis=3))


def test_layer():
    layer = Upsample(scale_factor=2)
    x = cases.integers(np.random.default_rng(0), (2, 3, 4, 5))
    cases.assert_equal(layer(x), ops.upsample2d(x, 2))
    assert repr(layer) == "Upsample(scale_factor=2, mode='nearest')"
    assert Upsample(scale_factor=(2, 3)).output_shape((1, 4, 5, 6)) == (1, 4, 10, 18)


def test_layer_takes_pixels_only():
    model = nnpar.Sequential(Upsample(scale_factor=2))
    with pytest.raises(ValueError, match=r"layer '0' \(Upsample\): input: expected shape \(N, C, L\), "):
        model.output_shape((2, 3))
    with pytest.raises(ValueError, match=r"layer '0' \(Upsample\): input: expected at least one pixel"):
        model.output_shape((2, 3, 0, 4))
