"""MPI goes on with messages in calls only: a thread that calls it now and then, while this process computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PAUSE = 1e-3  # seconds between two calls: bench/README.md says what others cost


class Pump:
    """Calls what it is given from a thread from `start` until that says that all is done, or `stop`; if MPI allows
    several threads.
    """

    def __init__(self) -> None:
        self._runs = threading.Event()
        self._thread: threading.Thread | None = None
        self._go_on: Callable[[], bool] = bool

    def start(self, go_on: Callable[[], bool]) -> None:
        """There are messages on their way; `go_on` calls MPI, does not wait, and says whether there still are."""
        self._go_on = go_on
        if self._thread is None:
            from mpi4py import MPI

            self._thread = threading.Thread(target=self._call, name="nnpar-mpi", daemon=True)
            if MPI.Query_thread() >= MPI.THREAD_MULTIPLE:
                self._thread.start()
        self._runs.set()

    def stop(self) -> None:
        """There are none, or this thread waits for them itself."""
        self._go_on = bool

    def _call(self) -> None:
        while True:
            self._runs.wait()
            self._runs.clear()  # before the call: a start meanwhile is not lost
            if self._go_on():
                self._runs.set()
                time.sleep(PAUSE)
