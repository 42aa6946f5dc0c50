"""Finds steps whose tasks are nowhere: they were deleted by hand, or a reference worker answered them.

Such a step counts as running for ever, so its flow would never end. Once a minute each task that runs by the picture of
the flows is looked for in the pictures of the folders in which a task can be. What two looks in a row do not find, and
a request to the server does not bring to light, is lost: its step fails, and its flow goes on.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from herdmaster.core import layout
from herdmaster.core.ending_moves import lose_step
from herdmaster.core.flow_picture import FlowPicture
from herdmaster.core.names import is_step, parse_task_name
from herdmaster.roles.primary.cancellation import Pictures
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 200
_PAUSE_SECONDS: Final = 0.05
"""Between two parts of one look: a look at a large flow must not hold up the primary."""


class LostSteps:
    """The looks of one term. `seconds` is the time between two of them."""

    def __init__(
        self, client: Client, pictures: Pictures, flows: FlowPicture, report: PrimaryLog, seconds: float
    ) -> None:
        self._client = client
        self._pictures = pictures
        self._flows = flows
        self._report = report
        self._seconds = seconds
        self._reader = PayloadReader(client)
        self._committer = Committer(client)
        self._next = client.clock() + seconds
        self._left: list[tuple[str, str]] = []  # flows and tasks that this look has not come to
        self._missed: set[str] = set()  # tasks that this look has not found
        self._missed_before: set[str] = set()

    def step(self) -> None:
        """Raises the session's final error."""
        now = self._client.clock()
        if not self._flows.running or now < self._next:
            return
        self._next = now + self._seconds
        if not self._are_current:
            self._left, self._missed = [], set()
            return
        if not self._left:
            self._missed, self._missed_before = set(), self._missed
            self._left = [*self._flows.running_tasks()]
        part, self._left = self._left[-_AT_ONCE:], self._left[:-_AT_ONCE]
        for flow, task in part:
            if self._is_nowhere(flow, task):
                self._missed.add(task)
                if task in self._missed_before:
                    self._client.exists_nowait(layout.task_path(task), partial(self._look_again, flow, task))
        if self._left:
            self._next = now + min(_PAUSE_SECONDS, self._seconds)

    def next_wakeup(self) -> float | None:
        """Return when, on the client's clock, a step is worthwhile although nothing happens meanwhile."""
        return self._next if self._flows.running else None

    @property
    def _are_current(self) -> bool:
        return self._flows.is_current and self._pictures.are_current

    def _is_nowhere(self, flow: str, task: str) -> bool:
        found = self._flows.get(flow)
        return (
            found is not None
            and found.graph is not None
            and task in found.graph.running
            and parse_task_name(task) is not None
            and is_step(task)
            and self._pictures.where_is(task) is None
        )

    def _look_again(self, flow: str, task: str, stat: Stat | None, error: Exception | None) -> None:
        """All events of what the server had done before the request have come."""
        if stat is None and error is None and self._are_current and self._is_nowhere(flow, task):
            path = layout.flow_running_path(flow, task)
            self._reader.read([(flow, task, path)], partial(self._lose, task))

    def _lose(self, task: str, flow: str, data: bytes | None, _stat: Stat | None, _error: Exception | None) -> None:
        move = None if data is None else lose_step(flow, task, data)
        if move is not None:
            self._committer.commit([move], self._handle_settled)

    def _handle_settled(self, settlement: Settlement) -> None:
        """A move that was refused or lost is made again after the next look, if its step is still there."""
        if settlement.fate is Fate.COMMITTED:
            self._report.tell_committed(settlement.move)
