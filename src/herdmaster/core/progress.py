"""The data of `/progress/worker-ID`: the tasks that a worker runs, since when, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.core.bounds import Number, UnixMs
from herdmaster.core.values import UNREADABLE

MAX_SHOWN: Final = 200
"""Tasks of one worker that are shown; a worker of coroutines may run thousands."""
MAX_NOTE: Final = 200
"""Characters."""
MAX_AWAITED: Final = 5
"""Tasks that are shown of those for which one task waits."""


class TaskProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that runs. `since` in unix milliseconds; `done` of `total` in the unit that the task counts.

    `waits_for`: the tasks for whose outcomes its code has waited for a while. `alone`: its worker begins nothing beside
    it, because workers were lost with it.
    """

    task: str
    since: UnixMs
    call: str | None = None
    attempt: Number = 1
    done: float | None = None
    total: float | None = None
    note: str = ""
    waits_for: tuple[str, ...] = ()
    alone: bool = False


class WorkerProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker runs. `running` counts all tasks, `tasks` shows at most `MAX_SHOWN` of them.

    `stalled`: every slot has a task that waits for other tasks, and these have no slot.
    """

    running: Number
    tasks: tuple[TaskProgress, ...] = ()
    stalled: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(WorkerProgress)


def encode_progress(tasks: Sequence[TaskProgress], *, stalled: bool = False) -> bytes:
    """Return the data of the znode: the tasks that have run longest come first, and are shown."""
    shown = sorted(tasks, key=lambda each: (each.since, each.task))[:MAX_SHOWN]
    return _encoder.encode(WorkerProgress(len(tasks), tuple(shown), stalled))


def decode_progress(data: bytes | None) -> WorkerProgress:
    """Return what a worker runs. Data that cannot be used counts as nothing."""
    try:
        return _decoder.decode(data or b"")
    except UNREADABLE:
        return WorkerProgress(0)
