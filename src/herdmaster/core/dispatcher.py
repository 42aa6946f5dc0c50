"""The dispatcher: decides from the picture where tasks go. No I/O, no clock.

Only listings and events move a task in the picture; the end of a transaction only ends the in-flight mark of its task.
So replies and events may be handled in either order, and a name that leaves `/tasks` and comes back is a task that
waits again. Nothing is decided while any part of the picture may be old.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final

from herdmaster.core.conditions import is_conditional
from herdmaster.core.decisions import (
    Assign,
    Decision,
    DropAssignment,
    DropTask,
    ReadHeader,
    Recover,
    RefuseExpired,
    RemoveInbox,
)
from herdmaster.core.isolation import Suspect
from herdmaster.core.names import queue_and_priority
from herdmaster.core.picture import TaskPicture
from herdmaster.core.roster import Choice, Worker, kind_of

ORPHAN_INBOX_SECONDS: Final = 60.0
"""A reference worker makes its inbox before it registers; ZooKeeper's longest usual session timeout is 40 s."""


class Dispatcher(TaskPicture):
    """Decides where tasks go. Each decision is answered with exactly one of `finish`, `refute` and `postpone`."""

    def __init__(self, *, orphan_inbox_seconds: float = ORPHAN_INBOX_SECONDS) -> None:
        super().__init__()
        self._orphan_inbox_seconds = orphan_inbox_seconds

    def decide(self, now: float, room: int, now_ms: int | None = None) -> list[Decision]:
        """Return at most `room` decisions, recovery before new assignments, and mark their tasks as in flight.

        `now_ms` is the servers' time in unix milliseconds. Nothing expires while it is not known.
        """
        if not self.is_current or room <= 0:
            return []
        self.release_postponed(now)
        self._throttle.begin_round(now)
        for task in self._isolation.review(self._backlog, now):
            self._offer(task)
        return list(islice(self._decisions(now, now_ms), room))

    def next_wakeup(self) -> float | None:
        """Return when `decide` may have something new to say although nothing happens meanwhile."""
        if not self.is_current:
            return None
        possible = (self.next_release(), self._throttle.next_token, self._isolation.next_wakeup())
        times = [time for time in possible if time is not None]
        times += [
            worker.gone_since + self._orphan_inbox_seconds
            for worker in self._roster.lost()
            if not worker.registered and not worker.inbox and worker.name not in self._marks
        ]
        return min(times, default=None)

    def next_expiry_ms(self) -> int | None:
        """Return when the next waiting task expires, in unix milliseconds."""
        return self._conditions.next_expiry_ms() if self.is_current else None

    def finish(self, key: str) -> None:
        decision = self._marks.end(key)
        self._end(decision)
        self._offer(key, last=isinstance(decision, ReadHeader))

    def postpone(self, key: str, until: float) -> None:
        decision = self._marks.postpone(key, until)
        if isinstance(decision, DropTask) and key in self._backlog:
            self._copies[key] = decision.worker
        self._backlog.hold(key)
        self._end(decision)

    def redirect(self, task: str, asked: Collection[str]) -> str | None:
        """Pass an assignment under way on if its worker was asked for the call's function before, and lacked it.

        Return the worker that it goes to now: the same if all were asked. Return None if those that were not asked have
        no room: then the task is to be postponed.
        """
        decision = self._marks.get(task)
        assert isinstance(decision, Assign)
        worker = self._roster.redirect(decision.worker, task, asked)
        if worker is not None:
            self._marks.begin(task, Assign(task, worker))
        return worker

    def isolate(self, task: str, asked: Collection[str]) -> bool:
        """Make the task a suspect. Return whether its assignment under way gives it a worker to itself.

        If not, the task is to be decided about anew.
        """
        decision, place = self._marks.get(task), queue_and_priority(task)
        assert isinstance(decision, Assign)
        assert place is not None
        self._isolation.add(task, Suspect(place[0], kind_of(task), asked))
        worker = self._roster.get(decision.worker)
        return worker is not None and worker.reserved_for == task

    def _is_still_there(self, key: str) -> bool:
        decision = self._marks.get(key)
        if isinstance(decision, (DropAssignment, Recover)):
            worker = self._roster.get(decision.worker)
            return worker is not None and worker.inbox is not None and key in worker.inbox
        return self._roster.has_inbox(key) if isinstance(decision, RemoveInbox) else key in self._backlog

    def _end(self, decision: Decision | None) -> None:
        if isinstance(decision, Assign):
            self._throttle.end_assignment(decision.task)
            if self._roster.end_assignment(decision.worker, decision.task):
                self._throttle.remove_running(decision.task)

    # --- one round of decisions --------------------------------------------------------------------------------------

    def _decisions(self, now: float, now_ms: int | None) -> Iterator[Decision]:
        """Each decision is marked before it is yielded, so the round may be left at any of them."""
        yield from self._drop_copies()
        for worker in self._roster.lost():
            yield from self._clear_out(worker, now)
        yield from self._check_conditions(now_ms)
        if self._backlog:
            if self._throttle.needs_count:
                self._throttle.count_running(task for worker in self._roster for task in worker.held)
            yield from self._assign_suspects(now)
            yield from self._assign(now)

    def _begin(self, key: str, decision: Decision) -> Decision:
        self._marks.begin(key, decision)
        return decision

    def _drop_copies(self) -> Iterator[Decision]:
        self._copies.update(self._isolation.find_copies(self._backlog))
        for task in list(self._copies):
            if task not in self._marks:
                yield self._begin(task, DropTask(task, self._copies.pop(task)))

    def _clear_out(self, worker: Worker, now: float) -> Iterator[Decision]:
        for task in sorted(task for task in worker.inbox or () if task not in self._marks):
            kind = DropAssignment if task in self._backlog else Recover
            self._backlog.hold(task)
            yield self._begin(task, kind(task, worker.name))
        is_left = worker.registered or now >= worker.gone_since + self._orphan_inbox_seconds
        if is_left and not worker.inbox and worker.name not in self._marks:
            yield self._begin(worker.name, RemoveInbox(worker.name))

    def _check_conditions(self, now_ms: int | None) -> Iterator[Decision]:
        for task in self._conditions.take_unread():
            if self._is_free(task):
                yield self._begin(task, ReadHeader(task))
        if now_ms is not None:
            for task in self._conditions.take_expired(now_ms):
                if self._is_free(task):
                    self._backlog.hold(task)
                    yield self._begin(task, RefuseExpired(task))

    def _assign(self, now: float) -> Iterator[Decision]:
        choice = Choice(self._roster, now)
        offers = [(priority, arrival, id(bucket), bucket) for priority, arrival, bucket in self._backlog.offers()]
        heapq.heapify(offers)
        while offers:
            priority, _, tie, bucket = heapq.heappop(offers)
            worker = choice.next_worker(bucket.queue, bucket.kind)
            if worker is None or not self._throttle.admits(bucket.queue, now):
                continue
            yield self._give(self._backlog.take(bucket), bucket.queue, worker)
            arrival = self._backlog.oldest(bucket)
            if arrival is not None:
                heapq.heappush(offers, (priority, arrival, tie, bucket))

    def _assign_suspects(self, now: float) -> Iterator[Decision]:
        for task in self._isolation:
            self._backlog.hold(task)  # one that has come back is on offer among the others
            is_ready = self._is_free(task) and (not is_conditional(task) or self._conditions.knows(task))
            if task in self._backlog and is_ready:
                queue = self._isolation.queue_of(task)
                worker = self._isolation.choose(task, now)
                if worker is not None and self._throttle.admits(queue, now):
                    yield self._give(task, queue, worker)

    def _give(self, task: str, queue: str, worker: Worker) -> Decision:
        self._roster.begin_assignment(worker, task)
        self._throttle.begin_assignment(task, queue)
        return self._begin(task, Assign(task, worker.name))
