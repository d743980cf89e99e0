"""History: what it keeps, what it hands out, how it reads."""

import json
import math

import numpy as np
import pytest

from nnpar.history import History


def test_epochs_are_counted_from_one():
    history = History()
    history.append(loss=2.0)
    history.append(loss=1.0)
    assert len(history) == 2
    assert history["epoch"] == [1, 2]
    assert history["loss"] == [2.0, 1.0]
    assert history.last == {"epoch": 2, "loss": 1.0}


def test_a_given_epoch_is_kept_and_counted_on():
    history = History([{"epoch": 7, "loss": 1.0}])
    history.append(loss=0.5)
    assert history["epoch"] == [7, 8]


def test_records_make_the_same_history_again():
    history = History([{"loss": 2.0, "lr": 0.1}, {"loss": 1.0, "accuracy": 0.5}])
    assert History(history.epochs).epochs == history.epochs


def test_what_an_epoch_lacks_is_nan():
    history = History([{"loss": 2.0}, {"loss": 1.0, "validation_loss": 1.5}])
    first, second = history["validation_loss"]
    assert math.isnan(first)
    assert second == 1.5


def test_numpy_numbers_become_pythons():
    history = History([{"loss": np.float32(0.5), "images": np.int64(60)}])
    assert json.loads(json.dumps(history.epochs)) == [{"epoch": 1, "loss": 0.5, "images": 60}]


def test_what_is_handed_out_is_a_copy():
    history = History([{"loss": 2.0}])
    history.epochs[0]["loss"] = history.last["loss"] = 0.0
    history["loss"].append(1.0)
    assert history["loss"] == [2.0]


@pytest.mark.parametrize("value", ["0.5", None, 1j, [0.5], np.zeros(2)])
def test_only_numbers_are_recorded(value):
    history = History()
    with pytest.raises(TypeError, match=r"History\.append: loss: expected a number, got"):
        history.append(accuracy=0.5, loss=value)
    assert len(history) == 0


def test_an_unknown_name_is_told_with_the_known_ones():
    history = History([{"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}])
    assert "accuracy" in history
    assert "f1" not in history
    with pytest.raises(KeyError, match="'f1' was not recorded; there is epoch, loss, accuracy"):
        history["f1"]


def test_an_empty_history():
    history = History()
    assert len(history) == 0
    assert history.epochs == []
    assert repr(history) == "History(0 epochs)"
    with pytest.raises(IndexError, match="no epoch has been recorded"):
        _ = history.last
    with pytest.raises(KeyError, match="there is nothing yet"):
        history["loss"]


def test_how_it_reads():
    assert repr(History([{"loss": 0.123456}])) == "History(1 epoch, the last: loss 0.1235)"
    assert repr(History([{}])) == "History(1 epoch)"


def test_plot_draws_and_saves(tmp_path):
    pytest.importorskip("matplotlib")
    history = History([{"loss": 2.0}, {"loss": 1.0}])
    figure = history.plot(tmp_path / "curves.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(history.plot().axes) == 1
