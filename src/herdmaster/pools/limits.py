"""What a task may use, and how it can end without a result of its own code."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What one task may use. None: as much as it likes.

    `soft`: seconds after which `errors.SoftTimeLimitExceeded` is raised in the task's code, once. `hard`: seconds after
    which it is ended, whatever it does. Both count from the moment at which its code begins. `memory`: bytes that its
    process may hold of its own, the interpreter's included; each process that the task starts may hold as many again.
    `max_tasks`: how many tasks its process runs before a fresh one takes its place. The last two say something to a
    pool of processes only.
    """

    soft: float | None = None
    hard: float | None = None
    memory: int | None = None
    max_tasks: int | None = None


NO_LIMITS = Limits()


class TimedOut(msgspec.Struct, frozen=True):
    """It ran longer than `seconds`. Its code has been ended where the pool can do that; else what comes of it is
    thrown away."""

    seconds: float


class Died(msgspec.Struct, frozen=True):
    """Its process or its coroutine ended without a result: `reason` is a sentence that says how."""

    reason: str


class Stopped(msgspec.Struct, frozen=True):
    """The pool was asked to stop it."""


class NotStarted(msgspec.Struct, frozen=True):
    """Its code was not begun: the request for it was not made, or its process was dead before it had read it. It may be
    submitted again."""


Ended = TimedOut | Died | Stopped | NotStarted
"""What a pool may deliver in place of what the code itself came to."""
