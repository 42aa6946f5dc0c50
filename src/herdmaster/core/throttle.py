"""What `/queues` says, kept: queues that are paused, that run so many tasks at a time, or start so many per second.

All of it holds over all workers. A queue that is held up holds up no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from herdmaster.core.names import queue_and_priority
from herdmaster.core.queues import UNLIMITED, QueueSettings

_ROUNDING: Final = 1e-9


class _Tokens:
    """One is taken per task; `rate` come per second, and up to a second's worth are saved, but never less than one. A
    new primary begins with one, so that a change of primaries is no burst."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._count = 1.0
        self._counted_at = now

    def wait_seconds(self, now: float) -> float:
        """Until there is one; 0 if there is."""
        self._count = min(max(1.0, self.rate), self._count + max(0.0, now - self._counted_at) * self.rate)
        self._counted_at = now
        return 0.0 if self._count >= 1.0 - _ROUNDING else (1.0 - self._count) / self.rate

    def take(self) -> None:
        self._count -= 1.0


class Throttle:
    """The dispatcher asks `admits` before it assigns a task, and tells what enters and leaves the workers' hands: their
    inboxes, and assignments under way to them."""

    def __init__(self) -> None:
        self._settings: dict[str, QueueSettings] = {}  # of queues that have limits
        self._tokens: dict[str, _Tokens] = {}
        self._running: dict[str, int] = {}  # by queue, as far as any queue has a limit
        self._counts = False  # whether any has
        self.needs_count = False  # `count` has to be called before `admits`
        self.next_token: float | None = None  # when the first of the queues refused for its rate may go on

    def told(self, queue: str, settings: QueueSettings | None, now: float) -> None:
        """What the queue's znode says; None for nothing usable, and then it has no limits."""
        settings = settings or UNLIMITED
        if settings == UNLIMITED:
            self._settings.pop(queue, None)
        else:
            self._settings[queue] = settings
        tokens = self._tokens.get(queue)
        if settings.rate is None:
            self._tokens.pop(queue, None)
        elif tokens is not None:
            tokens.rate = settings.rate
        else:
            self._tokens[queue] = _Tokens(settings.rate, now)
        counted = self._counts
        self._counts = any(each.max_running is not None for each in self._settings.values())
        self.needs_count = self._counts and (self.needs_count or not counted)

    def listed(self, queues: Iterable[str], now: float) -> None:
        """Others have no limits any more."""
        for queue in sorted(self._settings.keys() - set(queues)):
            self.told(queue, None, now)

    # --- what the workers hold -----------------------------------------------------------------------------------

    def lose_count(self) -> None:
        self.needs_count = self._counts

    def count(self, tasks: Iterable[str]) -> None:
        """`tasks` are all in the workers' hands."""
        self._running.clear()
        for task in tasks:
            self.entered(task)
        self.needs_count = False

    def entered(self, task: str) -> None:
        self._add(task, 1)

    def left(self, task: str) -> None:
        self._add(task, -1)

    def _add(self, task: str, change: int) -> None:
        if self._counts:
            place = queue_and_priority(task)
            if place is not None:
                self._running[place[0]] = self._running.get(place[0], 0) + change

    # --- what may be assigned ------------------------------------------------------------------------------------

    def begin_round(self) -> None:
        self.next_token = None

    def admits(self, queue: str, now: float) -> bool:
        """Whether one more task of the queue may be assigned."""
        settings = self._settings.get(queue)
        if settings is None:
            return True
        if settings.paused:
            return False
        if settings.max_running is not None and self._running.get(queue, 0) >= settings.max_running:
            return False
        tokens = self._tokens.get(queue)
        seconds = tokens.wait_seconds(now) if tokens is not None else 0.0
        if seconds > 0:
            self.next_token = min(now + seconds, self.next_token or float("inf"))
        return seconds == 0

    def take(self, task: str, queue: str) -> None:
        """The task, of that queue, is being assigned."""
        tokens = self._tokens.get(queue)
        if tokens is not None:
            tokens.take()
        self.entered(task)
