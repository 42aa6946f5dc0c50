"""Calls the hooks at the start and the stop of a worker.

They may block and may submit tasks, so they do not run in the event loop of the worker's session.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import traceback
from collections.abc import Awaitable
from functools import partial
from typing import Final, cast

from herdmaster import forks
from herdmaster.errors import HookFailed
from herdmaster.pools.task_loop import Escaped, TaskLoop
from herdmaster.running.hooks import OnWorker

SLOW_SECONDS: Final = 30.0
"""After this time a warning is logged that a start hook has not ended."""
STOP_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 1.0

_log = logging.getLogger("herdmaster.worker")


class WorkerHooks:
    """Calls the hooks of one worker.

    Each plain hook runs on a new thread. All `async def` hooks share one event loop on another thread. It runs from the
    first of them until `stop` has ended, so that a stop hook can close what a start hook has opened.
    """

    def __init__(self, starts: tuple[OnWorker, ...], stops: tuple[OnWorker, ...]) -> None:
        self._starts = starts
        self._stops = stops
        self._loop: TaskLoop | None = None

    async def start(self, stopping: asyncio.Event) -> bool:
        """Call the start hooks in order. The context variables that they set are set for the caller. Return False as
        soon as `stopping` is set; further hooks are not called then. Raises HookFailed."""
        for hook in self._starts:
            calling = asyncio.ensure_future(self._call(hook))
            stopped = asyncio.ensure_future(stopping.wait())
            try:
                await asyncio.wait((calling, stopped), timeout=SLOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not calling.done() and not stopped.done():
                    _log.warning(
                        "on_worker_start hook %s has not ended after %g s: no task is run before",
                        _name(hook),
                        SLOW_SECONDS,
                    )
                    await asyncio.wait((calling, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                if not calling.done():
                    calling.cancel()  # lets an `async def` clean up; a thread runs on
                    await asyncio.wait((calling,), timeout=_CANCEL_SECONDS)
            if stopping.is_set():
                _log.warning("told to stop before on_worker_start had ended: not started")
                self._end_loop()
                return False
            try:
                _adopt(calling.result())
            except (Exception, asyncio.CancelledError) as error:
                self._end_loop()
                raise HookFailed(f"the worker does not start: on_worker_start {_described(hook, error)}") from error
        return True

    async def stop(self) -> None:
        """Call all stop hooks, even if one raises. Those that have not ended after 10 s in all are left running."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                for hook in self._stops:
                    await self._call_logged(hook)
        except TimeoutError:
            _log.warning("on_worker_stop has not ended within %g s and is left alone", STOP_SECONDS)
        finally:
            self._end_loop()

    async def _call_logged(self, hook: OnWorker) -> None:
        try:
            await self._call(hook)
        except Exception as error:  # noqa: BLE001 - the worker has ended, and the other hooks are called all the same
            _log.exception("on_worker_stop %s", _described(hook, error))

    async def _call(self, hook: OnWorker) -> contextvars.Context:
        """Call a hook and return the context in which it ended."""
        if inspect.iscoroutinefunction(hook):
            return await self._await(hook)
        context = contextvars.copy_context()
        found = await _call_on_thread(hook, context)
        return await self._await(lambda: found) if inspect.isawaitable(found) else context

    async def _await(self, hook: OnWorker) -> contextvars.Context:
        async def run() -> contextvars.Context:
            try:
                await cast("Awaitable[object]", hook())
            except (SystemExit, KeyboardInterrupt) as error:
                raise _as_exception(error) from error  # these would end the loop
            return contextvars.copy_context()

        if self._loop is None:
            self._loop = TaskLoop(
                "herdmaster-hook-loop", escaped=_log_escaped, broke=_log_broken, of="the worker's hooks"
            )
            self._loop.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), self._loop.loop))

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call(partial(loop.shut, _CANCEL_SECONDS))


async def _call_on_thread(hook: OnWorker, context: contextvars.Context) -> object:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()

    def settle(found: object, error: BaseException | None) -> None:
        if answer.done():
            return  # cancelled
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(_as_exception(error))

    def work() -> None:
        found, raised = None, None
        try:
            with forks.UserCode():
                found = context.run(hook)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            raised = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits for the answer
            loop.call_soon_threadsafe(settle, found, raised)

    threading.Thread(target=work, name="herdmaster-hook", daemon=True).start()
    return await answer


def _log_escaped(escaped: Escaped) -> None:
    error = escaped.error
    _log.warning("what a hook of the worker has left running raised %s: %s", type(error).__name__, error)


def _log_broken(_loop: TaskLoop, error: BaseException) -> None:
    _log.error("the event loop of the worker's hooks broke: %s: %s", type(error).__name__, error)


def _adopt(context: contextvars.Context) -> None:
    for variable, value in context.items():
        variable.set(value)


def _as_exception(error: BaseException) -> Exception:
    """Return the error as an exception that a future can hold and that does not end an event loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failed = HookFailed(f"it raised {type(error).__name__}")
    failed.__cause__ = error
    return failed


def _described(hook: OnWorker, error: BaseException) -> str:
    """Name the hook and the place at which it raised, which nothing else may show."""
    raised = error.__cause__ if isinstance(error, HookFailed) and error.__cause__ is not None else error
    frames = traceback.extract_tb(raised.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"hook {_name(hook)} failed: {type(raised).__name__}: {raised}{place}"


def _name(hook: OnWorker) -> str:
    return getattr(hook, "__qualname__", str(hook))
