"""The limits of a task, and the ways in which it can end without a result of its code."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """The limits of one task. None is no limit.

    - `soft`: seconds after which `errors.SoftTimeLimitExceeded` is raised in the task's code, once.
    - `hard`: seconds after which the task is ended, whatever its code does. Like `soft`, it counts from the start of
      the code.
    - `memory`: bytes that the task's process may allocate, including those of the interpreter. Each process that the
      task starts may allocate as many again. For a pool of processes only.
    - `max_tasks`: how many tasks a process runs before it is replaced. For a pool of processes only.
    """

    soft: float | None = None
    hard: float | None = None
    memory: int | None = None
    max_tasks: int | None = None


NO_LIMITS = Limits()


class TimedOut(msgspec.Struct, frozen=True):
    """The code ran longer than `seconds`. It was ended if the pool can do that; else its result is dropped."""

    seconds: float


class Died(msgspec.Struct, frozen=True):
    """The process or the coroutine ended without a result: `reason` is a sentence that says how."""

    reason: str


class Stopped(msgspec.Struct, frozen=True):
    """The pool was asked to stop the item."""


class NotStarted(msgspec.Struct, frozen=True):
    """The code was not begun: no request was made for it, or the process died before it read the request. The item may
    be submitted again."""


Ended = TimedOut | Died | Stopped | NotStarted
"""What a pool may deliver instead of the result of the code."""
