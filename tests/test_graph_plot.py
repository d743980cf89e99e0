"""Pictures of models: what they show, and that nothing lies upon anything else. How they look is for eyes."""

import itertools
import sys

import pytest
from test_plan import MODELS

import nnpar
from nnpar import (
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Linear,
    ReLU,
    Residual,
    Sequential,
    zoo,
)
from nnpar.plots import graph

pytest.importorskip("matplotlib")

PICTURES = {
    **{f"{name}, made up": (make, shape[1:]) for name, (make, shape) in MODELS.items()},
    "long title": (lambda: Sequential(ConvTranspose2d(512, 512, 11, stride=(2, 3), groups=512)), (512, 8, 8)),
    "lenet5": (zoo.lenet5, (1, 28, 28)),
    "vgg_small": (zoo.vgg_small, None),
    "resnet20": (zoo.resnet20, (3, 32, 32)),
    "resnet18": (zoo.resnet18, (3, 224, 224)),
    "unet": (zoo.unet, (1, 64, 64)),
}


def rectangles(figure):
    from matplotlib.patches import FancyBboxPatch

    (axes,) = figure.axes
    return [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]


def arrows(figure):
    from matplotlib.patches import FancyArrowPatch

    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


@pytest.mark.parametrize("name", PICTURES)
def test_boxes_and_words_have_their_place(name):
    make, shape = PICTURES[name]
    figure = make().plot(input_shape=shape)
    figure.draw_without_rendering()
    boxes = rectangles(figure)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    texts = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    for box in (*boxes, *texts):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for text in texts:
        assert any(box.x0 <= text.x0 and text.x1 <= box.x1 and box.y0 <= text.y0 and text.y1 <= box.y1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(texts, 2))


def test_layers_with_one_reader_share_a_box():
    model = Sequential(Conv2d(2, 4, 3, stride=2, padding=1), BatchNorm2d(4), ReLU(), Dropout(0.25), Conv2d(4, 6, 1))
    figure = model.plot(input_shape=(2, 8, 8))
    assert len(rectangles(figure)) == 3
    assert len(arrows(figure)) == 2
    assert words(figure) == [
        "Input", "2 x 8 x 8",
        "Conv2d 3x3 / 2", "0", "BatchNorm2d", "1", "ReLU", "2", "Dropout 0.25", "3", "4 x 4 x 4",
        "Conv2d 1x1", "4", "6 x 4 x 4",
    ]  # fmt: skip


def test_a_value_with_two_readers_keeps_its_box():
    figure = Sequential(Linear(3, 3), Residual(ReLU()), ReLU()).plot()
    assert words(figure) == ["Input", "Linear", "0", "ReLU", "1.body", "Add", "1.add", "ReLU", "2"]
    assert len(arrows(figure)) == 4


def test_branches_lie_side_by_side():
    model = Concat(Conv2d(2, 2, 1), Sequential(Conv2d(2, 2, 1), Conv2d(2, 2, 1)), None, Conv2d(2, 2, 3, padding=1))
    boxes = rectangles(model.plot(input_shape=(2, 4, 4)))
    assert len({round(box.x0) for box in boxes}) == 3
    assert len({round(box.y1) for box in boxes}) == 4


def test_a_long_model_has_several_columns():
    """Joined by a line without a head; where values skip from one end to the other there is one column."""
    chain = Sequential(*(Linear(2, 2) for _ in range(60)))
    figure, whole = chain.plot(), Residual(chain).plot()
    assert len({round(box.x0) for box in rectangles(figure)}) > 1
    assert len({round(box.x0) for box in rectangles(whole)}) == 1
    assert figure.get_figheight() < 0.7 * whole.get_figheight()
    assert len(rectangles(figure)) == 61


def test_long_titles_are_cut():
    model = Sequential(ConvTranspose2d(512, 512, 11, stride=(2, 3), groups=512))
    assert words(model.plot())[1:] == ["ConvTranspose2d 11x11 / 2x3, …", "0"]


def test_long_names_are_cut():
    model = Conv2d(2, 2, 3, groups=2)
    for _ in range(20):
        model = Sequential(model)
    figure = model.plot()
    assert words(figure)[1] == "Conv2d 3x3, 2 groups"
    assert words(figure)[2].startswith("…")


def test_a_graph_knows_its_input(tmp_path):
    x = nnpar.Input((3, 8, 8))
    figure = nnpar.Graph(x, ReLU()(Conv2d(3, 4, 3)(x))).plot(tmp_path / "graph.png")
    assert "4 x 6 x 6" in words(figure)
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_a_shape_that_does_not_fit():
    with pytest.raises(ValueError, match=r"layer '0' \(Conv2d\): input: expected 1 channels"):
        zoo.lenet5().plot(input_shape=(3, 28, 28))


def test_without_matplotlib_the_error_says_what_to_do(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"nnpar: pictures need matplotlib: pip install 'nnpar\[plot\]'"):
        graph.graph(zoo.lenet5())
