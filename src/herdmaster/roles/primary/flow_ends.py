"""Ends flows: as done or failed when they are at rest, and as cancelled or expired when all their tasks have ended.

A flow is read before it ends, and is judged when the reply has come. Every change that the header read has seen is in
the picture by then; any later one that matters sets the header or makes a task, and then ZooKeeper refuses the end.
A flow whose steps are all done can change no more but by a request to cancel it: it ends with the header that was read
when it began, if that is small enough to be kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from herdmaster.core import flow_moves
from herdmaster.core.flow_end import MAX_NAMED, TIMEOUT, last_header, outcome_of_flow
from herdmaster.core.flow_picture import Flow
from herdmaster.core.flows import FlowHeader, FlowState, OnFailure, decode_header, encode_header
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload
from herdmaster.roles.primary.flow_feed import FlowFeed
from herdmaster.roles.primary.flow_reader import FlowRead, FlowReader, FlowWanted
from herdmaster.roles.primary.flow_stops import FlowStops
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS, Part
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 200
_CLOCK_SECONDS: Final = 0.05
_MIN_VOIDS: Final = 64
MAX_KEPT: Final = 4096
"""Bytes of a header that is kept until the end of its flow."""


class FlowEnds(Part):
    """Reads headers, stops the tasks of flows that are cancelled or stopped, and ends flows. `is_asked` says whether
    there is a request to cancel a task."""

    def __init__(
        self,
        client: Client,
        feed: FlowFeed,
        server_clock: ServerClock,
        report: PrimaryLog,
        wake: Callable[[], None],
        *,
        is_asked: Callable[[str], bool],
    ) -> None:
        super().__init__(client, feed.flows, report, wake, feed.list_again)
        flows = self._flows = feed.flows
        self._server_clock = server_clock
        self._flow_reader = FlowReader(client)
        self._stops = FlowStops(client, flows, self.reader, is_asked, wake)
        self._ending: dict[str, FlowHeader] = {}  # the last headers that are being written
        self._deadlines: list[tuple[int, str]] = []  # a heap: when flows time out, in unix milliseconds

    def step(self) -> None:
        if not self._flows.running:  # in a namespace without flows this costs nothing
            return
        wanted: list[FlowWanted] = []
        for flow in self._flows.take_flows(min(self.room, _AT_ONCE)):
            self._stops.look_at(flow)
            if flow.header is not None and flow.is_done:
                self._end(flow, flow.header, flow.version, FlowRead())
            elif not flow.is_read or flow.is_at_rest:
                wanted.append(FlowWanted(flow.name, _some_failed(flow), flow.is_cancelled))
            else:
                self.finish(flow.name)
        self._flow_reader.read(wanted, self._handle_read)
        self._stops.step()
        self.is_folder_missing |= self._stops.take_missing_folder()
        self._expire()

    def next_wakeup(self) -> float | None:
        if not self._flows.running:
            return None
        deadline = self._deadlines[0][0] if self._deadlines else None
        times = (self._stops.next_wakeup(), None if deadline is None else self._server_clock.wakeup(deadline))
        return min((time for time in times if time is not None), default=None)

    # --- headers -----------------------------------------------------------------------------------------------------

    def _handle_read(self, name: str, read: FlowRead) -> None:
        flow = self._flows.get(name)
        if read.error is not None:
            self.give_up(name, read.error)
        elif read.header is None or flow is None or flow.graph is None:
            self.finish(name)
        else:
            data, stat = read.header
            try:
                header = _running_header(data)
            except BadPayload as error:
                self.report.tell_broken_flow(name, str(error))
                self.finish(name)  # its next change is looked at at once: a request to cancel it, or another header
                return
            if not flow.is_read:
                self._learn(flow, header, stat, is_small=len(data or b"") <= MAX_KEPT)
            self._handle_header(flow, header, stat, read)

    def _handle_header(self, flow: Flow, header: FlowHeader, stat: Stat, read: FlowRead) -> None:
        self._flows.refresh(flow.name)
        if flow.is_at_rest and (read.cancel is not None or not flow.is_cancelled):
            self._end(flow, header, stat.version, read)
        else:
            self._stops.look_at(flow)
            self.finish(flow.name)

    def _learn(self, flow: Flow, header: FlowHeader, stat: Stat, *, is_small: bool) -> None:
        if flow.is_new:
            flow.is_new = False
            self.report.flows.started(header.name)
        stops = header.on_failure is OnFailure.STOP
        kept = header if is_small else None
        self._flows.set_header(flow.name, version=stat.version, stops=stops, header=kept)
        flow.deadline_ms = None if header.timeout is None else stat.mtime + int(header.timeout * 1000)
        if flow.deadline_ms is not None:
            heapq.heappush(self._deadlines, (flow.deadline_ms, flow.name))
            if len(self._deadlines) > 2 * self._flows.running + _MIN_VOIDS:
                self._deadlines = sorted(set(filter(self._is_deadline, self._deadlines)))

    # --- ends --------------------------------------------------------------------------------------------------------

    def _end(self, flow: Flow, header: FlowHeader, version: int, read: FlowRead) -> None:
        now_ms = self._server_clock.now_ms(self.wake)
        if now_ms is None:
            self.postpone(flow.name, _CLOCK_SECONDS)
            return
        last = self._ending[flow.name] = last_header(flow, header, now_ms, read.cancel, read.failed)
        outcome = outcome_of_flow(flow.name, last)
        self.gathering.add(flow_moves.end_flow(flow.name, version, encode_header(last), outcome))

    def _expire(self) -> None:
        while self._deadlines:
            deadline_ms, name = self._deadlines[0]
            if self._is_deadline((deadline_ms, name)):
                now_ms = self._server_clock.now_ms(self.wake)
                if now_ms is None or now_ms < deadline_ms:
                    return
                if self._flows.begin(name):
                    self.gathering.add(flow_moves.cancel_flow(name, TIMEOUT))
                else:
                    self._expire_later(name, now_ms, _CLOCK_SECONDS)
            heapq.heappop(self._deadlines)

    def _expire_later(self, name: str, now_ms: int, seconds: float) -> None:
        flow = self._flows.get(name)
        if flow is not None:
            flow.deadline_ms = now_ms + int(seconds * 1000)
            heapq.heappush(self._deadlines, (flow.deadline_ms, name))

    def _is_deadline(self, entry: tuple[int, str]) -> bool:
        flow = self._flows.get(entry[1])
        return flow is not None and flow.deadline_ms == entry[0] and not flow.is_cancelled

    # --- what has become of moves ------------------------------------------------------------------------------------

    def _handle_committed(self, move: Move) -> None:
        last = self._ending.pop(move.task, None)
        if move.transition is TransitionName.END_FLOW and last is not None:
            self.report.flows.ended(move.task, last)

    def _handle_refused(self, move: Move, verdict: Verdict) -> None:
        self._ending.pop(move.task, None)
        if move.transition is TransitionName.CANCEL_FLOW and verdict is Verdict.UNEXPECTED:
            self._expire_later(move.task, self._server_clock.estimate_ms(), SET_ASIDE_SECONDS)
        if verdict is Verdict.DECIDE_AGAIN:  # most likely the event that explains it has come
            self._flows.refresh(move.task)
            flow = self._flows.get(move.task)
            if flow is not None:
                flow.header = None  # if no event explains it, only another read can
            if flow is not None and flow.is_at_rest:
                self.postpone(move.task, TRY_LATER_SECONDS)
            else:
                self.finish(move.task)
        else:
            super()._handle_refused(move, verdict)


def _running_header(data: bytes | None) -> FlowHeader:
    """Raises BadPayload."""
    header = decode_header(data)
    if header.state is not FlowState.RUNNING:
        raise BadPayload(f"the header says that the flow is {header.state}, but it has a folder `running`")
    return header


def _some_failed(flow: Flow) -> tuple[str, ...]:
    """Return some steps that failed, the first ones, for the error of the flow."""
    if flow.graph is None or flow.is_cancelled:
        return ()
    return tuple(heapq.nsmallest(MAX_NAMED, flow.graph.failed, key=lambda step: (len(step), step)))
