"""A thread in which other threads can raise exceptions, each in the piece of code that it is meant for."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final

_set_async_exception: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exception.restype = ctypes.c_int

_CLOSED: Final = object()


class Seat:
    """One thread of a pool.

    The interpreter raises a sent exception at the next bytecode boundary of the thread: not inside a call that blocks,
    and perhaps after the intended code has returned. So the thread opens its seat for one piece of code at a time, and
    `close` takes back an exception that was sent and has not been raised.
    """

    __slots__ = ("_alive", "_code", "_ident", "_lock", "_sent", "thread")

    def __init__(self, work: Callable[[Seat], None], name: str) -> None:
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)
        self._lock = threading.Lock()
        self._ident = 0
        self._alive = False
        self._code: object = _CLOSED
        self._sent = False

    # --- in the thread -------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Note that the thread has begun. Called first."""
        with self._lock:
            self._ident = threading.get_ident()
            self._alive = True

    def open(self, code: object) -> None:
        """Let `code` be interrupted from here on, once."""
        with self._lock:
            self._sent = False
            self._code = code

    def close(self) -> None:
        """End the code. An exception that was sent is raised here, or taken back; none is raised afterwards."""
        with self._lock:
            self._code = _CLOSED
            sent = self._sent
        if sent:
            _set_async_exception(self._ident, ctypes.py_object())  # NULL takes back what was sent

    def leave(self) -> None:
        """Note that the thread ends. Called last."""
        with self._lock:
            self._alive = False

    # --- from anywhere -------------------------------------------------------------------------------------------
    # While the lock is held the thread can neither go on to other code nor end, so its ident is not reused.

    def interrupt(self, code: object, exception: type[BaseException]) -> None:
        """Raise the exception in the thread, if it is running `code`."""
        with self._lock:
            if self._code is code and not self._sent:
                self._sent = True
                _set_async_exception(self._ident, exception)

    def end(self) -> None:
        """Raise SystemExit in the thread, which must not run anything more. Code that waits in a call ends when that
        returns, if it does."""
        with self._lock:
            self._code = _CLOSED
            if self._alive:
                _set_async_exception(self._ident, SystemExit)
