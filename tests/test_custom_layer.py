"""Layers written in Python: in plans, training and files; and what goes wrong in them."""

import cases
import numpy as np
import pytest

import nnpar
from nnpar import Conv2d, CustomLayer, Flatten, Graph, Input, Linear, Parameter, Sequential, Trainer
from nnpar.plan import Plan


class PerChannel(CustomLayer):
    """Each channel times a number."""

    scale = Parameter()

    def __init__(self, channels):
        super().__init__(scale=np.full(channels, 2.0))

    def compute(self, x):
        return x * self.scale[:, None, None]

    def compute_gradient(self, dy, x):
        return dy * self.scale[:, None, None]

    def compute_parameter_gradients(self, dy, x):
        return {"scale": (dy * x).sum(axis=(0, 2, 3))}

    def settings(self):
        return {"channels": len(self.scale)}


class Product(CustomLayer):
    """Of two inputs."""

    def compute(self, a, b):
        return a * b

    def compute_gradient(self, dy, a, b):
        return dy * b, dy * a


class Broken(CustomLayer):
    def __init__(self, compute=lambda x: x, gradient=lambda dy, x: dy):
        super().__init__()
        self.compute, self.compute_gradient = compute, gradient


def model():
    x = Input((2, 4, 4))
    a = PerChannel(3)(Conv2d(2, 3, 3, padding=1)(x))
    return Graph(x, Linear(48, 2)(Flatten()(Product()(a, Conv2d(2, 3, 1)(x)))))


def test_gradients_against_finite_differences():
    net = model()
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 2, 4, 4)), rng.standard_normal((3, 2))
    plan = Plan(net, x.shape, training=True, needs_dx=True)
    plan.x[...] = x
    plan.run_forward()
    plan.dy[...] = dy
    plan.run_backward()
    weights = net.state()["1.scale"]
    for place in range(3):
        value = weights[place]
        sides = []
        for step in (-1e-2, 1e-2):
            weights[place] = value + step
            sides.append(np.sum(net(x) * dy, dtype=np.float64))
        weights[place] = value
        np.testing.assert_allclose(plan.gradients["1.scale"][place], (sides[1] - sides[0]) / 2e-2, rtol=1e-3)
    direction = rng.standard_normal(x.shape)
    sides = [np.sum(net(x + step * direction) * dy, dtype=np.float64) for step in (-1e-2, 1e-2)]
    np.testing.assert_allclose(np.sum(plan.dx * direction), (sides[1] - sides[0]) / 2e-2, rtol=1e-3)


def test_it_trains_and_comes_back_from_a_file(tmp_path):
    net = model()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2, 4, 4)), rng.integers(0, 2, 20)
    trainer = Trainer(net, optimizer=nnpar.Adam(0.03))
    losses = [trainer.train_step(x, y) for _ in range(20)]
    assert losses[-1] < losses[0] / 2
    net.save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="unknown layer type 'PerChannel'"):
        nnpar.load(tmp_path / "net.safetensors")
    again = nnpar.load(tmp_path / "net.safetensors", layers=[PerChannel, Product])
    cases.assert_equal(again(x), net(x))
    with pytest.raises(TypeError, match="load: layers: expected classes of layers, got <class 'int'>"):
        nnpar.load(tmp_path / "net.safetensors", layers=[int])


def test_images_keep_their_memory_layout():
    seen = []

    def look(x):
        seen.append((x.flags.writeable, x.transpose(0, 2, 3, 1).flags.c_contiguous))
        return x

    Sequential(Conv2d(1, 2, 1), Broken(look))(np.ones((1, 1, 3, 3)))
    assert seen == [(False, True)]


def test_errors_arrive_where_the_model_was_called():
    def fail(x):
        raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError, match="no such luck"):
        Sequential(Broken(fail))(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"layer '0' \(Broken\): compute: expected shape \(2, 3\), got \(2, 1\)"):
        Sequential(Broken(lambda x: x[:, :1]))(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"layer '0' \(Broken\): compute: expected numbers"):
        Sequential(Broken(lambda x: "x"))(np.ones((2, 3)))
    with pytest.raises(ValueError, match="read-only"):
        Sequential(Broken(lambda x: np.add(x, 1, out=x)))(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (CustomLayer(), NotImplementedError, r"CustomLayer: expected a method compute\("),
        (Broken(gradient=CustomLayer().compute_gradient), NotImplementedError, "expected a method compute_gradient"),
        (Broken(gradient=lambda dy, x: dy[:1]), ValueError, r"compute_gradient: expected shape \(4, 3\), got \(1, 3\)"),
    ],
)
def test_errors_leave_the_weights(layer, error, message):
    net = Sequential(Linear(3, 3), layer)
    before = net.state_dict()
    with pytest.raises(error, match=message):
        Trainer(net).train_step(np.ones((4, 3)), [0, 1, 2, 0])
    for name, array in net.state_dict().items():
        cases.assert_equal(array, before[name])


def test_gradients_of_parameters_are_checked():
    scale = PerChannel(2)
    scale.compute_parameter_gradients = lambda dy, x: {"weight": 0}
    with pytest.raises(ValueError, match=r"compute_parameter_gradients: expected a dict of scale, got \{'weight'"):
        Trainer(Sequential(scale, Flatten(), Linear(8, 2))).train_step(np.ones((1, 2, 2, 2)), [0])
    product = Product()
    product.compute_gradient = lambda dy, a, b: dy
    x = Input((3,))
    net = Graph(x, Product()(Linear(3, 2)(x), Linear(3, 2)(x)))
    net._steps[-1][0].compute_gradient = product.compute_gradient
    with pytest.raises(ValueError, match="compute_gradient: expected a tuple of 2 arrays, got ndarray"):
        Trainer(net).train_step(np.ones((1, 3)), [0])
