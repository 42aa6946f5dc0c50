"""Herdmaster runs tasks on many machines; ZooKeeper is all it needs, and a task that was accepted is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from herdmaster.errors import (
    ConfigurationError,
    HerdError,
    InvalidName,
    NotSerializable,
    NotSubmitted,
    OutcomeGone,
    PayloadTooLarge,
    SubmissionUnknown,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
)

if TYPE_CHECKING:
    from herdmaster.api import Future, Herd, Task

__version__ = "0.1.0"

__all__ = [
    "ConfigurationError",
    "Future",
    "Herd",
    "HerdError",
    "InvalidName",
    "NotSerializable",
    "NotSubmitted",
    "OutcomeGone",
    "PayloadTooLarge",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "__version__",
]


def __getattr__(name: str) -> object:
    # Late, so that `herd --help` and whoever only wants the errors does not pay for asyncio.
    if name in ("Future", "Herd", "Task"):
        from herdmaster import api

        return getattr(api, name)
    raise AttributeError(f"module 'herdmaster' has no attribute {name!r}")
