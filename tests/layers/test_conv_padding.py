"""Conv2d's named paddings."""

import re

import numpy as np
import pytest

from nnpar import Conv2d


@pytest.mark.parametrize(
    ("name", "kernel", "dilation", "numbers"),
    [
        ("valid", (4, 3), 1, (0, 0)),
        ("same", 3, 1, (1, 1)),
        ("same", (5, 1), 1, (2, 0)),
        ("same", (2, 3), (2, 3), (1, 3)),
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
        ({"padding": "same", "kernel_size": (3, 2)}, "got kernel_size (3, 2) and dilation (1, 1)"),
        ({"padding_mode": "reflect"}, "Conv2d: padding_mode: expected 'zeros' (a Pad layer does the others)"),
    ],
)
def test_what_is_not_supported_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Conv2d(2, 3, **{"kernel_size": 3, **arguments})
