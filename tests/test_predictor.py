"""Models made ready for prediction, and steps that read weights packed once."""

import threading

import interpreter
import numpy as np
import pytest
from cases import CONV2D_CASES, GEMM_CASES, assert_within, channels_last, name_of, normals, small
from test_plan import MODELS

import nnpar
from nnpar import Conv2d, Linear, Predictor, Sequential, arrays, convolution, shapes, zoo
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.step import Program, aligned_empty
from nnpar.plan import PackedWeights, Plan


def with_statistics(model):
    """The model, with running statistics as if it had been trained."""
    rng = np.random.default_rng(7)
    for node in model.nodes():
        for name, array in node.layer._statistics.items():
            array[...] = (
                rng.uniform(0.1, 0.5, array.shape) if name == "running_var" else 0.1 * rng.normal(size=array.shape)
            )
    return model


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_the_interpreter(name):
    nnpar.manual_seed(3)
    make, shape = MODELS[name]
    model = with_statistics(make())
    predict = Predictor(model)
    for samples in (shape[0], 1, shape[0]):
        x = normals(np.random.default_rng(samples), (samples, *shape[1:]))
        expected, _, _ = interpreter.run(model, x)
        np.testing.assert_allclose(predict(x), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(predict(x), predict(x))


@pytest.mark.parametrize("name", ["digits_cnn", "vgg_small", "resnet20"])
def test_the_same_bits_at_any_number_of_threads(name):
    model = with_statistics(zoo.MODELS[name]())
    for samples in (1, 5):
        x = normals(np.random.default_rng(0), (samples, *((1, 8, 8) if name == "digits_cnn" else (3, 32, 32))))
        predictions = []
        for threads in (1, 2, 3, 4, 8):
            with nnpar.num_threads(threads):
                predictions.append(Predictor(model)(x))
        assert len(np.unique(predictions[0])) == predictions[0].size
        for prediction in predictions[1:]:
            np.testing.assert_array_equal(prediction, predictions[0])


def test_a_predictor_keeps_to_the_model_as_it_was():
    model = with_statistics(zoo.resnet20())
    x = normals(np.random.default_rng(0), (2, 3, 32, 32))
    expected = [Predictor(model)(images) for images in (x, x[:1])]
    predict = Predictor(model)
    predict(x)
    for array in model.state().values():
        array[...] = 0.5
    np.testing.assert_array_equal(predict(x), expected[0])
    np.testing.assert_array_equal(predict(x[:1]), expected[1])


def test_many_python_threads_may_predict_at_once():
    model = with_statistics(zoo.digits_cnn())
    images = normals(np.random.default_rng(0), (20, 1, 8, 8))
    expected = {n: Predictor(model)(images[:n]) for n in range(1, 21)}
    predict = Predictor(model)
    wrong: list[int] = []
    start = threading.Barrier(6)

    def work(seed: int) -> None:
        start.wait()
        for n in np.random.default_rng(seed).integers(1, 21, 25):
            if not np.array_equal(predict(images[:n]), expected[n]):
                wrong.append(n)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_more_samples_than_a_batch():
    model = zoo.digits_cnn()
    images = normals(np.random.default_rng(0), (11, 1, 8, 8))
    predict = Predictor(model, batch_size=4)
    np.testing.assert_allclose(predict(images), model(images), rtol=1e-5, atol=1e-6)
    assert predict(images[:0]).shape == (0, 10)
    image_to_image = Predictor(Conv2d(1, 2, 3, padding=1), batch_size=4)
    assert image_to_image(images).shape == (11, 2, 8, 8)


def test_batch_normalisation_happens_once():
    weights = PackedWeights()
    plan = Plan(zoo.resnet20(), (2, 3, 32, 32), training=False, weights=weights)
    names = {step.name for step in plan.forward_steps}
    assert not any("norm" in name or "deviation" in name for name in names)
    assert weights.nbytes > 0


def test_plans_of_other_shapes_share_packed_weights():
    model = with_statistics(Sequential(Conv2d(16, 32, 3, padding=1), Conv2d(32, 8, 1)))
    weights = PackedWeights()
    sizes = set()
    for samples in (2, 3, 9):
        Plan(model, (samples, 16, 20, 20), training=False, weights=weights).allocate()
        sizes.add(weights.nbytes)
    assert len(sizes) == 1


def test_shapes_that_vary_do_not_fill_the_memory():
    predict = Predictor(Sequential(Linear(3, 2)), batch_size=500)
    for samples in range(1, 100):
        predict(np.zeros((samples, 3)))
    assert len(predict._idle) == 1
    assert len(predict._idle[0]) <= 64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Predictor("model"), TypeError, "Predictor: model: expected a layer, got str"),
        (lambda: Predictor(zoo.mlp(), batch_size=0), ValueError, "Predictor: batch_size"),
        (lambda: Predictor(zoo.lenet5())(np.zeros((1, 3, 28, 28))), ValueError, r"layer '0' \(Conv2d\)"),
        (lambda: Predictor(zoo.lenet5())(np.zeros(())), ValueError, "Predictor: x: expected 1 to 32 axes"),
        (lambda: Predictor(zoo.lenet5())([["a"]]), TypeError, "Predictor: x"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_after_an_error_a_predictor_goes_on():
    model = zoo.lenet5()
    predict = Predictor(model)
    with pytest.raises(ValueError, match="Conv2d"):
        predict(np.zeros((1, 3, 28, 28)))
    x = normals(np.random.default_rng(0), (2, 1, 28, 28))
    np.testing.assert_allclose(predict(x), model(x), rtol=1e-5, atol=1e-6)


def assert_reads_only_packed(make, w, y, check):
    """Steps made to have their weights packed compute the same, also when the weights are gone."""
    step = make(w)
    memory = aligned_empty(step.prepacked_bytes)
    kept = w.copy()
    step.prepack(memory)
    w[...] = np.nan
    y[...] = np.nan
    step()
    check(y)
    w[...] = kept
    second = make(w)
    second.prepack(memory, fill=False)
    y[...] = np.nan
    Program([second]).run()
    check(y)


@pytest.mark.parametrize("algorithm", ["indirect", "depthwise", "framed", "winograd"])
@pytest.mark.parametrize("case", [c for c in small(CONV2D_CASES, 2e6) if 0 not in c.y_shape], ids=name_of)
def test_convolutions_read_packed_weights(case, algorithm):
    s = shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
    if not convolution.fits(algorithm, s, "forward"):
        return
    rng = np.random.default_rng(0)
    x, w, bias = channels_last(normals(rng, case.x_shape)), normals(rng, case.w_shape), normals(rng, (case.oc,))
    y = arrays.empty(case.y_shape)
    convolution.forward(s, x, w, bias, y, True, algorithm)()
    expected = y.copy()
    assert_reads_only_packed(
        lambda w: convolution.forward(s, x, w, bias, y, True, algorithm, prepacked=True), w, y,
        lambda y: np.testing.assert_array_equal(y, expected),
    )  # fmt: skip


@pytest.mark.parametrize("case", [c for c in small(GEMM_CASES, 2e6) if min(c.m, c.n, c.k) > 0], ids=name_of)
def test_products_read_packed_weights(case):
    a, b = case.arrays(0, normals)
    weight = np.ascontiguousarray(b.T)
    bias, y = normals(np.random.default_rng(1), (case.n,)), np.empty((case.m, case.n), np.float32)
    exact = np.maximum(a.astype(np.float64) @ b + bias, 0.0)
    sizes = np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias)
    assert_reads_only_packed(
        lambda w: gemm_step(a, w.T, y, bias, True, prepacked=True), weight, y,
        lambda y: assert_within(y, exact, case.k + 1, sizes),
    )  # fmt: skip
