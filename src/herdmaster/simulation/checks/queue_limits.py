"""Check the limits of queues: paused, tasks at a time, tasks per second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name
from herdmaster.core.queues import QueueSettings, decode_queue
from herdmaster.simulation.checks.effects import Actor, Effects
from herdmaster.simulation.checks.history import Node
from herdmaster.simulation.plan.plan import Kind

_RATED_MS: Final = 999
"""A second, less the rounding of the servers' clock."""


class QueueLimitCheck:
    """Checks each assignment by one of our primaries after the ledger has applied it.

    `grace` is the number of seconds after which an acting primary has seen the settings of a queue. `ousted` has the
    sessions whose znode was deleted by hand.
    """

    def __init__(
        self, nodes: Mapping[str, Node], report: Callable[[str], None], grace: float, ousted: Iterable[int]
    ) -> None:
        self._nodes = nodes
        self._report = report
        self._grace_ms = int(grace * 1000)
        self._ousted = ousted
        self._limited: dict[str, tuple[int, QueueSettings]] = {}  # queue: since when
        self._assigned: dict[str, deque[tuple[int, int]]] = {}  # queue: times and sessions of recent assignments

    def check(self, effects: Effects, actor: Actor) -> None:
        for path, data in (*effects.written.items(), *((path, data) for path, data, _ in effects.created)):
            if path.startswith(f"{layout.QUEUES}/"):
                self._note_limit(layout.name_of(path), data, effects)
        if actor.reference or actor.kind is not Kind.MASTER:
            return
        for path, _, _ in effects.created:
            if path.startswith(f"{layout.ASSIGN}/"):
                self._check_assignment(path, effects)

    def _note_limit(self, queue: str, data: bytes, effects: Effects) -> None:
        settings = decode_queue(data)
        if settings is not None:
            self._limited[queue] = (effects.time, settings)
            self._assigned.pop(queue, None)

    def _check_assignment(self, path: str, effects: Effects) -> None:
        queue = _queue_of(path)
        since, settings = self._limited.get(queue, (0, None))
        if settings is None or effects.time < since + self._grace_ms:
            return
        if settings.paused:
            self._report(f"assigned {path}, and its queue is paused")
        elif settings.max_running is not None:
            running = sum(1 for other in self._nodes if other.count("/") == 3 and _is_assigned_of(queue, other))
            if running > settings.max_running:
                self._report(f"assigned {path}, the task number {running} of {settings.max_running} of its queue")
        elif settings.rate is not None:
            self._check_rate(path, queue, settings.rate, effects)

    def _check_rate(self, path: str, queue: str, rate: float, effects: Effects) -> None:
        """Check the rate by the servers' clock and across primaries. A primary that goes on although its znode was
        deleted by hand does not know the next primary."""
        seen = self._assigned.setdefault(queue, deque())
        while seen and effects.time - seen[0][0] >= _RATED_MS:
            seen.popleft()
        seen.append((effects.time, effects.session_id))
        acting = {session_id for _, session_id in seen}
        if len(seen) > rate + 1 and (len(acting) == 1 or acting.isdisjoint(self._ousted)):
            self._report(f"assigned {path}, which makes {len(seen)} of its queue within a second")


def _is_assigned_of(queue: str, path: str) -> bool:
    return path.startswith(f"{layout.ASSIGN}/") and _queue_of(path) == queue


def _queue_of(path: str) -> str:
    name = parse_task_name(path.rpartition("/")[2])
    return DEFAULT_QUEUE if name is None else name.queue
