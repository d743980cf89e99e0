"""Many models at once: grids of runs, in processes, that go on where they stopped."""

import csv
import json

import pytest

import nnpar
from nnpar import cli, runs

RUN = {"data": {"train": "digits", "batch_size": 256}, "model": {"name": "digits_cnn"}, "train": {"epochs": 1}}
GRID = {"optimizer.lr": [1e-5, 1e-2], "optimizer.name": ["SGD", "Adam"]}


def test_a_grid_is_all_combinations_and_the_best_comes_first(tmp_path):
    results = nnpar.sweep(RUN, GRID, tmp_path, progress=False)
    assert {(r["optimizer.lr"], r["optimizer.name"]) for r in results} == {
        (lr, n) for lr in (1e-5, 1e-2) for n in ("SGD", "Adam")
    }
    losses = [r["validation_loss"] for r in results]
    assert losses == sorted(losses)
    assert (results[0]["optimizer.lr"], results[0]["optimizer.name"]) == (1e-2, "Adam")
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in rows] == losses
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


def test_processes_change_no_bit(tmp_path):
    alone = nnpar.sweep(RUN, GRID, tmp_path / "alone", progress=False)
    beside = nnpar.sweep(RUN, GRID, tmp_path / "beside", jobs=2, progress=False)
    timeless = [
        [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in results]
        for results in (alone, beside)
    ]
    assert timeless[0] == timeless[1]


def test_what_was_trained_is_not_trained_again(tmp_path):
    first = nnpar.sweep(RUN, {"optimizer.lr": [1e-3]}, tmp_path, progress=False)
    both = nnpar.sweep(RUN, {"optimizer.lr": [1e-3, 1e-2]}, tmp_path, progress=False)
    assert first[0] in both  # its seconds, too
    longer = nnpar.sweep({**RUN, "train": {"epochs": 2}}, {"optimizer.lr": [1e-3]}, tmp_path, progress=False)
    assert longer[0]["epoch"] == 2  # other settings are another run


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    settings = {**RUN, "train": {"epochs": 3}}
    whole = nnpar.sweep(settings, {"optimizer.lr": [1e-3]}, tmp_path / "whole", progress=False)
    fit = nnpar.Trainer.fit

    def interrupted(trainer, *data, **options):
        fit(trainer, *data, **{**options, "epochs": 1})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nnpar.Trainer, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nnpar.sweep(settings, {"optimizer.lr": [1e-3]}, tmp_path / "cut", progress=False)
    seen = []
    monkeypatch.setattr(nnpar.Trainer, "fit", lambda t, *d, **o: seen.append(o) or fit(t, *d, **o))
    cut = nnpar.sweep(settings, {"optimizer.lr": [1e-3]}, tmp_path / "cut", progress=False)
    assert cut[0]["validation_loss"] == whole[0]["validation_loss"]
    folder = next(path for path in (tmp_path / "cut").iterdir() if path.is_dir())
    with open(folder / "log.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_run_that_fails_leaves_the_others_alone(tmp_path, capsys):
    results = nnpar.sweep(RUN, {"optimizer.lr": [-1.0, 1e-3]}, tmp_path)
    assert [("error" in r) for r in results] == [False, True]
    assert "lr" in results[1]["error"]
    assert "ValueError" in capsys.readouterr().out
    assert any("Traceback" in path.read_text() for path in tmp_path.glob("*/error.txt"))


def test_a_choice_at_random_is_the_same_each_time(tmp_path):
    grid = {"optimizer.lr": [1e-4, 1e-3, 1e-2, 1e-1], "train.seed": [0, 1]}
    first = nnpar.sweep(RUN, grid, tmp_path / "1", samples=2, seed=3, progress=False)
    again = nnpar.sweep(RUN, grid, tmp_path / "2", samples=2, seed=3, progress=False)
    assert len(first) == 2
    assert [r["loss"] for r in first] == [r["loss"] for r in again]


@pytest.mark.parametrize(
    "grid",
    [{}, {"lr": [1]}, {"nothing.lr": [1]}, {"optimizer.lr": []}, {"optimizer.name": "Adam"}, {"train.epoch": [1]}],
)
def test_grids_that_are_none(tmp_path, grid):
    with pytest.raises(ValueError, match="grid"):
        nnpar.sweep(RUN, grid, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_from_a_shell(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text('[data]\ntrain = "digits"\n[model]\nname = "digits_cnn"\n[train]\nepochs = 1\n')
    grid = ["--grid", "optimizer.lr=1e-3,1e-2", "--grid", "optimizer.name=Adam"]
    assert cli.main(["sweep", str(file), *grid, "--folder", str(tmp_path / "s")]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert len(list((tmp_path / "s").glob("*/result.json"))) == 2
    for path in (tmp_path / "s").glob("*/result.json"):
        assert json.loads(path.read_text())["optimizer.name"] == "Adam"


def test_values_from_text():
    assert runs.values("a.b=1,2") == ("a.b", [1, 2])
    assert runs.values("a.b = SGD, Adam") == ("a.b", ["SGD", "Adam"])
    assert runs.values('a.b="x,y",[1,2]') == ("a.b", ["x,y", [1, 2]])
    for text in ("a.b", "a.b=", "=1"):
        with pytest.raises(ValueError, match="grid"):
            runs.values(text)
