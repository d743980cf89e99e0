"""A process with one library: ``python worker.py MODULE:CLASS THREADS``.

Requests and replies are lines of JSON on stdin and stdout; the first reply comes unasked and says what the library can
do. ``{"error": ...}`` answers what went wrong. What the library itself prints goes to stderr.
"""

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import numpy as np
from library import Prepared, aligned_empty
from numpy.typing import NDArray


class Worker:
    """Answers requests about one operation after the other."""

    def __init__(self) -> None:
        self._library: Any = None
        self._prepared: Prepared | None = None

    def open(self, library: str, threads: int) -> dict[str, Any]:
        """Import the library; its versions, and its operations: the public methods."""
        module, _, name = library.partition(":")
        self._library = getattr(importlib.import_module(module), name)(threads)
        names = [name for name in dir(self._library) if not name.startswith("_")]
        return {
            "versions": self._library.versions,
            "operations": [name for name in names if callable(getattr(self._library, name))],
        }

    def prepare(self, operation: str, inputs: dict[str, str], options: dict[str, Any], result: str) -> dict[str, float]:
        """Load the inputs from files, run once, and write the result to a file."""
        arrays = {name: _load(path) for name, path in inputs.items()}
        pairs = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        self._prepared = prepared = getattr(self._library, operation)(**arrays, **pairs)
        np.save(result, np.ascontiguousarray(prepared.result(prepared.run())))
        return {"flops": prepared.flops, "bytes": prepared.bytes}

    def measure(self, seconds: float, least: int) -> dict[str, list[float]]:
        """Seconds of each run, after one that does not count: as many as fit, and some at least."""
        assert self._prepared is not None
        run = self._prepared.run
        run()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < least or time.perf_counter() < end:
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return {"seconds": times}

    def release(self) -> dict[str, Any]:
        """Forget the operation and its arrays."""
        self._prepared = None
        gc.collect()
        return {}

    def ceilings(self) -> dict[str, float]:
        """What the machine can do; of nnpar's library only."""
        ceilings: dict[str, float] = self._library.ceilings()
        return ceilings


def _load(path: str) -> NDArray[Any]:
    stored = np.load(path, mmap_mode="r")
    array = aligned_empty(stored.shape, stored.dtype)
    array[...] = stored
    return array


def _say(stream: TextIO, act: Callable[[], dict[str, Any]]) -> None:
    try:
        reply = act()
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), file=stream, flush=True)


def main() -> None:
    """Say hello, then answer until stdin ends."""
    library, threads = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.disable()
    worker = Worker()
    _say(replies, partial(worker.open, library, threads))
    for line in sys.stdin:
        request = json.loads(line)
        _say(replies, partial(getattr(worker, request.pop("do")), **request))


if __name__ == "__main__":
    main()
