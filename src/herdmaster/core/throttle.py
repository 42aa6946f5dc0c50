"""The limits of queues: paused, so many tasks at a time, so many starts per second.

A limit holds over all workers together. A queue that is held up holds up no other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from herdmaster.core.names import queue_and_priority
from herdmaster.core.queues import UNLIMITED, QueueSettings

_ROUNDING: Final = 1e-9
_INTERVAL: Final = 1.0
"""A rate is counted over so many seconds."""
_SAVED_SECONDS: Final = 0.1
"""So many seconds of a rate may be caught up on, because a primary cannot decide at every instant."""


class _Pace:
    """The pace of one queue that has a rate. Two limits hold:

    - Each task takes a token, and `rate` tokens come per second. This gives the mean, and the even spacing.
    - At most `rate` and one assignments may have been committed within the last second. So no second holds more.

    An assignment is committed at some time between its decision and its reply: it counts from the decision until a
    second after the reply. What the primary before assigned is not known, so nothing starts in the first second.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = 1.0
        self._counted_at = self._opens_at = now + _INTERVAL
        self._under_way = 0
        self._ended = 0  # since the last round
        self._recent: deque[float] = deque()  # when the reply was known

    def begin(self) -> None:
        self._tokens -= 1.0
        self._under_way += 1

    def end(self) -> None:
        self._under_way = max(0, self._under_way - 1)
        self._ended += 1

    def begin_round(self, now: float) -> None:
        while self._recent and now - self._recent[0] >= _INTERVAL - _ROUNDING:
            self._recent.popleft()
        self._recent.extend([now] * self._ended)
        self._ended = 0

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait until one more may be assigned; infinite where a reply has to come first."""
        if now < self._opens_at:
            return self._opens_at - now
        most = max(1.0, self.rate * _SAVED_SECONDS)
        self._tokens = min(most, self._tokens + max(0.0, now - self._counted_at) * self.rate)
        self._counted_at = max(now, self._counted_at)
        wait = 0.0 if self._tokens >= 1.0 - _ROUNDING else (1.0 - self._tokens) / self.rate
        excess = len(self._recent) + self._under_way + self._ended - math.floor(self.rate) - 1
        if excess < 0:
            return wait
        if excess >= len(self._recent):
            return math.inf
        return max(wait, self._recent[excess] + _INTERVAL - now)


class Throttle:
    """The limits of all queues, and how much of them is used.

    The dispatcher asks `admits` before it assigns a task. A task runs, here, while it is in a worker's inbox or its
    assignment is under way: `add_running` and `remove_running` count these tasks.
    """

    def __init__(self) -> None:
        self._settings: dict[str, QueueSettings] = {}  # of queues that have limits
        self._paces: dict[str, _Pace] = {}  # of queues that have a rate
        self._running: dict[str, int] = {}  # by queue, as far as any queue has a limit
        self._counts = False  # whether any has
        self.needs_count = False  # `count` has to be called before `admits`
        self.next_token: float | None = None  # when the first of the queues refused for its rate may go on

    def set_limits(self, queue: str, settings: QueueSettings | None, now: float) -> None:
        """Set the limits of a queue; None for no limits."""
        settings = settings or UNLIMITED
        if settings == UNLIMITED:
            self._settings.pop(queue, None)
        else:
            self._settings[queue] = settings
        pace = self._paces.get(queue)
        if settings.rate is None:
            self._paces.pop(queue, None)
        elif pace is not None:
            pace.rate = settings.rate
        else:
            self._paces[queue] = _Pace(settings.rate, now)
        counted = self._counts
        self._counts = any(each.max_running is not None for each in self._settings.values())
        self.needs_count = self._counts and (self.needs_count or not counted)

    def keep_limits(self, queues: Iterable[str], now: float) -> None:
        """Drop the limits of all other queues."""
        for queue in sorted(self._settings.keys() - set(queues)):
            self.set_limits(queue, None, now)

    @property
    def limits(self) -> Mapping[str, QueueSettings]:
        """The queues that have limits."""
        return self._settings

    # --- what the workers hold -----------------------------------------------------------------------------------

    def lose_count(self) -> None:
        self.needs_count = self._counts

    def count_running(self, tasks: Iterable[str]) -> None:
        """Count anew: `tasks` are all that run."""
        self._running.clear()
        for task in tasks:
            self.add_running(task)
        self.needs_count = False

    def add_running(self, task: str) -> None:
        self._add(task, 1)

    def remove_running(self, task: str) -> None:
        self._add(task, -1)

    def _add(self, task: str, change: int) -> None:
        if self._counts:
            place = queue_and_priority(task)
            if place is not None:
                self._running[place[0]] = self._running.get(place[0], 0) + change

    # --- what may be assigned ------------------------------------------------------------------------------------

    def begin_round(self, now: float) -> None:
        self.next_token = None
        for pace in self._paces.values():
            pace.begin_round(now)

    def admits(self, queue: str, now: float) -> bool:
        """Whether one more task of the queue may be assigned now."""
        settings = self._settings.get(queue)
        if settings is None:
            return True
        if settings.paused:
            return False
        if settings.max_running is not None and self._running.get(queue, 0) >= settings.max_running:
            return False
        pace = self._paces.get(queue)
        seconds = pace.wait_seconds(now) if pace is not None else 0.0
        if 0 < seconds < math.inf:
            self.next_token = min(now + seconds, self.next_token or float("inf"))
        return seconds == 0

    def begin_assignment(self, task: str, queue: str) -> None:
        """Count a task of that queue whose assignment begins."""
        pace = self._paces.get(queue)
        if pace is not None:
            pace.begin()
        self.add_running(task)

    def end_assignment(self, task: str) -> None:
        """The transaction that was to assign the task has ended, committed or not."""
        if self._paces:
            place = queue_and_priority(task)
            pace = self._paces.get(place[0]) if place is not None else None
            if pace is not None:
                pace.end()
