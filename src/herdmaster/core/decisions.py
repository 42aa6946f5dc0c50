"""What a dispatcher decides; each is carried out by the primary and answered."""

from __future__ import annotations

import msgspec


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Move the task from `/tasks` to the worker's inbox."""

    task: str
    worker: str


class Recover(msgspec.Struct, frozen=True, gc=False):
    """The worker is gone: move the task out of its inbox, to where its payload and a status say."""

    task: str
    worker: str


class DropTask(msgspec.Struct, frozen=True, gc=False):
    """The copy in `/tasks` is one too many: the task has a status, or the live `worker` holds it."""

    task: str
    worker: str | None


class DropAssignment(msgspec.Struct, frozen=True, gc=False):
    """The copy in a gone worker's inbox is one too many: the task is in `/tasks`."""

    task: str
    worker: str


class RemoveInbox(msgspec.Struct, frozen=True, gc=False):
    """The inbox of a worker that is gone is empty."""

    worker: str


class ReadHeader(msgspec.Struct, frozen=True, gc=False):
    """The task in `/tasks` has conditions in its header, to be told with `set_expiry`."""

    task: str


class RefuseExpired(msgspec.Struct, frozen=True, gc=False):
    """The task still waits in `/tasks`, and its time is over."""

    task: str


Decision = Assign | Recover | DropTask | DropAssignment | RemoveInbox | ReadHeader | RefuseExpired
