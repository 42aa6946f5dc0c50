"""What the transition table is made of: who, where, which transition, and what a refusal means."""

from __future__ import annotations

import enum

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
    PARENT = "assign/W/PARENT"
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
    FLOWS = "flows/F"
    FLOW_FOLDERS = "flows/F/..."
    FLOW_RUNNING = "flows/F/running"
    FLOW_CANCEL = "flows/F/cancel"
    FLOW_STATUS = "status/F"
    RUNNING = "flows/F/running/T"
    STEPS = "flows/F/steps/S"
    FOLLOWERS = "flows/F/steps/P:S"
    EDGES = "flows/F/steps/S/P"
    RESULTS = "flows/F/results/S"
    PARENT_RESULTS = "flows/F/results/P"
    FAILED = "flows/F/failed/S"


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
    SUBMIT_FLOW = "submit flow"
    BUILD_FLOW = "build flow"
    BEGIN_FLOW = "begin flow"
    START_STEP = "start step"
    START_FOLLOWER = "start follower"
    DROP_EDGES = "drop edges"
    COMPLETE_STEP = "complete step"
    EXPAND_STEP = "expand step"
    FAIL_STEP = "fail step"
    FAIL_STEP_WAITING = "fail step waiting"
    FAIL_STEP_DELAYED = "fail step delayed"
    CANCEL_STEP_WAITING = "cancel step waiting"
    CANCEL_STEP_DELAYED = "cancel step delayed"
    CANCEL_STEP_ASSIGNED = "cancel step assigned"
    DROP_STEP_ASSIGNED = "drop step assigned"
    DROP_STEP_WAITING = "drop step waiting"
    DROP_STEP_DELAYED = "drop step delayed"
    LOSE_STEP = "lose step"
    END_FLOW = "end flow"
    REOPEN_FLOW = "reopen flow"
    RETRY_STEP = "retry step"
    CANCEL_FLOW = "cancel flow"
    REMOVE_FLOW = "remove flow"


class Transition(msgspec.Struct, frozen=True):
    """One row. The transaction checks, then sets, then consumes, then produces, each in the order of the row. Of places
    in `OF_KEYS` there is an operation only if the task holds a uniqueness key, and gives it up or takes it.

    Rows of flows have an order of their own (`core/flow_moves.py`): what they produce comes before what they consume of
    the flow, and `running/T` is consumed last. A primary hears of a transaction operation by operation, and so it never
    sees a flow at rest whose step goes on.
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
    STEP_ENDED = "step ended"
    """The task is not among those of its flow that live: the step has ended, and this is a copy of its task."""
    EDGE_GONE = "edge gone"
    """A step that waited for this one has started without it, or its flow is gone: the same move without that edge."""
    PARENT_GONE = "parent gone"
    """The task that submits a child has ended, or runs elsewhere: the child is not submitted."""
    FLOW_GONE = "flow gone"
    """The flow was removed, or is no longer being built."""
    UNEXPECTED = "unexpected"
    """Nothing of the protocol explains it: log it, set the task aside, go on with the others."""
