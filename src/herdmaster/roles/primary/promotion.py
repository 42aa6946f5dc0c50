"""Moves delayed tasks to `/tasks` when they are due, by the servers' time.

A primary of ours does it; under a reference primary, the oldest of our masters does. Should two masters do it for a
moment, the guard of each transaction lets one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.conditions import expiry_of
from herdmaster.core.delayed import DelayedTasks
from herdmaster.core.ending_moves import refuse
from herdmaster.core.endings import EXPIRED, too_large, unreadable
from herdmaster.core.names import is_step
from herdmaster.core.recovery import MAX_MOVABLE
from herdmaster.core.whereabouts import Delayed
from herdmaster.roles.primary.folder_part import FolderPart
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_LOOK_SECONDS: Final = 0.1


class Promotion(FolderPart):
    """Promotes delayed tasks, or refuses those that have expired or cannot be moved.

    `stands_in`: the primary is a reference primary.
    """

    def __init__(
        self,
        client: Client,
        server_clock: ServerClock,
        report: PrimaryLog,
        wake: Callable[[], None],
        *,
        stands_in: bool = False,
    ) -> None:
        self.delayed = DelayedTasks()
        super().__init__(client, layout.DELAYED, self.delayed, report, wake)
        self._server_clock = server_clock
        self.stands_in = stands_in

    def step(self) -> None:
        self.report.tell_foreign_names(self.delayed.take_foreign_names())
        self.delayed.release_postponed(self.clock())
        if self.room <= 0 or self.delayed.next_due_ms() is None:
            return
        now_ms = self._server_clock.now_ms(self.wake)
        if now_ms is not None:
            due = self.delayed.take_due(now_ms, self.room)
            wanted = [(item, item.task, layout.delayed_path(item.due_ms, item.task)) for item in due]
            self.reader.read(wanted, self._promote)

    def next_wakeup(self) -> float | None:
        due_ms = self.delayed.next_due_ms() if self.room > 0 else None
        times = (None if due_ms is None else self._server_clock.wakeup(due_ms), self.delayed.next_release())
        return min((time for time in times if time is not None), default=None)

    def _promote(self, item: Delayed, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        due_ms, task = item.due_ms, item.task
        now_ms = self._server_clock.now_ms(self.wake)
        if isinstance(error, errors.NoAuth) and not is_step(task):
            self.end(refuse(item, b"", unreadable(error)))
        elif data is None:
            self.give_up(task, error)
        elif now_ms is None or now_ms < due_ms:
            self.postpone(task, _LOOK_SECONDS)  # read over a new connection, where another clock may count
        elif len(data) > MAX_MOVABLE:
            self.end(refuse(item, data, too_large(len(data))), data)
        else:
            expires = expiry_of(task, data)
            if expires is not None and expires <= now_ms:
                self.end(refuse(item, data, EXPIRED), data)
            else:
                self.gathering.add(transitions.promote(due_ms, task, data))
