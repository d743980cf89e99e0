"""Losses with their options and weights of samples: against plain formulae in float64, their finite differences, and
onnxruntime; and what training with them does."""

import cases
import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.special

import nnpar
from nnpar import Linear, Sequential, Trainer, losses

RNG = np.random.default_rng(0)


def cross_entropy(x, t, s, weight=None, ignore_index=None, label_smoothing=0.0):
    """Weighted sum of the losses, and weight, of each row."""
    classes = x.shape[1]
    w = np.ones(classes) if weight is None else np.asarray(weight, float)
    log_p = scipy.special.log_softmax(np.moveaxis(x, 1, -1).reshape(-1, classes), axis=1)
    if t.dtype.kind == "f":
        t = np.moveaxis(t, 1, -1).reshape(-1, classes).astype(float)
        smoothed = (1 - label_smoothing) * t + label_smoothing / classes
        s = np.repeat(s, len(t) // len(s))
        return s * -(w * smoothed * log_p).sum(axis=1), s
    t, s = t.ravel(), np.repeat(s, t.size // len(s))
    counted = t != (np.inf if ignore_index is None else ignore_index)
    safe = np.where(counted, t, 0)
    rows = np.arange(len(safe))
    loss = (1 - label_smoothing) * w[safe] * -log_p[rows, safe] + label_smoothing / classes * -(log_p @ w)
    return s * counted * loss, s * counted * w[safe]


def elementwise(formula, total=np.mean):
    def of_samples(x, t, s, **options):
        losses = formula(x, t, **options).reshape(len(x), -1)
        return s * total(losses, axis=1), s

    return of_samples


def logistic(x, t, pos_weight=1.0):
    w = np.asarray(pos_weight, float)
    w = w.reshape(-1, *[1] * (x.ndim - 2)) if w.size > 1 else w
    return (1 - t) * np.logaddexp(0, x) + w * t * np.logaddexp(0, -x)


def huber(x, t, delta=1.0):
    return np.where(abs(x - t) <= delta, (x - t) ** 2 / 2, delta * (abs(x - t) - delta / 2))


FORMULAE = {
    losses.CrossEntropy: cross_entropy,
    losses.MSE: elementwise(lambda x, t: (x - t) ** 2),
    losses.L1: elementwise(lambda x, t: abs(x - t)),
    losses.Huber: elementwise(huber),
    losses.BCEWithLogits: elementwise(logistic),
    losses.KLDiv: elementwise(lambda x, t: scipy.special.xlogy(t, t) - t * x, np.sum),
}
CASES = [
    (losses.CrossEntropy, {}),
    (losses.CrossEntropy, {"weight": [0.5, 2.0, 0.125, 1.0, 3.0]}),
    (losses.CrossEntropy, {"ignore_index": -100}),
    (losses.CrossEntropy, {"label_smoothing": 0.2}),
    (losses.CrossEntropy, {"weight": [0.5, 2.0, 0.25, 1.0, 3.0], "ignore_index": 2, "label_smoothing": 0.1}),
    (losses.CrossEntropy, {"probabilities": True}),
    (losses.CrossEntropy, {"probabilities": True, "weight": [0.5, 2.0, 0.25, 1.0, 3.0], "label_smoothing": 0.1}),
    (losses.MSE, {}),
    (losses.L1, {}),
    (losses.Huber, {}),
    (losses.Huber, {"delta": 0.3}),
    (losses.BCEWithLogits, {}),
    (losses.BCEWithLogits, {"pos_weight": 2.5}),
    (losses.BCEWithLogits, {"pos_weight": [0.5, 2.0, 0.0, 1.0, 3.0]}),
    (losses.KLDiv, {}),
]
SHAPES = [(1, 5), (7, 5), (40, 5), (3, 5, 4, 7), (2, 5, 33, 17)]


def example(cls, options, shape):
    """Output and target."""
    x = cases.normals(RNG, shape) * 3
    if "probabilities" in options:
        t = scipy.special.softmax(3 * cases.normals(RNG, shape), axis=1)
        t[RNG.random(shape) < 0.2] = 0
        return x, t.astype(np.float32)
    if cls is losses.CrossEntropy:
        t = RNG.integers(0, 5, (shape[0], *shape[2:]))
        if "ignore_index" in options:
            t.flat[::3] = options["ignore_index"]
            t.flat[-1] = 1
        return x, t
    if cls is losses.KLDiv:
        t = scipy.special.softmax(cases.normals(RNG, shape), axis=1)
        t[RNG.random(shape) < 0.2] = 0
        return scipy.special.log_softmax(x, axis=1).astype(np.float32), t.astype(np.float32)
    return x, RNG.random(shape, np.float32) if cls is losses.BCEWithLogits else cases.normals(RNG, shape)


def in_memory(array):
    return cases.channels_last(array) if array.ndim == 4 and array.dtype == np.float32 else array


def run(loss, x, t, weights, with_gradient=True):
    target = in_memory(loss.check_target(t, x.shape, "test"))
    grad = in_memory(np.full(x.shape, np.nan, np.float32)) if with_gradient else None
    result = np.full(4, np.nan)
    loss.step(in_memory(x), target, grad, result, weights)()
    return result, grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("cls", "options"), CASES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_their_gradients(cls, options, shape, weighted):
    x, t = example(cls, options, shape)
    options = {name: value for name, value in options.items() if name != "probabilities"}
    weights = RNG.random(shape[0], np.float32) + np.float32(0.1) if weighted else None
    s = np.ones(shape[0]) if weights is None else weights.astype(np.float64)

    def mean(x):
        of_rows, weight = FORMULAE[cls](x, t, s, **options)
        return of_rows.sum() / weight.sum()

    results = []
    for threads in (1, 2, 3):
        with nnpar.num_threads(threads):
            results.append(run(cls(**options), x, t, weights))
    result, grad = results[0]
    assert all(np.array_equal(result, other) and np.array_equal(grad, slope) for other, slope in results[1:])
    exact = mean(x.astype(np.float64))
    assert result[0] / result[2] == pytest.approx(exact, rel=2e-6)
    np.testing.assert_array_equal(run(cls(**options), x, t, weights, with_gradient=False)[0], result)
    largest = max(abs(grad).max(), 1e-9)
    for index in zip(*(RNG.integers(0, size, 20) for size in shape), strict=True):
        wide = x.astype(np.float64)
        step = 1e-6
        wide[index] += step
        upper = mean(wide)
        wide[index] -= 2 * step
        slope = (upper - mean(wide)) / (2 * step)
        if cls in (losses.L1, losses.Huber) and abs(x[index] - t[index]) < 2 * step:
            continue
        assert abs(grad[index] - slope) <= 2e-5 * largest + 1e-8


@pytest.mark.parametrize("options", [{}, {"weight": [0.5, 2.0, 0.25, 1.0, 3.0]}, {"ignore_index": 2}], ids=str)
@pytest.mark.parametrize("shape", [(9, 5), (2, 5, 3, 4)], ids=str)
def test_cross_entropy_against_onnxruntime(shape, options):
    x, t = example(losses.CrossEntropy, options, shape)
    inputs = {"x": x, "t": t}
    if "weight" in options:
        inputs["w"] = np.array(options["weight"], np.float32)
    attributes = {"ignore_index": options["ignore_index"]} if "ignore_index" in options else {}
    node = onnx.helper.make_node("SoftmaxCrossEntropyLoss", list(inputs), ["y"], reduction="mean", **attributes)
    values = [onnx.helper.make_tensor_value_info(k, 7 if k == "t" else 1, v.shape) for k, v in inputs.items()]
    graph = onnx.helper.make_graph([node], "g", values, [onnx.helper.make_tensor_value_info("y", 1, ())])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result, _ = run(losses.CrossEntropy(**options), x, t, None)
    assert result[0] / result[2] == pytest.approx(float(session.run(None, inputs)[0]), rel=1e-5)


def test_what_counts_as_correct():
    x = np.array([[2, 1, 0], [0, 1, 2], [0, 2, 1], [1, 0, 0]], np.float32)
    result, grad = run(losses.CrossEntropy(ignore_index=-1), x, np.array([0, 1, -1, 0]), None)
    assert result[1:].tolist() == [2, 3, 3]
    np.testing.assert_array_equal(grad[2], 0)
    result, _ = run(losses.BCEWithLogits(), x, (x > 1).astype(np.float32), None)
    assert result[1] == pytest.approx(4 - 4 / 3)
    result, grad = run(losses.CrossEntropy(ignore_index=0), x, np.zeros(4, int), None)
    assert result.tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17, 33, 1000])
def test_probabilities_of_any_number_of_classes(classes):
    """One of them 1 is a class number; sums in double see what is left of a class that has nearly all."""
    x = cases.normals(RNG, (40, classes)) * 5
    labels = RNG.integers(0, classes, 40)
    x[0, labels[0]] += 20
    hard, slope = run(losses.CrossEntropy(), x, labels, None)
    soft, grad = run(losses.CrossEntropy(), x, np.eye(classes, dtype=np.float32)[labels], None)
    np.testing.assert_allclose(soft, hard, rtol=1e-6)
    np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-9)


def test_extreme_logits():
    x = np.array([[200.0, -200.0], [-200.0, 200.0]], np.float32)
    result, grad = run(losses.BCEWithLogits(), x, np.array([[1, 0], [1, 0]], np.float32), None)
    assert result[0] == 200
    np.testing.assert_array_equal(grad, [[0, 0], [-0.25, 0.25]])
    result, grad = run(losses.CrossEntropy(), np.array([[-np.inf, 0.0, 1.0]], np.float32), np.eye(3)[1:2], None)
    assert result[0] == pytest.approx(np.logaddexp(0, 1))
    assert grad[0, 0] == 0
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        result, _ = run(losses.CrossEntropy(), np.array([bad], np.float32), np.array([[0.5, 0.5]]), None)
        assert not np.isfinite(result[0])


def test_a_weight_is_worth_as_many_samples():
    """One sample of weight 3 trains as three do; evaluation does not depend on the batch."""
    x, y = RNG.standard_normal((8, 4), np.float32), RNG.integers(0, 3, 8)
    weights = np.array([3, 1, 1, 2, 1, 0, 1, 1])
    outcomes = []
    for images, labels, of_samples in [(x, y, weights), (x.repeat(weights, axis=0), y.repeat(weights), None)]:
        nnpar.manual_seed(0)
        trainer = Trainer(Sequential(Linear(4, 3)))
        steps = [trainer.train_step(images, labels, of_samples) for _ in range(5)]
        data = (images, labels) if of_samples is None else (images, labels, of_samples)
        outcomes.append([*steps, *(trainer.evaluate(data, batch_size=size)["loss"] for size in (1, 3, 100))])
    np.testing.assert_allclose(*outcomes, rtol=1e-5)
    np.testing.assert_allclose(outcomes[0][-3:], outcomes[0][-1], rtol=1e-6)
    history = Trainer(Sequential(Linear(4, 3))).fit((x, y, weights), epochs=2, batch_size=3, progress=False)
    assert len(history["loss"]) == 2


@pytest.mark.parametrize("name", [*losses.NAMES, "custom"])
def test_every_loss_trains(name):
    class Absolute(nnpar.CustomLoss):
        def compute(self, output, target):
            return abs(output - target).mean(axis=1)

        def compute_gradient(self, output, target):
            return np.sign(output - target) / output.shape[1]

    x = RNG.standard_normal((32, 4), np.float32)
    y = {"cross_entropy": RNG.integers(0, 3, 32), "kl_div": scipy.special.softmax(x[:, :3], axis=1)}.get(
        name, x[:, :3] > 0
    )
    y = y if name == "cross_entropy" else np.asarray(y, np.float32)
    nnpar.manual_seed(0)
    end = [nnpar.LogSoftmax(dim=1)] if name == "kl_div" else []
    trainer = Trainer(Sequential(Linear(4, 3), *end), loss=Absolute() if name == "custom" else name)
    trainer.optimizer.lr = 0.05
    steps = [trainer.train_step(x, y) for _ in range(40)]
    assert steps[-1] < 0.95 * steps[0]


def test_a_loss_of_ones_own_with_weights():
    class Squares(nnpar.CustomLoss):
        def compute(self, output, target):
            return ((output - target) ** 2).mean(axis=1)

        def compute_gradient(self, output, target):
            return 2 * (output - target) / output.shape[1]

    x, t, s = cases.normals(RNG, (6, 3)), cases.normals(RNG, (6, 3)), RNG.random(6, np.float32)
    ours, grad = run(Squares(), x, t, s)
    other, expected = run(losses.MSE(), x, t, s)
    np.testing.assert_allclose(ours, other, rtol=1e-6)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.CrossEntropy(weight=[1, -1]), "CrossEntropy: weight: expected numbers of at least 0"),
        (lambda: losses.CrossEntropy(weight=[0, 0]), "CrossEntropy: weight: expected numbers of at least 0"),
        (lambda: losses.CrossEntropy(weight=[1, np.nan]), "CrossEntropy: weight: expected numbers of at least 0"),
        (lambda: losses.CrossEntropy(label_smoothing=1.5), "label_smoothing: expected a number from 0 to 1, got 1.5"),
        (lambda: losses.Huber(delta=0), "Huber: delta: expected a number above 0, got 0.0"),
        (lambda: losses.BCEWithLogits(pos_weight=-1), "BCEWithLogits: pos_weight: expected numbers of at least 0"),
        (lambda: losses.get("hinge"), "loss: expected one of cross_entropy, bce_with_logits, mse, l1, huber, kl_div"),
        (
            lambda: run(losses.CrossEntropy(weight=[1, 1]), np.zeros((2, 3)), [0, 1], None),
            "expected 3, one per",
        ),
        (lambda: run(losses.CrossEntropy(ignore_index=-1), np.zeros((2, 3)), [0, -2], None), "0 to 2, or -1, got -2"),
        (lambda: run(losses.CrossEntropy(), np.zeros((1, 2)), [[-0.5, 1.5]], None), "numbers from 0 to inf, got -0.5"),
        (lambda: run(losses.CrossEntropy(), np.zeros((1, 2)), [[np.nan, 1]], None), "numbers from 0 to inf, got nan"),
        (
            lambda: run(losses.CrossEntropy(ignore_index=0), np.zeros((1, 2)), [[0.5, 0.5]], None),
            "ignore_index: expected class numbers as targets, got probabilities",
        ),
        (lambda: run(losses.BCEWithLogits(), np.zeros((1, 2)), [[0, 1.5]], None), "from 0 to 1, got 0 to 1.5"),
        (lambda: run(losses.BCEWithLogits([1, 2]), np.zeros((1, 3)), [[0, 1, 1]], None), "one per class of an output"),
        (lambda: run(losses.KLDiv(), np.zeros((1, 2)), [[-1, 1]], None), "target: expected numbers from 0 to inf"),
    ],
)
def test_arguments_and_targets_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sample_weights_that_do_not_fit():
    trainer = Trainer(Linear(2, 3))
    for weights, message in [([1.0], r"shape \(2,\), got \(1,\)"), ([1, -1], "at least 0"), ([0, 0], "one above")]:
        with pytest.raises(ValueError, match=f"train_step: sample_weight: expected.*{message}"):
            trainer.train_step(np.zeros((2, 2)), [0, 1], weights)
        with pytest.raises(ValueError, match="fit: train"):
            trainer.fit((np.zeros((2, 2)), [0, 1], weights), progress=False)
