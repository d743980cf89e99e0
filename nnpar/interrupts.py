"""Ctrl-C and SIGTERM in training: they end it between two steps, never within what belongs together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(SystemExit):
    """Raised by SIGTERM while a model trains; unless it is caught, the process ends with status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupts:
    """While it is entered, in the main thread and unless the program has handlers of its own, SIGINT raises
    KeyboardInterrupt and SIGTERM :class:`Terminated`; within ``with interrupts.deferred():`` at its end.
    """

    def __init__(self) -> None:
        self._deferred = 0
        self._pending: BaseException | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        error: BaseException = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
        if not self._deferred:
            raise error
        self._pending = error

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What is done within is done whole."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
            if not self._deferred and self._pending is not None:
                pending, self._pending = self._pending, None
                raise pending
