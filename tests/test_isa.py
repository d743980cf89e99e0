"""Every instruction set that this machine can run: each kernel by itself, and the correctness tests once more."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnpar._kernels import runtime

HERE = Path(__file__).parent
FILES = [
    "test_gemm.py",
    "test_conv2d.py",
    "test_winograd.py",
    "test_pool2d.py",
    "test_resampling.py",
    "test_attention.py",
    "test_batch_norm.py",
    "test_norms.py",
    "test_elementwise.py",
    "test_optimizer_steps.py",
    "test_guard_pages.py",
]
OTHERS = [name for name, runs in runtime.built_isas() if runs and name != runtime.isa()]


def test_the_best_instruction_set_is_in_use():
    runnable = [name for name, runs in runtime.built_isas() if runs]
    assert runnable[-1] == "scalar"
    assert runtime.isa() == (os.environ.get("NNPAR_ISA") or runnable[0])


@pytest.mark.skipif(sys.platform != "linux", reason="the harness is written for Linux")
def test_every_kernel_by_itself(tmp_path):
    """The harness in C, which emulators run for other processors: tests/isa/README.md."""
    processor = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if processor not in ("x86_64", "aarch64"):
        pytest.skip(f"the harness is not for {processor}")
    if shutil.which(shlex.split(os.environ.get("CC", "cc"))[0]) is None:
        pytest.skip("no C compiler")
    program = str(tmp_path / "harness")
    compilation = [sys.executable, str(HERE / "isa" / "compile.py"), processor, program]
    subprocess.run(compilation, env={**os.environ, "LDFLAGS": ""}, check=True, timeout=300)
    result = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[:4000]
    for isa, runs in runtime.built_isas():
        assert (f"{isa}: " in result.stdout) == runs


@pytest.mark.parametrize("isa", OTHERS)
def test_correctness_on(isa):
    """This file is not among them, so that this ends."""
    code = (
        "import sys, pytest; from nnpar._kernels import runtime; assert runtime.isa() == sys.argv[1]; "
        "sys.exit(pytest.main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", code, isa, "-q", "-x", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command + [str(HERE / name) for name in FILES],
        env={**os.environ, "NNPAR_ISA": isa, "NNPAR_NUM_THREADS": "1"},  # quicker; threads change no bit
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
