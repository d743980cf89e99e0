"""Plans of models of many shapes against the interpreter, and where their memory lies."""

import array_models
import cases
import interpreter
import numpy as np
import pytest
import token_models
from hypothesis import given, settings
from hypothesis import strategies as st

import nnpar
from nnpar import (
    Add,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Concatenate,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Upsample,
)
from nnpar.memory import Lifetime, arrange
from nnpar.plan import Plan


def conv_norm(c, oc, stride=1):
    return Conv2d(c, oc, 3, stride, padding=1, bias=False), BatchNorm2d(oc)


def basic_block(c, oc, stride):
    body = Sequential(*conv_norm(c, oc, stride), ReLU(), *conv_norm(oc, oc))
    return Residual(body, Sequential(Conv2d(c, oc, 1, stride, bias=False), BatchNorm2d(oc)) if stride > 1 else None)


def ladder():
    """A functional graph: values with two and three readers, branches that join twice, a sum of a value with itself."""
    x = Input((3, 6, 6))
    a = ReLU()(Conv2d(3, 4, 3, padding=1)(x))
    b = BatchNorm2d(4)(Conv2d(4, 4, 3, padding=1)(a))
    c = ReLU()(Add()(a, b))
    d = Concatenate()(a, c, MaxPool2d(3, 1, 1)(c))
    e = Add()(Conv2d(12, 4, 1)(d), c)
    return Graph(x, Linear(4, 3)(Flatten()(GlobalAvgPool2d()(Add()(e, e)))))


def both_sides_normalised():
    """Two batch normalisations of which either could take the sum, and a value that is read before and after it."""
    x = Input((2, 5, 5))
    a, b = (BatchNorm2d(3)(Conv2d(2, 3, 1)(x)) for _ in range(2))
    total = Add()(a, b)
    return Graph(x, Concatenate()(ReLU()(total), total))


def sums_of_sums():
    """A gradient that several branches share, to which one of them adds before the last has read it."""
    x = Input((3,))
    u, a = Linear(3, 3)(x), Linear(3, 3)(x)
    return Graph(x, Add()(Add()(u, Linear(3, 3)(a)), a))


def sum_of_a_relu():
    """The ReLU needs its output again, so that the sum may not overwrite it."""
    x = Input((3,))
    return Graph(x, Linear(3, 2)(Add()(ReLU()(Linear(3, 3)(x)), Linear(3, 3)(x))))


def block_and_branch(*relu):
    """A residual block, with or without ReLU, whose gradient another branch reads later."""
    x = Input((3, 4, 4))
    z = Conv2d(3, 3, 1)(x)
    r = ReLU()(Conv2d(3, 3, 1)(x))
    y = Add()(BatchNorm2d(3)(Conv2d(3, 3, 1, bias=False)(r)), r)
    for layer in relu:
        y = layer(y)
    return Graph(x, Add()(z, y))


def norm_read_twice():
    x = Input((3, 4, 4))
    a = Conv2d(3, 3, 1)(x)
    b = BatchNorm2d(3)(Conv2d(3, 3, 1, bias=False)(x))
    return Graph(x, Concatenate()(Add()(a, b), b))


def pooled_relu_read_twice(relu_is_shared):
    """Of a pooling behind a ReLU: the ReLU's output, or what it reads, has another reader."""
    x = Input((2, 6, 6))
    a = Conv2d(2, 3, 3, padding=1)(x)
    r = ReLU()(a)
    return Graph(x, Concatenate()(MaxPool2d(3, 1, 1)(r), r if relu_is_shared else a))


MODELS = {
    "mlp": (lambda: Sequential(Flatten(), Linear(12, 7), ReLU(), Linear(7, 5), ReLU(), Linear(5, 3)), (4, 3, 2, 2)),
    "relu of the input": (lambda: Sequential(ReLU(), Linear(6, 2), ReLU()), (3, 6)),
    "relu of the input, which is read again": (lambda: Residual(ReLU()), (3, 6)),
    "relu twice": (lambda: Sequential(Linear(6, 5), ReLU(), ReLU(), Linear(5, 2)), (3, 6)),
    "cnn": (
        lambda: Sequential(Conv2d(2, 4, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(16, 3)),
        (2, 2, 4, 4),
    ),
    "overlapping pools": (
        lambda: Sequential(
            Conv2d(2, 4, 3), ReLU(), MaxPool2d(3, 2, 1), Conv2d(4, 3, 3, padding=1), ReLU(), MaxPool2d((2, 3), (1, 2)),
        ),
        (2, 2, 13, 12),
    ),
    "pool twice": (
        lambda: Sequential(Conv2d(2, 3, 1), ReLU(), MaxPool2d(2), MaxPool2d(2), ReLU()), (2, 2, 8, 8)
    ),
    "pool of two relus": (lambda: Sequential(Conv2d(2, 3, 1), ReLU(), ReLU(), MaxPool2d(2)), (2, 2, 5, 5)),
    "pool of the input's relu": (lambda: Sequential(ReLU(), MaxPool2d(2), Conv2d(2, 3, 1)), (2, 2, 4, 4)),
    "pool of a relu read twice": (lambda: pooled_relu_read_twice(True), (2, 2, 6, 6)),
    "pool of a relu of what is read twice": (lambda: pooled_relu_read_twice(False), (2, 2, 6, 6)),
    "pool of norms": (
        lambda: Sequential(*conv_norm(3, 4), ReLU(), MaxPool2d(3, 2, 1), basic_block(4, 4, 1), ReLU(), MaxPool2d(2)),
        (2, 3, 8, 8),
    ),
    "norm": (lambda: Sequential(*conv_norm(3, 5), ReLU(), *conv_norm(5, 4), AvgPool2d(2)), (3, 3, 6, 6)),
    "residual of the input": (lambda: Residual(Sequential(*conv_norm(3, 3), ReLU(), *conv_norm(3, 3))), (2, 3, 5, 5)),
    "convolution with named paddings": (
        lambda: Sequential(
            Conv2d(3, 4, (3, 5), padding="same"),
            ReLU(),
            Conv2d(4, 2, (2, 3), padding="same", dilation=2),
            Conv2d(2, 3, 2, padding="valid"),
        ),
        (2, 3, 6, 7),
    ),
    "channels of sequences side by side": (
        lambda: Sequential(BatchNorm1d(3), Concat(None, ReLU(), BatchNorm1d(3)), ReLU()), (2, 3, 5)
    ),
    "residual without norm": (lambda: Sequential(Residual(Conv2d(3, 3, 3, padding=1)), ReLU()), (2, 3, 5, 5)),
    "residual of a relu": (lambda: Sequential(Linear(4, 4), Residual(ReLU()), Linear(4, 2)), (3, 4)),
    "resnet": (
        lambda: Sequential(
            *conv_norm(3, 4), ReLU(), basic_block(4, 4, 1), ReLU(), basic_block(4, 6, 2), ReLU(), basic_block(6, 6, 1),
            GlobalAvgPool2d(), Flatten(), Linear(6, 3),
        ),
        (3, 3, 8, 8),
    ),
    "densenet": (
        lambda: Sequential(
            Conv2d(3, 4, 3, padding=1),
            *(
                Concat(None, Sequential(BatchNorm2d(4 + 2 * i), ReLU(), Conv2d(4 + 2 * i, 2, 3, padding=1)))
                for i in range(3)
            ),
            GlobalAvgPool2d(), Flatten(), Linear(10, 3),
        ),
        (2, 3, 6, 6),
    ),
    "inception": (
        lambda: Concat(
            Sequential(Conv2d(4, 3, 1), ReLU()),
            Sequential(Conv2d(4, 2, 1), ReLU(), Conv2d(2, 5, 5, padding=2), ReLU()),
            Sequential(MaxPool2d(3, 1, 1), Conv2d(4, 2, 1)),
        ),
        (2, 4, 7, 7),
    ),
    "unet": (
        lambda: Sequential(
            *conv_norm(2, 3), ReLU(),
            Concat(None, Sequential(MaxPool2d(2), *conv_norm(3, 4), ReLU(), Upsample(scale_factor=(2, 2)), ReLU())),
            Conv2d(7, 2, 1),
        ),
        (2, 2, 6, 4),
    ),
    "upsampled input": (lambda: Sequential(Upsample(scale_factor=(2, 3)), Conv2d(2, 3, 3)), (2, 2, 3, 2)),
    "ladder": (ladder, (2, 3, 6, 6)),
    "sums of sums": (sums_of_sums, (4, 3)),
    "sum of a relu": (sum_of_a_relu, (4, 3)),
    "block and branch": (block_and_branch, (2, 3, 4, 4)),
    "block with relu and branch": (lambda: block_and_branch(ReLU()), (2, 3, 4, 4)),
    "norm read twice": (norm_read_twice, (2, 3, 4, 4)),
    "residual after relu": (lambda: Residual(Sequential(*conv_norm(3, 3), ReLU())), (2, 3, 4, 4)),
    "both sides normalised": (both_sides_normalised, (2, 2, 5, 5)),
}  # fmt: skip
MODELS |= token_models.MODELS | array_models.MODELS
every_model = pytest.mark.parametrize("name", MODELS)


def made(name):
    """The model with parameters and statistics that are not those it began with, and its input's shape."""
    nnpar.manual_seed(1)
    make, shape = MODELS[name]
    model = make()
    rng = np.random.default_rng(2)
    for array in model.state().values():
        array += 0.2 * rng.random(array.shape, np.float32)
    nnpar.manual_seed(0)
    return model, shape, rng


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5 * max(1.0, np.abs(expected).max()))


@every_model
def test_prediction(name):
    model, shape, rng = made(name)
    x = rng.standard_normal(shape).astype(np.float32)
    close(model(x), interpreter.run(model, x)[0])


@every_model
@pytest.mark.parametrize("recompute", [False, True])
def test_training(name, recompute):
    model, shape, rng = made(name)
    plan = Plan(model, shape, training=True, needs_dx=True, recompute=recompute)
    for _ in range(2):  # memory that was used before
        x = rng.standard_normal(shape).astype(np.float32)
        plan.x[...] = x
        plan.run_forward()
        y = plan.y.copy()
        dy = rng.standard_normal(y.shape).astype(np.float32)
        plan.dy[...] = dy
        plan.run_backward()
        expected_y, expected_dx, expected = interpreter.run(model, x, dy)
        close(y, expected_y)
        np.testing.assert_array_equal(plan.y, y)  # it stays during the backward pass
        close(plan.dx, expected_dx)
        assert set(plan.gradients) == set(expected) == set(model.parameters())
        for key, gradient in expected.items():
            close(plan.gradients[key], gradient)


@every_model
def test_without_the_gradient_of_the_input(name):
    model, shape, rng = made(name)
    whole, part = Plan(model, shape, training=True, needs_dx=True), Plan(model, shape, training=True)
    x = rng.standard_normal(shape).astype(np.float32)
    for plan in (whole, part):
        plan.x[...] = x
        plan.run_forward()
        plan.dy[...] = 1.0
        plan.run_backward()
    assert len(part.backward_steps) <= len(whole.backward_steps)
    for key, gradient in whole.gradients.items():
        np.testing.assert_array_equal(part.gradients[key], gradient)
    with pytest.raises(AttributeError, match="dx"):
        _ = part.dx


def test_a_relu_is_fused_only_where_its_input_has_no_other_reader():
    x = Input((4,))
    a = Linear(4, 4)(x)
    shared = Graph(x, Add()(a, ReLU()(a)))
    alone = Sequential(Linear(4, 4), ReLU())
    names = [[step.name for step in Plan(m, (2, 4), training=False).forward_steps] for m in (shared, alone)]
    assert names == [["gemm", "relu", "add"], ["gemm"]]


def test_batch_norm_takes_the_sum_and_the_relu_after_it():
    model = Sequential(*conv_norm(3, 3), ReLU(), basic_block(3, 3, 1), ReLU())
    plan = Plan(model, (2, 3, 4, 4), training=True)
    assert not {"relu", "add", "relu_grad"} & {step.name for step in plan.forward_steps}
    assert "relu_grad" not in [step.name for step in plan.backward_steps]


def test_pooling_takes_the_gradient_of_the_relu_before_it():
    """On its own output, a quarter as large; the sums of the bias are over that, too."""
    model = Sequential(Conv2d(3, 4, 3, padding=1), ReLU(), MaxPool2d(2), *conv_norm(4, 4), ReLU(), MaxPool2d(2))
    plan = Plan(model, (2, 3, 8, 8), training=True)
    steps = list(zip(plan.backward_steps, plan._calls[plan._backward_start :], strict=True))
    heights = {
        name: [call.arguments[0].shape[2] for step, call in steps if step.name == name]
        for name in ("relu_grad", "bias_grad")
    }
    assert heights == {"relu_grad": [2, 4], "bias_grad": [4]}
    (norm,) = (call for step, call in steps if step.name == "batch_norm2d_grad")
    assert norm.arguments[2] is None
    assert not norm.arguments[-1]  # as if it had no ReLU


def test_a_convolution_takes_over_the_normalisation_after_it():
    """In prediction, with the statistics of each run."""
    model = Sequential(*conv_norm(3, 3), ReLU(), basic_block(3, 4, 2), ReLU())
    plan = Plan(model, (2, 3, 8, 8), training=False)
    names = [step.name for step in plan.forward_steps]
    assert not [name for name in names if "batch_norm2d" in name]
    assert names.count("fold_batch_norm") == 4
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    for shift in (0.0, 3.0):
        model[1].running_mean = [shift] * 3
        plan.x[...] = x
        plan.run_forward()
        close(plan.y, interpreter.run(model, x)[0])


def test_a_convolution_that_is_read_twice_stays_as_it_is():
    x = Input((2, 4, 4))
    a = Conv2d(2, 2, 1)(x)
    model = Graph(x, Concatenate()(a, BatchNorm2d(2)(a)))
    values = np.random.default_rng(0).standard_normal((2, 2, 4, 4)).astype(np.float32)
    model.nodes()[1].layer.running_mean = [1.0, 2.0]
    close(model(values), interpreter.run(model, values)[0])


def test_plans_of_a_trainer_share_their_memory():
    trainer = nnpar.Trainer(nnpar.zoo.lenet5())
    x, y = np.zeros((64, 1, 28, 28), np.float32), np.zeros(64, np.int64)
    trainer.train_step(x, y)
    whole = trainer.plan
    trainer.train_step(x[:5], y[:5])
    assert trainer.plan is not whole
    assert np.shares_memory(trainer.plan._arena, whole._arena)


def test_dropout_between_convolution_and_relu():
    """In place, and not swallowed by what comes before or after."""
    model = Sequential(Conv2d(2, 3, 1), Dropout(0.5), ReLU())
    plan = Plan(model, (2, 2, 4, 4), training=True)
    assert [step.name for step in plan.forward_steps] == ["conv2d", "dropout", "relu"]


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_allocated_before_it_is_used(training):
    """A batch that no machine could hold is planned, and its memory known."""
    plan = Plan(nnpar.zoo.vgg_small(), (1 << 20, 3, 32, 32), training=training)
    assert plan.memory.arena > 1 << 35
    assert plan.memory.arena < plan.memory.apart


@pytest.mark.parametrize("training", [False, True])
def test_threads_and_precision_may_change_before_the_first_run(training):
    """Scratch memory is that of the moment when a plan is first used."""
    model, x = Sequential(*conv_norm(16, 64), ReLU()), np.ones((4, 16, 32, 32), np.float32)
    plans = []
    for threads, precision in ((1, "exact"), (8, "fast"), (1, "fast"), (8, "exact")):
        with nnpar.num_threads(threads):
            nnpar.set_precision(precision)
            plans.append(Plan(model, x.shape, training=training))
            assert plans[-1].memory.arena > 0
    try:
        for plan, threads in zip(plans, (8, 1, 8, 1), strict=True):
            nnpar.set_precision("fast")
            with nnpar.num_threads(threads):
                plan.x[...] = x
                plan.run_forward()
            np.testing.assert_array_equal(plan.y, plans[0].y)
    finally:
        nnpar.set_precision("fast")


def test_memory_is_reused():
    plan = Plan(nnpar.zoo.resnet20(), (16, 3, 32, 32), training=True)
    assert plan.memory.arena < 0.5 * plan.memory.apart
    assert plan.x.base is not None
    assert "arena" in str(plan)


lifetimes = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 20), st.integers(0, 10)).map(
        lambda t: Lifetime(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(lifetimes)
def test_nothing_alive_overlaps(parts):
    offsets, size = arrange(parts)
    for i, (a, at) in enumerate(zip(parts, offsets, strict=True)):
        assert at % 64 == 0
        assert a.nbytes == 0 or at + a.nbytes <= size
        for b, bt in list(zip(parts, offsets, strict=True))[:i]:
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                assert at + a.nbytes <= bt or bt + b.nbytes <= at
    most = max((sum(p.nbytes for p in parts if p.first <= t <= p.last) for t in range(31)), default=0)
    assert size >= most


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_bits_do_not_depend_on_threads(threads):
    def gradients(count):
        with nnpar.num_threads(count):
            model, shape, rng = made("resnet")
            plan = Plan(model, shape, training=True, needs_dx=True)
            plan.x[...] = rng.standard_normal(shape)
            plan.run_forward()
            plan.dy[...] = rng.standard_normal(plan.dy.shape)
            plan.run_backward()
            return b"".join(a.tobytes() for a in (plan.dx, *plan.gradients.values()))

    assert gradients(threads) == gradients(1)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["digits_cnn", "resnet20", "densenet_small", "unet_small"])
def test_hooks_come_when_gradients_are_final(name, recompute):
    model = nnpar.zoo.MODELS[name]()
    shape = (2, 1, 8, 8) if name == "digits_cnn" else (2, 3, 32, 32)
    gradients = {key: np.full_like(array, np.nan) for key, array in model.parameters().items()}
    seen, order = {}, []

    def hook(key):
        def called():
            order.append(key)
            seen[key] = gradients[key].copy()

        return called

    hooks = [([key], hook(key)) for key in gradients]
    plan = Plan(
        model, shape, training=True, loss=nnpar.losses.CrossEntropy(), gradients=gradients, hooks=hooks,
        recompute=recompute,
    )  # fmt: skip
    for _ in range(2):
        order.clear()
        plan.x[...] = cases.normals(np.random.default_rng(0), shape)
        plan.target[...] = 1
        plan.run()
        assert sorted(order) == sorted(gradients)
        for key, array in gradients.items():
            np.testing.assert_array_equal(seen[key], array)
    names = list(gradients)
    assert names.index(order[0]) > names.index(order[-1])
