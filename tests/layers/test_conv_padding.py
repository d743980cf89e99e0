"""Named and uneven paddings of convolutions, and sequences."""

import re

import numpy as np
import pytest

from nnpar import BatchNorm1d, Conv1d, Conv2d, ReLU, Sequential


@pytest.mark.parametrize(
    ("name", "kernel", "dilation", "numbers"),
    [
        ("valid", (4, 3), 1, (0, 0)),
        ("same", 3, 1, (1, 1)),
        ("same", (5, 1), 1, (2, 0)),
        ("same", (2, 3), (2, 3), (1, 3)),
        ("same", (4, 3), 1, ((1, 2), (1, 1))),
    ],
)
def test_a_name_stands_for_numbers(name, kernel, dilation, numbers):
    layer = Conv2d(2, 3, kernel, padding=name, dilation=dilation)
    assert layer.padding == layer.settings()["padding"] == numbers
    same = Conv2d(2, 3, kernel, padding=numbers, dilation=dilation)
    same.weight, same.bias = layer.weight, layer.bias
    x = np.random.default_rng(0).normal(size=(2, 2, 8, 9)).astype(np.float32)
    y = layer(x)
    np.testing.assert_array_equal(y, same(x))
    assert name == "valid" or y.shape[2:] == x.shape[2:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "full"}, "Conv2d: padding: expected numbers, 'valid' or 'same', got 'full'"),
        ({"padding": "same", "stride": 2}, "Conv2d: stride: expected 1 with padding 'same', got (2, 2)"),
        ({"padding": (1, 2, 3)}, "Conv2d: padding: expected an int or a pair (h, w), got (1, 2, 3)"),
        ({"padding": ((1, 2), (3,))}, "Conv2d: padding: expected (before, after) for each axis, got ((1, 2), (3,))"),
        ({"padding_mode": "reflect"}, "Conv2d: padding_mode: expected 'zeros' (a Pad layer does the others)"),
    ],
)
def test_what_is_not_supported_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Conv2d(2, 3, **{"kernel_size": 3, **arguments})


@pytest.mark.parametrize("padding", [((0, 2), (1, 0)), ((3, 1), (0, 0)), "same"])
def test_what_differs_before_and_after_is_a_frame_of_zeros(padding):
    layer = Conv2d(2, 3, (3, 4), padding=padding)
    (top, bottom), (left, right) = ((1, 1), (1, 2)) if padding == "same" else padding
    plain = Conv2d(2, 3, (3, 4))
    plain.weight, plain.bias = layer.weight, layer.bias
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), plain(np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))))


@pytest.mark.parametrize("padding", [0, 2, "same", ((2, 1),)])
def test_a_sequence_is_an_image_one_pixel_high(padding):
    layer = Conv1d(4, 6, 5, padding=padding, groups=2)
    of_images = (2, 2) if padding == "same" else layer.padding[0]
    image = Conv2d(
        4, 6, (1, 5), padding=((0, 0), of_images if isinstance(of_images, tuple) else (of_images,) * 2), groups=2
    )
    image.weight, image.bias = layer.weight[:, :, None], layer.bias
    x = np.random.default_rng(0).normal(size=(3, 4, 20)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), image(x[:, :, None])[:, :, 0])


def test_a_frame_and_what_follows_in_one_plan():
    """ReLU and batch normalisation still become part of the convolution, also of sequences."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 8)).astype(np.float32)
    model = Sequential(Conv1d(3, 4, 4, padding="same"), BatchNorm1d(4), ReLU())
    model[1].running_mean, model[1].running_var = rng.normal(size=4), rng.uniform(0.5, 2.0, 4)
    convolved = model[0](x)
    expected = (convolved - model[1].running_mean[:, None]) / np.sqrt(model[1].running_var[:, None] + 1e-5)
    np.testing.assert_allclose(model(x), np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
