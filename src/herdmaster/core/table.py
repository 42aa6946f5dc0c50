"""The transition table: what moves a task, who may do it, and how a refused transaction is to be understood.

A task is in one place. Each row is one transaction that takes the task from there (`consumes`) and puts it where it
goes (`produces`), so of two racing transitions one wins, a repeated one fails cleanly, and a crash leaves the task in
one place. The first thing consumed is the guard; where a row consumes nothing, the first thing it sets is. The tick of
a schedule goes from one time to the next in the same way. These two
tables are the only statement of the protocol: transactions, verdicts, documents and tests derive from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from herdmaster.core.flow_rows import FLOW_ROWS, judge_flow
from herdmaster.core.row import Failure, Place, Role, Transition, TransitionName, Verb, Verdict

__all__ = [
    "OF_KEYS", "TABLE", "Failure", "Place", "Role", "Transition", "TransitionName", "Verb", "Verdict", "as_markdown",
    "judge",
]  # fmt: skip

N = TransitionName
P = Place
OF_KEYS: Final = frozenset({P.KEYS, P.HOLDS, P.HOLDS_RENAMED})
_KEY: Final = (P.HOLDS, P.KEYS)
_CLIENT, _WORKER, _PRIMARY, _OPERATOR = ((role,) for role in Role)
_CLIENT_OR_OPERATOR: Final = (Role.CLIENT, Role.OPERATOR)

_ROWS: Final = (
    Transition(
        N.SUBMIT, _CLIENT, checks=(P.ALIVE, P.PARENT), sets=(P.JOURNAL,), produces=(P.TASKS, P.KEYS, P.HOLDS),
        note="a batch: one check, the journal at its expected version, then what each task produces; a child checks "
        "the assignment of its parent",
    ),
    Transition(
        N.SUBMIT_LATER, _CLIENT, checks=(P.ALIVE, P.PARENT), sets=(P.JOURNAL,), produces=(P.DELAYED, P.KEYS, P.HOLDS),
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

TABLE: Final[Mapping[TransitionName, Transition]] = {row.name: row for row in (*_ROWS, *FLOW_ROWS)}


V = Verdict
_SAME_FOR_EVERY_GUARD: Final = {
    (Verb.DELETE, P.CANCEL, Failure.NO_NODE): V.DECIDE_AGAIN,
    (Verb.DELETE, P.ASSIGN, Failure.BAD_VERSION): V.DECIDE_AGAIN,
    (Verb.DELETE, P.HOLDS, Failure.NO_NODE): V.WITHOUT_KEY,
    (Verb.DELETE, P.KEYS, Failure.NO_NODE): V.WITHOUT_KEY,
    (Verb.CREATE, P.KEYS, Failure.NODE_EXISTS): V.KEY_TAKEN,
    (Verb.CREATE, P.DEAD, Failure.NODE_EXISTS): V.ALREADY_BURIED,
    (Verb.CREATE, P.DELAYED, Failure.NODE_EXISTS): V.KEEP_AND_TRY_LATER,
    (Verb.CREATE, P.ASSIGN, Failure.NO_NODE): V.CHOOSE_ANOTHER_WORKER,
    (Verb.CREATE, P.ASSIGN, Failure.NODE_EXISTS): V.DROP_TASK_ASSIGNED,
    (Verb.CHECK, P.ALIVE, Failure.NO_NODE): V.SESSION_REPLACED,
    (Verb.CHECK, P.PARENT, Failure.NO_NODE): V.PARENT_GONE,
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
    of_flow = judge_flow(row, verb, place, is_guard, failure)
    if of_flow is not None:
        return of_flow
    if verb is Verb.CHECK and failure is Failure.NO_NODE and place not in (P.ALIVE, P.PARENT, P.SCHEDULES):
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
    perhaps = {P.PARENT} if row.guard in OF_KEYS else {P.PARENT, *OF_KEYS}
    return ", ".join(f"(`{place}`)" if place in perhaps else f"`{place}`" for place in places)
