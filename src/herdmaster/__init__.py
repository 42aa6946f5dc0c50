"""Herdmaster runs tasks on many machines; ZooKeeper is all it needs, and a task that was accepted is not lost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from herdmaster.errors import (
    BacklogFull,
    BadOutcome,
    BadSchedule,
    BadSignature,
    ConfigurationError,
    DuplicateTask,
    HerdError,
    HookFailed,
    InvalidName,
    NoCurrentTask,
    NotAllSubmitted,
    NotSaved,
    NotSerializable,
    NotSubmitted,
    OutcomeGone,
    PayloadTooLarge,
    ResultTooLarge,
    Retry,
    SavedTooLarge,
    SoftTimeLimitExceeded,
    SubmissionUnknown,
    TaskCancelled,
    TaskDied,
    TaskExpired,
    TaskFailed,
    TimeLimitExceeded,
    UnknownCall,
    WrongArguments,
)

if TYPE_CHECKING:
    from herdmaster.api import (
        AsyncTask,
        Flow,
        FlowFuture,
        FlowOptions,
        Future,
        Herd,
        HerdClosed,
        HerdExecutor,
        Options,
        Results,
        Task,
    )
    from herdmaster.api.schedule_edits import ScheduleEditOptions
    from herdmaster.api.schedule_options import ScheduleOptions
    from herdmaster.api.schedules import Schedules
    from herdmaster.core.codec import Codec
    from herdmaster.core.flows import FlowState
    from herdmaster.core.history import CallCounts, EndState, FailureRecord, Histogram
    from herdmaster.core.schedules import Schedule, Tick
    from herdmaster.core.timetable import Cron
    from herdmaster.core.upcoming import UpcomingTick
    from herdmaster.inspection.flow_seen import StepInfo, StepState
    from herdmaster.inspection.flows import FlowInfo
    from herdmaster.inspection.history import BacklogSample, History, Quantiles, Statistics
    from herdmaster.inspection.schedules import LastTask, ScheduleSeen, ScheduleState
    from herdmaster.inspection.task_seen import TaskSeen
    from herdmaster.operations.schedule_plan import ScheduleChange, SchedulePlan
    from herdmaster.running.current import CurrentTask, current_task
    from herdmaster.zookeeper.client.credentials import Digest, Kerberos, Sasl
    from herdmaster.zookeeper.tls import TLS, PasswordFile

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "AsyncTask",
    "BacklogFull",
    "BacklogSample",
    "BadOutcome",
    "BadSchedule",
    "BadSignature",
    "CallCounts",
    "Codec",
    "ConfigurationError",
    "Cron",
    "CurrentTask",
    "Digest",
    "DuplicateTask",
    "EndState",
    "FailureRecord",
    "Flow",
    "FlowFuture",
    "FlowInfo",
    "FlowOptions",
    "FlowState",
    "Future",
    "Herd",
    "HerdClosed",
    "HerdError",
    "HerdExecutor",
    "Histogram",
    "History",
    "HookFailed",
    "InvalidName",
    "Kerberos",
    "LastTask",
    "NoCurrentTask",
    "NotAllSubmitted",
    "NotSaved",
    "NotSerializable",
    "NotSubmitted",
    "Options",
    "OutcomeGone",
    "PasswordFile",
    "PayloadTooLarge",
    "Quantiles",
    "ResultTooLarge",
    "Results",
    "Retry",
    "Sasl",
    "SavedTooLarge",
    "Schedule",
    "ScheduleChange",
    "ScheduleEditOptions",
    "ScheduleOptions",
    "SchedulePlan",
    "ScheduleSeen",
    "ScheduleState",
    "Schedules",
    "SoftTimeLimitExceeded",
    "Statistics",
    "StepInfo",
    "StepState",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskDied",
    "TaskExpired",
    "TaskFailed",
    "TaskSeen",
    "Tick",
    "TimeLimitExceeded",
    "UnknownCall",
    "UpcomingTick",
    "WrongArguments",
    "__version__",
    "current_task",
]


_LATE: Final = {
    **dict.fromkeys(
        (
            "AsyncTask",
            "Flow",
            "FlowFuture",
            "FlowOptions",
            "Future",
            "Herd",
            "HerdClosed",
            "HerdExecutor",
            "Options",
            "Results",
            "Task",
        ),
        "herdmaster.api",
    ),
    "Codec": "herdmaster.core.codec",
    "FlowState": "herdmaster.core.flows",
    "FlowInfo": "herdmaster.inspection.flows",
    **dict.fromkeys(("StepInfo", "StepState"), "herdmaster.inspection.flow_seen"),
    **dict.fromkeys(("FailureRecord", "Histogram", "CallCounts", "EndState"), "herdmaster.core.history"),
    **dict.fromkeys(("BacklogSample", "History", "Quantiles", "Statistics"), "herdmaster.inspection.history"),
    "Cron": "herdmaster.core.timetable",
    "UpcomingTick": "herdmaster.core.upcoming",
    "ScheduleEditOptions": "herdmaster.api.schedule_edits",
    "ScheduleOptions": "herdmaster.api.schedule_options",
    "Schedules": "herdmaster.api.schedules",
    **dict.fromkeys(("Schedule", "Tick"), "herdmaster.core.schedules"),
    **dict.fromkeys(("LastTask", "ScheduleSeen", "ScheduleState"), "herdmaster.inspection.schedules"),
    **dict.fromkeys(("ScheduleChange", "SchedulePlan"), "herdmaster.operations.schedule_plan"),
    "TaskSeen": "herdmaster.inspection.tasks",
    **dict.fromkeys(("CurrentTask", "current_task"), "herdmaster.running.current"),
    **dict.fromkeys(("Digest", "Kerberos", "Sasl"), "herdmaster.zookeeper.client.credentials"),
    **dict.fromkeys(("TLS", "PasswordFile"), "herdmaster.zookeeper.tls"),
}


def __getattr__(name: str) -> object:
    # Late, so that `herd --help`, and a program that wants the errors alone, does not pay for asyncio.
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'herdmaster' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
