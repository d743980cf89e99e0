"""How tests start several processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "distributed" / "worker.py"
MODEL_WORKER = WORKER.with_name("model_worker.py")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def required():
    """Skips a module's tests where there is no MPI."""
    pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install mpi4py mpich")
    if MPIEXEC is None:
        pytest.skip("mpiexec is missing: pip install mpich", allow_module_level=True)


def command(ranks, *arguments):
    return [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, arguments)]


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("NNPAR_NUM_THREADS", "OMP_NUM_THREADS")}
    return {**kept, **changes}


def run(ranks, *arguments, timeout=60, **changes):
    """Of so many processes: the exit status, stdout and stderr."""
    return subprocess.run(
        command(ranks, *arguments), capture_output=True, text=True, timeout=timeout, env=environment(**changes)
    )


def work(ranks, scenario, *arguments, timeout=60, worker=WORKER, **changes):
    """What process 0 of a scenario of a worker says."""
    result = run(ranks, worker, scenario, *arguments, timeout=timeout, **changes)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def arguments(pid):
    """The command line of a process, if there still is one."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
