"""Threads for done-callbacks, which are user code and may take any time.

One thread runs them in order. If it makes no progress for a moment while callbacks wait, another thread is started. So
a slow callback delays the others by no more than that moment, and callbacks that wait for others do not wait for ever.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from herdmaster import forks

STALL_SECONDS: Final = 0.05
MOST_THREADS: Final = 64
"""When so many callbacks never return, the others wait."""

_log = logging.getLogger("herdmaster.client")

Callback = Callable[[], None]
CallLater = Callable[[float, Callable[[int], None], int], object]


class CallbackThreads:
    """The callback threads of one Herd. `put`, `end` and the timers of `call_later` belong to one thread, `close` to
    any."""

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._queue: SimpleQueue[Callback | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ended = 0  # counted without a lock: only its changes matter
        self._watching = False

    def put(self, callback: Callback) -> None:
        """Run a callback soon. The first one starts a thread."""
        self._queue.put(callback)
        if not self._threads:
            self._start()
        elif not self._watching:
            self._watch()

    def end(self) -> None:
        """Let each thread end once all callbacks have run. Call `put` no more after that."""
        for _ in self._threads:
            self._queue.put(None)

    def close(self, seconds: float) -> None:
        """After `end`, wait up to `seconds` for the threads."""
        if not self._threads:
            self._run_all()
        if threading.current_thread() in self._threads:
            return  # a callback closes the Herd: it would wait for itself
        limit = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(limit - time.monotonic(), 0.0))

    def _watch(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the callbacks that are left run in order
            self._call_later(STALL_SECONDS, self._look, self._ended)
            self._watching = True

    def _look(self, ended_before: int) -> None:
        self._watching = False
        if self._queue.empty():
            return
        if self._ended == ended_before and len(self._threads) < MOST_THREADS:
            self._start()
        self._watch()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"herdmaster-callbacks-{len(self._threads)}", daemon=True)
        with contextlib.suppress(RuntimeError):  # the interpreter ends, or there are no more threads: `close` runs them
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        while True:
            callback = self._queue.get()
            if callback is None:
                return
            self._run(callback)
            del callback  # not kept until the next one comes

    def _run_all(self) -> None:
        while not self._queue.empty():
            callback = self._queue.get()
            if callback is not None:
                self._run(callback)

    def _run(self, callback: Callback) -> None:
        try:
            with forks.UserCode():
                callback()
        except BaseException:  # noqa: BLE001 - also SystemExit: it would only end this thread
            _log.exception("a done-callback failed")
        self._ended += 1
