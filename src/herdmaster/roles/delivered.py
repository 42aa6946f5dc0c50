"""A task in a worker's hands."""

from __future__ import annotations

import msgspec

from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Call
from herdmaster.roles.current import Said
from herdmaster.roles.program import PLAIN, Callee, Way


class Delivered(msgspec.Struct):  # the collector has to see it: a function may hold what holds its worker
    """A task as it was read from the inbox. `czxid` tells this delivery from another one of the same name. A raw task
    has neither `call` nor `callee`. `started` (unix milliseconds) and `said` are of its code's present run."""

    name: str
    payload: bytes
    czxid: int
    call: Call | None = None
    callee: Callee | None = None
    way: Way = PLAIN
    started: int = 0
    said: Said | None = None

    @property
    def attempt(self) -> int:
        return self.call.attempt if self.call is not None else 1

    @property
    def options(self) -> RunOptions:
        return self.way.options

    def say(self, said: Said) -> None:
        self.said = said
