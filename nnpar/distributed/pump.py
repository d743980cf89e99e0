"""MPI goes on with messages in calls only: a thread that calls it now and then, while this process computes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

PAUSE = 1e-3  # seconds between two calls: bench/README.md says what others cost


class Pump:
    """Calls MPI from a thread between `start` and `stop`, if MPI allows several threads.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    """

    def __init__(self, comm: Comm) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._runs = threading.Event()
        if MPI.Query_thread() >= MPI.THREAD_MULTIPLE:
            threading.Thread(target=self._go_on, name="nnpar-mpi", daemon=True).start()

    def start(self) -> None:
        """There are messages on their way."""
        self._runs.set()

    def stop(self) -> None:
        """There are none, or this thread waits for them itself."""
        self._runs.clear()

    def _go_on(self) -> None:
        while True:
            self._runs.wait()
            self._comm.Iprobe()  # what it finds does not matter
            time.sleep(PAUSE)
