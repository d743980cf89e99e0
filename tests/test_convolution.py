"""Which algorithm computes a convolution: the choice, and how it is forced."""

import numpy as np
import pytest

import nnpar
from nnpar import convolution, ops, shapes

PASSES = ["forward", "input_grad", "weight_grad"]


def shape(x=(2, 64, 16, 16), w=(64, 64, 3, 3), stride=1, padding=1, dilation=1, groups=1):
    return shapes.conv2d(x, w, stride, padding, dilation, groups, "test")


@pytest.fixture
def exact():
    nnpar.set_precision("exact")
    yield
    nnpar.set_precision("fast")


def step_names(s, algorithm=None):
    x, y = np.zeros(s.input_shape, np.float32), np.zeros(s.output_shape, np.float32)
    w = np.zeros(s.weight_shape, np.float32)
    steps = [
        convolution.forward(s, x, w, None, y, algorithm=algorithm),
        convolution.input_grad(s, y, w, x, algorithm),
        convolution.weight_grad(s, x, y, w, algorithm),
    ]
    return [step.name for step in steps]


FEW = {"forward": "framed", "input_grad": "indirect", "weight_grad": "framed"}


@pytest.mark.parametrize("which", PASSES)
def test_winograd_is_for_3x3_with_channels_and_pixels(which):
    assert convolution.choose(shape(), which) == "winograd"
    for other in (
        shape(w=(64, 64, 1, 1)),
        shape(w=(64, 64, 3, 5)),
        shape(stride=2),
        shape(stride=(1, 2)),
        shape(dilation=2),
        shape(w=(64, 32, 3, 3), groups=2),
        shape(x=(2, 7, 16, 16), w=(7, 7, 3, 3)),
        shape(x=(1, 64, 8, 8)),
        shape(x=(0, 64, 16, 16)),
    ):
        expected = FEW[which] if other.input_shape[1] == 7 else "indirect"
        assert convolution.choose(other, which) == expected, other


@pytest.mark.parametrize("which", PASSES)
def test_winograd_is_for_5x5_with_fewer_channels(which):
    assert convolution.choose(shape(x=(2, 8, 16, 16), w=(8, 8, 5, 5), padding=2), which) == "winograd"
    assert convolution.choose(shape(x=(2, 8, 16, 16), w=(8, 8, 3, 3)), which) == FEW[which]
    assert convolution.choose(shape(x=(2, 4, 16, 16), w=(16, 4, 5, 5), padding=2), "forward") == "framed"
    assert convolution.choose(shape(w=(64, 64, 5, 5), stride=2), which) == "indirect"


def test_more_padding_than_the_kernel_has_an_input_gradient_without_winograd():
    assert convolution.choose(shape(padding=3), "forward") == "winograd"
    assert convolution.choose(shape(padding=3), "input_grad") == "indirect"
    assert convolution.choose(shape(w=(64, 64, 5, 5), padding=4), "input_grad") == "winograd"
    assert convolution.choose(shape(w=(64, 64, 5, 5), padding=5), "input_grad") == "indirect"


def test_planar_is_for_the_input_gradient_towards_few_channels():
    stem = shape(x=(2, 3, 32, 32), w=(64, 3, 7, 7), stride=2, padding=3)
    for few in (stem, shape(x=(2, 3, 32, 32), w=(64, 3, 3, 3)), shape(x=(1, 4, 14, 14), w=(16, 4, 5, 5))):
        assert convolution.choose(few, "input_grad") == "planar"
        assert "planar" not in [convolution.choose(few, which) for which in ("forward", "weight_grad")]
    for other in (
        shape(x=(2, 7, 32, 32), w=(64, 7, 5, 5), stride=2),
        shape(x=(2, 3, 32, 32), w=(64, 3, 1, 1), padding=0),
        shape(x=(2, 4, 32, 32), w=(64, 2, 5, 5), groups=2),
        shape(x=(0, 3, 32, 32), w=(64, 3, 5, 5)),
    ):
        assert convolution.choose(other, "input_grad") == "indirect", other
    assert convolution.choose(shape(x=(2, 7, 32, 32), w=(64, 7, 5, 5)), "input_grad") == "winograd"
    assert convolution.choose(shape(x=(2, 4, 32, 32), w=(64, 4, 3, 3)), "input_grad") == "winograd"


def test_scatter_is_for_full_vectors_of_kernel_columns_and_channels():
    for full in (
        shape(x=(1, 6, 14, 14), w=(16, 6, 5, 5), padding=0),
        shape(x=(2, 3, 32, 32), w=(64, 3, 5, 5)),
        shape(x=(2, 2, 32, 32), w=(64, 2, 7, 7)),
    ):
        assert convolution.choose(full, "input_grad") == "scatter"
        assert not any(convolution.fits("scatter", full, which) for which in ("forward", "weight_grad"))
    assert convolution.choose(shape(x=(2, 6, 32, 32), w=(64, 6, 5, 5), stride=2), "input_grad") == "planar"


def test_framed_is_for_few_channels():
    for x, w, stride, chosen in [
        ((1, 1, 28, 28), (6, 1, 5, 5), 1, ["framed", "framed"]),
        ((64, 3, 32, 32), (16, 3, 3, 3), 1, ["framed", "framed"]),
        ((64, 3, 32, 32), (16, 3, 1, 1), 1, ["indirect", "indirect"]),
        ((64, 9, 32, 32), (16, 9, 3, 3), 2, ["indirect", "framed"]),
        ((64, 16, 32, 32), (16, 16, 5, 5), 2, ["framed", "framed"]),
        ((64, 17, 32, 32), (64, 17, 5, 5), 2, ["indirect", "indirect"]),
        ((0, 3, 32, 32), (64, 3, 3, 3), 1, ["indirect", "indirect"]),
    ]:
        s = shape(x, w, stride)
        assert [convolution.choose(s, which) for which in ("forward", "weight_grad")] == chosen
        assert convolution.choose(s, "input_grad") != "framed"
    for other in (shape(dilation=(1, 2)), shape(w=(64, 32, 3, 3), groups=2)):
        assert not any(convolution.fits("framed", other, which) for which in PASSES)
    assert not convolution.fits("framed", shape(), "input_grad")


def test_gemm_is_for_the_weight_gradient_of_many_channels():
    many = shape(x=(2, 256, 14, 14), w=(512, 256, 1, 1), padding=0)
    assert [convolution.choose(many, which) for which in PASSES] == ["indirect", "indirect", "gemm"]
    for other in (
        shape(x=(2, 64, 14, 14), w=(512, 64, 1, 1), padding=0),
        shape(x=(2, 256, 14, 14), w=(512, 256, 1, 1), padding=1),
        shape(x=(2, 256, 14, 14), w=(512, 256, 1, 1), stride=2, padding=0),
        shape(x=(2, 512, 14, 14), w=(512, 256, 1, 1), padding=0, groups=2),
    ):
        assert convolution.choose(other, "weight_grad") == "indirect"


def test_the_choice_does_not_depend_on_the_number_of_threads():
    for threads in (1, 2, 7):
        with nnpar.num_threads(threads):
            assert [convolution.choose(shape(), which) for which in PASSES] == ["winograd"] * 3


def test_exact_precision_keeps_winograd_out(exact):
    assert nnpar.get_precision() == "exact"
    assert not any("winograd" in name for name in step_names(shape()))


def test_exact_precision_wins_over_the_environment(exact, monkeypatch):
    monkeypatch.setenv("NNPAR_CONV", "winograd")
    assert not any("winograd" in name for name in step_names(shape()))


def test_the_argument_wins(exact, monkeypatch):
    monkeypatch.setenv("NNPAR_CONV", "indirect")
    assert all("winograd" in name for name in step_names(shape(), "winograd"))


def test_the_environment_forces_where_it_fits(monkeypatch):
    few = shape(x=(1, 1, 5, 5), w=(1, 1, 3, 3))
    monkeypatch.setenv("NNPAR_CONV", "winograd")
    assert all("winograd" in name for name in step_names(few))
    assert not any("winograd" in name for name in step_names(shape(stride=2)))
    monkeypatch.setenv("NNPAR_CONV", "indirect")
    assert not any("winograd" in name for name in step_names(shape()))
    monkeypatch.setenv("NNPAR_CONV", "")
    assert all("winograd" in name for name in step_names(shape()))


def test_an_unknown_algorithm(monkeypatch):
    x, w = np.zeros((1, 1, 5, 5)), np.zeros((1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"algorithm: expected one of .*, got 'fft'"):
        ops.conv2d(x, w, algorithm="fft")
    with pytest.raises(ValueError, match=r"algorithm: 'winograd' cannot compute the forward pass .* stride \(2, 2\)"):
        ops.conv2d(x, w, stride=2, algorithm="winograd")
    monkeypatch.setenv("NNPAR_CONV", "fft")
    with pytest.raises(ValueError, match=r"NNPAR_CONV: expected one of .*, got 'fft'"):
        ops.conv2d(x, w)


def test_an_unknown_precision():
    with pytest.raises(ValueError, match="set_precision: expected 'fast' or 'exact', got 'double'"):
        nnpar.set_precision("double")
    assert nnpar.get_precision() == "fast"
