"""The primary's mind: what it has been told goes in, decisions come out. No I/O, no clock.

Only what ZooKeeper tells (listings and events) moves a task here; the end of a transaction only ends the in-flight mark
of its task. So it does not matter in which order replies and events are handled, and a name that leaves `/tasks` and
comes back is seen for what it is. While any of the pictures may be old, nothing is decided.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from typing import Final

from herdmaster.core.backlog import Backlog
from herdmaster.core.conditions import Conditions, is_conditional
from herdmaster.core.decisions import (
    Assign,
    Decision,
    DropAssignment,
    DropTask,
    Expire,
    Picture,
    ReadHeader,
    Recover,
    RemoveInbox,
)
from herdmaster.core.foreign_names import ForeignNames
from herdmaster.core.isolation import Isolation, Suspect
from herdmaster.core.names import is_call, queue_and_priority
from herdmaster.core.postponed import Postponed
from herdmaster.core.roster import Choice, Roster, Worker, WorkerState
from herdmaster.core.throttle import Throttle

__all__ = [
    "ORPHAN_INBOX_SECONDS", "Assign", "Decision", "Dispatcher", "DropAssignment", "DropTask", "Expire", "Picture",
    "ReadHeader", "Recover", "RemoveInbox",
]  # fmt: skip

ORPHAN_INBOX_SECONDS: Final = 60.0
"""A reference worker makes its inbox before it registers; ZooKeeper's longest usual session timeout is 40 s."""


class Dispatcher:
    """Backlog and roster to decisions. Every decision is answered with `finish`, `refute` or `postpone`, exactly
    once. A task is on offer only while nothing is in flight or postponed about it and it is no duplicate."""

    def __init__(self, *, orphan_inbox_seconds: float = ORPHAN_INBOX_SECONDS) -> None:
        self.backlog = Backlog()
        self.roster = Roster()
        self.throttle = Throttle()
        self._conditions = Conditions()
        self._isolation = Isolation(self.roster)
        self._foreign = ForeignNames()
        self._orphan_inbox_seconds = orphan_inbox_seconds
        self._missing = set(Picture)
        self._in_flight: dict[str, Decision] = {}
        self._postponed = Postponed()  # tasks and inboxes
        self._duplicates: dict[str, str | None] = {}  # in `/tasks` and elsewhere too: with whom (None: a status)
        self._gone: set[str] = set()  # workers that left an inbox
        self._left_inbox = ""  # the task that left an inbox last

    # --- what is told --------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The connection went. Statuses are read at takeover only: later ones are looked up task by task."""
        self._missing |= set(Picture) - {Picture.STATUS}

    def complete(self, picture: Picture) -> None:
        self._missing.discard(picture)
        if not self._missing:
            for worker in self.roster:
                self._consider(worker)
                for task in sorted(worker.inbox or ()):
                    self._check_duplicate(worker, task)

    @property
    def is_current(self) -> bool:  # whether the pictures are those of ZooKeeper
        return not self._missing

    @property
    def knows_statuses(self) -> bool:
        """Whether the statuses of the takeover have been told."""
        return Picture.STATUS not in self._missing

    def take_foreign_names(self) -> set[str]:
        """The names of no use that were seen since the last call."""
        return self._foreign.take()

    def unserved_queues(self) -> dict[str, bool]:
        """Queues with waiting tasks that no live worker takes; True where one would take raw tasks."""
        offers = () if self._missing else self.backlog.offers()
        return self.roster.unserved((bucket.queue, bucket.calls) for _, _, bucket in offers)

    def replace_tasks(self, names: Iterable[str]) -> None:
        self._foreign.add(*self.backlog.replace(names))
        for name in [name for name in self._duplicates if name not in self.backlog]:
            self._forget_duplicate(name)
        self._conditions.replace(())
        for name in self.backlog:
            if is_conditional(name):
                self._hold_for_header(name)

    def add_task(self, name: str) -> None:
        if not self.backlog.add(name):
            self._foreign.add(name)
            return
        if is_conditional(name):
            self._hold_for_header(name)
        if name == self._left_inbox:
            # It came back from a worker. Where a reference primary was at work, another may hold it as well.
            for worker in self.roster:
                if worker.inbox is not None and name in worker.inbox:
                    self._check_duplicate(worker, name)

    def remove_task(self, name: str) -> None:
        self.backlog.remove(name)
        self._conditions.forget(name)
        if name in self._duplicates or is_conditional(name):  # it may have been held until its header is read
            self._duplicates.pop(name, None)
            self._release(name)

    def set_expiry(self, name: str, expires: int | None) -> None:
        """What the header of a task in `/tasks` says: when it expires, in unix milliseconds."""
        if name in self.backlog:
            self._conditions.tell(name, expires)

    def add_statuses(self, names: Iterable[str]) -> None:
        """At takeover: a reference master may have left a task behind that has ended."""
        for name in names:
            if name in self.backlog:
                self._mark_duplicate(name, None)

    def replace_inboxes(self, names: Iterable[str], now: float) -> None:
        workers = self._foreign.workers(names)
        self.roster.replace_inboxes(workers, now)
        self.throttle.lose_count()
        self._gone.intersection_update(workers)

    def add_inbox(self, name: str, now: float) -> None:
        for worker in self._foreign.workers((name,)):
            found = self.roster.find(worker, now)
            found.inbox = found.inbox or set()
            self._consider(found)

    def remove_inbox(self, name: str) -> None:
        self._gone.discard(name)
        self.roster.inbox_gone(name)
        self.throttle.lose_count()

    def replace_assignments(self, worker_name: str, names: Iterable[str], now: float) -> None:
        for worker in self._foreign.workers((worker_name,)):
            found = self.roster.find(worker, now)
            found.inbox = {name for name in names if self._foreign.is_task(name)}
            found.incoming &= {name for name, decision in self._in_flight.items() if isinstance(decision, Assign)}
            self.throttle.lose_count()
            self._consider(found)

    def add_assignment(self, worker_name: str, name: str) -> None:
        worker = self.roster.get(worker_name)
        if worker is None or worker.inbox is None or not self._foreign.is_task(name):
            return
        if name not in worker.inbox and name not in worker.incoming:
            self.throttle.entered(name)
        worker.inbox.add(name)
        worker.incoming.discard(name)
        self._check_duplicate(worker, name)
        self._consider(worker)

    def remove_assignment(self, worker_name: str, name: str) -> None:
        worker = self.roster.get(worker_name)
        if worker is None or worker.inbox is None:
            return
        self._left_inbox = name
        if name in worker.inbox:
            worker.inbox.discard(name)
            worker.taken += 1
            self.throttle.left(name)

    def replace_workers(self, names: Iterable[str], now: float) -> None:
        self.roster.replace_alive(self._foreign.workers(names), now)
        self.throttle.lose_count()
        for worker in self.roster:
            self._consider(worker)

    def add_worker(self, name: str, now: float) -> None:
        for worker in self._foreign.workers((name,)):
            self.roster.joined(worker, now)
            self._gone.discard(worker)

    def remove_worker(self, name: str, now: float) -> None:
        worker = self.roster.get(name)
        self.roster.left(name, now)
        self.throttle.lose_count()
        if worker is not None:
            self._consider(worker)

    def set_worker_state(self, name: str, state: WorkerState | None) -> None:
        """What a worker's znode says; None for data that says nothing usable, and then it gets no task."""
        worker = self.roster.get(name)
        if worker is not None and worker.alive:
            worker.state = state

    # --- decisions -----------------------------------------------------------------------------------------------

    def decide(self, now: float, room: int, now_ms: int | None = None) -> list[Decision]:
        """At most `room` decisions, recovery before new assignments. Each marks its task as in flight. `now_ms` is the
        servers' time in unix milliseconds; nothing expires while it is not known."""
        if self._missing or room <= 0:
            return []
        for key in self._postponed.take_due(now):
            self._release(key)
        decisions: list[Decision] = []
        self._duplicates.update(self._isolation.find_copies(self.backlog))
        for name in list(self._duplicates):
            if len(decisions) < room and self._is_idle(name):
                decisions.append(self._begin(name, DropTask(name, self._duplicates.pop(name))))
        for name in sorted(self._gone):
            if len(decisions) < room:
                self._clear_out(name, now, room, decisions)
        self._check_conditions(now_ms, room, decisions)
        self.throttle.begin_round(now)
        for task in self._isolation.review(self.backlog, now):
            self._release(task)
        if self.backlog and len(decisions) < room:
            self._assign(now, room, decisions)
        return decisions

    def next_wakeup(self) -> float | None:
        """When `decide` may have something new to say although nothing happens meanwhile."""
        if self._missing:
            return None
        possible = (self._postponed.next, self.throttle.next_token, self._isolation.next_wakeup())
        times = [time for time in possible if time is not None]
        for name in self._gone:
            worker = self.roster.get(name)
            if worker is not None and not worker.registered and not worker.inbox and self._is_idle(name):
                times.append(worker.gone_since + self._orphan_inbox_seconds)
        return min(times, default=None)

    def next_expiry_ms(self) -> int | None:
        """When the next waiting task expires, in unix milliseconds."""
        return None if self._missing else self._conditions.next_expiry_ms()

    def finish(self, key: str) -> None:
        """The transaction about a task (or, for RemoveInbox, a worker) is over, whatever came of it."""
        decision = self._in_flight.pop(key, None)
        if isinstance(decision, Assign):
            self.throttle.settled(key)
            worker = self.roster.get(decision.worker)
            if worker is not None and key in worker.incoming:
                worker.incoming.discard(key)
                self.throttle.left(key)
        self._release(key, last=isinstance(decision, ReadHeader))

    def refute(self, key: str, until: float) -> bool:
        """As `finish`: ZooKeeper says that what the decision was about is not there. It tells of a change before any
        reply that shows it, so it is not in the picture either. Where it is, because events of a znode that may not be
        read are withheld, deciding anew would go on for ever: it is postponed. False then: the picture is wrong, and
        only listings can mend it."""
        decision = self._in_flight.get(key)
        if decision is not None and not self._missing and self._is_still_seen(decision):
            self.postpone(key, until)
            return False
        self.finish(key)
        return True

    def postpone(self, key: str, until: float) -> None:
        """As `finish`, but nothing more is decided about it before `until`; a duplicate stays one."""
        decision = self._in_flight.get(key)
        if isinstance(decision, DropTask) and key in self.backlog:
            self._duplicates[key] = decision.worker
        self._postponed.add(key, until)
        self.backlog.hold(key)
        self.finish(key)

    def redirect(self, task: str, asked: Collection[str]) -> str | None:
        """To whom the assignment under way goes instead, where its worker lacked the function before; to itself where
        all were asked. None if those that were not have no room: then it is to be postponed."""
        decision = self._in_flight[task]
        assert isinstance(decision, Assign)
        name = self.roster.instead_of(decision.worker, task, asked)
        if name is not None:
            self._in_flight[task] = Assign(task, name)
        return name

    def isolate(self, task: str, asked: Collection[str]) -> bool:
        """Whether the assignment under way gives the task a worker of its own. If not, it is to be decided anew."""
        decision, place = self._in_flight[task], queue_and_priority(task)
        assert isinstance(decision, Assign)
        assert place is not None
        self._isolation.add(task, Suspect(place[0], is_call(task), asked))
        worker = self.roster.get(decision.worker)
        return worker is not None and worker.reserved_for == task

    # --- inside --------------------------------------------------------------------------------------------------

    def _consider(self, worker: Worker) -> None:
        if not worker.alive and worker.inbox is not None:
            self._gone.add(worker.name)

    def _check_duplicate(self, worker: Worker, task: str) -> None:
        # Of our own transitions no two copies are ever seen, since an event of what they consume comes first.
        if worker.alive and task in self.backlog:
            self._mark_duplicate(task, worker.name)

    def _mark_duplicate(self, task: str, worker: str | None) -> None:
        self._duplicates[task] = worker
        self.backlog.hold(task)

    def _forget_duplicate(self, task: str) -> None:
        del self._duplicates[task]
        self._release(task)

    def _hold_for_header(self, name: str) -> None:
        self.backlog.hold(name)
        self._release(name)

    def _release(self, key: str, *, last: bool = False) -> None:
        if not self._is_undecided(key):
            return
        if key in self.backlog and is_conditional(key):
            if not self._conditions.knows(key):
                self._conditions.want(key)
                return
            self._conditions.watch(key)
        if key not in self._isolation:  # also while its worker has it, so that it is not on offer when it comes back
            self.backlog.release(key, last=last)

    def _is_still_seen(self, decision: Decision) -> bool:
        if isinstance(decision, (Assign, DropTask, ReadHeader, Expire)):
            return decision.task in self.backlog
        worker = self.roster.get(decision.worker)
        if worker is None or worker.inbox is None:
            return False
        return isinstance(decision, RemoveInbox) or decision.task in worker.inbox

    def _is_idle(self, key: str) -> bool:
        return key not in self._in_flight and key not in self._postponed

    def _is_undecided(self, task: str) -> bool:
        return self._is_idle(task) and task not in self._duplicates

    def _begin(self, key: str, decision: Decision) -> Decision:
        self._in_flight[key] = decision
        return decision

    def _clear_out(self, name: str, now: float, room: int, decisions: list[Decision]) -> None:
        worker = self.roster.get(name)
        if worker is None or worker.alive or worker.inbox is None:
            self._gone.discard(name)
            return
        for task in sorted(task for task in worker.inbox if self._is_idle(task))[: room - len(decisions)]:
            kind = DropAssignment if task in self.backlog else Recover
            worker.registered = True  # a worker that had tasks was registered, not about to register
            self.backlog.hold(task)
            decisions.append(self._begin(task, kind(task, name)))
        late = worker.registered or now >= worker.gone_since + self._orphan_inbox_seconds
        if not worker.inbox and late and self._is_idle(name) and len(decisions) < room:
            decisions.append(self._begin(name, RemoveInbox(name)))

    def _check_conditions(self, now_ms: int | None, room: int, decisions: list[Decision]) -> None:
        unread = self._conditions.take_unread(room - len(decisions))
        decisions += [self._begin(task, ReadHeader(task)) for task in unread if self._is_undecided(task)]
        over = self._conditions.take_expired(now_ms, room - len(decisions)) if now_ms is not None else []
        for task in filter(self._is_undecided, over):
            self.backlog.hold(task)
            decisions.append(self._begin(task, Expire(task)))

    def _assign(self, now: float, room: int, decisions: list[Decision]) -> None:
        if self.throttle.needs_count:
            self.throttle.count(task for worker in self.roster for task in worker.held)
        self._assign_suspects(now, room, decisions)
        choice = Choice(self.roster, now)
        offers = [(priority, arrival, id(bucket), bucket) for priority, arrival, bucket in self.backlog.offers()]
        heapq.heapify(offers)
        while offers and len(decisions) < room:
            priority, _, tie, bucket = heapq.heappop(offers)
            worker = choice.next_worker(bucket.queue, calls=bucket.calls)
            if worker is None or not self.throttle.admits(bucket.queue, now):
                continue
            task = self.backlog.take(bucket)
            decisions.append(self._give(task, bucket.queue, worker))
            arrival = self.backlog.oldest(bucket)
            if arrival is not None:
                heapq.heappush(offers, (priority, arrival, tie, bucket))

    def _assign_suspects(self, now: float, room: int, decisions: list[Decision]) -> None:
        for task in self._isolation:
            self.backlog.hold(task)  # one that has come back stands among the others
            is_ready = self._is_undecided(task) and (not is_conditional(task) or self._conditions.knows(task))
            if len(decisions) < room and task in self.backlog and is_ready:
                queue = self._isolation.queue_of(task)
                worker = self._isolation.choose(task, now)
                if worker is not None and self.throttle.admits(queue, now):
                    decisions.append(self._give(task, queue, worker))

    def _give(self, task: str, queue: str, worker: Worker) -> Decision:
        worker.incoming.add(task)
        self.throttle.take(task, queue)
        return self._begin(task, Assign(task, worker.name))
