"""A thread in which exceptions can be raised from outside, so that they meet only what they were meant for."""

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

    The interpreter raises what was sent at the next bytecode boundary of the thread: not inside a call that blocks, and
    perhaps only after the code that was meant has returned. So the thread opens itself for one piece of code, and
    `close` takes back what was sent and has not been raised.
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
        """Before everything else."""
        with self._lock:
            self._ident = threading.get_ident()
            self._alive = True

    def open(self, code: object) -> None:
        """From here on `code` can be interrupted, once."""
        with self._lock:
            self._sent = False
            self._code = code

    def close(self) -> None:
        """Raises what had been sent, or takes it back: when this has ended either way, nothing comes any more."""
        with self._lock:
            self._code = _CLOSED
            sent = self._sent
        if sent:
            _set_async_exception(self._ident, ctypes.py_object())  # NULL: nothing any more

    def leave(self) -> None:
        """After everything else."""
        with self._lock:
            self._alive = False

    # --- from anywhere -------------------------------------------------------------------------------------------
    # Under the lock the thread can neither go on to other code nor end, after which its ident could be another's.

    def interrupt(self, code: object, exception: type[BaseException]) -> None:
        """Raises it in the thread while it runs `code`."""
        with self._lock:
            if self._code is code and not self._sent:
                self._sent = True
                _set_async_exception(self._ident, exception)

    def end(self) -> None:
        """Raises SystemExit in a thread that is not to run anything more. Code that waits in a call notices when that
        returns, if ever."""
        with self._lock:
            self._code = _CLOSED
            if self._alive:
                _set_async_exception(self._ident, SystemExit)
