"""`LoopThread`: a thread that runs an event loop, with a bell that wakes the loop from any other thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

from herdmaster.api import io_logs
from herdmaster.api.callbacks import Callback, CallbackThreads
from herdmaster.api.daemon_executor import DaemonExecutor

_CANCEL_SECONDS: Final = 0.5
CANCEL_ROUNDS: Final = 4
"""Each step of the farewell may wait once more."""

Serve = Callable[[], Coroutine[object, object, None]]
Failed = Callable[[BaseException], None]


class Callbacks(Protocol):
    """Runs code that may block, which the thread of a loop must not run; see `CallbackThreads`."""

    def put(self, callback: Callback) -> None: ...

    def end(self) -> None: ...

    def close(self, seconds: float) -> None: ...


class AnyLoopThread(Protocol):
    """The part of `LoopThread` that a Herd uses. The simulation has another implementation."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def callbacks(self) -> Callbacks: ...

    @property
    def ring(self) -> Callable[[], object]:
        """Wakes the loop, from any thread. Raises OSError after `release`."""

    def start(self, serve: Serve, failed: Failed, ended: Callable[[], None]) -> None:
        """Begin to run `serve` in the loop. `failed` is called with what it raises, and `ended` at the end, both on
        this thread. Raises RuntimeError if no thread can begin."""

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""

    def hush(self) -> None:
        """Take what the bell has rung so far."""

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, at most so long."""

    def release(self) -> None:
        """Close the loop and the bell."""


class LoopThread:
    """Starts with `start`. `heard` is called in the loop after each `ring`, or once after several."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._bell, self._rung = socket.socketpair()
        self._rung.setblocking(False)
        # Never more than a few bytes are on their way, so it does not block. And it runs no bytecode, so that no
        # finaliser and no signal handler runs before the system call.
        self.ring: Callable[[], object] = partial(self._bell.send, b"!")
        self.loop = asyncio.new_event_loop()
        self.loop.add_reader(self._rung, heard)
        self.loop.set_default_executor(DaemonExecutor())
        self.callbacks: Callbacks = CallbackThreads(self.loop.call_later)
        self._thread: threading.Thread | None = None

    def start(self, serve: Serve, failed: Failed, ended: Callable[[], None]) -> None:
        """See `AnyLoopThread`."""
        run = partial(self._run, serve, failed, ended)
        self._thread = threading.Thread(target=run, name="herdmaster-io", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def hush(self) -> None:
        """See `AnyLoopThread`."""
        with contextlib.suppress(OSError):
            self._rung.recv(4096)

    def join(self, seconds: float) -> None:
        """See `AnyLoopThread`."""
        if self._thread is not None:
            self._thread.join(seconds)

    def release(self) -> None:
        """See `AnyLoopThread`."""
        self.loop.close()
        self._bell.close()
        self._rung.close()

    def _run(self, serve: Serve, failed: Failed, ended: Callable[[], None]) -> None:
        io_logs.defer()
        try:
            # Not asyncio.Runner: it would begin a thread to end the default executor with, and at the end of the
            # interpreter no thread can begin any more.
            try:
                self.loop.run_until_complete(serve())
            finally:
                self._cancel_tasks()
        except BaseException as error:  # noqa: BLE001 - callers that wait must not be left waiting
            failed(error)
        finally:
            ended()

    def _cancel_tasks(self) -> None:
        """Cancel what is left of a session that did not end in good order."""
        for _ in range(CANCEL_ROUNDS):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
