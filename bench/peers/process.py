"""Workers as the coordinator sees them: processes to ask, that may fail."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
START_SECONDS, REPLY_SECONDS = 120.0, 120.0


class WorkerError(Exception):
    """The library cannot do what was asked; its worker can go on, or be started again."""


class WorkerProcess:
    """A worker, started when it is first asked, and again after it ended.

    Parameters
    ----------
    library : str
        Name in reports.
    command : sequence of str
    environment : dict
        The process' environment variables.
    log : path
        Receives what the library prints.
    """

    def __init__(self, library: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.library = library
        self.versions: dict[str, str] = {}
        self.operations: list[str] = []
        self._command, self._environment, self._log = list(command), environment, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and hear what it can do; nothing if it runs.

        Raises
        ------
        WorkerError
            If the library cannot be used.
        """
        if self._process is not None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=self._environment
            )
        try:
            hello = self._reply(START_SECONDS)
        except WorkerError:
            self.stop()
            raise
        self.versions, self.operations = hello["versions"], hello["operations"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The worker's reply.

        Raises
        ------
        WorkerError
            If it is an error, or there is none.
        """
        self.start()
        stream = self._running.stdin
        assert stream is not None
        try:
            stream.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            stream.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._reply(REPLY_SECONDS)

    def busy_seconds(self) -> float:
        """Processor time of all its threads so far."""
        if self._process is None:
            return 0.0
        total = 0
        for path in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except OSError:  # the thread has ended
                continue
        return total / 1e9

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _reply(self, seconds: float) -> dict[str, Any]:
        assert self._running.stdout is not None
        stream = self._running.stdout.fileno()
        line, end = b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            if not select.select([stream], [], [], max(0.0, end - time.monotonic()))[0]:
                self.stop()
                raise WorkerError(f"no reply within {seconds:.0f} seconds")
            part = os.read(stream, 1 << 16)
            if not part:
                raise self._ended()
            line += part
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def _ended(self) -> WorkerError:
        status = self._running.wait()
        self.stop()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return WorkerError(f"ended with status {status}" + (f": {lines[-1]}" if lines else ""))


def worker(library: str, implementation: str, python: Path, threads: int, folder: Path) -> WorkerProcess:
    """The worker of a library in some Python, with a number of threads."""
    command = [str(python), str(HERE / "worker.py"), implementation, str(threads)]
    environment = _environment(threads)
    if python == Path(sys.executable):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    else:
        environment.pop("PYTHONPATH", None)  # it is of another environment
    return WorkerProcess(library, command, environment, folder / f"{library}.log")


def _environment(threads: int) -> dict[str, str]:
    """Threads as each library wants to be told. Memory once freed stays with the process, to peers' advantage."""
    names = ("NNPAR", "OMP", "MKL", "OPENBLAS")
    flags = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    }


def settle(workers: Iterable[WorkerProcess], quiet: float = 0.005, patience: float = 2.0) -> bool:
    """Wait until no worker uses a processor: after a run, threads spin for a while. False if patience ends first."""
    workers = list(workers)
    end = time.monotonic() + patience
    before = [worker.busy_seconds() for worker in workers]
    while time.monotonic() < end:
        time.sleep(quiet)
        now = [worker.busy_seconds() for worker in workers]
        if all(after - earlier < 0.1 * quiet for after, earlier in zip(now, before, strict=True)):
            return True
        before = now
    print(f"workers do not come to rest within {patience} seconds", file=sys.stderr)
    return False
