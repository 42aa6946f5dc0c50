"""Calls the hooks for errors in the worker: all final failures, and errors of attempts that their code did not end.

These attempts exceeded a time limit, lost their process, were never begun, or were those of raw tasks. The hooks are
user code and may block, so they are called on threads, never in the event loop of the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Final

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.options import RunOptions
from herdmaster.core.outcome import Outcome, OutcomeState, exception_of
from herdmaster.errors import NotSaved
from herdmaster.running.current import ProgressReport, Running, running_now
from herdmaster.running.delivery import Delivered
from herdmaster.running.hooks import Hooks, call_on_error, call_on_final_failure
from herdmaster.running.once import OnceCalls, Saved

MOST_THREADS: Final = 4
MOST_WAITING: Final = 1000
"""Calls that may wait for a thread; further ones are dropped and logged."""
END_SECONDS: Final = 5.0

_NOT_FINAL: Final = frozenset({EndState.DONE, EndState.RETRIED})
_STATES: Final = {EndState.EXPIRED: OutcomeState.EXPIRED, EndState.CANCELLED: OutcomeState.CANCELLED}
_CallHook = Callable[[Hooks, Running, BaseException], None]

_log = logging.getLogger("herdmaster.worker")


def final_error(end: AttemptEnd) -> Exception | None:
    """Return the error that the submitter gets; None for a task that is done, and for one that is tried again."""
    if end.result in _NOT_FINAL:
        return None
    return exception_of(Outcome(_STATES.get(end.result, OutcomeState.FAILED), error=end.error))


class EndedTask:
    """A task as `on_final_failure` sees it. Of its options only `max_attempts` is known."""

    hook_claim = None
    scheduled = None
    missing: tuple[str, ...] = ()
    saved: Final[Mapping[str, msgspec.Raw]] = {}

    def __init__(self, end: AttemptEnd) -> None:
        self.name = end.task
        self.call_name = end.call
        self.attempt = end.attempt
        self.options = RunOptions(max_attempts=end.max_attempts)
        self.started = end.began if end.began is not None else end.ended
        self.step = None if end.flow is None or end.step is None else (end.flow, end.step)
        self.item: int | None = None
        self.once_calls = OnceCalls()

    def may_begin_once(self) -> bool:
        raise NotSaved(f"{self.name} has ended: nothing more is saved for it")

    def save(self, _name: str, _data: bytes, saved: Saved) -> None:
        saved(NotSaved(f"{self.name} has ended: nothing more is saved for it"))

    def report_progress(self, progress: ProgressReport) -> None:
        """Do nothing: it has ended."""

    def begin_wait(self, task: str) -> None:
        """Do nothing: no slot waits."""

    def end_wait(self, task: str) -> None:
        """Do nothing, as `begin_wait`."""


class ErrorCalls:
    """A queue of calls, and the threads that work on it. `call` and `finish` are called in one event loop."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._waiting: deque[tuple[_CallHook, Running, Exception]] = deque()
        self._lock = threading.Lock()
        self._threads = 0  # those that are working
        self._dropped = 0
        self._ended: Callable[[], object] | None = None
        self.context = Context()
        """Each call runs in a copy of it."""

    def call(self, task: Delivered, outcome: Outcome) -> None:
        """Call `on_error` with the error that the submitter gets."""
        error = exception_of(outcome) if self._hooks.on_error is not None else None
        if error is not None:
            self._put(call_on_error, msgspec.structs.replace(task), error)  # a later attempt changes the task

    def call_final(self, end: AttemptEnd) -> None:
        """Call `on_final_failure` for a task that has ended otherwise than done. Its end is committed."""
        if self._hooks.on_final_failure is None:
            return
        error = final_error(end)
        if error is not None:
            self._put(call_on_final_failure, EndedTask(end), error)

    def _put(self, call_hook: _CallHook, task: Running, error: Exception) -> None:
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append((call_hook, task, error))
            if self._threads >= MOST_THREADS:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="herdmaster-on-error", daemon=True).start()

    async def finish(self) -> None:
        """Wait for the calls that are under way, for a limited time."""
        ended = asyncio.Event()
        with self._lock:
            if self._threads:
                self._ended = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            else:
                ended.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await ended.wait()
        left = len(self._waiting) + self._threads
        if left or self._dropped:
            _log.warning(
                "hooks for errors take too long: %d calls have not ended, %d were dropped", left, self._dropped
            )

    def _work(self) -> None:
        while (call := self._next()) is not None:
            self.context.copy().run(self._call_hook, *call)

    def _call_hook(self, call_hook: _CallHook, task: Running, error: Exception) -> None:
        running_now.set(task)
        call_hook(self._hooks, task, error)

    def _next(self) -> tuple[_CallHook, Running, Exception] | None:
        """Return the next call, or None if this thread is no longer needed."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            if not self._threads and self._ended is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._ended()
            return None
