"""Times by step: the profiler, its trace, and the plan's own table."""

import json

import numpy as np
import pytest

import nnpar
from nnpar import Conv2d, Flatten, Linear, ReLU, Sequential, Trainer


def model():
    return Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 3))


X, Y = np.ones((5, 1, 6, 6), np.float32), np.zeros(5, np.int64)


def test_rows_count_every_run():
    trainer = Trainer(model())
    with nnpar.profile() as p:
        for _ in range(3):
            trainer.train_step(X, Y)
    rows = {(row.layer, row.step): row for row in p.rows}
    assert rows["0", "framed_conv2d"].count == 3
    assert rows["loss", "cross_entropy"].count == 3
    assert rows["0", "framed_conv2d"].flops == 3 * 2 * 5 * 16 * 4 * 9
    assert sum(row.seconds for row in p.rows) == pytest.approx(p.seconds)
    assert list(p.rows) == sorted(p.rows, key=lambda row: -row.seconds)
    assert "conv2d" in str(p)


def test_nothing_is_recorded_outside():
    trainer = Trainer(model())
    with nnpar.profile() as p:
        pass
    trainer.train_step(X, Y)
    assert p.rows == []
    assert p.seconds == 0


def test_profiles_may_be_nested():
    with nnpar.profile() as outer:
        model()(X)
        with nnpar.profile() as inner:
            model()(X)
    assert [sum(row.count for row in p.rows) for p in (outer, inner)] == [6, 3]


def test_trace(tmp_path):
    with nnpar.profile() as p:
        model()(X)
    p.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["0 framed_conv2d", "2 transpose", "3 gemm"]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events)
    assert events[0]["ts"] == 0


def test_a_plan_shows_its_steps_before_and_after_a_run():
    trainer = Trainer(model())
    with pytest.raises(RuntimeError, match="expected a training step before"):
        _ = trainer.plan
    trainer.train_step(X, Y)
    table = str(trainer.plan)
    assert "conv2d + relu" in table
    assert "share" in table
    assert "share" not in str(nnpar.plan.Plan(model(), X.shape, training=True))


def test_summary():
    lines = model().summary((1, 6, 6)).splitlines()
    assert lines[1].split()[:2] == ["0", "Conv2d"]
    assert "(4, 4, 4)" in lines[1]
    assert lines[-1].startswith("235 parameters, 0.002 MFLOP")
    with pytest.raises(ValueError, match="Conv2d"):
        model().summary((2, 6, 6))
