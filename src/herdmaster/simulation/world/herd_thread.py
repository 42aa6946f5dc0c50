"""The I/O thread of a simulated Herd: its callbacks run on the virtual loop, and so do those of all other threads.

Threads are told apart by their context. Code of another thread may run wherever the I/O thread could be interrupted
with effect: when it takes what the bell has rung, and when it looks at its queue of calls. In turn the I/O thread may
run in the middle of a call of another thread: before and after that enters its call, and while it rings.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Final, TypeVar

from herdmaster.api.loop_thread import CANCEL_ROUNDS, Failed, Serve
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.process import Process

T = TypeVar("T")

_CANCEL_SECONDS: Final = 0.5
_DELAYS: Final = (0.0, 0.0, 0.0001, 0.002)
"""Seconds until another thread runs."""
_INTERRUPT_CHANCE: Final = 0.2

_on_other_thread: ContextVar[bool] = ContextVar("_on_other_thread", default=False)


class Threads:
    """What the threads of a process share: chance, and calls of other threads that may come in the middle of a turn of
    the I/O thread."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.rng = random.Random(process.rng.getrandbits(64))
        self.calls: deque[Callable[[], None]] = deque()
        """The queue of calls of the I/O thread that runs."""
        self._waiting: deque[Callable[[], None]] = deque()
        self.others: set[asyncio.Task[object]] = set()

    def start_other(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a coroutine in the event loop of another thread."""
        context = copy_context()
        context.run(_on_other_thread.set, True)
        task: asyncio.Task[None] = context.run(self.process.loop.create_task, coroutine)
        self.others.add(task)
        return task

    def run_other(self, call: Callable[[], None]) -> None:
        """Run code of another thread now."""
        context = copy_context()
        context.run(_on_other_thread.set, True)
        context.run(call)

    def call_some_time(self, call: Callable[[], None]) -> None:
        """Run code of another thread at once, or in the middle of a turn of the I/O thread within a moment."""
        if self.rng.random() < 0.5:
            self.run_other(call)
            return
        self._waiting.append(call)
        self.process.loop.call_for(self.process, self.process.loop.now + 0.01, self._run_waiting)

    def interrupt(self) -> None:
        """Let another thread run in the middle of what the I/O thread does, if one wants to."""
        if self._waiting and self.rng.random() < 0.5:
            self._run_waiting()

    def _run_waiting(self) -> None:
        if self._waiting:
            self.run_other(self._waiting.popleft())


class SimulatedLoopThread:
    """Takes the place of `LoopThread`."""

    def __init__(self, threads: Threads, heard: Callable[[], None], fail: Callable[[str], None]) -> None:
        # What the loop leaves out of asyncio's interface raises: an I/O thread does not use it.
        self.loop: asyncio.AbstractEventLoop = _ThreadLoop(threads.process.loop)  # type: ignore[abstract]  # abstract to typeshed only
        self.callbacks = _Callbacks(threads)
        self.ring: Callable[[], object] = self._ring
        self.has_ended = False
        self._threads = threads
        self._process = threads.process
        self._heard = heard
        self._fail = fail
        self._is_rung = False
        self._is_released = False

    def start(self, serve: Serve, failed: Failed, ended: Callable[[], None]) -> None:
        self._main = Context().run(self._process.loop.create_task, self._run(serve, failed, ended))

    @property
    def is_current(self) -> bool:
        return not _on_other_thread.get()

    def hush(self) -> None:
        self._threads.interrupt()
        self._is_rung = False
        self._threads.interrupt()

    def join(self, _seconds: float) -> None:
        """Do nothing: the program waits for `has_ended`."""

    def release(self) -> None:
        self._is_released = True
        self.loop.close()

    def turn(self) -> None:
        """Run the I/O thread in the middle of a call of another thread, if it has been woken."""
        if self._is_rung and self._process.alive and self._threads.rng.random() < _INTERRUPT_CHANCE:
            Context().run(self._hear)

    def _ring(self) -> None:
        if self._is_released:
            raise OSError("the bell is gone")
        if not self._process.alive:
            return
        if not self._is_rung:
            self._is_rung = True
            due = self._process.loop.now + self._threads.rng.choice(_DELAYS)
            Context().run(self._process.loop.call_for, self._process, due, self._wake)
        if _on_other_thread.get():
            self.turn()

    def _wake(self) -> None:
        """Run the I/O thread. When it sleeps again, no other thread is in the middle of a call."""
        self._hear()
        if self._threads.calls and not self._is_rung and not self._is_released:
            self._fail("left a call to its I/O thread in the queue, and the thread sleeps")

    def _hear(self) -> None:
        if self._is_rung and not self._is_released:
            self._heard()

    async def _run(self, serve: Serve, failed: Failed, ended: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            await serve()
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - as `LoopThread` does it
            error = fault
        await self._cancel_tasks()
        if error is not None:
            failed(error)
        ended()
        self.has_ended = True

    async def _cancel_tasks(self) -> None:
        others = {*self._threads.others, self._process.main, asyncio.current_task()}
        for _ in range(CANCEL_ROUNDS):
            left = [task for task in self._process.tasks if task not in others and not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_CANCEL_SECONDS)


class CallQueue(deque[Callable[[], None]]):
    """The queue of calls to an I/O thread. Threads interrupt each other where they use it."""

    def __init__(self, threads: Threads, thread: SimulatedLoopThread) -> None:
        super().__init__()
        self._threads = threads
        self._thread = thread
        threads.calls = self

    def append(self, call: Callable[[], None], /) -> None:
        self._thread.turn()
        super().append(call)
        self._thread.turn()

    def popleft(self) -> Callable[[], None]:
        call = super().popleft()
        self._threads.interrupt()
        return call

    def __bool__(self) -> bool:
        found = len(self) > 0
        if not found and not _on_other_thread.get():
            self._threads.interrupt()
        return found


class _Callbacks:
    """Takes the place of `CallbackThreads`: runs callbacks one after the other, each a moment later."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._queue: deque[Callable[[], None]] = deque()

    @property
    def is_idle(self) -> bool:
        return not self._queue

    def put(self, callback: Callable[[], None]) -> None:
        self._queue.append(callback)
        loop = self._threads.process.loop
        loop.call_for(self._threads.process, loop.now + self._threads.rng.choice(_DELAYS), self._run)

    def _run(self) -> None:
        self._threads.run_other(self._queue[0])
        self._queue.popleft()

    def end(self) -> None:
        """Do nothing: what was put runs all the same."""

    def close(self, _seconds: float) -> None:
        """Do nothing: the program waits for `is_idle`."""


class _ThreadLoop(asyncio.AbstractEventLoop):
    """The part of the virtual loop that an I/O thread uses by itself. When it is closed, its timers are dropped."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._is_closed = False
        self._timers: list[asyncio.TimerHandle] = []

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True
        for timer in self._timers:
            timer.cancel()

    def time(self) -> float:
        return self._loop.time()

    def call_soon(self, *args: object, **named: object) -> asyncio.Handle:
        return self._open().call_soon(*args, **named)  # type: ignore[arg-type]  # passed on as they are

    def call_later(self, *args: object, **named: object) -> asyncio.TimerHandle:
        return self._noted(self._open().call_later(*args, **named))  # type: ignore[arg-type]  # the same

    def call_at(self, *args: object, **named: object) -> asyncio.TimerHandle:
        return self._noted(self._open().call_at(*args, **named))  # type: ignore[arg-type]  # the same

    def _noted(self, timer: asyncio.TimerHandle) -> asyncio.TimerHandle:
        self._timers.append(timer)
        return timer

    def _open(self) -> VirtualLoop:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        return self._loop
