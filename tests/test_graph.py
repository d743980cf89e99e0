"""Functional models, and layers made of layers: shapes, names, errors, files."""

import numpy as np
import pytest

import nnpar
from nnpar import (
    Add,
    BatchNorm2d,
    Concat,
    Concatenate,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Linear,
    ReLU,
    Residual,
    Sequential,
    ops,
)
from nnpar.plan import Plan


def test_symbols_know_their_shape():
    x = Input((3, 8, 8))
    y = Conv2d(3, 4, 3)(x)
    assert y.shape == (4, 6, 6)
    assert Concatenate()(y, y).shape == (8, 6, 6)
    assert Sequential(Flatten(), Linear(144, 2))(y).shape == (2,)


def test_shapes_are_checked_when_a_layer_is_called():
    x = Input((3, 8, 8))
    with pytest.raises(ValueError, match=r"Conv2d.*expected 4 channels"):
        Conv2d(4, 4, 3)(x)
    with pytest.raises(
        ValueError, match=r"Add: expected inputs whose shapes broadcast, got \(1, 3, 8, 8\), \(1, 4, 8, 8\)"
    ):
        Add()(x, Conv2d(3, 4, 1)(x))
    with pytest.raises(ValueError, match="Concatenate: expected inputs that differ in channels at most"):
        Concatenate()(x, Conv2d(3, 4, 3)(x))
    with pytest.raises(ValueError, match="Concatenate: expected at least two inputs, got 1"):
        Concatenate()(x)
    with pytest.raises(ValueError, match="ReLU: expected one input, got 2"):
        ReLU()(x, x)
    with pytest.raises(TypeError, match="Add: expected symbols only, got ndarray"):
        Add()(x, np.ones((1, 3, 8, 8)))
    with pytest.raises(ValueError, match="ReLU: expected one input, got 2"):
        ReLU()(np.ones(2), np.ones(2))
    np.testing.assert_array_equal(Add()(np.ones(2), np.ones(2)), [2, 2])


def test_wrong_shapes_inside_name_the_layer():
    model = Sequential(Conv2d(3, 4, 3), Residual(Conv2d(4, 5, 1)))
    with pytest.raises(ValueError, match=r"layer '1.add' \(Add\): expected inputs whose shapes broadcast"):
        model(np.ones((1, 3, 5, 5)))
    model = Sequential(Concat(None, Conv2d(3, 4, 3)))
    with pytest.raises(ValueError, match=r"layer '0.concat' \(Concatenate\)"):
        model(np.ones((1, 3, 5, 5)))
    with pytest.raises(ValueError, match=r"layer '0.body.1' \(BatchNorm2d\): input: expected 7 channels, got 3"):
        Sequential(Residual(Sequential(ReLU(), BatchNorm2d(7))))(np.ones((1, 3, 5, 5)))


def test_graphs_begin_at_their_input():
    x, other = Input((3,)), Input((3,))
    y = Linear(3, 2)(x)
    with pytest.raises(ValueError, match="depends on another input"):
        Graph(x, Add()(y, Linear(3, 2)(other)))
    with pytest.raises(ValueError, match="got a layer's output"):
        Graph(y, y)
    with pytest.raises(ValueError, match="got the input itself"):
        Graph(x, x)
    with pytest.raises(TypeError, match="output: expected a symbol, got Linear"):
        Graph(x, Linear(3, 2))
    with pytest.raises(ValueError, match=r"Graph: input: expected shape \(N, 3\), got \(5, 4\)"):
        Graph(x, y)(np.ones((5, 4)))
    with pytest.raises(ValueError, match="expected 1 inputs, got 2"):
        Graph(x, y)(np.ones((5, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="Graph: input: expected each input once"):
        Graph((x, x), y)
    with pytest.raises(ValueError, match="Graph: output: expected at least one symbol"):
        Graph(x, ())


def two_inputs_two_outputs():
    x, z = Input((2, 4, 4)), Input((3, 4, 4))
    a = ReLU()(Conv2d(2, 3, 3, padding=1)(x))
    b = Add()(a, z)
    return Graph((x, z), (b, Flatten()(Concatenate()(b, a))))


def test_several_inputs_and_outputs(tmp_path):
    model = two_inputs_two_outputs()
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((5, 2, 4, 4), np.float32), rng.standard_normal((5, 3, 4, 4), np.float32)
    a = np.maximum(ops.conv2d(x, model.state()["0.weight"], model.state()["0.bias"], padding=1), 0)
    expected = a + z, np.concatenate([a + z, a], axis=1).reshape(5, -1)
    model.save(tmp_path / "model.safetensors")
    again = nnpar.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    for run in (model, again, nnpar.Predictor(model), nnpar.Predictor(model, batch_size=2)):
        for actual, wanted in zip(run(x, z), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
    model.plot(tmp_path / "model.svg")
    assert "Concatenate" in model.summary((2, 4, 4), (3, 4, 4))


def test_gradients_of_several_inputs_and_outputs():
    """They add up those of the outputs, each alone."""
    model = two_inputs_two_outputs()
    rng = np.random.default_rng(0)
    shapes = (5, 2, 4, 4), (5, 3, 4, 4)
    values = [rng.integers(-3, 3, shape).astype(np.float32) for shape in shapes]
    slopes = [rng.integers(-3, 3, shape).astype(np.float32) for shape in model.output_shapes(shapes)]

    def gradients(*dys):
        plan = Plan(model, shapes, training=True, needs_dx=True)
        for x, value in zip(plan.inputs, values, strict=True):
            x[...] = value
        plan.run_forward()
        for dy, value in zip(plan.output_gradients, dys, strict=True):
            dy[...] = value
        plan.run_backward()
        return [g.copy() for g in (*plan.input_gradients, *plan.gradients.values())]

    both = gradients(*slopes)
    first, second = gradients(slopes[0], 0 * slopes[1]), gradients(0 * slopes[0], slopes[1])
    # The second output is b and a, the first b alone: of z, whose gradient is b's.
    np.testing.assert_array_equal(both[1], slopes[0] + slopes[1].reshape(5, 6, 4, 4)[:, :3])
    for total, part, other in zip(both, first, second, strict=True):
        np.testing.assert_allclose(total, part + other, rtol=1e-5, atol=1e-4)


def test_what_several_inputs_or_outputs_do_not_allow():
    model = two_inputs_two_outputs()
    shapes = (5, 2, 4, 4), (5, 3, 4, 4)
    with pytest.raises(ValueError, match=r"Graph: input 1: expected shape \(N, 3, 4, 4\), got \(5, 2, 4, 4\)"):
        model(np.ones(shapes[0]), np.ones(shapes[0]))
    with pytest.raises(ValueError, match="loss: expected a model with one output, got 2"):
        Plan(model, shapes, training=True, loss=nnpar.MSE())
    with pytest.raises(ValueError, match="recompute: expected a model with one input and one output, got 2 and 2"):
        Plan(model, shapes, training=True, recompute=True)
    with pytest.raises(
        ValueError, match=r"layer '0' \(Graph\): expected a model with one output as part of another, got 2"
    ):
        Sequential(model)
    with pytest.raises(ValueError, match=r"Predictor: x: expected inputs of one number of samples, got \[2, 5\]"):
        nnpar.Predictor(model, batch_size=2)(np.ones(shapes[0]), np.ones((2, 3, 4, 4)))


def test_a_layer_is_in_a_model_once():
    x, layer = Input((3,)), Linear(3, 3)
    with pytest.raises(ValueError, match="Graph: layers '0' and '1' are one object"):
        Graph(x, layer(layer(x)))
    with pytest.raises(ValueError, match="Residual: layers 'shortcut' and 'body' are one object"):
        Residual(layer, layer)
    with pytest.raises(TypeError, match="Residual: expected layers, got int"):
        Residual(3)
    with pytest.raises(ValueError, match="Concat: expected at least two branches, got 1"):
        Concat(layer)


def test_what_does_not_lead_to_the_output_is_left_out():
    x = Input((3,))
    Linear(3, 7)(x)
    assert list(Graph(x, Linear(3, 2)(x)).parameters()) == ["0.weight", "0.bias"]


def test_deep_graphs_do_not_exhaust_the_stack():
    x = y = Input((2,))
    for _ in range(3000):
        y = ReLU()(y)
    np.testing.assert_array_equal(Graph(x, y)([[1.0, -1.0]]), [[1.0, 0.0]])


def models():
    x = Input((2, 4, 4))
    y = Residual(Sequential(Conv2d(2, 2, 3, padding=1), BatchNorm2d(2)))(x)
    yield Graph(x, Linear(64, 3)(Flatten()(Concatenate()(y, Add()(x, ReLU()(y)))))), (5, 2, 4, 4)
    yield Concat(None, Residual(Conv2d(2, 2, 1), Conv2d(2, 2, 1, bias=False)), ReLU()), (5, 2, 4, 4)


@pytest.mark.parametrize(("model", "shape"), [*models()])
def test_files(model, shape, tmp_path):
    rng = np.random.default_rng(0)
    for array in model.state().values():
        array += rng.random(array.shape, np.float32)
    model.save(tmp_path / "model.safetensors")
    again = nnpar.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    x = rng.standard_normal(shape)
    np.testing.assert_array_equal(again(x), model(x))


def test_statistics_are_part_of_the_state():
    model = Sequential(Conv2d(1, 2, 1), BatchNorm2d(2))
    assert list(model.parameters()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(model.state_dict())[2:] == ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    model.load_state_dict(model.state_dict() | {"1.running_mean": [3.0, 4.0]})
    np.testing.assert_array_equal(model[1].running_mean, [3.0, 4.0])
    model[1].running_var = [1.0, 2.0]
    np.testing.assert_array_equal(model.state()["1.running_var"], [1.0, 2.0])


def test_training_moves_the_statistics():
    model = Sequential(BatchNorm2d(2, momentum=0.25), Flatten(), Linear(8, 2))
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.standard_normal((6, 2, 2, 2)).astype(np.float32)
    nnpar.Trainer(model).train_step(x, [0, 1] * 3)
    np.testing.assert_allclose(model[0].running_mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(model[0].running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_a_step_with_an_infinite_loss_leaves_the_statistics():
    model = Sequential(BatchNorm2d(2), Flatten(), Linear(8, 2))
    x = np.ones((2, 2, 2, 2), np.float32)
    x[0, 0, 0, 0] = np.nan
    before = model.state_dict()
    with pytest.raises(FloatingPointError):
        nnpar.Trainer(model).train_step(x, [0, 1])
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "num_features: expected at least 1"), ((2, -1.0), "eps: expected at least 0"), ((2, 0.0, 2.0), "momentum")],
)
def test_batch_norm_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"BatchNorm2d: {message}"):
        BatchNorm2d(*arguments)


def test_batch_norm_of_one_value_cannot_be_trained():
    model = Sequential(BatchNorm2d(2), Flatten(), Linear(2, 2))
    with pytest.raises(ValueError, match=r"layer '0' \(BatchNorm2d\): training needs at least 2 values"):
        nnpar.Trainer(model).train_step(np.ones((1, 2, 1, 1)), [0])
