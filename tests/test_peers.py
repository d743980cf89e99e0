"""bench/peers: turns, comparisons and reports, with libraries of a few lines in place of the real ones."""

import json
import os
import stat
import sys

import cases
import coordinator
import environment
import library
import numpy as np
import operations
import picture
import process
import pytest
import report
import tasks

from nnpar import ops

FAKES = """
import os, time
import numpy as np
from library import Prepared

class Right:
    versions = {"right": "1.0"}
    def __init__(self, threads):
        print("noise on stdout")
    def gemm(self, a, b):
        return Prepared(lambda: a @ b, lambda c: c, 2.0 * a.size * b.shape[1], 4.0 * (a.size + b.size))

class Wrong(Right):
    def gemm(self, a, b):
        return Prepared(lambda: a @ b + 1.0, lambda c: c)

class Slow(Right):
    def gemm(self, a, b):
        return Prepared(lambda: time.sleep(0.01), lambda _: a @ b)

class Raises(Right):
    def gemm(self, a, b):
        raise TypeError("not today")

class Crashes(Right):
    def gemm(self, a, b):
        os.write(2, b"illegal instruction\\n")
        os._exit(3)

class Hangs(Right):
    def gemm(self, a, b):
        time.sleep(60)

class Other(Right):
    gemm = None
    def relu(self, x):
        return Prepared(lambda: x, lambda y: y)

class Absent:
    def __init__(self, threads):
        raise ImportError("no such library")
"""

INPUTS = {"a": lambda: np.ones((3, 4), np.float32), "b": lambda: np.ones((4, 5), np.float32)}
TASK = tasks.Task("tiny", "gemm awkward", tasks.FORWARD, "gemm", INPUTS, {}, "(3, 4) @ (4, 5)")
MACHINE = {"processor": "a processor", "cores": 2, "isa": "avx2", "system": "Linux", "date": "today"}


@pytest.fixture
def start(tmp_path):
    """Make a worker of a class of FAKES; all end with the test."""
    (tmp_path / "fakes.py").write_text(FAKES)
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    workers = []

    def make(name):
        command = [sys.executable, str(process.HERE / "worker.py"), f"fakes:{name}", "1"]
        workers.append(process.WorkerProcess(name, command, variables, tmp_path / f"{name}.log"))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


def test_turns_and_failures(start, tmp_path):
    workers = [start(name) for name in ("Right", "Slow", "Wrong", "Raises", "Crashes", "Other")]
    for worker in workers:
        worker.start()
    assert workers[0].versions == {"right": "1.0"}
    for _ in range(2):  # who crashed is there again
        measured = coordinator.measure(TASK, workers, 3, 0.0, tmp_path)
        assert {name: len(rounds) for name, rounds in measured.rounds.items()} == {"Right": 3, "Slow": 1}
        assert all(len(times) == coordinator.LEAST_RUNS for rounds in measured.rounds.values() for times in rounds)
        assert measured.errors == {"Slow": 0.0, "Wrong": 0.25}
        assert measured.failures == {
            "Wrong": "another result: off by 0.25 of the largest element",
            "Raises": "TypeError: not today",
            "Crashes": "ended with status 3: illegal instruction",
        }
        assert measured.flops == 120.0


def test_who_cannot_start_or_does_not_answer(start, monkeypatch):
    with pytest.raises(process.WorkerError, match=r"^ImportError: no such library$"):
        start("Absent").start()
    monkeypatch.setattr(process, "REPLY_SECONDS", 0.1)
    worker = start("Hangs")
    worker.start()
    files = {name: os.devnull for name in INPUTS}
    with pytest.raises(process.WorkerError):  # the files hold no arrays
        worker.ask("prepare", operation="gemm", inputs=files, options={}, result=os.devnull)
    for name, make in INPUTS.items():
        np.save(f"{name}.npy", make())
        files[name] = os.path.abspath(f"{name}.npy")
    with pytest.raises(process.WorkerError, match="no reply"):
        worker.ask("prepare", operation="gemm", inputs=files, options={}, result=os.devnull)


def test_numbers():
    own, peer = [[1.0, 9.0, 2.0], [4.0], [1.0]], [[6.0], [4.0]]
    assert coordinator.ratio(own, peer) == 2.0  # of 3 and 1: the third round has no peer
    assert coordinator.typical(own) == 2.0
    assert coordinator.best_peer({"nnpar": own, "slow": peer, "fast": [[3.0]]}, "nnpar") == "fast"
    assert coordinator.best_peer({"nnpar": own}, "nnpar") is None
    assert coordinator.difference(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 0.5
    for bad in (np.array([1.0]), np.array([1.0, np.nan])):
        assert coordinator.difference(bad, np.array([1.0, 4.0])) == float("inf")


@pytest.fixture
def finished():
    """A report of two cases at two numbers of threads: 2 and 0.5 times as fast as the best peer."""
    made = report.Report(dict(MACHINE), {"nnpar": "1"}, {"jax": "no such library"})
    for threads in (1, 2):
        for case, seconds, peak in (("quick", 1.0, 2.0), ("slow", 4.0, 2.5)):
            task = tasks.Task(case, "gemm awkward", tasks.FORWARD, "gemm", INPUTS, {}, "tiny")
            rounds = {"nnpar": [[seconds]], "torch": [[2.0]], "mnn": [[3.0]]}
            measured = coordinator.Measured(rounds, {"torch": 1e-7}, {"jax": "ended"}, 1e9, 1e9)
            made.rows.append(report.make_row(task, threads, measured, {"gflops": peak, "gbs": 4.0}))
    return made


def test_report(finished, tmp_path):
    assert [(row.ratio, row.best_peer) for row in finished.rows[:2]] == [(2.0, "torch"), (0.5, "torch")]
    summary = report.summaries(finished.rows)[0]
    assert (summary.cases, summary.losses, summary.least, summary.least_case) == (2, 1, 0.5, "slow")
    assert summary.mean == pytest.approx(1.0)
    finished.to_json(tmp_path / "numbers.json")
    written = json.loads((tmp_path / "numbers.json").read_text())
    shares = [{name: timing["share"] for name, timing in row["libraries"].items()} for row in written["rows"][:2]]
    assert shares == [{"nnpar": 0.5, "torch": 0.25, "mnn": 1 / 6}, {"nnpar": 0.1, "torch": 0.2, "mnn": 1 / 7.5}]
    assert written["rows"][1]["ceilings"] == {"gflops": 2.5, "gbs": 4.0}
    assert written["rows"][0]["failures"] == {"jax": "ended"}
    finished.to_markdown(tmp_path / "tables.md")
    text = (tmp_path / "tables.md").read_text()
    assert "| gemm awkward | forward | 1.00 | **0.50** (slow) | 1 of 2 | 1.00 |" in text
    assert "| slow | forward | 2 | 0.50 | torch | 10% |" in text
    assert "2 threads: 2.0 to 2.5 GFLOP/s of multiply-adds that touch no memory, 4.0 to 4.0 GB/s" in text
    picture.draw(finished, tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").stat().st_size > 10_000


def test_report_without_peers_or_nnpar(tmp_path):
    made = report.Report(dict(MACHINE))
    ceilings = {"gflops": 1.0, "gbs": 1.0}
    made.rows.append(report.make_row(TASK, 1, coordinator.Measured({}, {}, {"nnpar": "ended"}), ceilings))
    made.rows.append(report.make_row(TASK, 1, coordinator.Measured({"nnpar": [[1.0]]}), ceilings))
    assert report.describe(made.rows[0]).endswith("nnpar failed\n    nnpar: ended")
    made.to_markdown(tmp_path / "tables.md")
    picture.draw(made, tmp_path / "ratios.png")
    assert not (tmp_path / "ratios.png").exists()


def test_tasks_are_nnpars():
    from with_nnpar import Nnpar

    found = tasks.tasks()
    assert len({task.name for task in found}) == len(found)
    assert all(callable(getattr(Nnpar, task.operation)) for task in found)
    assert {task.group for task in found} == set(tasks.GROUPS)
    assert all((process.HERE / f"{module.partition(':')[0]}.py").exists() for module in library.LIBRARIES.values())


def test_tasks_of_small_shapes_by_nnpar(monkeypatch):
    """Inputs and options fit the methods, and training's batch normalisation is that of ops."""
    from with_nnpar import Nnpar

    case = cases.BatchNormCase("small", 2, 3, 4, 5, benchmark=True)
    monkeypatch.setattr(cases, "BATCH_NORM_CASES", [case])
    monkeypatch.setattr(operations, "LOGITS", [(5, 7)])
    found = {task.name: task for task in (*tasks._batch_norms(), *tasks._losses())}
    results, made = {}, {}
    for name, task in found.items():
        made[name] = {key: make() for key, make in task.inputs.items()}
        prepared = getattr(Nnpar(1), task.operation)(**made[name], **task.options)
        results[name] = prepared.result(prepared.run())
        assert prepared.flops > 0.0
        assert prepared.bytes > 0.0
    assert len(found) == 6
    for relu, name in enumerate(("batch_norm", "batch_norm_relu")):
        inputs = made[f"memory-bound: {name}-small forward"]
        y, _, _ = ops.batch_norm2d(*inputs.values(), eps=1e-5, relu=bool(relu))
        cases.assert_equal(results[f"memory-bound: {name}-small forward"], y)
        inputs = made[f"memory-bound: {name}-small backward"]
        assert ("y" in inputs) == bool(relu)
        dx = ops.batch_norm2d_grad(**inputs)[0]
        cases.assert_equal(results[f"memory-bound: {name}-small backward"], dx)
    logits = made["memory-bound: softmax-5x7 forward"]["logits"]
    cases.assert_equal(results["memory-bound: softmax-5x7 forward"], ops.softmax(logits))


def test_what_cannot_be_installed(tmp_path):
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ncase $* in *bad*) echo 'ERROR: no bad==1' >&2; exit 1;; esac\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("good==1\nbad==1\n")
    assert environment.install(tmp_path / "environment", requirements) == (python, {"bad==1": "ERROR: no bad==1"})


def test_predictions_of_small_networks(monkeypatch):
    """With the parameters and the statistics, which are not those that a network is made with."""
    from with_nnpar import Nnpar

    monkeypatch.setattr(operations, "NETWORKS", {"lenet5": (2, (1, 28, 28), 10), "unet_small": (2, (3, 16, 8), 2)})
    found = list(tasks._inference())
    assert [task.which for task in found] == ["inference of 1", "inference of 32"] * 2
    for task in found:
        made = {key: make() for key, make in task.inputs.items()}
        name = task.options["name"]
        prepared = Nnpar(1).predict(**made, **task.options)
        y = prepared.result(prepared.run())
        model = operations.network(name, made["parameters"], made["statistics"])
        np.testing.assert_allclose(y, model(made["x"]), rtol=1e-3, atol=1e-5)
        assert prepared.flops > 0.0
    running = made["statistics"]
    assert running.size == sum(a.size for a in model.state().values()) - model.parameter_count
    assert len(np.unique(running)) == running.size
