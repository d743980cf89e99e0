"""Predictions on streams of Apache Flink, by workers in the program's process and in processes of their own."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import nnpar
from nnpar import ops, zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # PyFlink uses what it and others have deprecated

needs_flink = pytest.mark.skipif(importlib.util.find_spec("pyflink") is None, reason="needs apache-flink")

MODE = "_python_worker_execution_mode"  # of PyFlink, where Flink runs in the program itself
SHAPE = (1, 8, 8)
IMAGES = np.random.default_rng(0).integers(0, 256, (1000, *SHAPE), np.uint8)
FLOATS = np.divide(IMAGES, 255, dtype=np.float32)
BYTES = [image.tobytes() for image in IMAGES]


class Noted(nnpar.CustomLayer):
    """Changes nothing, and writes down each process into which it comes out of a pickle."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def compute(self, x):
        return x

    def compute_gradient(self, dy, x):
        return dy

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")

    def __deepcopy__(self, memo):
        copied = Noted.__new__(Noted)
        copied.__dict__.update(self.__dict__)
        return copied


@pytest.fixture(params=["loopback", "process"])
def environment(request, monkeypatch):
    """A streaming environment of two subtasks, in threads of this process or in processes of their own."""
    from pyflink.table import EnvironmentSettings, TableEnvironment

    monkeypatch.setenv(MODE, request.param)
    return new_environment(EnvironmentSettings, TableEnvironment)


@pytest.fixture
def local_environment():
    from pyflink.table import EnvironmentSettings, TableEnvironment

    return new_environment(EnvironmentSettings, TableEnvironment)


def new_environment(settings, environment):
    made = environment.create(settings.in_streaming_mode())
    made.get_config().set("parallelism.default", "2")
    made.get_config().set("python.fn-execution.bundle.size", "37")  # batches of all sizes
    return made


def show(environment, name, rows, image_type):
    """Make rows (id, image) a view."""
    from pyflink.table import DataTypes

    fields = [DataTypes.FIELD("id", DataTypes.BIGINT()), DataTypes.FIELD("image", image_type)]
    environment.create_temporary_view(name, environment.from_elements(rows, DataTypes.ROW(fields)))


def collect(environment, query):
    """What comes after the id, by the id."""
    with environment.execute_sql(query).collect() as rows:
        return {row[0]: row[1] if len(row) == 2 else tuple(row)[1:] for row in rows}


@pytest.fixture
def pickled_by_value():
    """Workers have no module of this name; a program's own layers travel like this by themselves."""
    import cloudpickle

    module = sys.modules[Noted.__module__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@needs_flink
def test_a_stream_of_images_and_one_model_in_each_process(environment, tmp_path, pickled_by_value):
    from pyflink.table import DataTypes

    from nnpar.integrations.flink import predict_udf

    loads = tmp_path / "loads"
    model = nnpar.Sequential(Noted(str(loads)), zoo.digits_cnn())
    expected = nnpar.Predictor(model)(FLOATS)
    for name, output in (("predict", "class"), ("chances", "probabilities")):
        environment.create_temporary_function(name, predict_udf(model, SHAPE, output))
    show(environment, "images", [(i, bytearray(image)) for i, image in enumerate(BYTES)], DataTypes.BYTES())

    # The source is one subtask; DISTINCT deals rows to both.
    query = "SELECT id, predict(image), chances(image) FROM (SELECT DISTINCT id, image FROM images)"
    found = collect(environment, query)

    assert sorted(found) == list(range(1000))
    np.testing.assert_array_equal([found[i][0] for i in range(1000)], expected.argmax(axis=1))
    np.testing.assert_array_equal(np.float32([found[i][1] for i in range(1000)]), ops.softmax(expected))
    processes = loads.read_text().split()
    if os.environ[MODE] == "loopback":
        assert processes == [str(os.getpid())]
    else:
        assert len(set(processes) - {str(os.getpid())}) == len(processes) == 2


@needs_flink
def test_a_live_stream(local_environment):
    from nnpar.integrations.flink import predict_udf

    model = zoo.digits_cnn()
    local_environment.get_config().set("python.fn-execution.bundle.time", "50")
    local_environment.create_temporary_function("predict", predict_udf(model, SHAPE))
    local_environment.execute_sql(
        """
        CREATE TABLE images (
            id BIGINT,
            image AS CAST(REPEAT(SUBSTRING('0123456789ABCDEF', CAST(MOD(id, 16) AS INT) + 1, 1), 64) AS VARBINARY(64))
        ) WITH (
            'connector' = 'datagen', 'rows-per-second' = '500',
            'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '999'
        )
        """
    )
    found = collect(local_environment, "SELECT id, predict(image) FROM images")
    images = np.frombuffer(b"0123456789ABCDEF", np.uint8)[:, np.newaxis].repeat(64, axis=1)
    expected = nnpar.Predictor(model)(np.divide(images, 255, dtype=np.float32).reshape(-1, *SHAPE)).argmax(axis=1)
    assert found == {i: expected[i % 16] for i in range(1000)}


@needs_flink
def test_a_file_floats_and_null(local_environment, tmp_path):
    from pyflink.table import DataTypes

    from nnpar.integrations.flink import predict_udf

    model = nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(64, 3))
    model.save("model.safetensors")
    for name, output in (("predict", "class"), ("say", "outputs")):
        function = predict_udf("model.safetensors", SHAPE, output, batch_size=8)  # workers have another folder
        local_environment.create_temporary_function(name, function)
    rows = [(i, None if i == 3 else image.ravel().tolist()) for i, image in enumerate(FLOATS[:100])]
    show(local_environment, "images", rows, DataTypes.ARRAY(DataTypes.FLOAT()))
    found = collect(local_environment, "SELECT id, predict(image), say(image) FROM images")
    assert found.pop(3) == (None, None)
    expected = nnpar.Predictor(model)(FLOATS[:100])
    assert len(found) == 99
    for i, (label, outputs) in found.items():
        assert label == expected[i].argmax()
        np.testing.assert_array_equal(np.float32(outputs), expected[i])


@needs_flink
def test_an_image_of_another_size_fails_the_job(local_environment):
    from pyflink.table import DataTypes

    from nnpar.integrations.flink import predict_udf

    local_environment.create_temporary_function("predict", predict_udf(zoo.digits_cnn(), SHAPE))
    show(local_environment, "images", [(0, bytearray(64)), (1, bytearray(63))], DataTypes.BYTES())
    with pytest.raises(Exception, match=r"images: expected 64 bytes for shape \(1, 8, 8\), got 63"):
        collect(local_environment, "SELECT id, predict(image) FROM images")


def opened(*arguments, **options):
    """The function as a worker has it."""
    import pickle

    import cloudpickle

    from nnpar.integrations.flink import predict_udf

    function = pickle.loads(cloudpickle.dumps(predict_udf(*arguments, **options)._func))
    function.open(None)
    return function


@needs_flink
def test_a_prediction_has_the_same_bits_whichever_rows_come_with_it():
    import pandas as pd

    model = zoo.resnet18()  # its predictor alone sums in another order for a batch of another size
    images = np.random.default_rng(1).integers(0, 256, (24, 3, 64, 64), np.uint8)
    rows = [image.tobytes() for image in images]
    function = opened(model, (3, 64, 64), "outputs", batch_size=16)
    together = np.stack(function.eval(pd.Series(rows)))
    for start, count in ((0, 1), (5, 7), (3, 16), (9, 15)):
        some = np.stack(function.eval(pd.Series(rows[start : start + count])))
        np.testing.assert_array_equal(some, together[start : start + count])


@needs_flink
def test_null_and_nothing():
    import pandas as pd

    function = opened(zoo.digits_cnn(), SHAPE)
    (label,) = function.eval(pd.Series(BYTES[:1]))
    assert function.eval(pd.Series([None, BYTES[0], None])).tolist() == [None, label, None]
    assert function.eval(pd.Series([None])).tolist() == [None]
    assert function.eval(pd.Series([], dtype=object)).tolist() == []


@needs_flink
def test_subtasks_of_a_process_share_a_model_until_the_last_closes():
    import gc

    from nnpar.integrations import flink

    gc.collect()
    before = len(flink._predictors)
    model = zoo.digits_cnn()
    first, second = opened(model, SHAPE), opened(model, SHAPE, "probabilities", batch_size=4)
    assert first._predictor is second._predictor
    assert opened(zoo.lenet5(), (1, 28, 28))._predictor is not first._predictor
    first.close()
    second.close()
    gc.collect()
    assert len(flink._predictors) <= before


@needs_flink
def test_the_model_travels_as_it_is_when_the_function_is_made():
    import pandas as pd

    from nnpar.integrations.flink import predict_udf

    model = nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(64, 10))
    expected = nnpar.Predictor(model)(FLOATS[:32])
    function = predict_udf(model, SHAPE, "outputs")._func
    model[1].weight[:] = 0
    function.open(None)
    np.testing.assert_array_equal(np.stack(function.eval(pd.Series(BYTES[:32]))), expected)


@needs_flink
@pytest.mark.parametrize(
    ("image", "error"),
    [
        (bytes(63), r"images: expected 64 bytes for shape \(1, 8, 8\), got 63"),
        (np.zeros(65, np.float32), r"images: expected 64 numbers for shape \(1, 8, 8\), got 65"),
        (np.full(64, np.nan, np.float32), "images: expected numbers, got NULL or NaN"),
        ("text", "images: expected VARBINARY or ARRAY<FLOAT>, got str 'text'"),
        (np.array([[0.0]] * 64, object), "images: expected VARBINARY or ARRAY<FLOAT>, got ndarray"),
    ],
)
def test_images_that_do_not_fit(image, error):
    import pandas as pd

    with pytest.raises((TypeError, ValueError), match=error):
        opened(zoo.digits_cnn(), SHAPE).eval(pd.Series([image]))


@needs_flink
def test_arguments_that_do_not_fit():
    from nnpar.integrations.flink import predict_udf

    model = zoo.digits_cnn()
    with pytest.raises(ValueError, match="output: expected one of class, probabilities, outputs, got 'label'"):
        predict_udf(model, SHAPE, "label")
    with pytest.raises(TypeError, match="model: expected a layer or a path, got int"):
        predict_udf(3, SHAPE)
    with pytest.raises(ValueError, match="Conv2d"):
        predict_udf(model, (3, 8, 8))
    with pytest.raises(ValueError, match=r"model: expected one output of shape \(N, K\), got"):
        predict_udf(nnpar.Sequential(nnpar.ReLU()), SHAPE)
    one = nnpar.Sequential(nnpar.Flatten(), nnpar.Linear(64, 1))
    with pytest.raises(ValueError, match="model: expected two outputs or more for output='class', got 1"):
        predict_udf(one, SHAPE)
    assert predict_udf(one, SHAPE, "outputs")
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        predict_udf(model, SHAPE, batch_size=0)
    with pytest.raises(TypeError, match="shape: expected a sequence of ints, got 8"):
        predict_udf(model, 8)


@needs_flink
def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model: nowhere.safetensors: no such file on a worker"):
        opened("nowhere.safetensors", SHAPE)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model: .*bad.safetensors: .*not a whole safetensors file"):
        opened(tmp_path / "bad.safetensors", SHAPE)
    zoo.digits_cnn().save("digits.safetensors")
    with pytest.raises(ValueError, match="Conv2d"):
        opened("digits.safetensors", (3, 8, 8))


def test_without_apache_flink():
    program = """
import sys
sys.modules["pyflink"] = None
from nnpar.integrations.flink import predict_udf
try:
    predict_udf("model.safetensors", (1, 8, 8))
except ImportError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "predict_udf: apache-flink is needed: pip install 'nnpar[flink]'" in printed
