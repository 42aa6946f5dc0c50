"""Detects a stalled worker: every task that runs there waits for tasks that wait for a slot themselves.

A task that waits for another task keeps its slot. If every slot has such a task, and the awaited tasks are in `/tasks`
or in this worker's own inbox, no slot becomes free by itself. A stall is only logged and shown in `/progress`:
Herdmaster does not decide which task gives way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from herdmaster.core import layout
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

PATIENCE: Final = 5.0
"""Seconds for which the same tasks wait for the same others before those are searched, and between two searches."""
_AGAIN_SECONDS: Final = 600.0
_MOST_LOOKED_FOR: Final = 50
_MOST_NAMED: Final = 5

_log = logging.getLogger("herdmaster.worker")


class Stalls:
    """Watches the slots of one session. `find_stalled` as `Slots.find_stalled`."""

    def __init__(self, client: Client, worker: str, find_stalled: Callable[[], Sequence[Delivered]]) -> None:
        self._client = client
        self._worker = worker
        self._find_stalled = find_stalled
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._look_at = 0.0
        self._logged_at: float | None = None
        self.is_stalled = False

    async def look(self) -> None:
        """Look at the slots; to be called about once a second. Raises ConnectionLoss, SessionExpired."""
        now = self._client.clock()
        waiting = {task.name: task.waits_for for task in self._find_stalled()}
        if waiting != self._waiting:
            self._waiting, self._look_at = waiting, now + PATIENCE
            if self.is_stalled:
                _log.info("%s goes on: not all of its slots wait any more", self._worker)
            self.is_stalled = False
        elif waiting and now >= self._look_at:
            self._look_at = now + PATIENCE
            was, self.is_stalled = self.is_stalled, await self._are_held_up(waiting)
            if self.is_stalled and (not was or self._logged_at is None or now - self._logged_at >= _AGAIN_SECONDS):
                self._logged_at = now
                self._log_stall(waiting)

    async def _are_held_up(self, waiting: dict[str, tuple[str, ...]]) -> bool:
        """Return whether every awaited task is in `/tasks` or in this worker's inbox: none has ended, and no other
        worker has one."""
        awaited = list(dict.fromkeys(name for names in waiting.values() for name in names))[:_MOST_LOOKED_FOR]
        # An awaited task that runs here waits as well, or `find_stalled` would have returned nothing.
        paths = [path for name in awaited for path in (layout.task_path(name), self._assignment(name))]
        try:
            found = await asyncio.gather(*map(self._client.exists, paths))
        except errors.ServerError as error:
            _log.warning("where the tasks are that others wait for cannot be read: %s", error)
            return False
        return all(here or there for here, there in zip(found[::2], found[1::2], strict=True))

    def _assignment(self, task: str) -> str:
        return layout.assignment_path(self._worker, task)

    def _log_stall(self, waiting: dict[str, tuple[str, ...]]) -> None:
        pairs = [f"{task} waits for {', '.join(names[:_MOST_NAMED])}" for task, names in waiting.items()]
        more = f" and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
        _log.warning(
            "nothing goes on: every slot is taken by a task that waits for others, which no slot is left for: %s%s; "
            "make them steps of a flow, which start when what they need is there (docs/guides/flows.md), give the "
            "worker more slots, submit what is waited for to a queue of other workers, or wait with `await` in an "
            "`async def`",
            "; ".join(pairs[:_MOST_NAMED]),
            more,
        )
