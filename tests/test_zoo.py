"""Models by name: parameters and arithmetic are those of their papers, and they predict and train."""

import math

import numpy as np
import pytest

from nnpar import Conv2d, ConvTranspose2d, CrossEntropy, Linear, num_threads, zoo
from nnpar.layers.attention import Attention
from nnpar.layers.base import without_initial_values
from nnpar.layers.nodes import output_shapes
from nnpar.plan import Plan

RGB = (3, 224, 224)
# Input of one sample; parameters; multiply-adds of convolutions and dense layers, to the digits that the source has:
# (t) the table of weights in torchvision's documentation, whose GFLOPS are multiply-adds;
# (p) the paper;
# (h) by hand from the layers: these models stand in no paper, or the paper does not give a number.
COUNTS = {
    "digits_cnn": ((1, 8, 8), 151_306, "1.330432M"),  # (h)
    "mlp": ((1, 28, 28), 669_706, "0.668672M"),  # (h)
    "lenet5": ((1, 28, 28), 61_706, "0.41652M"),  # (h) the difference to (p) 60,000 stands in the docstring
    "mnist_cnn": ((1, 28, 28), 1_199_882, "11.992448M"),  # (h)
    "vgg_small": ((3, 32, 32), 1_187_274, "152.805376M"),  # (h)
    "vgg11": (RGB, 132_863_336, "7.61G"),  # (t); (p) table 2: 133 M
    "vgg13": (RGB, 133_047_848, "11.31G"),  # (t); (p) 133 M
    "vgg16": (RGB, 138_357_544, "15.47G"),  # (t); (p) 138 M
    "vgg19": (RGB, 143_667_240, "19.63G"),  # (t); (p) 144 M
    "resnet20": ((3, 32, 32), 272_474, "40.8M"),  # (p) table 6: 0.27 M
    "resnet32": ((3, 32, 32), 466_906, "69.1M"),  # (h)
    "resnet56": ((3, 32, 32), 855_770, "125.7M"),  # (h)
    "resnet18": (RGB, 11_689_512, "1.81G"),  # (t); (p) table 1: 1.8 G
    "resnet34": (RGB, 21_797_672, "3.66G"),  # (t); (p) 3.6 G
    "resnet50": (RGB, 25_557_032, "4.09G"),  # (t)
    "mobilenet_v1": (RGB, 4_231_976, "569M"),  # (p) table 8: 4.2 M, 569 M
    "mobilenet_v2": (RGB, 3_504_872, "0.30G"),  # (t); (p) table 4: 3.4 M, 300 M
    "squeezenet": (RGB, 1_235_496, "0.35G"),  # (t)
    "shufflenet_v2": (RGB, 2_278_604, "0.14G"),  # (t); (p) table 8: 2.3 M, 146 M
    "inception_v1": (RGB, 6_998_552, "1.58G"),  # (h); (p) table 1: 1.5 G operations of its rounded counts
    "unet": ((1, 256, 256), 31_030_658, "48.1G"),  # (h)
    "densenet121": (RGB, 7_978_856, "2.83G"),  # (t)
    "vit_tiny": (RGB, 5_717_416, "1.25G"),  # (h); (p) DeiT, table 1: 5 M
}
WITH_ZEROS = {  # (h); (p) table 6: 0.27 M, 0.46 M, 0.85 M
    "resnet20": (269_722, "40.55M"),
    "resnet32": (464_154, "68.86M"),
    "resnet56": (853_018, "125.49M"),
}
WITH_BATCH_NORM = {"vgg11": 132_868_840, "vgg13": 133_053_736, "vgg16": 138_365_992, "vgg19": 143_678_248}  # (t)

# Input of one sample, as small as the model takes, and the batch of a training step; 0: prediction alone.
RUNS = {
    "digits_cnn": ((1, 8, 8), 4),
    "mlp": ((1, 28, 28), 4),
    "lenet5": ((1, 28, 28), 4),
    "mnist_cnn": ((1, 28, 28), 4),
    "vgg_small": ((3, 32, 32), 2),
    "vgg11": (RGB, 0),
    "vgg13": (RGB, 0),
    "vgg16": (RGB, 0),
    "vgg19": (RGB, 0),
    "resnet20": ((3, 32, 32), 2),
    "resnet32": ((3, 32, 32), 2),
    "resnet56": ((3, 32, 32), 2),
    "resnet18": ((3, 64, 64), 2),
    "resnet34": ((3, 64, 64), 2),
    "resnet50": ((3, 64, 64), 2),
    "mobilenet_v1": ((3, 64, 64), 2),
    "densenet_small": ((3, 32, 32), 2),
    "densenet121": ((3, 64, 64), 2),
    "mobilenet_v2": ((3, 64, 64), 2),
    "squeezenet": ((3, 64, 64), 2),
    "shufflenet_v2": ((3, 64, 64), 2),
    "inception_v1": ((3, 64, 64), 2),
    "unet": ((1, 32, 32), 2),
    "unet_small": ((3, 32, 48), 2),
    "vit_tiny": (RGB, 2),
}


def empty(name, **arguments):
    """The model with zeros as weights, which take no memory before they are read."""
    with without_initial_values(2**40):
        return zoo.MODELS[name](**arguments)


def filled(name):
    """The model with random weights of He's variance, drawn faster than initialisers do."""
    model, rng = empty(name), np.random.default_rng(0)
    for key, array in model.state().items():
        if array.ndim > 1:
            rng.random(out=array, dtype=np.float32)
            array -= np.float32(0.5)
            array *= np.float32(math.sqrt(24 / math.prod(array.shape[1:])))
        elif key.endswith(("weight", "running_var")):
            array.fill(1.0)
    return model


def multiply_adds(model, shape):
    """Of convolutions, dense layers and attention, for one sample."""
    nodes = model.nodes()
    shapes = output_shapes(nodes, [(1, *shape)])
    total = 0
    for node, output in zip(nodes, shapes, strict=True):
        if isinstance(node.layer, (Conv2d, Linear)):
            total += math.prod(output) * math.prod(node.layer.weight.shape[1:])
        if isinstance(node.layer, ConvTranspose2d):  # each pixel of the input meets all weights of its channel
            pixels = math.prod(output[2:]) // math.prod(node.layer.stride)
            total += pixels * node.layer.weight.size
        if isinstance(node.layer, Attention):
            _, tokens, width = output
            total += tokens * width * (3 * width + 2 * tokens)
    return total


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiply_adds_are_those_of_the_source(name):
    assert_counts(empty(name), *COUNTS[name])


def assert_counts(model, shape, parameters, work):
    assert model.parameter_count == parameters
    unit = {"M": 1e6, "G": 1e9}[work[-1]]
    decimals = len(work[:-1].partition(".")[2])
    assert f"{multiply_adds(model, shape) / unit:.{decimals}f}{work[-1]}" == work


@pytest.mark.parametrize("name", WITH_ZEROS)
def test_resnets_with_zeros_in_place_of_projections(name):
    assert_counts(empty(name, shortcut="zeros"), (3, 32, 32), *WITH_ZEROS[name])


def test_the_first_squeezenet():
    """(t); (p) table 1: 1,248,424."""
    assert_counts(empty("squeezenet", version="1.0"), RGB, 1_248_424, "0.82G")
    with pytest.raises(ValueError, match=r"squeezenet: version: expected '1\.1' or '1\.0', got '2'"):
        zoo.squeezenet(version="2")


def test_a_shortcut_of_zeros():
    wide, *_ = (layer for layer in zoo.resnet20(shortcut="zeros") if getattr(layer, "shortcut", None) is not None)
    x = np.random.default_rng(0).standard_normal((2, 16, 5, 6), np.float32)
    expected = np.zeros((2, 32, 3, 3), np.float32)
    expected[:, :16] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(wide.shortcut(x), expected)
    with pytest.raises(ValueError, match=r"resnet20: shortcut: expected one of 'projection', 'zeros', got 'none'"):
        zoo.resnet20(shortcut="none")


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_vgg_with_batch_norm(name):
    assert empty(name, batch_norm=True).parameter_count == WITH_BATCH_NORM[name]


@pytest.mark.parametrize("name", zoo.MODELS)
def test_classes_and_channels_are_arguments(name):
    shape = RUNS[name][0]
    model = empty(name, num_classes=7, in_channels=2)
    assert model.output_shape((5, 2, *shape[1:]))[:2] == (5, 7)
    with pytest.raises(TypeError, match="expected an int, got str"):
        empty(name, num_classes="7")
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        empty(name, in_channels=0)


def test_all_models_are_tested():
    assert set(RUNS) == set(zoo.MODELS) == set(zoo.__all__) - {"MODELS"}


def trained(model, shape):
    """Loss and gradients of a step."""
    plan = Plan(model, shape, training=True, loss=CrossEntropy())
    rng = np.random.default_rng(1)
    plan.x[...] = rng.standard_normal(shape, dtype=np.float32)
    plan.target[...] = rng.integers(0, 2, plan.target.shape)
    plan.run()
    return plan.result[0], plan.gradients


@pytest.mark.parametrize("name", RUNS)
def test_it_predicts_and_trains_with_the_same_bits_at_any_number_of_threads(name):
    shape, batch = RUNS[name]
    model = filled(name)
    x = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    outputs, losses, gradients = [], [], []
    statistics = model.state_dict() if batch else {}
    for threads in (1, 2):
        with num_threads(threads):
            outputs.append(model(x).copy())
            if batch:
                loss, of_weights = trained(model, (batch, *shape))
                model.load_state_dict(statistics)
                losses.append(loss)
                gradients.append(of_weights)
    assert np.isfinite(outputs[0]).all()
    assert outputs[0].std() > 0
    np.testing.assert_array_equal(*outputs)
    if batch:
        assert 0 < losses[0] < 1e4 * batch
        assert losses[0] == losses[1]
        for key, gradient in gradients[0].items():
            assert np.isfinite(gradient).all(), key
            np.testing.assert_array_equal(gradient, gradients[1][key], err_msg=key)
