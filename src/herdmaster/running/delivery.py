"""A task in a worker's hands."""

from __future__ import annotations

import time

import msgspec

from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Call
from herdmaster.running.current import Awaited, Said, Telling
from herdmaster.running.program import PLAIN, Callee, Way


class Delivered(msgspec.Struct):  # the collector has to see it: a function may hold what holds its worker
    """A task as it was read from the inbox. `czxid` tells this delivery from another one of the same name. A raw task
    has neither `call` nor `callee`. `started` (unix milliseconds), `said`, `telling` and `is_told` are of its code's
    present run; the last two only where there are hooks."""

    name: str
    payload: bytes
    czxid: int
    call: Call | None = None
    callee: Callee | None = None
    way: Way = PLAIN
    started: int = 0
    said: Said | None = None
    telling: Telling | None = None
    is_told: bool = False
    waits: dict[str, float] | None = None
    """The tasks that its code waits for, each with since when (`time.monotonic`)."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        return tuple(self.waits or ())

    @property
    def attempt(self) -> int:
        return self.call.attempt if self.call is not None else 1

    @property
    def options(self) -> RunOptions:
        return self.way.options

    def begin_telling(self) -> None:
        """Before its code is handed to a pool."""
        self.telling = Telling()
        self.is_told = False

    def give_up(self) -> None:
        """Its code runs on perhaps, and what it still comes to is thrown away."""
        if self.telling is not None:
            self.is_told = not self.telling.end()

    def say(self, said: Said) -> None:
        self.said = said

    def begin_wait(self, task: str) -> None:
        self.waits = {**(self.waits or {}), task: time.monotonic()}  # anew: others may be reading it

    def end_wait(self, task: str) -> None:
        self.waits = {name: since for name, since in (self.waits or {}).items() if name != task}

    def hear_awaited(self, awaited: Awaited) -> None:
        """What a process says of the code that runs there."""
        before, now = self.waits or {}, time.monotonic()
        self.waits = {name: before.get(name, now) for name in awaited.names}
