"""The command line, as a shell sees it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import nnpar
from nnpar.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = nnpar.get_num_threads()
    yield tmp_path
    nnpar.set_num_threads(threads)
    nnpar.manual_seed(0)


@pytest.fixture
def model(folder, capsys):
    assert main(["train", "--epochs", "2", "--save", "model.safetensors"]) == 0
    capsys.readouterr()
    return folder / "model.safetensors"


def test_train_ends_with_accuracy_model_and_picture(folder, capsys):
    pytest.importorskip("matplotlib")
    assert main(["train", "--epochs", "3", "--threads", "2", "--seed", "1"]) == 0
    output = capsys.readouterr().out
    assert "test accuracy 9" in output
    assert "saved digits.safetensors" in output
    assert (folder / "digits.png").read_bytes()[:4] == b"\x89PNG"
    assert nnpar.load("digits.safetensors").parameter_count == 151_306


def test_train_repeats_bit_for_bit(folder):
    assert main(["train", "--epochs", "1", "--threads", "1", "--save", "a.safetensors"]) == 0
    assert main(["train", "--epochs", "1", "--threads", "3", "--save", "b.safetensors"]) == 0
    assert main(["train", "--epochs", "1", "--seed", "9", "--save", "c.safetensors"]) == 0
    first, second, third = ((folder / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == second != third
    assert main(["train", "--epochs", "1", "--model", "mlp"]) == 1, "mlp takes 28x28 images"


def test_train_on_mnist_files(folder, capsys, small_mnist):
    arguments = ["train", "--data", f"mnist:{small_mnist}", "--model", "lenet5", "--epochs", "1", "--batch-size", "8"]
    assert main(arguments) == 0
    assert "64 training images" in capsys.readouterr().out
    assert main(["evaluate", "mnist.safetensors", "--data", f"mnist:{small_mnist}"]) == 0
    assert "on 16 images" in capsys.readouterr().out


@pytest.fixture
def small_mnist(tmp_path):
    """Four IDX files of MNIST's form: 64 and 16 images."""
    folder = tmp_path / "small mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 64), ("t10k", 16)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        header = b"\0\0\x08\x03" + np.array([count, 28, 28], ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = b"\0\0\x08\x01" + np.array([count], ">i4").tobytes() + bytes(i % 10 for i in range(count))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    return folder


def test_evaluate(model, capsys):
    assert main(["evaluate", str(model)]) == 0
    assert "on 359 images" in capsys.readouterr().out


def test_predict_writes_csv(model, capsys):
    assert main(["predict", str(model)]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 359
    right = sum(row["class"] == row["label"] for row in rows)
    assert right > 250
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_predict_reads_npy_but_no_pickles(model, capsys):
    np.save("images.npy", np.zeros((3, 1, 8, 8), np.uint8))
    assert main(["predict", str(model), "images.npy"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "image,class,probability"
    np.save("objects.npy", np.array([print], object), allow_pickle=True)
    assert main(["predict", str(model), "objects.npy"]) == 1
    assert "Python objects" in capsys.readouterr().err
    np.save("vector.npy", np.zeros(3))
    assert main(["predict", str(model), "vector.npy"]) == 1
    assert "expected images (N, C, H, W), got an array of shape (3,)" in capsys.readouterr().err


@pytest.fixture
def photos(folder):
    """Twelve 8x8 images of the digits as files, two of them deeper, and their classes."""
    image = pytest.importorskip("PIL.Image")
    _, test = nnpar.data.digits()
    (folder / "photos" / "more").mkdir(parents=True)
    for number, pixels in enumerate(test.images[:12]):
        place = folder / "photos" / ("more" if number >= 10 else "") / f"{number:02}.png"
        image.fromarray(np.round(pixels[0] * 255).astype(np.uint8)).save(place)
    (folder / "photos" / "notes.txt").write_text("no image")
    return folder / "photos"


def test_predict_reads_image_files_and_folders(model, photos, capsys):
    assert main(["predict", str(model), str(photos), "--channels", "1"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["image"][-6:] for row in rows] == [f"{number:02}.png" for number in range(12)]
    _, test = nnpar.data.digits()
    pixels = np.round(test.images[:12] * 255).astype(np.float32) / 255
    logits = nnpar.Predictor(nnpar.load(model))(pixels)
    assert [int(row["class"]) for row in rows] == logits.argmax(axis=1).tolist()
    assert main(["predict", str(model), str(photos / "03.png"), str(photos / "more"), "--channels", "1"]) == 0
    assert [row["image"][-6:] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == [
        "03.png",
        "10.png",
        "11.png",
    ]


def test_predict_writes_json(model, photos, capsys):
    assert main(["predict", str(model), str(photos), "--channels", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 12
    for row in rows:
        assert row["class"] == int(np.argmax(row["probabilities"]))
        assert sum(row["probabilities"]) == pytest.approx(1)


def test_a_runs_file_evaluates_and_predicts_with_its_best_model(folder, photos, capsys):
    text = """
    [data]
    train = "digits"
    channels = 1
    prepare = [{ name = "Normalize", mean = 0.3, std = 0.4 }]
    [model]
    name = "digits_cnn"
    [train]
    epochs = 2
    folder = "kept"
    """
    (folder / "run.toml").write_text(text)
    assert main(["evaluate", "run.toml"]) == 1
    assert "best.safetensors" in capsys.readouterr().err
    assert main(["train", "run.toml", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "run.toml"]) == 0
    assert f"accuracy {record['validation_accuracy']:.2%}, on 359 images" in capsys.readouterr().out
    assert main(["predict", "run.toml", str(photos), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    _, test = nnpar.data.digits()
    pixels = (np.round(test.images[:12] * 255).astype(np.float32) / 255 - 0.3) / 0.4
    logits = nnpar.Predictor(nnpar.load("kept/best.safetensors"))(pixels)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["photos/notes.txt"], "notes.txt: not a whole image"),
        (["photos", "--size", "big"], "--size: expected whole numbers"),
        (["photos", "--channels", "2"], "channels: expected 1 or 3"),
        (["photos"], "expected"),  # three channels, where the model takes one
    ],
)
def test_predict_names_what_is_wrong(model, photos, capsys, arguments, told):
    assert main(["predict", str(model), *arguments]) == 1
    assert told in capsys.readouterr().err


def test_info_names_what_matters(folder, capsys):
    assert main(["info", "--threads", "3"]) == 0
    output = capsys.readouterr().out
    assert nnpar.__version__ in output
    assert "instruction set" in output
    assert "threads          3 (set_num_threads)" in output


def test_bench_is_one_call(folder, capsys, monkeypatch):
    from nnpar import benchmark

    called = {}

    class Result:
        different_bits = ()

        def table(self):
            return "the table"

    monkeypatch.setattr(benchmark, "run", lambda **options: called.update(options) or Result())
    assert main(["bench", "--threads", "2", "--json", "numbers.json"]) == 0
    assert capsys.readouterr().out == "the table\n"
    assert called["threads"] == 2
    assert str(called["json"]) == "numbers.json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "cifar"], "expected digits or mnist:FOLDER, got 'cifar'"),
        (["train", "--data", "mnist:nowhere"], "missing: train-images-idx3-ubyte"),
        (["train", "--epochs", "0"], "epochs: expected at least 1, got 0"),
        (["train", "--lr", "nan"], "lr: expected a finite number"),
        (["train", "--threads", "0"], "expected 1 to 1024 threads, got 0"),
        (["train", "--seed", "-1"], "seed: expected at least 0, got -1"),
        (["train", "--save", "nowhere/model.safetensors"], "no such folder: nowhere"),
        (["evaluate", "none.safetensors"], "none.safetensors: no such file"),
        (["evaluate", __file__], "not a whole safetensors file"),
    ],
)
def test_errors_are_one_line_and_status_1(folder, capsys, arguments, message):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("nnpar: error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--model", "none"], ["train", "--epochs", "x"]])
def test_wrong_usage_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: nnpar" in capsys.readouterr().err


def test_ctrl_c_saves_what_was_trained(folder):
    # Where the tests run in the background, a shell has them ignore Ctrl-C, and so would what they start.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import nnpar.__main__"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", "--epochs", "100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 30
    assert "the weights so far are in digits.safetensors" in output
    assert nnpar.load("digits.safetensors").parameter_count == 151_306


def test_a_closed_pipe_is_no_traceback(model):
    command = f"{sys.executable} -m nnpar predict {model} | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ)
    assert result.stdout == "image,class,probability,label\n"
    assert "Traceback" not in result.stderr


def test_export_writes_onnx(model, folder, capsys):
    import onnxruntime

    assert main(["export", "model.safetensors"]) == 0
    assert capsys.readouterr().out == "saved model.onnx\n"
    images = nnpar.data.digits()[1].images[:5]
    (scores,) = onnxruntime.InferenceSession("model.onnx").run(None, {"input": images})
    np.testing.assert_allclose(scores, nnpar.load(model)(images), rtol=1e-4, atol=1e-5)
    assert main(["export", "model.safetensors", "other.onnx", "--shape", "1,12,12"]) == 1
    assert "expected shape" in capsys.readouterr().err
    assert not (folder / "other.onnx").exists()
