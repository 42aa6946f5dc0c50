"""Check what a primary has counted against the znodes, when the system is quiet."""

from __future__ import annotations

from collections.abc import Iterable

from herdmaster.core.names import parse_task_name
from herdmaster.core.picture import TaskPicture
from herdmaster.roles.primary.master import Master


def find_miscount(master: Master, assigned: Iterable[str], inboxes: Iterable[str]) -> str | None:
    """Return what a primary that is current has wrong, or None.

    `assigned` are the tasks in inboxes and `inboxes` the workers that have one. The system has to be quiet: nothing is
    assigned meanwhile.
    """
    primary = master._primary  # noqa: SLF001 - the check is about what a primary believes
    if primary is None or not primary._dispatcher.is_current:  # noqa: SLF001 - the same
        return None
    return _find_miscount(primary._dispatcher, set(assigned), set(inboxes))  # noqa: SLF001 - the same


def _find_miscount(picture: TaskPicture, assigned: set[str], inboxes: set[str]) -> str | None:
    roster = list(picture._roster)  # noqa: SLF001 - the same
    incoming = sorted(task for worker in roster for task in worker.incoming)
    held = {task for worker in roster for task in worker.inbox or ()}
    known = {worker.name for worker in roster if worker.inbox is not None}
    running = {queue: count for queue, count in picture._throttle._running.items() if count}  # noqa: SLF001 - the same
    marked = [task for task in picture._marks._under_way if parse_task_name(task) is not None]  # noqa: SLF001 - the same
    if incoming:
        return f"still counts the assignment of {incoming[0]}"
    if marked:
        return f"still marks {marked[0]} as in flight"
    if held != assigned:
        return f"knows {min(held ^ assigned)} in another inbox than there is"
    if not known >= inboxes:
        return f"does not know the inbox of {min(inboxes - known)}"
    if picture._throttle._counts and not picture._throttle.needs_count and running and not assigned:  # noqa: SLF001 - the same
        return f"counts {running} running tasks, and none is assigned"
    return None
