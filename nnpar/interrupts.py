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

    Parameters
    ----------
    together : bool
        Whether several processes have to agree first: then the first signal only waits as `pending`, until somebody
        calls `raise_for`.

    Attributes
    ----------
    pending : int
        The number of the signal that waits, or 0.
    """

    def __init__(self, together: bool = False) -> None:
        self._together = together
        self.pending = 0
        self._deferred = 0
        self._error: BaseException | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self.pending = 0
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
        if self._together and not self.pending:
            self.pending = number
        elif self._deferred:
            self._error = _error_of(number)
        else:
            raise _error_of(number)

    def raise_for(self, number: int) -> None:
        """Raise what a signal raises that any of the processes has got; 0 is none."""
        if number:
            raise _error_of(number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What is done within is done whole."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
            if not self._deferred and self._error is not None:
                error, self._error = self._error, None
                raise error


def _error_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()
