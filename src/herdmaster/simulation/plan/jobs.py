"""Jobs of a plan: what clients submit, and what the code of each task does."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from herdmaster.core.keys import KeyHolds, KeyScope

ALWAYS: Final = 99
"""The `times` of a job whose code misbehaves in every run."""
DEFAULT: Final = "default"
OTHER: Final = "other"
CALL: Final = "simulated:code"
RARE: Final = "simulated:rare"
STEP: Final = "simulated:step"


class PlannedFailure(Exception):
    """Raised by the code of a job that is to fail."""


class Code(enum.StrEnum):
    """What the code of a task does."""

    RUN = "run"
    FAIL = "fail"
    HANG = "hang"
    KILL = "kill"
    ONCE = "once"
    PARENT = "parent"


class Job(msgspec.Struct, frozen=True):
    """A submission. All times are in seconds.

    `seconds` is how long its code runs. `times` is in how many runs FAIL, HANG or KILL happens before the code behaves;
    0 means always for FAIL and never for the others. ONCE saves a result first, and fails in the first `times`
    attempts. PARENT submits its children first. The payload of a `garbage` job is no call. Only one task at a time
    holds a uniqueness `key`.
    """

    index: int
    client: str
    at: float
    raw: bool
    code: Code
    seconds: float
    times: int = 0
    size: int = 0
    queue: str = DEFAULT
    priority: int = 5
    silent: bool = False
    garbage: bool = False
    key: str | None = None
    key_scope: KeyScope = KeyScope.CALL
    key_holds: KeyHolds = KeyHolds.DONE
    old_key: bool = False
    """The client is of a version that knew neither scope nor holds."""
    patience: float | None = None
    """The client gives up waiting for the acceptance after this time."""
    attempts: int = 1
    backoff: float = 0.0
    delay: float | None = None
    """The task is due this long after its submission."""
    expires: float | None = None
    """The task ends as expired if it has not started this long after its submission."""
    cancel: float | None = None
    """An operator asks to cancel the task this long after its submission."""
    timeout: float | None = None
    """The time limit of the code."""
    outcome_ttl: float | None = None
    """How long the outcome is kept, if not as long as others."""
    parent: int | None = None
    """The job whose code submits this one as its child, `at` seconds after it has noted the child's name."""
    rare: bool = False
    """Not every worker has the function."""
