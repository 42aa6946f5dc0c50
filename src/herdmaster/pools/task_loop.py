"""An event loop on a separate thread that code in it cannot end.

asyncio lets the SystemExit or KeyboardInterrupt of a task or a callback out of `run_forever`, and any code may call
`loop.stop()`. Neither damages the loop: it is run again, and goes on with what is scheduled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import NamedTuple, ParamSpec, TypeVar

from herdmaster import forks

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("herdmaster.worker")


class Escaped(NamedTuple):
    """An exception that came out of the loop, with its origin as far as that is known: the asyncio task that raised it
    (None for a callback), and the context."""

    error: SystemExit | KeyboardInterrupt
    task: asyncio.Future[object] | None
    context: Context | None


class TaskLoop:
    """The loop and its thread.

    `escaped` is called on the thread with each SystemExit and KeyboardInterrupt, between two turns of the loop. `broke`
    is called at the end of the thread if the loop broke, so that it cannot be run again. `of` says in the log whose
    loop it is.
    """

    def __init__(
        self,
        name: str,
        *,
        escaped: Callable[[Escaped], None],
        broke: Callable[[TaskLoop, BaseException], None],
        of: str = "all coroutines",
    ) -> None:
        forks.add_task_host()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_Executor(thread_name_prefix=f"{name}-thread"))
        self._escaped = escaped
        self._broke = broke
        self._of = of
        self._stopping = False
        self._fault: BaseException | None = None
        self._last: asyncio.Task[None] | None = None
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Call a callback in the loop, from any thread. Does nothing if the loop has ended. A callback that fails
        breaks the loop, because the state that it was changing may be inconsistent."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.guard, function)

    def guard(self, function: Callable[[], object]) -> None:
        """Call a callback like `call`, but at once, on the thread of the loop."""
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the thread raises it
            self._fault = self._fault or error
            self.loop.stop()

    def stop(self) -> None:
        """End the loop. On its thread."""
        self._stopping = True
        self.loop.stop()

    def shut(self, seconds: float) -> None:
        """Cancel what runs in the loop, and end the loop when that has ended or the time is over. On its thread."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()

        async def wait_ended() -> None:
            if tasks:
                await asyncio.wait(tasks, timeout=seconds)
            self.stop()

        self._last = asyncio.Task(wait_ended(), loop=self.loop)  # not by the loop's factory, which code may have set

    def _work(self) -> None:
        forks.add_loop(self.loop)
        try:
            asyncio.set_event_loop(self.loop)
            self._run()
            self.loop.set_task_factory(None)  # code may have set one that fails
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        except BaseException as error:  # noqa: BLE001 - it is told, and nothing is above
            self._broke(self, error)
        finally:
            forks.discard_loop()
            with contextlib.suppress(Exception):  # it may be broken
                self.loop.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                with forks.UserCode():
                    self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                self._escaped(_trace(error))
            else:
                if self._fault is None and not self._stopping:
                    _log.warning("code has stopped the event loop of %s: it is started again", self._of)
            if self._fault is not None:
                raise self._fault


class _Executor(ThreadPoolExecutor):
    """The executor for `asyncio.to_thread`. A child that is forked there would return to a queue that nothing fills,
    and wait forever."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_run_guarded, fn, *args, **kwargs)


def _run_guarded(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    with forks.UserCode():
        return fn(*args, **kwargs)


def _trace(error: SystemExit | KeyboardInterrupt) -> Escaped:
    """Find the handle that ran the code. Only the traceback shows it, and nothing else says whose code it was."""
    trace = error.__traceback__
    while trace is not None:
        handle = trace.tb_frame.f_locals.get("self")
        if isinstance(handle, asyncio.Handle):
            task = getattr(getattr(handle, "_callback", None), "__self__", None)
            context = getattr(handle, "_context", None)
            return Escaped(error, task if isinstance(task, asyncio.Future) else None, context)
        trace = trace.tb_next
    return Escaped(error, None, None)
