"""The decisions of a dispatcher. The primary carries each out, and answers how it ended."""

from __future__ import annotations

import msgspec


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Move the task from `/tasks` to the worker's inbox."""

    task: str
    worker: str


class Recover(msgspec.Struct, frozen=True, gc=False):
    """The worker is gone: move the task out of its inbox. Its payload and its status say where to."""

    task: str
    worker: str


class DropTask(msgspec.Struct, frozen=True, gc=False):
    """Delete the copy in `/tasks`: the task has a status (`worker` is None), or the live `worker` holds it."""

    task: str
    worker: str | None


class DropAssignment(msgspec.Struct, frozen=True, gc=False):
    """Delete the copy in the inbox of a worker that is gone: the task is in `/tasks`."""

    task: str
    worker: str


class RemoveInbox(msgspec.Struct, frozen=True, gc=False):
    """Delete the inbox of a worker that is gone: it is empty."""

    worker: str


class ReadHeader(msgspec.Struct, frozen=True, gc=False):
    """Read the header of the task in `/tasks`, which has conditions, and tell them with `set_expiry`."""

    task: str


class RefuseExpired(msgspec.Struct, frozen=True, gc=False):
    """End the task in `/tasks` as expired: it is too late to begin it."""

    task: str


Decision = Assign | Recover | DropTask | DropAssignment | RemoveInbox | ReadHeader | RefuseExpired
