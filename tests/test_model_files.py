"""Model files: they come back as they went, appear whole or not at all, and a damaged one is one clear error."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import nnpar
from nnpar import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, zoo


def any_model() -> Sequential:
    return Sequential(
        Conv2d(2, 4, (3, 1), stride=(1, 2), padding=(1, 0), dilation=(2, 1), groups=2, bias=False),
        ReLU(),
        Sequential(MaxPool2d(2, padding=1), AvgPool2d((1, 2), count_include_pad=False)),
        Dropout(0.3),
        Flatten(),
        Linear(16, 3),
    )


def file_with(tmp_path: Path, description: object, tensors: dict | None = None) -> Path:
    """A well-formed safetensors file whose metadata describe something else."""
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(save(tensors or {"0.weight": np.zeros((1, 2), np.float32)}, {"nnpar": json.dumps(description)}))
    return path


SMALL_MODELS = ["digits_cnn", "lenet5", "resnet20", "densenet_small", "unet_small"]


@pytest.mark.parametrize("make", [any_model, *(zoo.MODELS[name] for name in SMALL_MODELS)])
def test_a_model_comes_back_as_it_was(make, tmp_path):
    model = make()
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = nnpar.load(path)
    assert repr(again) == repr(model)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(again.parameters()[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    model.save(path)  # over the old file


def test_a_pytorch_state_dict_in_safetensors_fits(tmp_path):
    model = zoo.lenet5()
    state = {name: array + 1 for name, array in model.state_dict().items()}
    (tmp_path / "weights.safetensors").write_bytes(save(state))
    from safetensors.numpy import load_file

    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(model.parameters()["11.bias"], state["11.bias"])
    with pytest.raises(ValueError, match=r"weights.safetensors: expected a model saved by nnpar"):
        nnpar.load(tmp_path / "weights.safetensors")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors: no such file"):
        nnpar.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError):
        any_model().save(tmp_path / "no folder" / "model.safetensors")


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    any_model().save(path)
    whole = path.read_bytes()
    for length in [*range(0, 1200, 7), *range(len(whole) - 40, len(whole))]:
        path.write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(ValueError, match=r"model.safetensors: "):
            nnpar.load(path)


def load_or_error(path: Path) -> int | str:
    """Number of parameters of the model in a file, or what is wrong with it."""
    try:
        return nnpar.load(path).parameter_count
    except ValueError as error:
        return str(error)


def test_flipped_bits_are_an_error_or_other_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    any_model().save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole) * 8, 400):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        outcome = load_or_error(path)
        assert outcome == any_model().parameter_count or "model.safetensors: " in str(outcome)


LINEAR = {"type": "Linear", "in_features": 2, "out_features": 1, "bias": False}


def nested(depth: int) -> dict:
    model = {"type": "Sequential", "layers": [LINEAR]}
    for _ in range(depth):
        model = {"type": "Sequential", "layers": [model]}
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "expected a layer's description"),
        ([1], "expected a layer's description"),
        ({"type": 3}, "expected a layer's description"),
        (LINEAR, "expected a model, such as a Sequential, got Linear"),
        ({"type": "Sequential"}, "expected a Sequential's list of layers"),
        ({"type": "Sequential", "layers": []}, "at least one layer"),
        ({"type": "Sequential", "layers": [{"type": "eval"}]}, "unknown layer type 'eval'"),
        ({"type": "Sequential", "layers": [{"type": "__import__", "name": "os"}]}, "unknown layer type"),
        ({"type": "Sequential", "layers": [LINEAR | {"x": 1}]}, "unexpected keyword argument"),
        ({"type": "Sequential", "layers": [LINEAR | {"weight_init": "os.system"}]}, "unknown setting 'weight_init'"),
        ({"type": "Sequential", "layers": [LINEAR | {"in_features": "2"}]}, "in_features: expected an int, got str"),
        ({"type": "Sequential", "layers": [LINEAR | {"in_features": 2**40}]}, "more than the file holds"),
        ({"type": "Sequential", "layers": [LINEAR | {"out_features": 10**30}]}, "out_features: expected less than"),
        (
            {"type": "Sequential", "layers": [LINEAR | {"bias": True, "out_features": 2**40}]},
            "more than the file holds",
        ),
        ({"type": "Sequential", "layers": [LINEAR, LINEAR]}, r"missing 1.weight"),
        (
            {"type": "Sequential", "layers": [LINEAR | {"out_features": 2, "in_features": 1}]},
            r"expected shape \(2, 1\)",
        ),
        (nested(40), "expected a Sequential's list of layers"),
    ],
)
def test_hostile_descriptions_are_one_clear_error(model, message, tmp_path):
    path = file_with(tmp_path, {"version": 1, "model": model})
    with pytest.raises(ValueError, match=message) as caught:
        nnpar.load(path)
    assert "hostile.safetensors" in str(caught.value)


@pytest.mark.parametrize("description", [{"version": 2}, {}, [], "text", 1])
def test_other_versions_are_refused(description, tmp_path):
    with pytest.raises(ValueError, match="expected a description of version 1"):
        nnpar.load(file_with(tmp_path, description))


def test_metadata_that_is_no_json(tmp_path):
    path = tmp_path / "model.safetensors"
    for text in ("{", "[" * 100_000, "NaN"):
        path.write_bytes(save({"w": np.zeros(1, np.float32)}, {"nnpar": text}))
        with pytest.raises(ValueError, match=r"model.safetensors: "):
            nnpar.load(path)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'echo executed'\ntR." * 10)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        nnpar.load(path)


def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    any_model().save(path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            zoo.lenet5().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1, "the temporary file is swept"


def test_killed_while_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.safetensors"
    zoo.mlp().save(path)
    program = textwrap.dedent("""
        import sys
        from nnpar import zoo
        model = zoo.mlp()
        print("ready", flush=True)
        while True:
            model.save(sys.argv[1])
    """)
    for delay in (0.01, 0.03, 0.05):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env=os.environ
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
        assert nnpar.load(path).parameter_count == zoo.mlp().parameter_count
