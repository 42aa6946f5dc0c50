"""What can go wrong, as records. `World` makes it happen; a story tells it in the words of `__str__`."""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class When(msgspec.Struct, frozen=True):
    """At a time in seconds, or right after so many transactions were applied; `later` seconds after that. Or before
    callback number `step` of a process, counted from its start."""

    at: float = 0.0
    transaction: int = 0
    later: float = 0.0
    step: int = 0

    def __str__(self) -> str:
        if self.step:
            return f"at its step {self.step}"
        later = f"{self.later:.3f} s after " if self.later and self.transaction else ""
        if self.transaction:
            return f"{later or 'after '}transaction {self.transaction}"
        return f"at {self.at + self.later:.3f} s"


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    when: When

    def __str__(self) -> str:
        fields = ", ".join(
            f"{field.name} {getattr(self, field.name)}"
            for field in msgspec.structs.fields(self)
            if field.name != "when"
        )
        return f"{type(self).__name__} {self.when}: {fields}"


class OfPart(Fault, frozen=True, kw_only=True):
    """`slot` is whom it befalls; empty: whose transaction it was."""

    slot: str


class Cut(OfPart, frozen=True, kw_only=True):
    """Its connection ends; what is under way is lost."""


class CutInMessage(OfPart, frozen=True, kw_only=True):
    """Its connection ends in the middle of what it sends (`up`) or gets next: before or after a request is applied."""

    up: bool


class Silence(OfPart, frozen=True, kw_only=True):
    """Its connection brings nothing any more, without an error: half-open."""

    up: bool
    down: bool


class Stall(OfPart, frozen=True, kw_only=True):
    """Its connection brings nothing for a while, then all of it."""

    seconds: float
    up: bool


class Partition(OfPart, frozen=True, kw_only=True):
    """It reaches no server, or (not `everywhere`) only one server less."""

    seconds: float
    everywhere: bool


class Expire(OfPart, frozen=True, kw_only=True):
    """The server ends its session before its time."""


class Crash(OfPart, frozen=True, kw_only=True):
    """It is killed, or its machine loses `power`; it starts again after a while."""

    seconds: float
    power: bool


class Leave(OfPart, frozen=True, kw_only=True):
    """It is told to stop, and starts again that long after it has ended."""

    seconds: float


class Pause(OfPart, frozen=True, kw_only=True):
    """It stands still (SIGSTOP) and goes on afterwards as if nothing had been."""

    seconds: float
    io_first: bool


class Sleep(OfPart, frozen=True, kw_only=True):
    """Its whole machine sleeps: afterwards its timers are late."""

    seconds: float
    io_first: bool


class JumpClock(OfPart, frozen=True, kw_only=True):
    """Its unix clock is set."""

    milliseconds: int


class StartDuplicate(OfPart, frozen=True, kw_only=True):
    """The same program is started a second time, for a while."""

    seconds: float


class PauseFull(OfPart, frozen=True, kw_only=True):
    """A worker stands still as soon as it holds a task that waits for a thread, and goes on as a zombie."""

    seconds: float
    io_first: bool


class LeaveUnseen(OfPart, frozen=True, kw_only=True):
    """A worker that holds a task that waits for a thread is told to stop, while the primary hears of nothing; it starts
    again."""

    seconds: float


class RestartServer(Fault, frozen=True, kw_only=True):
    """The server crashes and comes back."""

    seconds: float


class PauseServer(Fault, frozen=True, kw_only=True):
    seconds: float


class Meddling(enum.StrEnum):
    """What an operator does by hand that he better had left alone."""

    OUST_PRIMARY = "deletes /master"
    OUST_WORKER = "deletes a worker from /workers"
    OUST_MASTER = "deletes a master from /masters"
    OUST_CLIENT = "deletes the node that says that a client's session is alive"
    LITTER = "creates znodes with names that mean nothing"


class Meddle(Fault, frozen=True, kw_only=True):
    what: Meddling


class Limit(enum.StrEnum):
    """What may hold for a queue."""

    PAUSED = "nothing of it is assigned"
    ONE = "one task of it at a time"
    SLOW = "two tasks of it a second"


class Govern(Fault, frozen=True, kw_only=True):
    """An operator limits a queue for a while."""

    queue: str
    limit: Limit
    seconds: float


class Cancel(Fault, frozen=True, kw_only=True):
    """An operator asks to cancel the task that this job became."""

    job: int


class Release(Fault, frozen=True, kw_only=True):
    """An operator releases the key of this job."""

    job: int


class Replay(Fault, frozen=True, kw_only=True):
    """An operator replays all that is dead."""


AnyFault = (
    Cut
    | CutInMessage
    | Silence
    | Stall
    | Partition
    | Expire
    | Crash
    | Leave
    | Pause
    | Sleep
    | JumpClock
    | StartDuplicate
    | PauseFull
    | LeaveUnseen
    | RestartServer
    | PauseServer
    | Meddle
    | Govern
    | Cancel
    | Replay
    | Release
)

DELAYING: Final = (Stall, Pause, PauseFull, Sleep, PauseServer)
"""These make something late that is not lost."""

Weights = dict[type[AnyFault], int]
PROFILES: Final[dict[str, Weights]] = {
    "everything": {
        Cut: 10,
        CutInMessage: 16,
        Silence: 6,
        Stall: 6,
        Partition: 8,
        Expire: 4,
        Crash: 16,
        Leave: 8,
        Pause: 10,
        Sleep: 3,
        JumpClock: 3,
        StartDuplicate: 3,
        RestartServer: 6,
        PauseServer: 4,
        Meddle: 5,
    },
    "bad network": {Cut: 5, CutInMessage: 20, Silence: 4, Stall: 5},
    "zombies": {Pause: 10, Sleep: 3, Silence: 5, Partition: 8, Stall: 4, Expire: 2, Crash: 2},
    "come and go": {Leave: 12, Crash: 6, Pause: 4, CutInMessage: 4, StartDuplicate: 3, RestartServer: 1},
    "bad server": {RestartServer: 8, PauseServer: 6, CutInMessage: 4, Partition: 2, Expire: 4, Meddle: 4},
}
"""How often each kind of fault is drawn, for a few kinds of bad days."""
