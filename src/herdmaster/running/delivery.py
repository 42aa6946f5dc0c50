"""A task in a worker's hands."""

from __future__ import annotations

import time

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Call
from herdmaster.running.current import Awaited, HookClaim, Said
from herdmaster.running.program import PLAIN, Callee, Way


class Delivered(msgspec.Struct):  # the collector has to see it: a function may hold what holds its worker
    """A task as it was read from the inbox. `czxid` tells this delivery from another one of the same name. A raw task
    has neither `call` nor `callee`. `started` (unix milliseconds), `said`, `hook_claim` and `hook_called` are of the
    present run of its code; the last two only where there are hooks."""

    name: str
    payload: bytes
    czxid: int
    call: Call | None = None
    callee: Callee | None = None
    way: Way = PLAIN
    started: int = 0
    said: Said | None = None
    hook_claim: HookClaim | None = None
    hook_called: bool = False
    end: AttemptEnd | None = None
    """What is reported when the move that ends this attempt is committed."""
    waits: dict[str, float] | None = None
    """The tasks that its code waits for, and since when (`time.monotonic`)."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        return tuple(self.waits or ())

    @property
    def attempt(self) -> int:
        return self.call.attempt if self.call is not None else 1

    @property
    def options(self) -> RunOptions:
        return self.way.options

    def reset_hook_claim(self) -> None:
        """Before its code is handed to a pool."""
        self.hook_claim = HookClaim()
        self.hook_called = False

    def give_up(self) -> None:
        """The worker waits no longer for its code, which may run on: its result or error is dropped."""
        if self.hook_claim is not None:
            self.hook_called = not self.hook_claim.take()

    def say(self, said: Said) -> None:
        self.said = said

    def begin_wait(self, task: str) -> None:
        self.waits = {**(self.waits or {}), task: time.monotonic()}  # anew: others may be reading it

    def end_wait(self, task: str) -> None:
        self.waits = {name: since for name, since in (self.waits or {}).items() if name != task}

    def hear_awaited(self, awaited: Awaited) -> None:
        """Takes what a process reports of the code that runs there."""
        before, now = self.waits or {}, time.monotonic()
        self.waits = {name: before.get(name, now) for name in awaited.names}
