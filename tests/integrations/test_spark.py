"""On a real Spark with executors of their own: predictions, streams that are restarted, training."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyspark", reason="needs pyspark")
pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("pandas", reason="needs pandas")

import pyarrow as pa
import pyarrow.parquet
from pyspark import cloudpickle
from pyspark.sql import SparkSession

import nnpar
from nnpar import SGD, Adam, Predictor, Trainer, checkpoints, data, zoo
from nnpar.integrations.spark import (
    SparkTrainer,
    barrier,
    mpi_worker,
    predict_stream,
    predict_udf,
    train_stream,
    training,
)

SECONDS = 150  # of a test, at most: this machine's cores may be shared
TRAIN, TEST = data.digits()
SHAPE = (1, 8, 8)
BYTES = (TEST.images * 255).round().astype(np.uint8)

needs_mpi = pytest.mark.skipif(barrier.missing() != "", reason=f"MPI: {barrier.missing()}")


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spark")
    os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
    options = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "1g",
        "spark.executor.memory": "512m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "100",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.task.maxFailures": "1",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "1",
    }
    builder = SparkSession.builder.master("local-cluster[2,1,1024]")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")  # errors are what some tests want
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def _bounded(spark):
    """What hangs is an error."""

    def late(number, frame):
        raise TimeoutError(f"expected an end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def digits(spark):
    """The training set as a DataFrame."""
    rows = [(image.ravel().tolist(), int(label)) for image, label in zip(TRAIN.images, TRAIN.labels, strict=True)]
    df = spark.createDataFrame(rows, "image array<float>, label int").repartition(2).cache()
    assert df.count() == len(TRAIN)
    return df


@pytest.fixture(scope="module")
def model():
    trainer = Trainer(zoo.digits_cnn(), optimizer=Adam(3e-3))
    trainer.fit(TRAIN, epochs=1, progress=False)
    return trainer.model


def put(folder, number, images, labels, first=0):
    """A file of a stream, as old as its number says: the oldest ones come first."""
    folder.mkdir(exist_ok=True)
    numbers = pa.array(np.arange(first, first + len(images)))
    columns = {"id": numbers, "image": [image.tobytes() for image in images], "label": pa.array(labels, pa.int32())}
    pyarrow.parquet.write_table(pa.table(columns), folder / f".{number}")
    os.utime(folder / f".{number}", (1.7e9 + number, 1.7e9 + number))
    os.replace(folder / f".{number}", folder / f"{number:04}.parquet")


def stream(spark, folder):
    """A file for each micro-batch."""
    reader = spark.readStream.schema("id long, image binary, label int").option("maxFilesPerTrigger", 1)
    return reader.parquet(str(folder))


def end(query):
    assert query.awaitTermination(SECONDS)


@pytest.mark.parametrize("output", ["class", "probabilities", "outputs"])
@pytest.mark.parametrize("kind", ["binary", "array<float>", "array<array<array<double>>>"])
def test_predictions_are_those_of_a_predictor(spark, model, kind, output):
    count = 230
    cells = [image.tobytes() if kind == "binary" else (image / 255).tolist() for image in BYTES[:count]]
    if kind == "array<float>":
        cells = [np.ravel(cell).tolist() for cell in cells]
    df = spark.createDataFrame(list(enumerate(cells)), f"id long, image {kind}").repartition(3)
    shape = None if kind.endswith("double>>>") else SHAPE
    expected = Predictor(model)(np.float32(BYTES[:count]) / np.float32(255))
    if output == "class":
        expected = expected.argmax(axis=1)
    elif output == "probabilities":
        expected = nnpar.ops.softmax(expected)
    by_udf = df.select("id", predict_udf(model, shape, output)("image").alias("prediction"))
    by_stream = predict_stream(df, model, shape=shape, output=output)
    assert by_stream.columns == ["id", "prediction"]
    for predicted in (by_udf, by_stream):
        found = np.array([row.prediction for row in sorted(predicted.collect())])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_model_file_with_layers_of_the_users_own_in_sql(spark, model, tmp_path):
    class Doubled(nnpar.CustomLayer):  # here, where executors cannot import it
        def compute(self, x):
            return 2 * x

    nnpar.Sequential(*model.layers, Doubled()).save(tmp_path / "model.safetensors")
    doubled = predict_udf(tmp_path / "model.safetensors", SHAPE, "outputs", layers=[Doubled])
    spark.udf.register("doubled", doubled)
    spark.createDataFrame([(BYTES[0].tobytes(),)], "image binary").createOrReplaceTempView("images")
    (row,) = spark.sql("SELECT doubled(image) AS y FROM images").collect()
    np.testing.assert_allclose(row.y, 2 * model(BYTES[:1] / np.float32(255))[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "cells", "shape", "message"),
    [
        ("binary", [b"x" * 64, b"x" * 63], SHAPE, r"column 'image': expected 64 bytes for shape \(1, 8, 8\), got 63"),
        ("binary", [b"x" * 64], None, "column 'image': expected a shape for bytes"),
        ("binary", [b"x" * 64, None], SHAPE, "column 'image': expected no nulls, got 1 in"),
        ("array<float>", [[1.0] * 9], SHAPE, r"column 'image': expected 64 numbers for shape \(1, 8, 8\), got \(9,\)"),
        ("array<int>", [[1, 2], [1]], None, "column 'image': expected arrays of one length, got 1 to 2"),
    ],
)
def test_bad_images_are_named(spark, model, kind, cells, shape, message):
    df = spark.createDataFrame([(cell,) for cell in cells], f"image {kind}").coalesce(1)
    for predicted in (df.select(predict_udf(model, shape)("image")), predict_stream(df, model, shape=shape)):
        with pytest.raises(Exception, match=message):
            predicted.collect()


def test_bad_arguments_are_errors_before_anything_runs(spark, model, digits, tmp_path):
    text = spark.createDataFrame([("x", 1.0)], "image string, label float")
    with pytest.raises(TypeError, match="predict_stream: column 'image': expected binary or arrays of numbers, got"):
        predict_stream(text, model)
    with pytest.raises(ValueError, match="predict_stream: column 'picture': expected one of image, label"):
        predict_stream(text, model, "picture")
    with pytest.raises(ValueError, match="prediction: expected a name that no column has, got 'label'"):
        predict_stream(digits, model, prediction="label")
    with pytest.raises(ValueError, match="output: expected one of class, probabilities, outputs, got 'classes'"):
        predict_udf(model, output="classes")
    with pytest.raises(TypeError, match="model: expected a Sequential or the like, or a path, got ReLU"):
        predict_udf(nnpar.ReLU())
    with pytest.raises(ValueError, match="Linear"):
        predict_udf(model, shape=(1, 12, 12))
    trainer = SparkTrainer(zoo.digits_cnn(), shape=SHAPE, label="digit")
    with pytest.raises(ValueError, match=r"SparkTrainer.fit: column 'digit': expected one of image, label"):
        trainer.fit(digits)
    with pytest.raises(TypeError, match="parallel"):
        SparkTrainer(zoo.digits_cnn(), parallel=None)
    with pytest.raises(ValueError, match="batch_size: expected at least 2, one for each worker, got 1"):
        SparkTrainer(zoo.digits_cnn(), shape=SHAPE, workers=2).fit(digits, batch_size=1)
    with pytest.raises(ValueError, match="df: expected a streaming DataFrame"):
        train_stream(digits, Trainer(zoo.digits_cnn()), tmp_path)


def test_a_stream_that_fails_and_is_restarted_has_every_row_once(spark, model, tmp_path):
    for number in range(3):
        put(tmp_path / "in", number, BYTES[50 * number :][:50], TEST.labels[50 * number :][:50], 50 * number)
    put(tmp_path / "in", 1, BYTES[50:100, :, :7], TEST.labels[50:100], 50)  # too small

    def run():
        predicted = predict_stream(stream(spark, tmp_path / "in"), model, shape=SHAPE)
        writer = predicted.writeStream.option("checkpointLocation", str(tmp_path / "state")).trigger(availableNow=True)
        end(writer.start(str(tmp_path / "out")))

    with pytest.raises(Exception, match="expected 64 bytes"):
        run()
    put(tmp_path / "in", 1, BYTES[50:100], TEST.labels[50:100], 50)
    run()
    put(tmp_path / "in", 3, BYTES[150:200], TEST.labels[150:200], 150)
    run()
    rows = sorted(spark.read.parquet(str(tmp_path / "out")).select("id", "prediction", "label").collect())
    assert [row.id for row in rows] == list(range(200))
    expected = Predictor(model)(np.float32(BYTES[:200]) / np.float32(255)).argmax(axis=1)
    assert [row.prediction for row in rows] == expected.tolist()
    assert [row.label for row in rows] == TEST.labels[:200].tolist()


@needs_mpi
def test_training_by_mpi_within_a_barrier_stage_goes_on_and_repeats(digits):
    weights = []
    for _ in range(2):
        with nnpar.random.seeded(0):
            trainer = SparkTrainer(zoo.digits_cnn, optimizer=Adam(3e-3), shape=SHAPE, workers=2, mpi=True, average=0.9)
        history = trainer.fit(digits, TEST, epochs=3, batch_size=32)
        weights.append(trainer.model.state_dict())
    assert history["validation_accuracy"][-1] > 0.9
    assert trainer.trainer.evaluate(TEST)["accuracy"] > 0.9
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])
    before = trainer.trainer.steps_done
    assert trainer.fit(digits, epochs=1, batch_size=64)["epoch"] == [1, 2, 3, 4]
    assert trainer.trainer.steps_done == before + -(-len(TRAIN) // 64)


def test_training_by_tree_reduce(digits):
    histories = []
    for mpi in [False, True] if barrier.missing() == "" else [False]:
        with nnpar.random.seeded(0):
            trainer = SparkTrainer(
                zoo.digits_cnn(), optimizer=Adam(1e-2), shape=SHAPE, workers=2, mpi=mpi, accumulate=2
            )
        histories.append(trainer.fit(digits, TEST, epochs=4, batch_size=128))
        assert histories[-1]["validation_accuracy"][-1] > 0.9
    np.testing.assert_allclose(histories[-1]["loss"], histories[0]["loss"], rtol=1e-3)


@pytest.mark.parametrize("mpi", [pytest.param(True, marks=needs_mpi), False])
def test_a_failing_worker_gives_its_error(spark, mpi):
    def df(image, label):
        rows = [(TRAIN.images[k].ravel().tolist(), int(TRAIN.labels[k])) for k in range(40)]
        return spark.createDataFrame([*rows, (image, label)], "image array<float>, label int")

    def trainer():
        return SparkTrainer(zoo.digits_cnn(), shape=SHAPE, workers=2, mpi=mpi)

    for image, label, message in [
        ([0.5] * 64, 11, "labels: expected 0 to 9, got 11"),
        (None, 1, "column 'image': expected no nulls, got 1"),
        ([0.5] * 64, None, "column 'label': expected no nulls, got 1"),
    ]:
        with pytest.raises(Exception, match=message):
            trainer().fit(df(image, label), epochs=1)
    with pytest.raises(Exception, match="expected rows"):
        trainer().fit(df([0.5] * 64, 1).where("label > 20"), epochs=1)


@needs_mpi
def test_too_many_workers_are_an_error(digits, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", 1.0)
    with pytest.raises(RuntimeError, match="workers: expected at most 2, which can run at once, got 3"):
        SparkTrainer(zoo.digits_cnn(), shape=SHAPE, workers=3).fit(digits, epochs=1)


class Context:
    """Of a barrier stage whose tasks are threads."""

    def __init__(self, number, meeting, messages):
        self.number, self.meeting, self.messages = number, meeting, messages

    def partitionId(self):  # noqa: N802 Spark's name
        return self.number

    def allGather(self, message):  # noqa: N802
        self.messages[self.number] = message
        self.meeting.wait(60)
        every = list(self.messages)
        self.meeting.wait(60)
        return every


@needs_mpi
def test_uneven_partitions_on_several_hosts(tmp_path, spark):
    """Two hosts for MPI, though one machine; a step on all samples is that of one process."""
    counts, hosts = [50, 0, 20], ["127.0.0.1", "localhost", "127.0.0.1"]

    def make():  # without dropout, which depends on the numbers of samples
        conv = nnpar.Conv2d(1, 4, 3)
        return nnpar.Sequential(conv, nnpar.ReLU(), nnpar.Flatten(), nnpar.Linear(4 * 36, 10))

    with nnpar.random.seeded(0):
        alone = Trainer(make(), optimizer=SGD(0.1))
    with nnpar.random.seeded(0):
        job = cloudpickle.dumps((make(), "cross_entropy", SGD(0.1), {"seed": 0}))
    spilled, folders, first = [], [], 0
    for number, count in enumerate(counts):
        folder = tmp_path / str(number)
        folder.mkdir()
        batch = pa.RecordBatch.from_pydict(
            {
                "image": list(TRAIN.images[first : first + count].reshape(count, 64)),
                "label": TRAIN.labels[first : first + count],
            }
        )
        of = SparkTrainer(make(), shape=SHAPE).columns
        spilled.append(training.Spilled.write(folder, [batch], of))
        folders.append(str(folder))
        first += count
    ranks = barrier.Places(hosts).tasks
    assert ranks == [0, 2, 1]
    run = {"epochs": 2, "batch_size": 70, "shuffle": False, "threads": 1}
    run["spilled"] = [[spilled[k].count, spilled[k].images, spilled[k].labels] for k in ranks]
    for folder in folders:
        (Path(folder) / mpi_worker.JOB).write_bytes(job)
        (Path(folder) / mpi_worker.VALIDATION).write_bytes(b"N.")  # a pickle of None
        (Path(folder) / mpi_worker.RUN).write_text(json.dumps(run))
        checkpoints.save(alone, Path(folder) / mpi_worker.STATE)
    meeting, messages, errors = threading.Barrier(3), [None] * 3, []

    def task(number):
        try:
            barrier.run(Context(number, meeting, messages), hosts, folders, mpi_worker.__name__)
        except Exception as error:
            errors.append(error)

    tasks = [threading.Thread(target=task, args=(number,)) for number in range(3)]
    for each in tasks:
        each.start()
    for each in tasks:
        each.join(90)
    assert errors == []
    together = Trainer(make(), optimizer=SGD(0.1))
    checkpoints.restore(together, tmp_path / "0" / mpi_worker.RESULT)
    alone.fit((TRAIN.images[:70], TRAIN.labels[:70]), epochs=2, batch_size=70, shuffle=False, progress=False)
    np.testing.assert_allclose(together.history["loss"], alone.history["loss"], rtol=1e-4)
    for name, array in alone.model.state_dict().items():
        np.testing.assert_allclose(together.model.state_dict()[name], array, rtol=1e-4, atol=1e-5)


@needs_mpi
def test_a_cancelled_job_leaves_no_processes(spark, digits):
    def workers():
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if mpi_worker.__name__.encode() in line:
                found.append(line)
        return found

    def train():
        with pytest.raises(Exception, match="cancel"):
            SparkTrainer(zoo.digits_cnn(), shape=SHAPE, workers=2).fit(digits, epochs=10**6)

    thread = threading.Thread(target=train)
    thread.start()
    while not workers():
        time.sleep(0.2)
    spark.sparkContext.cancelAllJobs()
    thread.join(60)
    end = time.monotonic() + 30
    while workers() and time.monotonic() < end:
        time.sleep(0.2)
    assert workers() == []


def test_a_stream_is_trained_on_once_whatever_is_restarted(spark, tmp_path):
    def run(folder):
        with nnpar.random.seeded(0):
            trainer = Trainer(zoo.digits_cnn(), optimizer=Adam(3e-3))
        query = train_stream(
            stream(spark, tmp_path / "in"),
            trainer,
            tmp_path / folder,
            shape=SHAPE,
            batch_size=32,
            trigger={"availableNow": True},
        )
        end(query)
        return trainer

    for number in range(3):
        put(tmp_path / "in", number, BYTES[100 * number :][:100], TEST.labels[100 * number :][:100])
    whole = run("whole")
    assert whole.epochs_done == 3

    put(tmp_path / "in", 1, BYTES[100:200], np.full(100, 11))  # no such class
    with pytest.raises(Exception, match="expected 0 to 9, got 11"):
        run("restarted")
    put(tmp_path / "in", 1, BYTES[100:200], TEST.labels[100:200])
    restarted = run("restarted")
    assert sorted(path.name for path in (tmp_path / "restarted").glob("*.safetensors")) == [
        "trained-0000000002.safetensors",
        "trained-0000000003.safetensors",
    ]
    # As if it had been killed when its state was saved, and Spark did not know yet.
    commits = tmp_path / "restarted/spark/commits"
    for path in [*commits.glob("2"), *commits.glob(".2.crc")]:
        path.unlink()
    again = run("restarted")
    for trainer in (restarted, again):
        assert trainer.history["loss"] == whole.history["loss"]
        for name, array in whole.model.state_dict().items():
            np.testing.assert_array_equal(trainer.model.state_dict()[name], array)
    for path in (tmp_path / "restarted").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match=r"expected both checkpoints of one run in .*after 0 .* Spark's after 3"):
        run("restarted")


def test_a_stream_trains_on_the_cluster(spark, tmp_path):
    put(tmp_path / "in", 0, BYTES[:100], TEST.labels[:100])
    put(tmp_path / "in", 1, BYTES[:0], TEST.labels[:0])
    trainer = SparkTrainer(zoo.digits_cnn(), shape=SHAPE, workers=2, mpi=False)
    trigger = {"availableNow": True}
    end(train_stream(stream(spark, tmp_path / "in"), trainer, tmp_path / "run", batch_size=50, trigger=trigger))
    assert trainer.trainer.epochs_done == 1
