"""Transformations against what they mean, pixel by pixel in NumPy."""

import numpy as np
import pytest

import nnpar
from nnpar import reference
from nnpar.data.transforms import (
    CenterCrop,
    ColorJitter,
    Normalize,
    Pipeline,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    uniform,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 3, 9, 7)).astype(np.uint8)
FLOATS = IMAGES / np.float32(255)


def test_draws_are_philox():
    draws = uniform((5 << 32) + 3, 7, np.array([2, 2**33 + 1]), 4, 6)
    counters = [[[n & 0xFFFFFFFF, 7, n >> 32, 2**31 + (4 << 8) + b] for b in range(2)] for n in (2, 2**33 + 1)]
    words = reference.philox4x32(np.array(counters, np.uint64), (3, 5)).reshape(2, 8)
    np.testing.assert_array_equal(draws, words[:, :6] * 2.0**-32)


def test_each_sample_has_numbers_of_its_own():
    together = uniform(1, 2, np.arange(1000), 0, 5)
    np.testing.assert_array_equal(uniform(1, 2, np.array([700, 3]), 0, 5), together[[700, 3]])
    assert abs(together.mean() - 0.5) < 0.02
    for other in (uniform(2, 2, np.arange(1000), 0, 5), uniform(1, 3, np.arange(1000), 0, 5),
                  uniform(1, 2, np.arange(1000), 1, 5)):  # fmt: skip
        assert abs(np.corrcoef(together.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    "images", [IMAGES, FLOATS, np.ascontiguousarray(FLOATS.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)]
)
def test_crop_and_flips(images):
    draws = [uniform(9, 4, np.arange(40), place, 2) for place in range(3)]
    result = Pipeline(RandomCrop((8, 6), padding=(2, 1)), RandomHorizontalFlip(), RandomVerticalFlip(0.3))(images, 9, 4)
    padded = np.pad(FLOATS, ((0, 0), (0, 0), (2, 2), (1, 1)))
    for i in range(40):
        top, left = int(draws[0][i, 0] * 6), int(draws[0][i, 1] * 4)
        expected = padded[i, :, top : top + 8, left : left + 6]
        expected = expected[:, :, ::-1] if draws[1][i, 0] < 0.5 else expected
        expected = expected[:, ::-1] if draws[2][i, 0] < 0.3 else expected
        np.testing.assert_allclose(result[i], expected, rtol=1e-6)


def test_resize_is_bilinear():
    for size in ((9, 7), (18, 14), (5, 11), 4):
        expected = nnpar.Upsample(size=size, mode="bilinear")(FLOATS)
        np.testing.assert_allclose(Pipeline(Resize(size))(IMAGES), expected, rtol=1e-5, atol=1e-6)


def test_center_crop():
    np.testing.assert_allclose(Pipeline(CenterCrop((5, 3)))(IMAGES), FLOATS[:, :, 2:7, 2:5], rtol=1e-6)


def test_resized_crops_are_parts_of_the_image():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), (500, 1, 48, 64)).copy()
    result = Pipeline(RandomResizedCrop((6, 8), scale=(0.2, 0.6)))(ramp)
    steps = np.diff(result[:, 0], axis=2)
    np.testing.assert_allclose(steps, steps[:, :1, :1].repeat(6, 1).repeat(7, 2), rtol=1e-3, atol=1e-3)
    widths = steps[:, 0, 0] * 8
    assert result.min() >= 0
    assert result.max() <= 63
    assert 0.1 < (widths / 64).min() < 0.5 < (widths / 64).max() <= 1.0


def test_rotation_of_quarters_and_of_none():
    square = RNG.random((30, 2, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(Pipeline(RandomRotation(0))(square), square, rtol=1e-6)
    angles = (2 * uniform(0, 0, np.arange(30), 0, 1)[:, 0] - 1) * 90
    turned = Pipeline(RandomRotation(90))(square)
    for i in range(30):
        c, s = np.cos(np.deg2rad(angles[i])), np.sin(np.deg2rad(angles[i]))
        for row, col in ((2, 3), (0, 0), (5, 1)):
            down, right = c * (row - 2.5) - s * (col - 2.5) + 2.5, s * (row - 2.5) + c * (col - 2.5) + 2.5
            inside = -0.5 <= down <= 5.5 and -0.5 <= right <= 5.5
            down, right = np.clip((down, right), 0, 5)
            i0, j0 = min(int(down), 4), min(int(right), 4)
            r, q = down - i0, right - j0
            around = square[i, :, i0 : i0 + 2, j0 : j0 + 2]
            expected = np.einsum("chw,h,w->c", around, [1 - r, r], [1 - q, q]) if inside else np.zeros(2)
            np.testing.assert_allclose(turned[i, :, row, col], expected, rtol=1e-4, atol=1e-5)


def test_normalize_and_colours():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    expected = (FLOATS - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    np.testing.assert_allclose(Pipeline(Normalize(mean, std))(IMAGES), expected, rtol=1e-4, atol=1e-5)
    draws = uniform(3, 0, np.arange(40), 0, 3)
    factors = 1 + (2 * draws - 1) * np.array([0.4, 0.3, 0.2])
    result = Pipeline(ColorJitter(0.4, 0.3, 0.2), Normalize(0.5, 0.25))(IMAGES, 3)
    bright, contrast, saturation = (factors[:, k, None, None, None] for k in range(3))
    x = (FLOATS * bright - 0.5) * contrast + 0.5
    grey = np.einsum("nchw,c->nhw", x, [0.299, 0.587, 0.114])[:, None]
    x = grey + (x - grey) * saturation
    np.testing.assert_allclose(result, (x - 0.5) / 0.25, rtol=1e-4, atol=1e-4)


def test_hue_turns_colours_about_grey():
    result = Pipeline(ColorJitter(hue=0.5))(IMAGES, 3)
    draws = uniform(3, 0, np.arange(40), 0, 4)[:, 3]
    # The part of a colour across the axis of greys, as a complex number, is turned by that angle.
    circle = np.exp(2j * np.pi * np.arange(3) / 3)
    before, after = (np.einsum("nchw,c->nhw", x, circle) for x in (FLOATS, result))
    turned = np.exp(1j * np.pi * (2 * draws - 1))[:, None, None]
    np.testing.assert_allclose(after, before * turned, atol=1e-5)
    np.testing.assert_allclose(result.sum(axis=1), FLOATS.sum(axis=1), atol=1e-5)


def test_erasing_covers_with_zeros_of_the_result():
    result = Pipeline(Normalize(0.5, 0.25), RandomErasing((3, 2), p=0.6))(IMAGES, 1, 2)
    plain = Pipeline(Normalize(0.5, 0.25))(IMAGES)
    draws = uniform(1, 2, np.arange(40), 1, 3)
    for i in range(40):
        expected = plain[i].copy()
        if draws[i, 0] < 0.6:
            top, left = int(draws[i, 1] * 9) - 1, int(draws[i, 2] * 7) - 1
            expected[:, max(0, top) : top + 3, max(0, left) : left + 2] = 0
        np.testing.assert_array_equal(result[i], expected)


def test_threads_and_batches_change_no_bit():
    pipeline = Pipeline(RandomResizedCrop(8), RandomRotation(20), ColorJitter(0.2), RandomErasing(3))
    whole = pipeline(IMAGES, 1, 2)
    for threads in (1, 3):
        with nnpar.num_threads(threads):
            np.testing.assert_array_equal(pipeline(IMAGES, 1, 2), whole)
    np.testing.assert_array_equal(pipeline(IMAGES[[9, 3]], 1, 2, [9, 3]), whole[[9, 3]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Pipeline(abs), TypeError, "Pipeline: expected transformations, got builtin"),
        (lambda: Pipeline(RandomCrop(12))(IMAGES), ValueError, r"RandomCrop: size: expected at most \(9, 7\) with pad"),
        (lambda: Pipeline(CenterCrop(8))(IMAGES), ValueError, r"CenterCrop: size: expected at most \(9, 7\)"),
        (lambda: RandomCrop(0), ValueError, "RandomCrop: size: expected at least 1"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "RandomHorizontalFlip: p: expected 0 to 1, got 1.5"),
        (lambda: RandomRotation(-1), ValueError, "RandomRotation: degrees: expected at least 0"),
        (lambda: RandomResizedCrop(4, scale=(0.5, 2)), ValueError, "RandomResizedCrop: scale: expected at most 1"),
        (lambda: RandomResizedCrop(4, ratio=(0, 2)), ValueError, "RandomResizedCrop: ratio: expected a smaller and a"),
        (lambda: ColorJitter(-0.1), ValueError, "ColorJitter: brightness: expected at least 0"),
        (lambda: ColorJitter(hue=0.6), ValueError, "ColorJitter: hue: expected at most 0.5, got 0.6"),
        (
            lambda: Pipeline(ColorJitter(0, 0, 1))(IMAGES[:, :2]),
            ValueError,
            "saturation: expected images of 3 channels",
        ),
        (lambda: Normalize(0, 0), ValueError, "Normalize: std: expected numbers above 0"),
        (lambda: Pipeline(Normalize((0, 0), 1))(IMAGES), ValueError, "Normalize: mean: expected one for each of 3"),
        (lambda: Pipeline(RandomErasing(2), CenterCrop(3))(IMAGES), ValueError, "RandomErasing after all that moves"),
        (lambda: Pipeline()(IMAGES[0]), ValueError, "Pipeline: images: expected shape"),
        (lambda: Pipeline()(IMAGES, samples=[1]), ValueError, r"Pipeline: images: expected shape \(1, C, H, W\)"),
        (lambda: Pipeline()(np.zeros((1, 1, 0, 3), np.uint8)), None, None),
    ],
)
def test_bad_arguments(call, error, message):
    if error is None:
        assert call().size == 0
        return
    with pytest.raises(error, match=message):
        call()
