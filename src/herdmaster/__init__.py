"""Herdmaster runs tasks on many machines; ZooKeeper is all it needs, and a task that was accepted is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from herdmaster.errors import (
    BacklogFull,
    ConfigurationError,
    DuplicateTask,
    HerdError,
    HookFailed,
    InvalidName,
    NoCurrentTask,
    NotAllSubmitted,
    NotSerializable,
    NotSubmitted,
    OutcomeGone,
    PayloadTooLarge,
    ResultTooLarge,
    Retry,
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
    from herdmaster.api import AsyncTask, Future, Herd, HerdClosed, HerdExecutor, Options, Task
    from herdmaster.running.current import current_task

__version__ = "0.1.0"

__all__ = [
    "AsyncTask",
    "BacklogFull",
    "ConfigurationError",
    "DuplicateTask",
    "Future",
    "Herd",
    "HerdClosed",
    "HerdError",
    "HerdExecutor",
    "HookFailed",
    "InvalidName",
    "NoCurrentTask",
    "NotAllSubmitted",
    "NotSerializable",
    "NotSubmitted",
    "Options",
    "OutcomeGone",
    "PayloadTooLarge",
    "ResultTooLarge",
    "Retry",
    "SoftTimeLimitExceeded",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskDied",
    "TaskExpired",
    "TaskFailed",
    "TimeLimitExceeded",
    "UnknownCall",
    "WrongArguments",
    "__version__",
    "current_task",
]


def __getattr__(name: str) -> object:
    # Late, so that `herd --help` and whoever only wants the errors does not pay for asyncio.
    if name in ("AsyncTask", "Future", "Herd", "HerdClosed", "HerdExecutor", "Options", "Task"):
        from herdmaster import api

        return getattr(api, name)
    if name == "current_task":
        from herdmaster.running.current import current_task

        return current_task
    raise AttributeError(f"module 'herdmaster' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
