"""Starts the steps of flows: each leaves the flow's folder `steps` and becomes a task that waits in `/tasks`.

A primary of ours does it; under a reference primary, the oldest of our masters does. The picture of flows says which
steps can start, and is asked once more when the payload has come: by then it has seen every change that the read has
seen. ZooKeeper refuses to delete a step that has edges, so no join starts too early whatever the picture says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from herdmaster.core import flow_moves, layout
from herdmaster.core.flow_graph import FlowGraph, is_marked
from herdmaster.core.flow_picture import Start
from herdmaster.core.flows import FlowStep, parents_of
from herdmaster.core.names import parse_task_name
from herdmaster.core.payload import decode_call, with_start_of_step
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload
from herdmaster.roles.primary.flow_feed import FlowFeed
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS, Part
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 200
"""Steps that are taken in one turn of the loop, so that other parts are not held up."""
MAX_EDGES: Final = 500
"""Edges that one transaction deletes together with the start of their step."""
_MAX_MISSING: Final = 1000
"""Parents that a step is told to be without."""
_SIZE_IS_UNKNOWN: Final = ""
"""In place of a name that would say how large the payload is: a step's name does not."""


class FlowStarts(Part):
    """Starts the steps that can start."""

    def __init__(
        self,
        client: Client,
        feed: FlowFeed,
        server_clock: ServerClock,
        report: PrimaryLog,
        wake: Callable[[], None],
        *,
        stands_in: bool = False,
    ) -> None:
        super().__init__(client, feed.flows, report, wake, feed.list_again)
        self.stands_in = stands_in
        self._flows = feed.flows
        self._server_clock = server_clock

    def step(self) -> None:
        if not self._flows.running:  # in a namespace without flows this costs nothing
            return
        self._flows.release_postponed(self.clock())
        room = min(self.room, _AT_ONCE)
        if room <= 0 or not self._flows.has_offers:
            return
        now_ms = self._server_clock.now_ms(self.wake)
        if now_ms is None:
            return
        starts = self._flows.take(room)
        if len(starts) == room:
            asyncio.get_running_loop().call_soon(self.wake)
        wanted = [(each, _SIZE_IS_UNKNOWN, layout.flow_step_path(each.flow, each.entry)) for each in starts]
        self.reader.read(wanted, partial(self._handle_payload, now_ms))

    def next_wakeup(self) -> float | None:
        if not self._flows.running:
            return None
        may_start = self.room > 0 and self._flows.has_offers
        times = (self._flows.next_release(), self._server_clock.wakeup(0) if may_start else None)
        return min((time for time in times if time is not None), default=None)

    def _handle_payload(
        self, now_ms: int, start: Start, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        if data is None:
            self.give_up(start.key, error)
            return
        try:
            step = _step_in(start, data)
        except (BadPayload, *UNREADABLE) as reason:
            self.report.tell_broken_flow(start.key, str(reason))
            self.postpone(start.key, SET_ASIDE_SECONDS)
            return
        flow = self._flows.get(start.flow)
        if flow is None or flow.graph is None or not self._flows.can_start(start):
            self.finish(start.key)
            return
        missing = _missing(flow.graph, start, step)
        self.gathering.add(_move(start, step.task, with_start_of_step(data, now_ms, missing), flow.version))

    def _handle_refused(self, move: Move, verdict: Verdict) -> None:
        if verdict is Verdict.DECIDE_AGAIN:  # most likely the event that explains it has come
            flow, _, entry = move.task.partition("/")
            found = self._flows.get(flow)
            self.postpone(move.task, TRY_LATER_SECONDS if found is not None and found.may_start(entry) else 0.0)
        else:
            super()._handle_refused(move, verdict)


def _step_in(start: Start, data: bytes) -> FlowStep:
    """Return what the payload says of the step. Raises BadPayload if that is not the step where it stands."""
    step = decode_call(data).flow
    if step is None or (step.flow, step.step) != (start.flow, start.step):
        raise BadPayload("the payload is not that of this step")
    name = parse_task_name(step.task)
    if name is None or not name.step:
        raise BadPayload(f"{step.task!r} is not the name of a step's task")
    return step


def _missing(graph: FlowGraph, start: Start, step: FlowStep) -> tuple[str, ...]:
    """Return the parents that are not done, items of parents included."""
    if not is_marked(start.entry):
        return ()
    parents = set(parents_of(step))
    missing = {*start.missing, *(parents - graph.results)}
    missing |= {failed for failed in graph.failed if failed.rpartition(".")[0] in parents}
    return tuple(sorted(missing)[:_MAX_MISSING])


def _move(start: Start, task: str, data: bytes, version: int) -> Move:
    if start.parent is not None:
        return flow_moves.start_follower(start.flow, start.parent, start.step, task, data)
    if len(start.missing) > MAX_EDGES:
        some = start.missing[: min(MAX_EDGES, len(start.missing) - MAX_EDGES)]
        return flow_moves.drop_edges(start.flow, start.entry, some, version)
    if not start.missing:
        return flow_moves.start_step(start.flow, start.entry, task, data)
    return flow_moves.start_step(start.flow, start.entry, task, data, edges=start.missing, version=version)
