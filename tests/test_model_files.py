"""Model files: they come back as they went, appear whole or not at all, and a damaged one is one clear error."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import layer_examples
import numpy as np
import pytest
from safetensors.numpy import save

import nnpar
from nnpar import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    layers,
    loading,
    zoo,
)


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


@pytest.mark.parametrize("name", loading.TYPES)
def test_every_layer_comes_back_with_every_argument(name, tmp_path):
    """A setting that a layer forgets would come back as its default."""
    cls = loading.TYPES[name]
    plain = cls(**layer_examples.example_arguments(cls))
    for argument, made in {"": [plain], **layer_examples.variations(cls)}.items():
        for layer in made:
            model = Sequential(layer)
            model.save(tmp_path / "model.safetensors")
            again = nnpar.load(tmp_path / "model.safetensors")
            assert repr(again) == repr(model)
            for key, array in model.state().items():
                np.testing.assert_array_equal(again.state()[key], array)
        if argument:
            assert any(repr(layer) != repr(plain) for layer in made), f"{argument} is not in settings()"


def test_every_exported_layer_is_one_that_files_can_hold():
    exported = {name for name, cls in vars(layers).items() if isinstance(cls, type) and issubclass(cls, nnpar.Layer)}
    assert exported - {"Layer", "Composite", "CustomLayer"} == set(loading.TYPES) | (
        set(loading.COMPOSITES) - {"Graph"}
    )


def with_norm() -> Sequential:
    return Sequential(Conv2d(2, 3, 1), BatchNorm2d(3), Sequential(BatchNorm2d(3)))


def pytorch_file(path: Path, dtype: str, convert) -> dict[str, np.ndarray]:
    """What ``safetensors.torch.save_file(model.state_dict(), path)`` writes of the model above in PyTorch: its names,
    counters of batches, numbers of one type. Returns the numbers.
    """
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in with_norm().state().items()}
    header, data = {}, b""
    parts = [(name, dtype, array.shape, convert(array).tobytes()) for name, array in values.items()]
    parts += [(f"{place}.num_batches_tracked", "I64", (), np.int64(7).tobytes()) for place in ("1", "2.0")]
    for name, kind, shape, content in parts:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return values


@pytest.mark.parametrize(
    ("dtype", "convert", "bits"),
    [
        ("F32", lambda x: x, 24),
        ("F64", lambda x: x.astype(np.float64), 24),
        ("F16", lambda x: x.astype(np.float16), 11),
        ("BF16", lambda x: (x.view(np.uint32) >> 16).astype(np.uint16), 7),  # cut, not rounded
    ],
)
def test_a_pytorch_state_dict_in_safetensors_goes_in_unchanged(dtype, convert, bits, tmp_path):
    path = tmp_path / "weights.safetensors"
    values = pytorch_file(path, dtype, convert)
    model = with_norm()
    assert model.load_state_dict(path) == ([], [])
    for name, array in model.state().items():
        np.testing.assert_allclose(array, values[name], rtol=2.0**-bits, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"weights.safetensors: expected a model saved by nnpar.*load_state_dict\(path\)"
    ):
        nnpar.load(path)


def test_counters_of_batches_are_passed_over_beside_a_running_mean_alone(tmp_path):
    layer = BatchNorm2d(3)
    layer.load_state_dict(layer.state_dict() | {"num_batches_tracked": np.int64(3)})
    for counter in (np.zeros(2, np.int64), np.float32(1.0)):
        with pytest.raises(ValueError, match="unknown num_batches_tracked"):
            layer.load_state_dict(layer.state_dict() | {"num_batches_tracked": counter})
    linear = Linear(1, 1)
    with pytest.raises(ValueError, match="unknown num_batches_tracked"):
        linear.load_state_dict(linear.state_dict() | {"num_batches_tracked": np.int64(3)})


def test_all_differences_are_reported_at_once(tmp_path):
    model = Sequential(Linear(2, 3), Linear(3, 2), Linear(2, 2))
    before = model.state_dict()
    weights = {
        "0.weight": np.zeros((2, 3), np.float32),
        "0.bias": np.zeros(3, np.int8),
        "1.weight": np.zeros((2, 3), np.complex64),
        "2.weight": np.zeros((2, 2), np.float32),
        "2.bias": np.zeros(2, np.float64),
        "fc.weight": np.zeros(1, np.float32),
    }
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(weights))
    for state in (weights, path, str(path)):
        with pytest.raises(ValueError, match="load_state_dict") as caught:
            model.load_state_dict(state)
        assert str(caught.value) == (
            "Sequential.load_state_dict: missing 1.bias (2,); unknown fc.weight (1,); "
            "0.weight: expected shape (3, 2), got (2, 3); 0.bias: expected floating-point numbers, got dtype int8; "
            "1.weight: expected floating-point numbers, got dtype complex64"
        )
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match=r"load_state_dict: 0.weight: expected shape"):
        model.load_state_dict(weights, strict=False)
    rest = {name: weights[name] for name in ("2.weight", "fc.weight")}
    keys = model.load_state_dict(rest, strict=False)
    assert keys.missing_keys == ["0.weight", "0.bias", "1.weight", "1.bias", "2.bias"]
    assert keys.unexpected_keys == ["fc.weight"]
    assert not model[2].weight.any()
    with pytest.raises(TypeError, match=r"expected arrays by name, or the path of a file, got list"):
        model.load_state_dict([np.zeros(1)])


def test_numbers_beyond_float32_become_infinite():
    layer = Linear(1, 1, bias=False)
    layer.load_state_dict({"weight": np.full((1, 1), 1e300)})
    assert np.isinf(layer.weight)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_numbers_of_eight_bits_are_refused(kind, tmp_path):
    path = tmp_path / "weights.safetensors"
    header = json.dumps({"weight": {"dtype": kind, "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    with pytest.raises(ValueError, match=rf"weights.safetensors: .*16 bits or more, got weight \({kind}\)"):
        Linear(1, 1).load_state_dict(path)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "empty").touch()
    for name in ("", "pipe", "loop", "dangling"):
        for read in (nnpar.load, any_model().load_state_dict):
            with pytest.raises(ValueError, match="expected a file, got a folder, a pipe or a link to nowhere"):
                read(tmp_path / name)
    with pytest.raises(ValueError, match="empty: not a whole safetensors file"):
        nnpar.load(tmp_path / "empty")


def test_thousands_of_hostile_files_with_little_memory(tmp_path):
    program = Path(__file__).with_name("hostile_files.py")
    result = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, timeout=100, env=os.environ
    )
    assert result.returncode == 0, result.stderr[-3000:]
    counts = json.loads(result.stdout)
    assert counts["errors"] > 5000
    assert counts["models"] > 100, "some of the changes do no harm"


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


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04cos\nsystem\n(S'echo executed'\ntR." * 10,
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",  # PyTorch before 1.6
        b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl",  # since then
    ],
)
def test_a_pickle_is_refused(content, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    for read in (nnpar.load, any_model().load_state_dict):
        with pytest.raises(ValueError, match=r"model.pt: .*got a pickle or zip archive.*safetensors.torch.save_file"):
            read(path)


@pytest.mark.parametrize("length", [0x80, 0x280, 0x480])
def test_a_header_as_long_as_a_pickle_begins_is_none(length, tmp_path):
    """The length comes first, in the bytes with which pickles begin."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}".ljust(length))
    assert Linear(1, 1).load_state_dict(path, strict=False).missing_keys == ["weight", "bias"]


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
