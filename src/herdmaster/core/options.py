"""How a worker runs a call.

The function's registration with the worker's app says it; what a submitter wants otherwise for one task stands in the
payload, field by field, and nothing else does. So a worker that was deployed anew runs waiting tasks by its new rules,
and payloads stay small.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from herdmaster.core.bounds import Count, Pause, Seconds

DEFAULT_BACKOFF: Final = 1.0
DEFAULT_MAX_BACKOFF: Final = 600.0


class PoolKind(enum.StrEnum):
    """Where a task's code runs."""

    THREAD = "thread"
    ASYNCIO = "asyncio"
    PROCESS = "process"


class RunOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times in seconds, memory in bytes. Types of exceptions are written as in `ErrorInfo`: `module.qualname`, bare for
    built-in ones; an exception is of a type if the name is that of its class or of one of its bases.

    `retry_on` empty: any `Exception`. `give_up_on` wins over `retry_on`.
    """

    max_attempts: Count = 1
    backoff: Pause = DEFAULT_BACKOFF
    max_backoff: Pause = DEFAULT_MAX_BACKOFF
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()
    soft_timeout: Seconds | None = None
    timeout: Seconds | None = None
    memory_limit: Count | None = None
    max_tasks_per_process: Count | None = None
    pool: PoolKind = PoolKind.THREAD


class Overrides(msgspec.Struct, frozen=True):
    """The fields of `RunOptions` that one task wants otherwise; the rest is unset."""

    max_attempts: Count | UnsetType = UNSET
    backoff: Pause | UnsetType = UNSET
    max_backoff: Pause | UnsetType = UNSET
    retry_on: tuple[str, ...] | UnsetType = UNSET
    give_up_on: tuple[str, ...] | UnsetType = UNSET
    soft_timeout: Seconds | UnsetType | None = UNSET
    timeout: Seconds | UnsetType | None = UNSET
    memory_limit: Count | UnsetType | None = UNSET
    max_tasks_per_process: Count | UnsetType | None = UNSET
    pool: PoolKind | UnsetType = UNSET


def overrides(registered: RunOptions, wanted: RunOptions) -> Overrides | None:
    """What has to stand in the payload so that `registered` becomes `wanted`; None for nothing."""
    changed = {
        name: value
        for name in RunOptions.__struct_fields__
        if (value := getattr(wanted, name)) != getattr(registered, name)
    }
    return Overrides(**changed) if changed else None


def apply_overrides(registered: RunOptions, wanted: Overrides | None) -> RunOptions:
    """The options that hold for one task."""
    if wanted is None:
        return registered
    changed = {name: value for name in Overrides.__struct_fields__ if (value := getattr(wanted, name)) is not UNSET}
    return msgspec.structs.replace(registered, **changed)
