"""A primary's picture of what stands in `/tasks`, `/assign`, `/workers` and `/queues`."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from herdmaster.core.backlog import Backlog
from herdmaster.core.census import Census, take_census
from herdmaster.core.conditions import Conditions, is_conditional
from herdmaster.core.decisions import Assign, Decision
from herdmaster.core.isolation import Isolation
from herdmaster.core.offers import Offers
from herdmaster.core.queues import QueueSettings
from herdmaster.core.roster import Kind, Roster, Worker, WorkerState
from herdmaster.core.throttle import Throttle
from herdmaster.core.whereabouts import Assigned, Waiting


class Listing(enum.Enum):
    """What has to be listed before anything is decided."""

    TASKS = "tasks"
    ASSIGN = "assign"
    WORKERS = "workers"
    STATUS = "status"
    QUEUES = "queues"


ALL_LISTINGS: Final = frozenset(Listing)


class Totals(msgspec.Struct, frozen=True):
    """How much there is: of assigned tasks, those of lost workers too."""

    waiting: int
    assigned: int
    workers: int


class TaskPicture(Offers[Decision]):
    """The tasks that wait or are assigned, the workers, and the limits of queues.

    A task is on offer while it waits in `/tasks`, has no mark, is no copy of a task elsewhere, and, if its header has
    conditions, that header was read.
    """

    def __init__(self) -> None:
        super().__init__()
        self._backlog = Backlog()
        self._roster = Roster()
        self._throttle = Throttle()
        self._conditions = Conditions()
        self._isolation = Isolation(self._roster)
        self._missing = set(ALL_LISTINGS)
        self._copies: dict[str, str | None] = {}  # tasks in `/tasks` and with this live worker too; None: has a status
        self._last_removed = ""  # the task that left an inbox last

    # --- listings and events -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The connection is lost. Statuses are listed at takeover only; later they are read task by task."""
        self._missing |= ALL_LISTINGS - {Listing.STATUS}
        self.is_current = False

    def complete(self, picture: Listing) -> None:
        """This part of the picture is up to date."""
        self._missing.discard(picture)
        self.is_current = not self._missing
        if self.is_current:
            for worker in self._roster:
                for task in sorted(worker.inbox or ()):
                    self._mark_if_copy(worker, task)

    def replace_tasks(self, names: Iterable[str]) -> None:
        self._foreign.add(*self._backlog.replace(names))
        for task in [task for task in self._copies if task not in self._backlog]:
            del self._copies[task]
            self._offer(task)
        self._conditions.clear()
        for task in self._backlog:
            if is_conditional(task):
                self._hold_for_header(task)

    def add_task(self, name: str) -> None:
        if not self._backlog.add(name):
            self._foreign.add(name)
            return
        if is_conditional(name):
            self._hold_for_header(name)
        if name == self._last_removed:
            # It came back from a worker. Where a reference primary was at work, another may hold it as well.
            for worker in self._roster.holders_of(name):
                self._mark_if_copy(worker, name)

    def remove_task(self, name: str) -> None:
        self._backlog.remove(name)
        self._conditions.forget(name)
        if name in self._copies or is_conditional(name):  # it may have been held until its header is read
            self._copies.pop(name, None)
            self._offer(name)

    def set_expiry(self, task: str, expires: int | None) -> None:
        """Note when a task in `/tasks` expires, in unix milliseconds: what its header says."""
        if task in self._backlog:
            self._conditions.tell(task, expires)

    def add_statuses(self, names: Iterable[str]) -> None:
        """At takeover: a reference master may have left a task behind that has ended."""
        for name in names:
            if name in self._backlog:
                self._mark_copy(name, None)

    def replace_inboxes(self, names: Iterable[str], now: float) -> None:
        self._roster.replace_inboxes(self._foreign.filter_workers(names), now)
        self._throttle.lose_count()

    def add_inbox(self, name: str, now: float) -> None:
        for worker in self._foreign.filter_workers((name,)):
            self._roster.add_inbox(worker, now)

    def remove_inbox(self, name: str) -> None:
        self._roster.remove_inbox(name)
        self._throttle.lose_count()

    def replace_assignments(self, worker_name: str, names: Iterable[str], now: float) -> None:
        for worker in self._foreign.filter_workers((worker_name,)):
            tasks = {name for name in names if self._foreign.is_task(name)}
            self._roster.replace_assignments(worker, tasks, self._is_assigning, now)
            self._throttle.lose_count()

    def add_assignment(self, worker_name: str, name: str) -> None:
        worker = self._roster.get(worker_name)
        if worker is None or worker.inbox is None or not self._foreign.is_task(name):
            return
        if self._roster.add_assignment(worker, name):
            self._throttle.add_running(name)
        self._mark_if_copy(worker, name)

    def remove_assignment(self, worker_name: str, name: str) -> None:
        self._last_removed = name
        if self._roster.remove_assignment(worker_name, name):
            self._throttle.remove_running(name)

    def replace_workers(self, names: Iterable[str], now: float) -> None:
        self._roster.replace_alive(self._foreign.filter_workers(names), now)
        self._throttle.lose_count()

    def add_worker(self, name: str, now: float) -> None:
        for worker in self._foreign.filter_workers((name,)):
            self._roster.add(worker, now)

    def remove_worker(self, name: str, now: float) -> None:
        self._roster.remove(name, now)
        self._throttle.lose_count()

    def set_worker_state(self, name: str, state: WorkerState | None) -> None:
        """Note what a worker's znode says. None for data that says nothing usable: then the worker gets no task."""
        self._roster.set_state(name, state)

    def replace_queues(self, names: Iterable[str], now: float) -> None:
        """These queues have a znode; the others have no limits."""
        self._throttle.keep_limits(names, now)

    def set_limits(self, queue: str, settings: QueueSettings | None, now: float) -> None:
        """Note what a queue's znode says; None for nothing usable, which limits nothing."""
        self._throttle.set_limits(queue, settings, now)

    # --- questions ---------------------------------------------------------------------------------------------------

    @property
    def knows_statuses(self) -> bool:
        """Whether the statuses of the takeover have been listed."""
        return Listing.STATUS not in self._missing

    @property
    def names_in_tasks(self) -> int:
        """The number of names in `/tasks`, those included that are not a task's."""
        return self._backlog.size

    def where_is(self, task: str) -> Waiting | Assigned | None:
        if task in self._backlog:
            return Waiting(task)
        holder = next(self._roster.holders_of(task), None)
        return None if holder is None else Assigned(task, holder.name)

    def has_drained(self, worker: str) -> bool:
        """Whether a worker that is about to leave has taken its inbox away first."""
        found = self._roster.get(worker)
        return found is not None and found.has_drained

    def totals(self) -> Totals:
        workers = list(self._roster)
        assigned = sum(len(worker.inbox or ()) for worker in workers)
        return Totals(len(self._backlog), assigned, sum(worker.alive for worker in workers))

    def take_census(self, delayed: Mapping[str, int]) -> Census:
        """Count tasks, workers and slots. `delayed` counts the tasks in `/delayed`."""
        waiting, oldest = self._backlog.count_by_queue(), self._backlog.oldest_by_queue()
        return take_census(waiting, delayed, oldest, self._roster, self._throttle.limits)

    def unserved_queues(self) -> dict[str, Kind]:
        """Return the queues with waiting tasks that no live worker takes, each with the simplest kind of tasks that
        none would take."""
        offers = self._backlog.offers() if self.is_current else ()
        return self._roster.unserved((bucket.queue, bucket.kind) for _, _, bucket in offers)

    # --- the offer ---------------------------------------------------------------------------------------------------

    def _offer(self, key: str, *, last: bool = False) -> None:
        if not self._is_free(key):
            return
        if key in self._backlog and is_conditional(key):
            if not self._conditions.knows(key):
                self._conditions.want(key)
                return
            self._conditions.watch(key)
        if key not in self._isolation:  # also while its worker has it, so that it is not on offer when it comes back
            self._backlog.release(key, last=last)

    def _is_free(self, task: str) -> bool:
        return task not in self._marks and task not in self._copies

    def _hold_for_header(self, task: str) -> None:
        self._backlog.hold(task)
        self._offer(task)

    def _mark_if_copy(self, worker: Worker, task: str) -> None:
        # Our own transitions never show two copies, since the event of what they consume comes first.
        if worker.alive and task in self._backlog:
            self._mark_copy(task, worker.name)

    def _mark_copy(self, task: str, worker: str | None) -> None:
        self._copies[task] = worker
        self._backlog.hold(task)

    def _is_assigning(self, task: str) -> bool:
        return isinstance(self._marks.get(task), Assign)
