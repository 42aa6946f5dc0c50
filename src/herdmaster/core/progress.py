"""What stands in `/progress/worker-ID`: the tasks that the worker runs, since when, and how far they say they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

MAX_SHOWN: Final = 200
"""Tasks of one worker that are told of; a worker of coroutines may run thousands."""
MAX_NOTE: Final = 200
"""Characters."""


class TaskProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that runs. `since` in unix milliseconds; `done` of `total` in whatever the task counts."""

    task: str
    since: int
    call: str | None = None
    attempt: int = 1
    done: float | None = None
    total: float | None = None
    note: str = ""


class WorkerProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """`running` counts all, also those beyond what `tasks` shows."""

    running: int
    tasks: tuple[TaskProgress, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(WorkerProgress)


def encode_progress(tasks: Sequence[TaskProgress]) -> bytes:
    """Those that run longest come first, and are the ones that are kept."""
    shown = sorted(tasks, key=lambda each: (each.since, each.task))[:MAX_SHOWN]
    return _encoder.encode(WorkerProgress(len(tasks), tuple(shown)))


def decode_progress(data: bytes | None) -> WorkerProgress:
    """Nothing runs, as far as data that says nothing usable tells."""
    try:
        return _decoder.decode(data or b"")
    except (msgspec.DecodeError, RecursionError):
        return WorkerProgress(0)
