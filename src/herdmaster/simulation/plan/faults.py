"""Faults as records. `world.fault_injection` makes them happen."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from herdmaster.core.schedules import Missed, Overlap
from herdmaster.core.timetable import Timetable


class When(msgspec.Struct, frozen=True):
    """When a fault happens: at a time in seconds, right after a number of transactions was applied, or before callback
    number `step` of a process, counted from its start. `later` is added in seconds to the first two."""

    at: float = 0.0
    transaction: int = 0
    later: float = 0.0
    step: int = 0

    def __str__(self) -> str:
        if self.step:
            return f"at step {self.step}"
        later = f"{self.later:.3f} s after " if self.later and self.transaction else ""
        if self.transaction:
            return f"{later or 'after '}transaction {self.transaction}"
        return f"at {self.at + self.later:.3f} s"


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all faults."""

    when: When

    def __str__(self) -> str:
        fields = ", ".join(
            f"{field.name} {getattr(self, field.name)}"
            for field in msgspec.structs.fields(self)
            if field.name != "when"
        )
        return f"{type(self).__name__} {self.when}: {fields}"


class ProgramFault(Fault, frozen=True, kw_only=True):
    """A fault of one program. An empty `program` means the one that asked for the transaction."""

    program: str


class Cut(ProgramFault, frozen=True, kw_only=True):
    """The connection ends, and what is in flight is lost."""


class CutInMessage(ProgramFault, frozen=True, kw_only=True):
    """The connection ends within the next message that is sent (`up`) or received: before or after a request is
    applied."""

    up: bool


class Silence(ProgramFault, frozen=True, kw_only=True):
    """The connection is half-open: nothing arrives any more, and no error is reported."""

    up: bool
    down: bool


class Stall(ProgramFault, frozen=True, kw_only=True):
    """The connection delivers nothing for a while, then everything."""

    seconds: float
    up: bool


class Partition(ProgramFault, frozen=True, kw_only=True):
    """The process reaches no server (`everywhere`), or all but one."""

    seconds: float
    everywhere: bool


class Expire(ProgramFault, frozen=True, kw_only=True):
    """The server ends the session early."""


class Crash(ProgramFault, frozen=True, kw_only=True):
    """The process is killed, or its machine loses `power`; it starts again after a while."""

    seconds: float
    power: bool


class Leave(ProgramFault, frozen=True, kw_only=True):
    """The process is told to stop, and the program starts again after a while."""

    seconds: float


class Pause(ProgramFault, frozen=True, kw_only=True):
    """The process is stopped (SIGSTOP) and continued later."""

    seconds: float
    io_first: bool


class Sleep(ProgramFault, frozen=True, kw_only=True):
    """The machine sleeps; afterwards the timers of the process are late."""

    seconds: float
    io_first: bool


class JumpClock(ProgramFault, frozen=True, kw_only=True):
    """The unix clock of the process is set."""

    milliseconds: int


class StartDuplicate(ProgramFault, frozen=True, kw_only=True):
    """The same program is started a second time, for a while."""

    seconds: float


class PauseFull(ProgramFault, frozen=True, kw_only=True):
    """A worker is paused as soon as a task waits for one of its threads."""

    seconds: float
    io_first: bool


class LeaveUnseen(ProgramFault, frozen=True, kw_only=True):
    """A worker is told to stop while a task waits for one of its threads and the primary is partitioned; the worker
    starts again."""

    seconds: float


class RestartServer(Fault, frozen=True, kw_only=True):
    """The server crashes and is started again. Then its clock is ahead by `clock_ms` of what it was, as if another
    server led."""

    seconds: float
    clock_ms: int = 0


class PauseServer(Fault, frozen=True, kw_only=True):
    """The server process is stopped and continued."""

    seconds: float


class Mistake(enum.StrEnum):
    """What an operator does by hand and should not do."""

    OUST_PRIMARY = "deletes /master"
    OUST_WORKER = "deletes a worker from /workers"
    OUST_MASTER = "deletes a master from /masters"
    OUST_CLIENT = "deletes the node that says that a client's session is alive"
    LITTER = "creates znodes with names that mean nothing"


class MakeMistake(Fault, frozen=True, kw_only=True):
    """An operator makes a mistake."""

    what: Mistake


class Limit(enum.StrEnum):
    """A limit of a queue."""

    PAUSED = "nothing of the queue is assigned"
    ONE = "one task of the queue at a time"
    SLOW = "two tasks of the queue per second"


class LimitQueue(Fault, frozen=True, kw_only=True):
    """An operator limits a queue for a while."""

    queue: str
    limit: Limit
    seconds: float


class Cancel(Fault, frozen=True, kw_only=True):
    """An operator asks to cancel the task of a job."""

    job: int


class Release(Fault, frozen=True, kw_only=True):
    """An operator releases the key of a job."""

    job: int


class Replay(Fault, frozen=True, kw_only=True):
    """An operator replays all dead tasks."""


class StoreSchedule(Fault, frozen=True, kw_only=True):
    """An operator stores a schedule of the tasks of a job. `ends` in seconds."""

    name: str
    job: int
    timetable: Timetable
    missed: Missed
    overlap: Overlap
    jitter_ms: int
    grace_ms: int | None
    ends: float


class ScheduleChange(enum.Enum):
    """What an operator does to a schedule."""

    PAUSE = "pauses it"
    RESUME = "resumes it"
    CATCH_UP = "resumes it with what it missed"
    EDIT = "gives it another interval"
    RUN = "runs it now"
    REMOVE = "removes it"


class ChangeSchedule(Fault, frozen=True, kw_only=True):
    """An operator changes a schedule."""

    name: str
    what: ScheduleChange


class FlowChange(enum.Enum):
    """What an operator does to a flow."""

    RETRY = "runs again what failed"
    CANCEL = "cancels it"
    REMOVE = "removes it"


class ChangeFlow(Fault, frozen=True, kw_only=True):
    """An operator changes a flow, if it is there."""

    flow: int
    what: FlowChange


class DeleteStep(Fault, frozen=True, kw_only=True):
    """An operator deletes the task of a step of a flow by hand, wherever it is."""

    flow: int


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
    | MakeMistake
    | LimitQueue
    | Cancel
    | Replay
    | Release
    | StoreSchedule
    | ChangeSchedule
    | ChangeFlow
    | DeleteStep
)

DELAYING: Final = (Stall, Pause, PauseFull, Sleep, PauseServer, Partition)
"""Faults that delay something without losing it. What a partition holds up arrives if the connection outlives it."""

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
        MakeMistake: 5,
    },
    "bad network": {Cut: 5, CutInMessage: 20, Silence: 4, Stall: 5},
    "zombies": {Pause: 10, Sleep: 3, Silence: 5, Partition: 8, Stall: 4, Expire: 2, Crash: 2},
    "come and go": {Leave: 12, Crash: 6, Pause: 4, CutInMessage: 4, StartDuplicate: 3, RestartServer: 1},
    "bad server": {RestartServer: 8, PauseServer: 6, CutInMessage: 4, Partition: 2, Expire: 4, MakeMistake: 4},
}
"""The weight of each kind of fault, by profile."""
