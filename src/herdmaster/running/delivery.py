"""A task that was delivered to a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.flows import FlowStep
from herdmaster.core.inputs import Input
from herdmaster.core.names import DEFAULT_QUEUE, queue_and_time
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Call, Scheduled
from herdmaster.errors import NotSaved
from herdmaster.running.current import HookClaim, ProgressReport, WaitReport
from herdmaster.running.once import OnceCalls, Saved
from herdmaster.running.program import PLAIN, Callee, Way

_NONE_SAVED: Final[Mapping[str, msgspec.Raw]] = {}
_once_lock = threading.Lock()


class Saver(Protocol):
    """Saves results of a session's tasks. Used on any thread of a task; see `once.Saving`."""

    def may_begin_once(self, task: Delivered, /) -> bool: ...

    def save(self, task: Delivered, name: str, data: bytes, saved: Saved, /) -> None: ...


class Delivered(msgspec.Struct):  # the collector has to see it: a function may hold what holds its worker
    """A task as it was read from the inbox.

    `czxid` tells this delivery from another one of the same name. A raw task has neither `call` nor `callee`.
    `started` (unix milliseconds), `progress`, `calls`, `hook_claim` and `hook_called` belong to the present run of the
    code; the last two are used only if there are hooks. The payload may be ahead of `call`: it also has the results
    that are being saved, and `call.saved` has those that are saved."""

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
    files: tuple[object, ...] = ()
    """What keeps the files with its inputs; they are deleted with it."""
    item: int | None = None
    """The position of the item whose code runs, in a chunk."""
    saver: Saver | None = None
    calls: OnceCalls | None = None
    """Those of `once`, if there are any."""

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
    def flow(self) -> FlowStep | None:
        """The step that it is; None for a task outside of flows."""
        return self.call.flow if self.call is not None else None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a step takes from the results of its parents."""
        return self.call.inputs if self.call is not None else ()

    @property
    def step(self) -> tuple[str, str] | None:
        flow = self.flow
        return None if flow is None else (flow.flow, flow.step)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the parents without which a step runs."""
        call, flow = self.call, self.flow
        return () if call is None or flow is None else tuple(map(flow.name_of, call.missing))

    @property
    def queue(self) -> str:
        return queue_and_time(self.name)[0] if self.call is not None else DEFAULT_QUEUE

    @property
    def options(self) -> RunOptions:
        return self.way.options

    @property
    def saved(self) -> Mapping[str, msgspec.Raw]:
        return (self.call.saved if self.call is not None else None) or _NONE_SAVED

    @property
    def once_calls(self) -> OnceCalls:
        with _once_lock:
            if self.calls is None:
                self.calls = OnceCalls()
            return self.calls

    def may_begin_once(self) -> bool:
        return self._saver().may_begin_once(self)

    def save(self, name: str, data: bytes, saved: Saved) -> None:
        self._saver().save(self, name, data, saved)

    def _saver(self) -> Saver:
        if self.saver is None:
            raise NotSaved(f"{self.name} has ended")
        return self.saver

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
