"""An event loop in a thread of its own that no code in it can end.

asyncio lets the SystemExit or KeyboardInterrupt of a task or a callback out of `run_forever`, and any code may call
`loop.stop()`. Neither takes anything from the loop: it can be run again, and what was to be done next is done.
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
    """What came out of the loop, and where from as far as that is known: `task` is the asyncio task that raised it,
    None for a callback."""

    error: SystemExit | KeyboardInterrupt
    task: asyncio.Future[object] | None
    context: Context | None


class TaskLoop:
    """`escaped` is called with each SystemExit and KeyboardInterrupt, in the thread and between two turns of the loop.
    `broke` is called last in the thread if the loop ends by anything but `stop`: it cannot be run again. `of` is whose
    loop it is, for the log."""

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
        """From any thread; nothing happens when the loop is no more. A callback that fails breaks the loop: what it
        was changing is not to be relied upon."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.guard, function)

    def guard(self, function: Callable[[], object]) -> None:
        """Calls it as `call` does, here and now."""
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the thread raises it
            self._fault = self._fault or error
            self.loop.stop()

    def stop(self) -> None:
        """In the thread: ends the loop."""
        self._stopping = True
        self.loop.stop()

    def shut(self, seconds: float) -> None:
        """In the thread: cancels what runs in the loop, and ends it once that has ended or the time is over."""
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
    """For `asyncio.to_thread`. A child that is forked there would come back to a queue that nothing fills any more, and
    wait at it for ever."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_run_guarded, fn, *args, **kwargs)


def _run_guarded(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    with forks.UserCode():
        return fn(*args, **kwargs)


def _trace(error: SystemExit | KeyboardInterrupt) -> Escaped:
    """The handle that ran the code stands in the traceback; nothing else tells whose code it was."""
    trace = error.__traceback__
    while trace is not None:
        handle = trace.tb_frame.f_locals.get("self")
        if isinstance(handle, asyncio.Handle):
            task = getattr(getattr(handle, "_callback", None), "__self__", None)
            context = getattr(handle, "_context", None)
            return Escaped(error, task if isinstance(task, asyncio.Future) else None, context)
        trace = trace.tb_next
    return Escaped(error, None, None)
