"""Runs delivered tasks in the pools of a worker, and turns what the pools deliver into runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster import forks
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.options import PoolKind
from herdmaster.core.retry import Raised, raised
from herdmaster.core.run import Expired, Returned, Run, decode_run
from herdmaster.errors import HerdError, SoftTimeLimitExceeded, TaskDied, TimeLimitExceeded
from herdmaster.pools.limits import Died, Limits, NotStarted, Stopped, TimedOut
from herdmaster.running.child import encode_handover
from herdmaster.running.delivery import Delivered
from herdmaster.running.invocation import describe, invoke, invoke_async

RawHandler = Callable[[str, bytes], None]
"""Called with the name and the bytes of a raw task, which fails if this raises."""

PoolResult = Run | bytes | TimedOut | Died | Stopped | NotStarted

_NOT_STARTED: Final = NotStarted()
_DONE: Final = Returned()
_EXPIRED: Final = Expired()


class Executor:
    """Runs the code of tasks for one session.

    `may_start` is asked right before the code runs, on its thread: after a stall of the process the session may be
    over, and then nothing may be started. `now_ms` gives the servers' time, by which tasks expire; `unix_ms` gives the
    time of this machine, which outcomes show.
    """

    def __init__(
        self,
        raw_handler: RawHandler,
        may_start: Callable[[], bool],
        now_ms: Callable[[], int],
        unix_ms: Callable[[], int],
    ) -> None:
        self._raw_handler = raw_handler
        self._may_start = may_start
        self.now_ms = now_ms
        self.unix_ms = unix_ms

    def run(self, task: Delivered) -> Run | NotStarted:
        """Run a task on this thread. Never raises, whatever the task's code does."""
        if not self._may_start():
            return _NOT_STARTED
        started = self._begin(task)
        call, callee = task.call, task.callee
        if call is None or callee is None:
            return Run(self._handle(task), started, self.unix_ms())
        if call.expires is not None and self.is_expired(task):
            return Run(_EXPIRED, started, started)
        return Run(invoke(task, callee, call), started, self.unix_ms())

    async def run_async(self, task: Delivered) -> Run | NotStarted:
        """Run a task in the loop of the coroutines. Raises nothing but CancelledError."""
        assert task.call is not None
        assert task.callee is not None
        if not self._may_start():
            return _NOT_STARTED
        if self.is_expired(task):
            return self.expire()
        started = self._begin(task)
        return Run(await invoke_async(task, task.callee, task.call), started, self.unix_ms())

    def make_request(self, task: Delivered) -> tuple[bytes, Limits] | None:
        """Return the request and the limits for a process, or None if the task must not be started now."""
        if not self._may_start() or self.is_expired(task):
            return None
        self._begin(task)
        return encode_handover(task), task.way.limits

    def is_expired(self, task: Delivered) -> bool:
        """Return whether the task expired before its code was begun. A retry never does: its code has begun."""
        call = task.call
        return call is not None and call.expires is not None and call.attempt == 1 and self.now_ms() >= call.expires

    def expire(self) -> Run:
        """Return the run of a task that has expired."""
        now = self.unix_ms()
        return Run(_EXPIRED, now, now)

    def read_result(self, task: Delivered, result: PoolResult) -> Run | None:
        """Return what a pool delivered as a run. None for a task that was not started or was stopped: it may be started
        again."""
        match result:
            case Run():
                return result
            case bytes():
                return decode_run(result)
            case TimedOut(seconds):
                return self._ended_by(task, _time_limit(task, seconds))
            case Died(reason):
                return self._ended_by(task, TaskDied(reason))
        return None

    def _ended_by(self, task: Delivered, error: HerdError) -> Run:
        """Return the run of a task whose code did not come to its end."""
        kind = type(error).__name__
        callee, call = task.callee, task.call
        if task.options.pool is PoolKind.PROCESS and callee is not None and call is not None and callee.program.spans:
            callee.program.spans.record_lost(task.name, call, kind, task.started)
        what = msgspec.structs.replace(raised(error, ErrorInfo(kind, str(error))), hook_called=task.hook_called)
        return Run(what, task.started, self.unix_ms())

    def _begin(self, task: Delivered) -> int:
        task.progress = task.waits = task.calls = None
        task.started = started = self.unix_ms()
        return started

    def _handle(self, task: Delivered) -> Returned | Raised:
        try:
            with forks.UserCode():
                self._raw_handler(task.name, task.payload)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a task does not end its worker
            return describe(error)
        return _DONE


def _time_limit(task: Delivered, seconds: float) -> HerdError:
    options = task.options
    if seconds == options.soft_timeout and seconds != options.timeout:
        return SoftTimeLimitExceeded(f"the task ran past its soft time limit of {seconds:g} s")
    how = {
        PoolKind.THREAD: "its thread cannot be ended and was given up on",
        PoolKind.ASYNCIO: "its coroutine was cancelled",
        PoolKind.PROCESS: "its process was killed",
    }
    return TimeLimitExceeded(f"the task ran past its time limit of {seconds:g} s: {how[options.pool]}")
