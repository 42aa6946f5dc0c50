"""A dispatcher, and what it is told."""

from __future__ import annotations

from herdmaster.core.decisions import Decision
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.picture import Listing
from herdmaster.core.roster import WorkerState

A, B, C = "task-a", "task-b", "task-c"
W, X = "worker-w", "worker-x"
STATE = WorkerState(4, frozenset({"default"}))


def told(
    *,
    tasks: tuple[str, ...] = (),
    inboxes: dict[str, tuple[str, ...]] | None = None,
    alive: tuple[str, ...] = (),
    statuses: tuple[str, ...] = (),
) -> Dispatcher:
    """A dispatcher after a takeover that found this."""
    dispatcher = Dispatcher(orphan_inbox_seconds=60.0)
    tell_listings(dispatcher, tasks=tasks, inboxes=inboxes or {}, alive=alive)
    dispatcher.add_statuses(statuses)
    dispatcher.complete(Listing.STATUS)
    return dispatcher


def tell_listings(
    dispatcher: Dispatcher, *, tasks: tuple[str, ...], inboxes: dict[str, tuple[str, ...]], alive: tuple[str, ...]
) -> None:
    dispatcher.replace_tasks(tasks)
    dispatcher.complete(Listing.TASKS)
    dispatcher.replace_inboxes(inboxes, 0.0)
    for worker, names in inboxes.items():
        dispatcher.replace_assignments(worker, names, 0.0)
    dispatcher.complete(Listing.ASSIGN)
    dispatcher.replace_workers(alive, 0.0)
    for worker in alive:
        dispatcher.set_worker_state(worker, STATE)
    dispatcher.complete(Listing.WORKERS)
    dispatcher.complete(Listing.QUEUES)


def decide(dispatcher: Dispatcher, now: float = 0.0, room: int = 100) -> list[Decision]:
    return dispatcher.decide(now, room)
