"""Data parallelism on real MPI processes: the same bits for any number of them, and what becomes of failures."""

import json
import os
import signal
import subprocess
import sys
import time

import mpi
import numpy as np
import pytest

from nnpar import Linear, Trainer
from nnpar._kernels import runtime
from nnpar.parallel import LAUNCHER_VARIABLES

mpi.required()
DataParallel = pytest.importorskip("nnpar.distributed").DataParallel


@pytest.mark.parametrize(("kind", "accumulate"), [("arrays", 1), ("arrays", 2), ("loader", 1)])
def test_the_same_bits_on_any_number_of_ranks_and_threads(kind, accumulate):
    """Batch normalisation, dropout, augmentation, mixtures, clipping, averages, metrics, uneven batches."""
    found = [mpi.work(ranks, "reproducible", kind, accumulate) for ranks in (1, 2, 3, 4, 8)]
    found.append(mpi.work(2, "reproducible", kind, accumulate, NNPAR_NUM_THREADS="3"))
    assert [each["size"] for each in found] == [1, 2, 3, 4, 8, 2]
    for each in found:
        assert len(each["digests"]) == 1
        assert (each["digests"], each["record"]) == (found[0]["digests"], found[0]["record"])


@pytest.mark.parametrize("kind", ["plain", "sync", "shards"])
def test_gradients_of_parts_differ_by_rounding(kind, tmp_path):
    """With weighted samples, accumulated batches and a last one of fewer samples than processes: sums of MPI, also with
    batch normalisation over all of them, and of shards.
    """
    found = [mpi.work(1, "mean", "plain" if kind == "shards" else kind, tmp_path / "1.npz")]
    found += [mpi.work(ranks, "mean", kind, tmp_path / f"{ranks}.npz") for ranks in (2, 3, 4)]
    weights = [np.load(tmp_path / f"{ranks}.npz") for ranks in (1, 2, 3, 4)]
    for each, own in zip(found[1:], weights[1:], strict=True):
        assert len(each["digests"]) == 1
        assert each["score"]["accuracy"] == pytest.approx(found[0]["score"]["accuracy"], abs=0.003)
        for name in own.files:
            largest = abs(weights[0][name]).max()
            assert abs(own[name] - weights[0][name]).max() <= 2e-6 * largest, name


@pytest.mark.parametrize("scenario", [["mean", "sync"], ["reproducible"]])
def test_buckets_go_before_the_backward_pass_is_over(scenario, tmp_path):
    steps = mpi.work(2, *scenario, tmp_path / "w.npz" if scenario == ["mean", "sync"] else "plain")[
        "trace"
    ].splitlines()
    exchanges = [number for number, line in enumerate(steps) if " exchange " in line]
    assert len(exchanges) >= 3
    assert any("grad" in line for line in steps[exchanges[0] : exchanges[-1]])


def test_process_0_logs_and_all_stop_early(tmp_path):
    counts = mpi.work(3, "callbacks", tmp_path / "run")["counts"]
    assert counts == [[3, 3, 3, 3], [0, 3, 0, 3], [0, 3, 0, 3]]
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_stops_all(rank):
    found = mpi.work(2, "stop_on_one", rank)
    assert len(set(found["epochs"])) == 1
    assert len(found["digests"]) == 1
    if rank == 0:
        assert found["epochs"] == [1, 1]


def test_killed_and_resumed_on_other_numbers_of_ranks(tmp_path):
    expected = mpi.work(1, "resumable", tmp_path / "whole", 3)
    for ranks, kill_at in ((3, 9), (2, 21)):
        started = time.monotonic()
        result = mpi.run(ranks, mpi.WORKER, "resumable", tmp_path / "cut", 3, kill_at)
        assert result.returncode != 0
        assert time.monotonic() - started < 20
    assert mpi.work(4, "resumable", tmp_path / "cut", 3) == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_all_with_its_message(rank):
    started = time.monotonic()
    result = mpi.run(2, mpi.WORKER, "raises", rank)
    assert result.returncode != 0
    assert time.monotonic() - started < 20
    assert f"nnpar: error on rank {rank} of 2:" in result.stderr
    assert "this process has enough" in result.stderr


def test_a_loss_that_is_not_finite_is_seen_by_all():
    result = mpi.run(3, mpi.WORKER, "not_finite")
    assert json.loads(result.stdout.splitlines()[0])["skipped"] == [1, 1, 1]
    assert result.returncode != 0
    assert "the loss is nan at step" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_all(number, tmp_path):
    process = subprocess.Popen(
        mpi.command(2, mpi.WORKER, "wait_for_signal", tmp_path),
        env=mpi.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "steps").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            if b"wait_for_signal" in mpi.arguments(pid) and b"mpiexec" not in mpi.arguments(pid):
                os.kill(pid, number)  # to each process of the job, as a batch system does
        output = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0, output
    assert list((tmp_path / "run").glob("step-*.safetensors")), output


def test_processes_of_different_instruction_sets():
    isas = [isa for isa, runs in runtime.built_isas() if runs][:2]
    ranks = [["-n", "1", "-env", "NNPAR_ISA", isa, sys.executable, str(mpi.WORKER), "placement"] for isa in isas]
    result = subprocess.run(
        [mpi.MPIEXEC, *ranks[0], ":", *ranks[1]], capture_output=True, text=True, timeout=60, env=mpi.environment()
    )
    assert result.returncode != 0
    assert f"expected one instruction set in all processes, got {', '.join(sorted(isas))}" in result.stderr


def test_ranks_share_the_processors():
    cpus = len(os.sched_getaffinity(0))
    assert mpi.work(2, "placement")["threads"] == [max(1, cpus // 2)] * 2
    assert mpi.work(2, "placement", OMP_NUM_THREADS="3")["threads"] == [3, 3]
    assert mpi.work(1, "placement")["threads"] == [cpus]


def test_the_command(tmp_path):
    (tmp_path / "run.toml").write_text('[data]\ntrain = "digits"\n[model]\nname = "digits_cnn"\n[train]\nepochs = 1\n')
    nnpar = ["-m", "nnpar"]
    for ranks in (1, 2):
        changes = ["--set", "train.shards=2", "--set", f"train.folder='{tmp_path}/{ranks}'"]
        result = mpi.run(ranks, *nnpar, "train", tmp_path / "run.toml", *changes)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("epoch 1/1") == 1
    assert len({(tmp_path / str(k) / "best.safetensors").read_bytes() for k in (1, 2)}) == 1
    result = mpi.run(2, *nnpar, "info")
    assert [line.split(",")[0].split()[:4] for line in result.stdout.splitlines()[-2:]] == [
        ["rank", str(k), "of", "2"] for k in (0, 1)
    ]
    result = mpi.run(2, *nnpar, "train", tmp_path / "none.toml")
    assert result.returncode != 0
    assert result.stderr.count("none.toml") == 1
    result = mpi.run(2, *nnpar, "predict", tmp_path / "1" / "best.safetensors")
    assert "predict: expected one process, got 2 by mpiexec" in result.stderr


def test_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert Trainer(Linear(2, 2), parallel=DataParallel(shards=2)).train_step(np.zeros((4, 2)), [0, 1, 0, 1]) > 0
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ImportError, match=r"nnpar: MPI needs mpi4py: pip install 'nnpar\[mpi\]'"):
        DataParallel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 3}, "DataParallel: shards: expected a power of two of at least 1"),
        ({"shards": 0}, "DataParallel: shards: expected at least 1, got 0"),
        ({"shards": 2, "sync_batch_norm": True}, "sync_batch_norm: expected no shards"),
        ({"bucket_mb": 0}, "bucket_mb: expected a number above 0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        DataParallel(**options)


def test_a_parallel_that_is_none():
    with pytest.raises(TypeError, match="Trainer: parallel: expected a Parallel, got str"):
        Trainer(Linear(2, 2), parallel="mpi")
