"""The transition table: what moves a task, who may do it, and how a refused transaction is to be understood.

A task is in one place. Each row is one transaction that takes the task from there (`consumes`) and puts it where it
goes (`produces`), so of two racing transitions one wins, a repeated one fails cleanly, and a crash leaves the task in
one place. The first thing consumed is the guard; where a row consumes nothing, the first thing it sets is. The tick of
a schedule goes from one time to the next in the same way. These two
tables are the only statement of the protocol: transactions, verdicts, documents and tests derive from them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec


class Role(enum.StrEnum):
    CLIENT = "client"
    WORKER = "worker"
    PRIMARY = "primary"
    OPERATOR = "operator"


class Place(enum.StrEnum):
    """Where something stands; the value is how it is written in documents."""

    TASKS = "tasks/T"
    RENAMED = "tasks/T'"
    DELAYED = "delayed/DUE-T"
    ASSIGN = "assign/W/T"
    STATUS = "status/T"
    DEAD = "dead/T"
    CANCEL = "cancel/T"
    KEYS = "keys/K"
    HOLDS = "keys/K-T"
    HOLDS_RENAMED = "keys/K-T'"
    WORKERS = "workers/W"
    JOURNAL = "clients/C"
    ALIVE = "clients/C/alive-SESSION"
    SCHEDULES = "schedules/S"
    TICKS = "ticks/DUE-S"
    NEXT_TICKS = "ticks/NEXT-S"


class TransitionName(enum.StrEnum):
    SUBMIT = "submit"
    SUBMIT_LATER = "submit later"
    PROMOTE = "promote"
    ASSIGN = "assign"
    MARK_START = "mark start"
    SAVE = "save"
    COMPLETE = "complete"
    COMPLETE_SILENTLY = "complete silently"
    RETRY_NOW = "retry now"
    RETRY_LATER = "retry later"
    RETRY_IN_PLACE = "retry in place"
    FORWARD = "forward"
    HAND_BACK = "hand back"
    RECOVER = "recover"
    BURY = "bury"
    REFUSE = "refuse"
    REFUSE_ASSIGNED = "refuse assigned"
    REFUSE_DELAYED = "refuse delayed"
    CANCEL_WAITING = "cancel waiting"
    CANCEL_DELAYED = "cancel delayed"
    CANCEL_ASSIGNED = "cancel assigned"
    DROP_CANCEL = "drop cancel"
    COLLECT = "collect"
    EXPIRE = "expire"
    REPLAY = "replay"
    RELEASE = "release"
    DROP_ASSIGNMENT_BECAUSE_STATUS = "drop assignment because status"
    DROP_ASSIGNMENT_BECAUSE_TASK = "drop assignment because task"
    DROP_TASK_BECAUSE_STATUS = "drop task because status"
    DROP_TASK_BECAUSE_ASSIGNED = "drop task because assigned"
    DROP_DELAYED_BECAUSE_STATUS = "drop delayed because status"
    DROP_DELAYED_BECAUSE_TASK = "drop delayed because task"
    TICK = "tick"
    SKIP_TICK = "skip tick"
    MARK_TICK = "mark tick"
    CREATE_SCHEDULE = "create schedule"
    EDIT_SCHEDULE = "edit schedule"
    RUN_NOW = "run now"
    REMOVE_SCHEDULE = "remove schedule"


class Transition(msgspec.Struct, frozen=True):
    """One row. The transaction checks, then sets, then consumes, then produces, each in the order of the row. Of places
    in `OF_KEYS` there is an operation only if the task holds a uniqueness key, and gives it up or takes it.
    """

    name: TransitionName
    by: tuple[Role, ...]
    checks: tuple[Place, ...] = ()
    sets: tuple[Place, ...] = ()
    consumes: tuple[Place, ...] = ()
    produces: tuple[Place, ...] = ()
    note: str = ""

    @property
    def guard(self) -> Place:
        """Where the task is taken from, or what is set where nothing is taken, or else what is made first."""
        return (self.consumes or self.sets or self.produces)[0]


N = TransitionName
P = Place
OF_KEYS: Final = frozenset({P.KEYS, P.HOLDS, P.HOLDS_RENAMED})
_KEY: Final = (P.HOLDS, P.KEYS)
_CLIENT, _WORKER, _PRIMARY, _OPERATOR = ((role,) for role in Role)
_CLIENT_OR_OPERATOR: Final = (Role.CLIENT, Role.OPERATOR)

_ROWS: Final = (
    Transition(
        N.SUBMIT, _CLIENT, checks=(P.ALIVE,), sets=(P.JOURNAL,), produces=(P.TASKS, P.KEYS, P.HOLDS),
        note="a batch: one check, the journal at its expected version, then what each task produces",
    ),
    Transition(
        N.SUBMIT_LATER, _CLIENT, checks=(P.ALIVE,), sets=(P.JOURNAL,), produces=(P.DELAYED, P.KEYS, P.HOLDS),
        note="in the same batch as the others",
    ),
    Transition(N.PROMOTE, _PRIMARY, consumes=(P.DELAYED,), produces=(P.TASKS,), note="it is due"),
    Transition(N.ASSIGN, _PRIMARY, checks=(P.WORKERS,), consumes=(P.TASKS,), produces=(P.ASSIGN,)),
    Transition(
        N.MARK_START, _WORKER, sets=(P.ASSIGN,), note="before it runs a task that has a delivery behind it",
    ),
    Transition(
        N.SAVE, _WORKER, sets=(P.ASSIGN,), note="a result of `once` is in the payload before the task's code goes on",
    ),
    Transition(
        N.COMPLETE, _WORKER, consumes=(P.ASSIGN, *_KEY), produces=(P.STATUS,),
        note="a task that is done keeps its key, and one that is not frees it",
    ),
    Transition(N.COMPLETE_SILENTLY, _WORKER, consumes=(P.ASSIGN, *_KEY), note="no outcome is wanted"),
    Transition(N.RETRY_NOW, _WORKER, consumes=(P.ASSIGN,), produces=(P.TASKS,), note="attempt + 1"),
    Transition(N.RETRY_LATER, _WORKER, consumes=(P.ASSIGN,), produces=(P.DELAYED,), note="attempt + 1"),
    Transition(
        N.RETRY_IN_PLACE, _WORKER, sets=(P.ASSIGN,), note="attempt + 1; under a primary of the reference",
    ),
    Transition(
        N.FORWARD, _WORKER, consumes=(P.ASSIGN,), produces=(P.DELAYED,),
        note="the worker lacks its function, or a parameter of it; the payload names one more worker that was asked",
    ),
    Transition(N.HAND_BACK, _WORKER, consumes=(P.ASSIGN,), produces=(P.TASKS,), note="the worker is draining"),
    Transition(
        N.RECOVER, _PRIMARY, consumes=(P.ASSIGN,), produces=(P.TASKS,),
        note="W is gone, and its id never comes back; delivery + 1 if the task had started",
    ),
    Transition(
        N.BURY, (Role.WORKER, Role.PRIMARY), consumes=(P.ASSIGN, *_KEY), produces=(P.DEAD, P.STATUS),
        note="its deliveries are used up, or the last of several attempts failed; status failed",
    ),
    Transition(
        N.REFUSE, _PRIMARY, consumes=(P.TASKS, *_KEY), produces=(P.STATUS,),
        note="it cannot be placed, or is too large to be moved: status failed; or its time is over: status expired",
    ),
    Transition(
        N.REFUSE_ASSIGNED, _PRIMARY, consumes=(P.ASSIGN, *_KEY), produces=(P.STATUS,),
        note="W is gone, and the task is too large to be moved; status failed",
    ),
    Transition(
        N.REFUSE_DELAYED, _PRIMARY, consumes=(P.DELAYED, *_KEY), produces=(P.STATUS,),
        note="too large to be moved: status failed; or its time is over: status expired",
    ),
    Transition(
        N.CANCEL_WAITING, _PRIMARY, consumes=(P.TASKS, P.CANCEL, *_KEY), produces=(P.STATUS,),
        note="status cancelled",
    ),
    Transition(
        N.CANCEL_DELAYED, _PRIMARY, consumes=(P.DELAYED, P.CANCEL, *_KEY), produces=(P.STATUS,),
        note="status cancelled",
    ),
    Transition(
        N.CANCEL_ASSIGNED, _PRIMARY, consumes=(P.ASSIGN, P.CANCEL, *_KEY), produces=(P.STATUS,),
        note="status cancelled; the worker finds its assignment gone",
    ),
    Transition(
        N.DROP_CANCEL, _PRIMARY, consumes=(P.CANCEL,), note="a request for a task that has ended, or is nowhere",
    ),
    Transition(N.COLLECT, _CLIENT, consumes=(P.STATUS, *_KEY), note="unless it is kept: then it expires"),
    Transition(N.EXPIRE, _PRIMARY, consumes=(P.STATUS, *_KEY), note="past its time to live"),
    Transition(
        N.REPLAY, _OPERATOR, consumes=(P.DEAD, *_KEY), produces=(P.RENAMED, P.KEYS, P.HOLDS_RENAMED),
        note="under a new name; the key is its own again, or still",
    ),
    Transition(
        N.RELEASE, _OPERATOR, consumes=_KEY, note="the task goes on without its key, or its outcome stays without it",
    ),
    Transition(N.DROP_ASSIGNMENT_BECAUSE_STATUS, (Role.WORKER, Role.PRIMARY), checks=(P.STATUS,), consumes=(P.ASSIGN,)),
    Transition(
        N.DROP_ASSIGNMENT_BECAUSE_TASK, _PRIMARY, checks=(P.TASKS,), consumes=(P.ASSIGN,), note="W is gone",
    ),
    Transition(N.DROP_TASK_BECAUSE_STATUS, _PRIMARY, checks=(P.STATUS,), consumes=(P.TASKS,)),
    Transition(
        N.DROP_TASK_BECAUSE_ASSIGNED, _PRIMARY, checks=(P.ASSIGN, P.WORKERS), consumes=(P.TASKS,), note="W is alive",
    ),
    Transition(N.DROP_DELAYED_BECAUSE_STATUS, _PRIMARY, checks=(P.STATUS,), consumes=(P.DELAYED,)),
    Transition(N.DROP_DELAYED_BECAUSE_TASK, _PRIMARY, checks=(P.TASKS,), consumes=(P.DELAYED,)),
    Transition(
        N.TICK, _PRIMARY, checks=(P.SCHEDULES,), consumes=(P.TICKS,),
        produces=(P.TASKS, P.KEYS, P.HOLDS, P.NEXT_TICKS),
        note="it is due; the schedule has the version that was read; several tasks where several missed times are made "
        "up for",
    ),
    Transition(
        N.SKIP_TICK, _PRIMARY, checks=(P.SCHEDULES,), consumes=(P.TICKS,), produces=(P.NEXT_TICKS,),
        note="the first tick is planned, or no task is wanted; the schedule has the version that was read",
    ),
    Transition(
        N.MARK_TICK, _PRIMARY, checks=(P.SCHEDULES,), sets=(P.TICKS,),
        note="with the reason why no task can be made; the schedule has the version that was read",
    ),
    Transition(
        N.CREATE_SCHEDULE, _CLIENT_OR_OPERATOR, produces=(P.SCHEDULES, P.NEXT_TICKS),
        note="the primary plans the first tick",
    ),
    Transition(
        N.EDIT_SCHEDULE, _CLIENT_OR_OPERATOR, sets=(P.SCHEDULES,), consumes=(P.TICKS,), produces=(P.NEXT_TICKS,),
        note="at the version that was read; also to pause and to resume",
    ),
    Transition(
        N.RUN_NOW, _CLIENT_OR_OPERATOR, sets=(P.SCHEDULES,), consumes=(P.TICKS,),
        produces=(P.TASKS, P.KEYS, P.HOLDS, P.NEXT_TICKS),
        note="as an edit that changes nothing; several tasks for a range of past times",
    ),
    Transition(
        N.REMOVE_SCHEDULE, _CLIENT_OR_OPERATOR, consumes=(P.TICKS, P.SCHEDULES), note="at the version that was read",
    ),
)  # fmt: skip

TABLE: Final[Mapping[TransitionName, Transition]] = {row.name: row for row in _ROWS}


class Verb(enum.StrEnum):
    CHECK = "check"
    SET = "set"
    DELETE = "delete"
    CREATE = "create"


class Failure(enum.StrEnum):
    """Why ZooKeeper refused an operation. `Failure("NoAuth")` and any other unknown name is `OTHER`."""

    NO_NODE = "NoNode"
    NODE_EXISTS = "NodeExists"
    NOT_EMPTY = "NotEmpty"
    BAD_VERSION = "BadVersion"
    OTHER = "Other"

    @classmethod
    def _missing_(cls, value: object) -> Failure:  # noqa: ARG003 - the enum passes it
        return cls.OTHER


class Verdict(enum.StrEnum):
    """What a refused transaction means for the task that the failed operation belongs to."""

    RACE_LOST = "race lost"
    """The task is no longer where it was taken from: another role moved it, or our own lost request did."""
    CHOOSE_ANOTHER_WORKER = "choose another worker"
    """The worker or its inbox is gone; the task still waits."""
    DROP_ASSIGNMENT = "drop assignment"
    """The task has ended elsewhere: `drop_assignment_because_status`."""
    DROP_TASK_ENDED = "drop task, it has ended"
    """`drop_task_because_status`."""
    DROP_TASK_ASSIGNED = "drop task, it is assigned"
    """The very same assignment exists already: `drop_task_because_assigned`."""
    DROP_DELAYED_ENDED = "drop delayed, it has ended"
    """`drop_delayed_because_status`."""
    DROP_DELAYED_WAITING = "drop delayed, it waits"
    """`drop_delayed_because_task`."""
    KEEP_AND_TRY_LATER = "keep and try later"
    """A second copy stands where this one would go; a primary of the reference may be about to delete it."""
    DECIDE_AGAIN = "decide again"
    """Something that the decision relied on is gone; do not repeat it, decide from the newest picture."""
    ALREADY_BURIED = "already buried"
    """`dead/T` exists: end the task by `complete` (a worker) or `refuse_assigned` (the primary) with the failure."""
    WITHOUT_KEY = "without key"
    """The task does not hold the key any more: the same move without it."""
    KEY_TAKEN = "key taken"
    """Another task holds the uniqueness key."""
    READ_JOURNAL = "read journal"
    """Another version than expected, which by itself never means accepted: `sync`, read the journal, compare."""
    JOURNAL_GONE = "journal gone"
    """The sweep took the journal: `SubmissionUnknown` for what is unresolved."""
    SESSION_REPLACED = "session replaced"
    """This session's `alive` node is gone, so a newer session submits in its place."""
    FOLDER_MISSING = "folder missing"
    """The folder that the task goes to was deleted: make the folders, then try again."""
    UNEXPECTED = "unexpected"
    """Nothing of the protocol explains it: log it, set the task aside, go on with the others."""


V = Verdict
_SAME_FOR_EVERY_GUARD: Final = {
    (Verb.DELETE, P.CANCEL, Failure.NO_NODE): V.DECIDE_AGAIN,
    (Verb.DELETE, P.HOLDS, Failure.NO_NODE): V.WITHOUT_KEY,
    (Verb.DELETE, P.KEYS, Failure.NO_NODE): V.WITHOUT_KEY,
    (Verb.CREATE, P.KEYS, Failure.NODE_EXISTS): V.KEY_TAKEN,
    (Verb.CREATE, P.DEAD, Failure.NODE_EXISTS): V.ALREADY_BURIED,
    (Verb.CREATE, P.DELAYED, Failure.NODE_EXISTS): V.KEEP_AND_TRY_LATER,
    (Verb.CREATE, P.ASSIGN, Failure.NO_NODE): V.CHOOSE_ANOTHER_WORKER,
    (Verb.CREATE, P.ASSIGN, Failure.NODE_EXISTS): V.DROP_TASK_ASSIGNED,
    (Verb.CHECK, P.ALIVE, Failure.NO_NODE): V.SESSION_REPLACED,
    (Verb.SET, P.JOURNAL, Failure.BAD_VERSION): V.READ_JOURNAL,
    (Verb.SET, P.JOURNAL, Failure.NO_NODE): V.JOURNAL_GONE,
    (Verb.CREATE, P.SCHEDULES, Failure.NODE_EXISTS): V.DECIDE_AGAIN,
} | {
    (verb, P.SCHEDULES, failure): V.DECIDE_AGAIN
    for verb in (Verb.CHECK, Verb.SET, Verb.DELETE)
    for failure in (Failure.NO_NODE, Failure.BAD_VERSION)
}
_BY_GUARD: Final = {
    (P.ASSIGN, Verb.CREATE, P.STATUS, Failure.NODE_EXISTS): V.DROP_ASSIGNMENT,
    (P.TASKS, Verb.CREATE, P.STATUS, Failure.NODE_EXISTS): V.DROP_TASK_ENDED,
    (P.DELAYED, Verb.CREATE, P.STATUS, Failure.NODE_EXISTS): V.DROP_DELAYED_ENDED,
    (P.ASSIGN, Verb.CREATE, P.TASKS, Failure.NODE_EXISTS): V.KEEP_AND_TRY_LATER,
    (P.DELAYED, Verb.CREATE, P.TASKS, Failure.NODE_EXISTS): V.DROP_DELAYED_WAITING,
}


def judge(row: Transition, verb: Verb, place: Place, is_guard: bool, failure: Failure) -> Verdict:
    """What the failure of one operation of a row means. Only `NoNode` at the guard itself is a lost race."""
    if verb is Verb.CHECK and failure is Failure.NO_NODE and place not in (P.ALIVE, P.SCHEDULES):
        return V.CHOOSE_ANOTHER_WORKER if row.produces else V.DECIDE_AGAIN
    if is_guard and failure is Failure.NO_NODE and place is not P.JOURNAL and verb is not Verb.CREATE:
        return V.RACE_LOST
    found = _BY_GUARD.get((row.guard, verb, place, failure)) or _SAME_FOR_EVERY_GUARD.get((verb, place, failure))
    if found is None and verb is Verb.CREATE and failure is Failure.NO_NODE:
        return V.FOLDER_MISSING
    return found or V.UNEXPECTED


def as_markdown() -> str:
    """The transition table for documents."""
    lines = ["| transition | by | checks | sets | consumes | produces | note |", "|---|---|---|---|---|---|---|"]
    for row in TABLE.values():
        cells = [row.name.value, ", ".join(row.by)]
        cells += [_places(row, places) for places in (row.checks, row.sets, row.consumes, row.produces)]
        lines.append(f"| {' | '.join([*cells, row.note])} |")
    return "\n".join(lines) + "\n"


def _places(row: Transition, places: tuple[Place, ...]) -> str:
    is_sure = row.guard in OF_KEYS
    return ", ".join(f"`{place}`" if is_sure or place not in OF_KEYS else f"(`{place}`)" for place in places)
