"""What was agreed with a task beside its being run: its key, its attempts, when it is due, the limits of its queue.

Part of the ledger: it looks at each transaction when the picture shows it already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name
from herdmaster.core.queues import QueueSettings, decode_queue
from herdmaster.simulation.checks.effects import Actor, Deed, task_of
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.checks.keys import KeyTerms
from herdmaster.simulation.plan.plan import Job, Kind

_MOST_SLOWNESS_MS: Final = 60_000
"""A stall ends sooner."""
_SOON_MS: Final = 10
_LONGEST_BACKOFF_MS: Final = 30_000
_RATED_MS: Final = 999
"""A second, less what the servers' clock is rounded by."""

_UNENDED: Final = (f"{layout.TASKS}/", f"{layout.ASSIGN}/", f"{layout.DELAYED}/")


class _Counts(msgspec.Struct):
    attempt: int = 1
    deliveries: int = 0


_counts: Final = msgspec.json.Decoder(_Counts)


class Terms:
    """`jobs` are the tasks' by name, `asked_ms` when each was submitted, by the servers' clock. `grace`: seconds after
    which a primary that still acts has heard of a queue's settings. `slowness`: seconds by which at most a message is
    late, and with it what a role knows of the servers' clock. `ousted`: sessions whose znode was deleted by hand."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        blame: Callable[[str], None],
        grace: float,
        slowness: float,
        ousted: Iterable[int],
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self.asked_ms: dict[str, int] = {}
        self._nodes = nodes
        self.keys = KeyTerms(self.jobs, nodes, history, blame)
        self._history = history
        self._blame = blame
        self._grace_ms = int(grace * 1000)
        self._slowness_ms = min(int(slowness * 1000), _MOST_SLOWNESS_MS)
        self._ousted = ousted
        self._known: dict[str, _Counts] = {}
        self._limited: dict[str, tuple[int, QueueSettings]] = {}  # queue: since when
        self._rates: dict[str, deque[tuple[int, int]]] = {}  # when what was assigned of late, and by which session

    def judge(self, deed: Deed, actor: Actor, keys: Mapping[str, bytes]) -> None:
        """`keys` are the data of what it deletes in `/keys`."""
        for path, data in deed.written.items():
            self._judge_counts(path, data, actor)
            self._note_limit(path, data, deed)
        for path, data, _ in deed.created:
            self._judge_counts(path, data, actor)
            self._note_limit(path, data, deed)
            if path.startswith(f"{layout.DELAYED}/"):
                self._judge_due(path, deed, actor)
            elif path.startswith(f"{layout.ASSIGN}/") and not actor.reference and actor.kind is Kind.MASTER:
                self._judge_limit(path, deed)
            elif path.startswith(f"{layout.TASKS}/") and not actor.reference and actor.kind is Kind.CLIENT:
                self._judge_no_delay(path, deed)
        for path in deed.deleted:
            if path.startswith(f"{layout.DELAYED}/"):
                self._judge_promotion(path, deed)
        self.keys.judge(deed, actor, keys)

    def _job(self, task: str | None) -> Job | None:
        job = self.jobs.get(task or "")
        return None if job is None or self._history(task or "").excused else job

    # --- attempts and deliveries -------------------------------------------------------------------------------------

    def _judge_counts(self, path: str, data: bytes, actor: Actor) -> None:
        task = task_of(path) if path.startswith(_UNENDED) else None
        job = self._job(task)
        if task is None or job is None or job.raw or job.garbage:
            return
        now, before = _counts.decode(data), self._known.get(task, _Counts())
        self._known[task] = now
        if now.attempt > job.attempts:
            self._blame(f"put {task} into {path} for attempt {now.attempt} of {job.attempts}")
        elif not before.attempt <= now.attempt <= before.attempt + (actor.kind is Kind.WORKER):
            self._blame(f"put {task} into {path} for attempt {now.attempt} after {before.attempt}")
        elif not before.deliveries <= now.deliveries <= before.deliveries + (actor.kind is Kind.MASTER):
            self._blame(f"put {task} into {path} with {now.deliveries} deliveries after {before.deliveries}")

    # --- due times ---------------------------------------------------------------------------------------------------

    def _judge_due(self, path: str, deed: Deed, actor: Actor) -> None:
        found = layout.parse_delayed_name(path.rpartition("/")[2])
        job = self._job(None if found is None else found[1])
        if found is None or job is None:
            return
        due, task = found
        if actor.kind is Kind.WORKER:
            earliest, latest = deed.time - _MOST_SLOWNESS_MS, deed.time + _LONGEST_BACKOFF_MS
        else:
            latest = self.asked_ms.get(task, deed.time) + int(1000 * (job.delay or 0.0)) + _SOON_MS
            earliest = latest - _SOON_MS - self._slowness_ms
        if not earliest <= due <= latest:
            self._blame(f"made {task} due at {due}, which is not between {earliest} and {latest}")

    def _judge_no_delay(self, path: str, deed: Deed) -> None:
        task = path.rpartition("/")[2]
        job = self._job(task)
        if job is None or job.delay is None:
            return
        due = self.asked_ms.get(task, deed.time) + int(1000 * job.delay)
        if deed.time + self._slowness_ms < due:
            self._blame(f"submitted {task} {due - deed.time} ms before it is due")

    def _judge_promotion(self, path: str, deed: Deed) -> None:
        found = layout.parse_delayed_name(path.rpartition("/")[2])
        if found is None:
            return
        due, task = found
        is_promoted = any(created == layout.task_path(task) for created, _, _ in deed.created)
        if is_promoted and deed.time + _SOON_MS < due:
            self._blame(f"promoted {task} {due - deed.time} ms before it is due")

    # --- limits of queues --------------------------------------------------------------------------------------------

    def _note_limit(self, path: str, data: bytes, deed: Deed) -> None:
        if path.startswith(f"{layout.QUEUES}/"):
            settings = decode_queue(data)
            if settings is not None:
                self._limited[path.rpartition("/")[2]] = (deed.time, settings)
                self._rates.pop(path.rpartition("/")[2], None)

    def _judge_limit(self, path: str, deed: Deed) -> None:
        queue = _queue_of(path)
        since, settings = self._limited.get(queue, (0, None))
        if settings is None or deed.time < since + self._grace_ms:
            return
        if settings.paused:
            self._blame(f"assigned {path}, and its queue is paused")
        elif settings.max_running is not None:
            running = sum(1 for other in self._nodes if other.count("/") == 3 and _is_of(other, queue))
            if running > settings.max_running:
                self._blame(f"assigned {path}, the task number {running} of {settings.max_running} of its queue")
        elif settings.rate is not None:
            self._judge_rate(path, queue, settings.rate, deed)

    def _judge_rate(self, path: str, queue: str, rate: float, deed: Deed) -> None:
        """By the servers' clock and over changes of primaries. One that goes on although its znode was deleted by hand
        does not know of the next."""
        seen = self._rates.setdefault(queue, deque())
        while seen and deed.time - seen[0][0] >= _RATED_MS:
            seen.popleft()
        seen.append((deed.time, deed.session_id))
        acting = {session_id for _, session_id in seen}
        if len(seen) > rate + 1 and (len(acting) == 1 or acting.isdisjoint(self._ousted)):
            self._blame(f"assigned {path}, which makes {len(seen)} of its queue within a second")


def _is_of(path: str, queue: str) -> bool:
    return path.startswith(f"{layout.ASSIGN}/") and _queue_of(path) == queue


def _queue_of(path: str) -> str:
    name = parse_task_name(path.rpartition("/")[2])
    return DEFAULT_QUEUE if name is None else name.queue
