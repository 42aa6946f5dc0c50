"""Stops the tasks of flows that were cancelled, or that stop at their first failure: it asks for each to be cancelled.

What asks is a request in `/cancel`, as a client makes it; `roles/primary/cancellation.py` carries the requests out.
Many requests are made in one transaction. Tasks of marked steps go on in a flow that stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from herdmaster.core import layout
from herdmaster.core.flow_graph import is_marked, running_entry
from herdmaster.core.flow_picture import Flow, FlowPicture
from herdmaster.core.names import parse_task_name
from herdmaster.roles.primary.part import TRY_LATER_SECONDS
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_MAX_ASKED: Final = 1000
"""Tasks that are asked at the same time; enough for a few full transactions."""
_MAX_BATCH: Final = 200
"""Requests in one transaction."""
_AGAIN_SECONDS: Final = 30.0
"""A request may have ended the task without its flow, if the payload of the task was destroyed. The next one finds the
step lost."""


class FlowStops:
    """The flows whose tasks are being stopped, for one term of a primary. `is_asked` says whether there is a request
    for a task already."""

    def __init__(
        self,
        client: Client,
        flows: FlowPicture,
        reader: PayloadReader,
        is_asked: Callable[[str], bool],
        wake: Callable[[], None],
    ) -> None:
        self._client = client
        self._flows = flows
        self._reader = reader
        self._is_asked = is_asked
        self._wake = wake
        self._to_ask: list[tuple[str, str]] = []  # flows and tasks whose requests leave with this turn of the loop
        self._stopping: dict[str, float] = {}  # when everything that still runs is asked again
        self._under_way = 0
        self._may_ask_at = 0.0
        self._is_folder_missing = False

    def look_at(self, flow: Flow) -> None:
        """Stop the flow's tasks if that is wanted."""
        if flow.name not in self._stopping and _has_to_stop(flow):
            self._stopping[flow.name] = self._client.clock() + _AGAIN_SECONDS
        if flow.to_stop:
            self._wake()

    def step(self) -> None:
        """Send requests, as far as there is room. Raises the session's final error."""
        now = self._client.clock()
        if now < self._may_ask_at:
            return
        for name, again_at in list(self._stopping.items()):
            flow = self._flows.get(name)
            if flow is None or flow.graph is None or not _has_to_stop(flow):
                del self._stopping[name]
                continue
            if now >= again_at:
                flow.stop_all()
                self._stopping[name] = now + _AGAIN_SECONDS
            for task in list(islice(flow.to_stop, max(_MAX_ASKED - self._under_way, 0))):
                del flow.to_stop[task]
                self._stop(flow, task)

    def next_wakeup(self) -> float | None:
        times = list(self._stopping.values())
        if self._stopping and self._may_ask_at > self._client.clock():
            times.append(self._may_ask_at)
        return min(times, default=None)

    def take_missing_folder(self) -> bool:
        """Return whether `/cancel` was found missing since the last call."""
        found, self._is_folder_missing = self._is_folder_missing, False
        return found

    def _stop(self, flow: Flow, task: str) -> None:
        if parse_task_name(task) is None or self._is_asked(task):
            return
        self._under_way += 1
        if flow.is_cancelled:
            self._ask(flow.name, task)
        else:
            path = layout.flow_running_path(flow.name, task)
            self._reader.read([((flow.name, task), task, path)], self._handle_running)

    def _handle_running(
        self, key: tuple[str, str], data: bytes | None, _stat: Stat | None, _error: Exception | None
    ) -> None:
        if data is None or is_marked(running_entry(data)):
            self._end()
        else:
            self._ask(*key)

    def _ask(self, flow: str, task: str) -> None:
        if not self._to_ask:
            asyncio.get_running_loop().call_soon(self._send)
        self._to_ask.append((flow, task))

    def _send(self) -> None:
        wanted, self._to_ask = self._to_ask, []
        for start in range(0, len(wanted), _MAX_BATCH):
            self._request(wanted[start : start + _MAX_BATCH])

    def _request(self, asked: Sequence[tuple[str, str]], failures: int = 0) -> None:
        """Make the requests for these tasks in one transaction. If one is refused, the others are made again."""
        transaction = self._client.transaction()
        for _, task in asked:
            transaction.create(layout.cancel_path(task), b"")

        def done(_results: object, error: Exception | None) -> None:
            if not isinstance(error, errors.TransactionFailed):
                for each in asked:
                    self._handle_asked(*each, error)
                return
            if isinstance(error.error, errors.NodeExists):
                self._handle_asked(*asked[error.index], error.error)
                rest = [*asked[: error.index], *asked[error.index + 1 :]]
                for again in [[each] for each in rest] if failures else [rest] if rest else []:
                    self._request(again, failures + 1)
                return
            for each in asked:
                self._handle_asked(*each, error.error)

        try:
            transaction.commit_nowait(done)
        except errors.ZooKeeperError as error:
            done(None, error)

    def _handle_asked(self, flow: str, task: str, error: Exception | None) -> None:
        # After a lost connection, the next listing shows again what runs.
        if isinstance(error, errors.ServerError) and not isinstance(error, errors.NodeExists):
            self._is_folder_missing |= isinstance(error, errors.NoNode)
            self._may_ask_at = self._client.clock() + TRY_LATER_SECONDS
            found = self._flows.get(flow)
            if found is not None and found.graph is not None and task in found.graph.running:
                found.to_stop[task] = None
        self._end()

    def _end(self) -> None:
        self._under_way -= 1
        self._wake()


def _has_to_stop(flow: Flow) -> bool:
    return flow.is_cancelled or (flow.is_read and flow.graph is not None and flow.graph.is_stopped)
