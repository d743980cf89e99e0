"""Pictures: what they show. How they look is for eyes."""

import itertools
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from nnpar import Conv2d, Linear, Sequential, data, plots, zoo
from nnpar.history import History

pytest.importorskip("matplotlib")

EPOCHS = [
    {"loss": 2.0, "accuracy": 0.25, "validation_loss": 2.5, "validation_accuracy": 0.125},
    {"loss": 1.0, "accuracy": 0.5, "validation_loss": 1.5, "validation_accuracy": 0.375},
    {"loss": 0.5, "accuracy": 0.75, "validation_loss": 1.25, "validation_accuracy": 0.5},
]


def draw(figure):
    """Lay the figure out as saving it does; warnings are errors."""
    figure.draw_without_rendering()
    return figure


def lines(axes):
    return {line.get_label().split()[0]: line.get_ydata().tolist() for line in axes.get_lines()}


def images_axes(figure):
    return [axes for axes in figure.axes if axes.get_images()]


def scores(classes, confidence, count):
    """Probabilities (N, count) of the classes guessed and how sure each guess is."""
    confidence = np.asarray(confidence)[:, None]
    return np.where(np.arange(count) == np.asarray(classes)[:, None], confidence, (1 - confidence) / (count - 1))


def test_learning_curves_show_loss_and_accuracy_in_percent():
    loss, accuracy = draw(plots.learning_curves(History(EPOCHS))).axes
    assert lines(loss) == {"training": [2.0, 1.0, 0.5], "validation": [2.5, 1.5, 1.25]}
    assert lines(accuracy) == {"training": [25.0, 50.0, 75.0], "validation": [12.5, 37.5, 50.0]}
    assert loss.get_lines()[0].get_xdata().tolist() == [1, 2, 3]
    assert (loss.get_ylabel(), accuracy.get_ylabel(), loss.get_xlabel()) == ("loss", "accuracy (%)", "epoch")
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["training 75.0%", "validation 50.0%"]


def test_learning_curves_with_a_single_epoch():
    loss, _ = draw(plots.learning_curves(History(EPOCHS[:1]))).axes
    assert lines(loss) == {"training": [2.0], "validation": [2.5]}
    assert loss.get_xticks().tolist() == [1]
    assert loss.get_lines()[0].get_marker() == "o"


def test_learning_curves_without_validation_or_accuracy():
    (loss,) = draw(plots.learning_curves(History([{"loss": 2.0}, {"loss": 1.0}]))).axes
    assert lines(loss) == {"training": [2.0, 1.0]}


def test_learning_curves_with_validation_now_and_then():
    history = History([{"loss": 2.0}, {"loss": 1.0, "validation_loss": 1.5}, {"loss": float("nan")}])
    (loss,) = draw(plots.learning_curves(history)).axes
    np.testing.assert_array_equal(lines(loss)["validation"], [np.nan, 1.5, np.nan])


def test_learning_curves_of_nothing():
    with pytest.raises(ValueError, match=r"expected epochs with a loss or an accuracy, got History\(0 epochs\)"):
        plots.learning_curves(History())


def test_predictions_put_mistakes_first():
    truth, guess, sure = [0, 1, 2, 0, 1, 2], [0, 2, 2, 1, 1, 2], [0.9, 0.6, 0.8, 0.7, 0.5, 0.99]
    images = np.zeros((6, 1, 4, 4)) + np.arange(6).reshape(6, 1, 1, 1) / 5
    figure = draw(plots.predictions(images, truth, scores(guess, sure, 3), ("cat", "dog", "elk")))
    cells = images_axes(figure)
    assert [cell.get_title() for cell in cells] == [
        "✗ dog  70%",
        "✗ elk  60%",
        "dog  50%",
        "elk  80%",
        "cat  90%",
        "elk  99%",
    ]
    assert [cell.get_xlabel() for cell in cells] == ["true: cat", "true: dog", "", "", "", ""]
    assert [float(cell.get_images()[0].get_array().mean()) for cell in cells] == [0.6, 0.2, 0.8, 0.4, 0.0, 1.0]
    widths = [cell.spines["left"].get_linewidth() for cell in cells]
    assert min(widths[:2]) > max(widths[2:])
    assert figure.get_suptitle() == "2 of 6 predictions wrong"


def test_predictions_of_digits():
    _, test = data.digits()
    probabilities = scores(np.where(np.arange(len(test)) % 50, test.labels, 9 - test.labels), [0.8] * len(test), 10)
    figure = draw(plots.predictions(test.images, test.labels, probabilities, test.class_names, columns=5, rows=2))
    assert len(images_axes(figure)) == 10
    assert figure.get_suptitle() == "8 of 359 predictions wrong"


def test_predictions_in_colour_of_any_range_and_shape():
    images = np.random.default_rng(0).normal(size=(3, 3, 6, 12)).astype(np.float32)
    images[0, 0, 0, 0] = np.nan
    figure = draw(plots.predictions(images, [0, 1, 1], scores([0, 1, 0], [0.9, 0.8, 0.7], 2)))
    shown = [cell.get_images()[0].get_array() for cell in images_axes(figure)]
    assert [array.shape for array in shown] == [(6, 12, 3)] * 3
    assert min(array.min() for array in shown) == 0.0
    assert max(array.max() for array in shown) == 1.0
    assert images_axes(figure)[0].get_title() == "✗ 0  70%"


def test_predictions_name_classes_literally_and_shortly():
    names = ("$x_1", "Australian terrier")
    cells = images_axes(draw(plots.predictions(np.zeros((2, 1, 2, 2)), [0, 1], np.eye(2), names)))
    assert [cell.get_title() for cell in cells] == ["$x_1  100%", "Australia…  100%"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 2, 4, 4))}, r"images: expected shape \(N, 1 or 3, H, W\), got \(2, 2, 4, 4\)"),
        ({"images": np.zeros((0, 1, 4, 4)), "labels": []}, "images: expected"),
        ({"labels": [0, 1, 2]}, r"labels: expected shape \(2,\), got \(3,\)"),
        ({"labels": [0, 2]}, "labels: expected integers 0 to 1"),
        ({"labels": [0.5, 1.0]}, "labels: expected integers 0 to 1"),
        ({"probabilities": np.zeros((3, 2))}, r"probabilities: expected shape \(2, K\), got \(3, 2\)"),
        ({"class_names": ("a",)}, "class_names: expected 2 or none, got 1"),
        ({"columns": 0}, "columns, rows: expected at least 1, got 0, 4"),
    ],
)
def test_predictions_refuse_what_does_not_fit(change, message):
    arguments = {"images": np.zeros((2, 1, 4, 4)), "labels": [0, 1], "probabilities": np.eye(2)}
    with pytest.raises(ValueError, match=message):
        plots.predictions(**(arguments | change))


def test_training_report_holds_both():
    _, test = data.digits()
    report = plots.training_report(
        History(EPOCHS),
        test.images,
        test.labels,
        scores(test.labels, [0.9] * len(test), 10),
        test.class_names,
        "a $title",
    )
    assert draw(report).get_suptitle() == "a $title"
    assert [axes.get_title(loc="left") for axes in report.axes[:2]] == ["Loss", "Accuracy"]
    assert len(images_axes(report)) == 30
    assert report.subfigs[1].get_suptitle() == "0 of 359 predictions wrong"


def scaling_rows(names, counts):
    return [
        SimpleNamespace(name=name, threads=count, speedup=count**power, efficiency=count**power / count)
        for name, power in zip(names, np.linspace(1.0, 0.5, len(names)), strict=True)
        for count in counts
    ]


def test_thread_scaling_shows_each_operation_and_the_ideal():
    figure = draw(plots.thread_scaling(scaling_rows(["gemm", "relu"], [1, 2, 4, 6])))
    speedup, efficiency = figure.axes
    assert lines(speedup)["ideal"] == [1, 2, 4, 6]
    assert lines(speedup)["gemm"] == [1, 2, 4, 6]
    assert lines(speedup)["relu"] == pytest.approx([1, 2**0.5, 2, 6**0.5])
    assert lines(efficiency)["relu"] == pytest.approx([100, 50 * 2**0.5, 50, 100 / 6**0.5])
    assert [label.get_text() for label in speedup.get_xticklabels()] == ["1", "2", "4", "6"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ideal", "gemm", "relu"]


def test_thread_scaling_with_one_thread_and_many_operations():
    names = [f"operation {i}" for i in range(20)]
    figure = draw(plots.thread_scaling(scaling_rows(names, [1])))
    drawn = [line for line in figure.axes[0].get_lines() if line.get_label() != "ideal"]
    assert [line.get_label() for line in drawn] == names
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}
    assert len(styles) == 18  # six colours with three strokes; then they come again


def test_thread_scaling_of_nothing():
    with pytest.raises(ValueError, match="rows: expected at least one"):
        plots.thread_scaling([])


def test_roofline_bends_where_bandwidth_meets_peak():
    (axes,) = draw(plots.roofline([("gemm", 100.0, 150.0), ("relu", 0.125, 1.0)], 200.0, 10.0)).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("FLOPs per byte", "GFLOP/s")
    roof, *points = axes.get_lines()
    x, y = roof.get_data()
    assert y == pytest.approx(np.minimum(x * 10.0, 200.0))
    assert x[1] == 20.0
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [(100.0, 150.0), (0.125, 1.0)]
    assert {"200 GFLOP/s", "10 GB/s"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("count", [1, 12, 20])
def test_roofline_labels_do_not_overlap(count):
    from matplotlib.text import Text

    points = [(f"convolution {i}", 150.0 + i, 190.0 - i / 2) for i in range(count)]
    (axes,) = draw(plots.roofline(points, 200.0, 10.0)).axes
    names = [text for text in axes.texts if text.get_text().startswith("convolution")]
    assert [text.get_text() for text in names] == [name for name, _, _ in points]
    boxes = [Text.get_window_extent(text) for text in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    height = [box.y0 for box in boxes]
    assert height == sorted(height, reverse=True)
    assert axes.figure.bbox.y0 <= min(height)
    assert max(box.y1 for box in boxes) <= axes.figure.bbox.y1
    assert max(box.x1 for box in boxes) <= axes.figure.bbox.x1


@pytest.mark.parametrize(
    ("points", "peak", "message"),
    [([], 1.0, "at least one"), ([("a", 0.0, 1.0)], 1.0, "positive"), ([("a", 1.0, 1.0)], float("nan"), "positive")],
)
def test_roofline_refuses_what_has_no_logarithm(points, peak, message):
    with pytest.raises(ValueError, match=message):
        plots.roofline(points, peak, 10.0)


def test_benchmark_report_holds_both():
    rows = scaling_rows(["gemm", "relu"], [1, 2])
    figure = draw(plots.benchmark_report(rows, [("gemm", 100.0, 150.0)], 200.0, 10.0, "a machine"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Speed-up", "Efficiency", "Roofline"]
    assert figure.get_suptitle() == "a machine"


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_save_writes_the_format_of_the_suffix(tmp_path, suffix, start):
    path = tmp_path / f"curves.{suffix}"
    plots.save(plots.learning_curves(History(EPOCHS)), path)
    assert path.read_bytes().startswith(start)


def test_save_says_what_is_wrong(tmp_path):
    figure = plots.learning_curves(History(EPOCHS))
    with pytest.raises(ValueError, match="not supported"):
        plots.save(figure, tmp_path / "curves.doc")
    with pytest.raises(FileNotFoundError):
        plots.save(figure, tmp_path / "missing" / "curves.png")


def test_notebooks_show_a_figure_and_processes_exchange_it():
    figure = pickle.loads(pickle.dumps(plots.learning_curves(History(EPOCHS))))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_pyplot_stays_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # its import would fail
    draw(plots.roofline([("gemm", 100.0, 150.0)], 200.0, 10.0))


def test_without_matplotlib_the_error_says_what_to_do(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"nnpar: pictures need matplotlib: pip install 'nnpar\[plot\]'"):
        History(EPOCHS).plot()


def test_filters_show_the_weights():
    model = zoo.digits_cnn()
    first, second = (model.parameters()[name] for name in ("0.weight", "2.weight"))
    cells = images_axes(draw(plots.filters(model)))
    assert len(cells) == 32
    np.testing.assert_array_equal(cells[5].get_images()[0].get_array(), first[5, 0])
    figure = draw(plots.filters(model, "2.weight"))
    assert figure.get_suptitle() == "2.weight: 12 of 64 filters, 12 of 32 input channels"
    cells = images_axes(figure)
    np.testing.assert_array_equal(cells[14].get_images()[0].get_array(), second[1, 2])
    low, high = cells[14].get_images()[0].get_clim()
    assert high == -low == pytest.approx(abs(second).max())


def test_filters_in_colour():
    model = Conv2d(3, 5, 3)
    cells = images_axes(draw(plots.filters(model)))
    weight = model.weight[2]
    expected = (weight - weight.min()) / (weight.max() - weight.min())
    np.testing.assert_allclose(cells[2].get_images()[0].get_array(), expected.transpose(1, 2, 0), atol=1e-6)
    with pytest.raises(ValueError, match="filters: name: expected one of a convolution, got None"):
        plots.filters(Linear(2, 2))
    with pytest.raises(ValueError, match="filters: name: expected one of weight, got 'bias'"):
        plots.filters(model, "bias")


def test_activations_are_what_layers_compute():
    model, image = zoo.resnet20(), np.random.default_rng(0).random((3, 32, 32), np.float32)
    figure = draw(plots.activations(model, image, ["0", "2"]))
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        "0 Conv2d  16x32x32",
        "2 ReLU  16x32x32",
    ]
    cells = images_axes(figure)
    np.testing.assert_allclose(cells[0].get_images()[0].get_array(), image.transpose(1, 2, 0), atol=1e-6)
    features = Sequential(*[model[k] for k in range(3)])(image[np.newaxis])
    np.testing.assert_allclose(cells[-1].get_images()[0].get_array(), features[0, 7], rtol=1e-5, atol=1e-6)
    assert len(draw(plots.activations(model, image)).axes) == 6 * 9


@pytest.mark.parametrize(
    ("model", "image", "names", "message"),
    [
        (zoo.digits_cnn(), np.zeros((8, 8)), (), r"activations: image: expected 3 axes, got shape \(8, 8\)"),
        (zoo.digits_cnn(), np.zeros((3, 8, 8)), (), "expected"),
        (zoo.digits_cnn(), np.zeros((1, 8, 8)), ("77",), "names: expected layers of the model, got 77"),
        (zoo.mlp(), np.zeros((1, 28, 28)), (), "expected layers with outputs of shape"),
    ],
)
def test_activations_refuse_what_does_not_fit(model, image, names, message):
    with pytest.raises(ValueError, match=message):
        plots.activations(model, image, names)


def test_class_scores_have_the_worst_first():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    guess = np.array([0, 0, 1, 2, 1, 1, 2, 2])
    figure = draw(plots.class_scores(labels, np.eye(3)[guess], ("a", "$b", "c")))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a (4)", "$b (2)", "c (2)"]
    precision, recall = axes.get_lines()
    np.testing.assert_allclose(precision.get_xdata(), [100, 200 / 3, 200 / 3])
    np.testing.assert_allclose(recall.get_xdata(), [50, 100, 100])
    assert axes.get_title(loc="left") == "Classes, the worst first: mean F1 75.6%"
    with pytest.raises(ValueError, match="class_scores: class_names: expected 3 or none, got 1"):
        plots.class_scores(labels, np.eye(3)[guess], ("a",))
