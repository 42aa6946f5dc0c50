"""A task that was delivered to a worker."""

from __future__ import annotations

import time

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.names import DEFAULT_QUEUE, queue_and_time
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Call, Scheduled
from herdmaster.running.current import HookClaim, ProgressReport, WaitReport
from herdmaster.running.program import PLAIN, Callee, Way


class Delivered(msgspec.Struct):  # the collector has to see it: a function may hold what holds its worker
    """A task as it was read from the inbox.

    `czxid` tells this delivery from another one of the same name. A raw task has neither `call` nor `callee`.
    `started` (unix milliseconds), `progress`, `hook_claim` and `hook_called` belong to the present run of the code; the
    last two are used only if there are hooks."""

    name: str
    payload: bytes
    czxid: int
    call: Call | None = None
    callee: Callee | None = None
    way: Way = PLAIN
    started: int = 0
    progress: ProgressReport | None = None
    hook_claim: HookClaim | None = None
    hook_called: bool = False
    end: AttemptEnd | None = None
    """What is reported when the move that ends this attempt is committed."""
    waits: dict[str, float] | None = None
    """The tasks that its code waits for, each with the time since when (`time.monotonic`)."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        return tuple(self.waits or ())

    @property
    def attempt(self) -> int:
        return self.call.attempt if self.call is not None else 1

    @property
    def call_name(self) -> str:
        """The name of the function, empty for a raw task."""
        return self.call.call if self.call is not None else ""

    @property
    def scheduled(self) -> Scheduled | None:
        return self.call.scheduled if self.call is not None else None

    @property
    def queue(self) -> str:
        return queue_and_time(self.name)[0] if self.call is not None else DEFAULT_QUEUE

    @property
    def options(self) -> RunOptions:
        return self.way.options

    def reset_hook_claim(self) -> None:
        """Prepare the hooks of the next run, before the code is handed to a pool."""
        self.hook_claim = HookClaim()
        self.hook_called = False

    def give_up(self) -> None:
        """Note that the worker no longer waits for the code. It may run on, and its result or error is dropped."""
        if self.hook_claim is not None:
            self.hook_called = not self.hook_claim.take()

    def report_progress(self, progress: ProgressReport) -> None:
        self.progress = progress

    def begin_wait(self, task: str) -> None:
        # A new dictionary, because other threads may be reading the old one.
        self.waits = {**(self.waits or {}), task: time.monotonic()}

    def end_wait(self, task: str) -> None:
        self.waits = {name: since for name, since in (self.waits or {}).items() if name != task}

    def note_waits(self, report: WaitReport) -> None:
        """Note which tasks the code in a process waits for, as that process reports it."""
        before, now = self.waits or {}, time.monotonic()
        self.waits = {name: before.get(name, now) for name in report.names}
