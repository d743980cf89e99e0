"""Runs described by TOML files, from Python and from the shell."""

import json
import subprocess
import sys

import numpy as np
import pytest

import nnpar
from nnpar import runs

RUN = """
[data]
train = "digits"
batch_size = 128
augment = [{ name = "RandomCrop", size = 8, padding = 1 }]
prepare = [{ name = "Normalize", mean = 0.3, std = 0.4 }]

[model]
name = "digits_cnn"

[loss]
name = "CrossEntropy"
label_smoothing = 0.1

[optimizer]
name = "SGD"
lr = 0.1
momentum = 0.9

[schedule]
name = "LinearWarmup"
epochs = 1
then = { name = "CosineAnnealingLR", T_max = 3 }

[train]
epochs = 3
seed = 4
average = 0.9
metrics = ["f1"]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(RUN)
    return file


def test_a_file_is_what_python_would_say(path, tmp_path):
    run = runs.build(runs.read(path))
    run.trainer.fit(run.train, run.validation, progress=False, **run.fit)
    train, test = nnpar.data.digits()
    nnpar.manual_seed(4)
    normalize = nnpar.data.transforms.Normalize(0.3, 0.4)
    crop = nnpar.data.transforms.RandomCrop(8, padding=1)
    trainer = nnpar.Trainer(
        nnpar.zoo.digits_cnn(),
        nnpar.losses.CrossEntropy(label_smoothing=0.1),
        nnpar.SGD(0.1, 0.9),
        schedule=nnpar.schedules.LinearWarmup(1, nnpar.schedules.CosineAnnealingLR(3)),
        average=0.9,
        metrics=["f1"],
    )
    loader = nnpar.data.Loader(train, 128, transform=nnpar.data.transforms.Pipeline(crop, normalize))
    trainer.fit(loader, nnpar.data.Loader(test, 128, False, normalize), epochs=3, progress=False)
    for name, array in trainer.model.state().items():
        np.testing.assert_array_equal(run.trainer.model.state()[name], array)
    assert run.trainer.history["validation_f1"] == trainer.history["validation_f1"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "nnpar", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_from_the_shell_and_on_where_it_was(path, tmp_path):
    folder = tmp_path / "run"
    place = f"train.folder={folder}"
    first = command("train", path, "--set", place, "--set", "train.epochs=2", "--quiet")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["epoch"] == 2
    second = command("train", path, "--set", place, "--set", 'schedule.then.name="CosineAnnealingLR"', "--quiet")
    assert second.returncode == 1
    third = command("train", path, "--set", place, "--resume", "--quiet")
    assert third.returncode == 0, third.stderr
    whole = command("train", path, "--quiet")
    record, expected = json.loads(third.stdout), json.loads(whole.stdout)
    assert record["epoch"] == 3
    for name in ("loss", "validation_loss", "validation_f1"):
        assert record[name] == expected[name]
    assert len((folder / "log.csv").read_text().splitlines()) == 4
    assert command("evaluate", folder / "best.safetensors").returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.lr=-1", "SGD: lr: expected at least 0"),
        ("optimizer.name=Adem", "optimizer.name: expected one of LAMB, .*, got 'Adem'"),
        ("optimizer.beta=1", "optimizer: SGD: .*unexpected keyword argument 'beta'"),
        ("model.name=resnet21", "model.name: expected one of densenet121, .*, got 'resnet21'"),
        ("model.file=x.safetensors", "model: expected either name or file"),
        ("loss.name=l3", "loss: expected one of cross_entropy"),
        ("schedule.name=StepL", "schedule.name: expected one of CosineAnnealingLR"),
        ("data.train=mnist", "data: expected one of digits, mnist:PLACE, .*, got 'mnist'"),
        ("data.validation=folder:x", "data.validation: 'digits' has one of its own"),
        ("data.colour=1", "data.colour: expected one of train, validation"),
        ("data.augment=[{name='Crop'}]", "data.augment.name: expected one of CenterCrop"),
        ("data.mix=[{name='Mixdown'}]", "data.mix.name: expected one of Mixup, CutMix, got 'Mixdown'"),
        ("trian.epochs=1", r"\[trian\]: expected one of data, model"),
        ("epochs=1", "--set: expected section.key=value, got 'epochs=1'"),
        ("train.metrics=['f2']", "Trainer: metrics: expected one of accuracy"),
    ],
)
def test_what_is_wrong_is_named(path, change, message):
    with pytest.raises(ValueError, match=message):
        runs.build(runs.read(path, [change]))


def test_what_is_no_toml(tmp_path):
    (tmp_path / "a.toml").write_text("[data\n")
    with pytest.raises(ValueError, match=r"a\.toml: "):
        runs.read(tmp_path / "a.toml")
    result = command("train", "--resume")
    assert result.returncode == 1
    assert "expected the TOML file of a run with --set and --resume" in result.stderr
    assert command("train", tmp_path / "b.toml").returncode == 1


def test_the_seed_of_the_caller_stays(path):
    nnpar.manual_seed(7)
    runs.build(runs.read(path))
    assert nnpar.get_seed() == 7
    nnpar.manual_seed(0)
