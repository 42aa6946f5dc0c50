"""What stands in `/progress/worker-ID`: the tasks that the worker runs, since when, and how far they say they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

MAX_SHOWN: Final = 200
"""Tasks of one worker that are told of; a worker of coroutines may run thousands."""
MAX_NOTE: Final = 200
"""Characters."""
MAX_AWAITED: Final = 5
"""How many of the tasks that one waits for are shown."""


class TaskProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that runs. `since` in unix milliseconds; `done` of `total` in the unit that the task counts;
    `waits_for` are tasks that its code has waited for for a while."""

    task: str
    since: int
    call: str | None = None
    attempt: int = 1
    done: float | None = None
    total: float | None = None
    note: str = ""
    waits_for: tuple[str, ...] = ()


class WorkerProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """`running` counts all, also those beyond what `tasks` shows. `stalled`: every slot waits for tasks that no slot is
    left for."""

    running: int
    tasks: tuple[TaskProgress, ...] = ()
    stalled: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(WorkerProgress)


def encode_progress(tasks: Sequence[TaskProgress], *, stalled: bool = False) -> bytes:
    """Those that run longest come first, and are the ones that are kept."""
    shown = sorted(tasks, key=lambda each: (each.since, each.task))[:MAX_SHOWN]
    return _encoder.encode(WorkerProgress(len(tasks), tuple(shown), stalled))


def decode_progress(data: bytes | None) -> WorkerProgress:
    """Nothing runs, as far as data that says nothing usable tells."""
    try:
        return _decoder.decode(data or b"")
    except (msgspec.DecodeError, RecursionError):
        return WorkerProgress(0)
