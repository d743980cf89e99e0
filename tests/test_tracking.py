"""Records for TensorBoard and MLflow, read back from what they wrote."""

import struct

import numpy as np
import pytest

import nnpar
from nnpar import Flatten, Linear, Sequential, Trainer
from nnpar.callbacks import Checkpoint
from nnpar.integrations.tracking import MLflow, TensorBoard

IMAGES = np.random.default_rng(0).random((20, 1, 4, 4), np.float32)
LABELS = np.arange(20) % 3


def trainer():
    nnpar.manual_seed(0)
    return Trainer(Sequential(Flatten(), Linear(16, 3)))


def scalars(folder):
    """(name, step): value of all files of events, in the order of their names."""
    event = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # length, its checksum, an event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            read = event.Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, read.step): value.simple_value for value in read.summary.value}
            data = data[16 + length :]
    return found


def test_tensorboard_gets_each_number_of_each_epoch(tmp_path):
    pytest.importorskip("tensorboardX")
    history = trainer().fit(
        (IMAGES, LABELS), (IMAGES, LABELS), epochs=3, progress=False, callbacks=[TensorBoard(tmp_path)]
    )
    expected = {
        (name, record["epoch"]): np.float32(value)
        for record in history.epochs
        for name, value in record.items()
        if name != "epoch"
    }
    assert scalars(tmp_path) == expected
    assert ("validation_loss", 3) in expected


def test_tensorboard_goes_on_with_a_run(tmp_path):
    pytest.importorskip("tensorboardX")
    for epochs in (2, 4):
        callbacks = [Checkpoint(tmp_path / "run"), TensorBoard(tmp_path / "events")]
        run = trainer().fit(
            (IMAGES, LABELS), epochs=epochs, progress=False, callbacks=callbacks, resume=tmp_path / "run"
        )
    losses = {step: value for (name, step), value in scalars(tmp_path / "events").items() if name == "loss"}
    assert losses == {epoch: np.float32(loss) for epoch, loss in enumerate(run["loss"], 1)}


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    library = pytest.importorskip("mlflow")
    library.set_tracking_uri((tmp_path / "mlruns").as_uri())
    return library


def test_mlflow_gets_metrics_and_parameters(mlflow):
    history = trainer().fit((IMAGES, LABELS), epochs=2, progress=False, callbacks=[MLflow("mine")])
    assert mlflow.active_run() is None
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.run_name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == pytest.approx(history["loss"][-1])
    assert run.data.params["optimizer"] == "Adam"
    assert run.data.params["parameters"] == str(16 * 3 + 3)


def test_mlflow_stays_in_the_run_that_is_active_and_learns_of_errors(mlflow):
    def fail(trainer, record):
        raise RuntimeError("full")

    with mlflow.start_run() as run:
        trainer().fit((IMAGES, LABELS), epochs=1, progress=False, callbacks=[MLflow()])
        assert mlflow.active_run().info.run_id == run.info.run_id
    with pytest.raises(RuntimeError, match="full"):
        trainer().fit((IMAGES, LABELS), epochs=1, progress=False, callbacks=[MLflow("bad"), fail])
    statuses = {r.info.run_name: r.info.status for r in mlflow.search_runs(output_format="list")}
    assert statuses["bad"] == "FAILED"


@pytest.mark.parametrize(("callback", "module"), [(lambda: TensorBoard("x"), "tensorboardX"), (MLflow, "mlflow")])
def test_what_is_missing_is_named(monkeypatch, callback, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is needed: pip install 'nnpar\[tracking\]'"):
        callback()
