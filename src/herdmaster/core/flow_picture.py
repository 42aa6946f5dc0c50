"""A primary's picture of the flows: which steps can start, and which flows are to be looked at.

It is told what the stream of `/flows` tells (`core.flow_scope`), and holds names, and the headers of running flows that
are small. A flow that is being built or has ended is known by its name alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from herdmaster.core.flow_graph import FlowGraph, is_marked, parent_of, step_of
from herdmaster.core.flow_scope import CANCEL, PARTS, RUNNING
from herdmaster.core.flows import FlowHeader
from herdmaster.core.offers import Offers

_FOLDER_OF_FLOWS: Final = 2
_FLOW: Final = 3
_ENTRY: Final = 5
"""How many parts the paths of folders have between their slashes: `/flows`, `/flows/F`, `/flows/F/steps/S`."""


class Start(msgspec.Struct, frozen=True, gc=False):
    """A step that can start. `entry` is its name in `steps`. `missing` are the parents whose edges are left: they will
    never be done."""

    flow: str
    entry: str
    missing: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.flow}/{self.entry}"

    @property
    def step(self) -> str:
        return step_of(self.entry)

    @property
    def parent(self) -> str | None:
        return parent_of(self.entry)


class Flow(msgspec.Struct):
    """A flow in `/flows`. `graph` is None while it does not run. `is_read`: its header was read since it runs.
    `version` is that of this header, and `deadline_ms` when the flow times out (unix milliseconds). `header` is kept if
    it is small. `is_new`: its creation was seen, and not told yet."""

    name: str
    graph: FlowGraph | None = None
    is_read: bool = False
    is_cancelled: bool = False
    is_new: bool = False
    version: int = -1
    header: FlowHeader | None = None
    deadline_ms: int | None = None
    to_stop: dict[str, None] = msgspec.field(default_factory=dict)
    """Its running tasks that were not asked to end, in the order in which they are to be asked."""

    def stop_all(self) -> None:
        """Let all tasks that run be asked to end, also those that were asked before. The newest first: the oldest are
        with workers, and moves of workers refuse the transactions that end many tasks."""
        self.to_stop = {} if self.graph is None else dict.fromkeys(reversed(self.graph.running))

    def may_start(self, entry: str) -> bool:
        graph = self.graph
        return (
            graph is not None
            and graph.is_known
            and self.is_read
            and not self.is_cancelled
            and entry in graph.ready
            and (not graph.is_stopped or is_marked(entry))
        )

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of the flow runs, and nothing will start."""
        graph = self.graph
        if graph is None or not graph.is_known or not self.is_read or graph.running:
            return False
        return self.is_cancelled or not any(map(self.may_start, graph.ready))

    @property
    def is_done(self) -> bool:
        """Whether all steps are done. Nothing but a request to cancel can come to such a flow before it ends."""
        graph = self.graph
        return graph is not None and self.is_at_rest and not (self.is_cancelled or graph.failed or graph.has_waiting)


class FlowPicture(Offers[Start | str]):
    """The flows, their steps that can start, and the flows to look at.

    A step is given out with `take` and has the key `FLOW/ENTRY`; a flow with `take_flows`, and its key is its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self._flows: dict[str, Flow] = {}
        self._running: set[str] = set()
        self._offered: dict[str, None] = {}  # keys of steps, the oldest first; some are not ready any more
        self._to_look: dict[str, None] = {}
        self._to_refresh: set[str] = set()

    @property
    def running(self) -> int:
        """The number of flows that run."""
        return len(self._running)

    def get(self, flow: str) -> Flow | None:
        return self._flows.get(flow)

    def flow_of(self, task: str) -> str | None:
        """Return the flow in which the task is said to run. Takes time in proportion to the flows that run."""
        for name in self._running:
            graph = self._graph(name)
            if graph is not None and task in graph.running:
                return name
        return None

    def running_tasks(self) -> Iterator[tuple[str, str]]:
        """Return the flow and the name of each task that is said to run."""
        for name in self._running:
            graph = self._graph(name)
            if graph is not None and graph.is_known:
                yield from ((name, task) for task in graph.running)

    # --- listings and events -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The connection is lost: nothing is known until the next listings."""
        self.is_current = False
        self._flows.clear()
        self._running.clear()
        self._offered.clear()
        self._to_look.clear()
        self._to_refresh.clear()

    def replace(self, folder: str, names: Iterable[str]) -> None:
        """A folder was listed."""
        match folder.split("/"):
            case [_, _]:
                self.interrupt()
                self._flows = {name: Flow(name) for name in names}
                self.is_current = True
            case [_, _, name]:
                if RUNNING in names or CANCEL in names:
                    for part in names:
                        self._add_to_flow(name, part, is_new=False)
            case [_, _, name, part] if (graph := self._graph(name)) is not None:
                graph.replace(part, names)
                if part == RUNNING:
                    self._flows[name].stop_all()
                self._review(self._flows[name])
            case [_, _, name, _, entry] if (graph := self._graph(name)) is not None:
                graph.replace_edges(entry, names)
                self._review(self._flows[name])

    def add(self, folder: str, name: str) -> None:
        path = folder.split("/")
        if len(path) == _FOLDER_OF_FLOWS:
            self._flows[name] = Flow(name, is_new=True)
        elif len(path) == _FLOW:
            self._add_to_flow(path[2], name, is_new=True)
        elif (found := self._flows.get(path[2])) is not None and (graph := found.graph) is not None:
            part = path[3]
            if len(path) == _ENTRY:
                graph.add_edge(path[4], name)
                return
            graph.add(part, name)
            if part == RUNNING:
                found.to_stop[name] = None
            self._review(found)

    def remove(self, folder: str, name: str) -> None:
        path = folder.split("/")
        if len(path) == _FOLDER_OF_FLOWS:
            self._flows.pop(name, None)
            self._running.discard(name)
        elif len(path) == _FLOW:
            self._remove_from_flow(path[2], name)
        elif (found := self._flows.get(path[2])) is not None and (graph := found.graph) is not None:
            part = path[3]
            if len(path) == _ENTRY:
                graph.remove_edge(path[4], name)
                self._to_refresh.add(found.name)
                return
            graph.remove(part, name)
            if part == RUNNING:
                found.to_stop.pop(name, None)
            self._review(found)

    def change(self, flow: str) -> None:
        """The data of a flow, its header, was set."""
        found = self._flows.get(flow)
        if found is not None:
            found.is_read = False
            found.header = None
            self._review(found)

    def set_header(
        self, flow: str, *, version: int = -1, stops: bool = False, header: FlowHeader | None = None
    ) -> None:
        """The header was read. `stops`: the flow stops at its first failure. `header` if it is to be kept."""
        found = self._flows.get(flow)
        if found is not None and found.graph is not None:
            found.is_read = True
            found.version = version
            found.header = header
            found.graph.set_stops(stops)
            self._review(found)

    def _add_to_flow(self, name: str, part: str, *, is_new: bool) -> None:
        flow = self._flows.get(name)
        if flow is None:
            return
        if part in PARTS:
            if flow.graph is None:
                flow.graph = FlowGraph(lambda entry: self._offered.update({f"{name}/{entry}": None}))
            if is_new:
                flow.graph.add_part(part)
            if part == RUNNING:
                self._running.add(name)
                if is_new:  # what opens a flow again deletes its `cancel` in the same transaction, whose event is later
                    flow.is_cancelled = False
        if part == CANCEL and not flow.is_cancelled:
            flow.is_cancelled = True
            flow.stop_all()
        self._review(flow)

    def _remove_from_flow(self, name: str, part: str) -> None:
        flow = self._flows.get(name)
        if flow is None:
            return
        if part == RUNNING:
            flow = self._flows[name] = Flow(name, is_cancelled=flow.is_cancelled)
            self._running.discard(name)
        elif part in PARTS and flow.graph is not None:
            flow.graph.remove_part(part)
        flow.is_cancelled &= part != CANCEL
        self._review(flow)

    def _graph(self, flow: str) -> FlowGraph | None:
        found = self._flows.get(flow)
        return None if found is None else found.graph

    def _review(self, flow: Flow) -> None:
        """Look at the flow if it may be at rest, or have to be stopped or read."""
        self._to_refresh.add(flow.name)
        graph = flow.graph
        if graph is None or not graph.is_known or flow.name not in self._running:
            return
        if not flow.is_read or not graph.running or flow.is_cancelled or graph.is_stopped:
            self._to_look[flow.name] = None

    # --- what is to be done ------------------------------------------------------------------------------------------

    def take(self, room: int) -> list[Start]:
        """Take at most `room` steps that can start from the offer, the oldest first."""
        self._refresh()
        taken: list[Start] = []
        while self._offered and len(taken) < room:
            key = next(iter(self._offered))
            del self._offered[key]
            name, _, entry = key.partition("/")
            flow = self._flows.get(name)
            if key in self._marks or flow is None or flow.graph is None or not flow.may_start(entry):
                continue
            start = Start(name, entry, flow.graph.edges_of(entry))
            self._marks.begin(key, start)
            taken.append(start)
        return taken

    def can_start(self, start: Start) -> bool:
        """Whether a step that was taken can still start, from the same edges."""
        self._refresh()
        flow = self._flows.get(start.flow)
        if flow is None or flow.graph is None or not flow.may_start(start.entry):
            return False
        return flow.graph.edges_of(start.entry) == start.missing

    @property
    def has_offers(self) -> bool:
        """Whether `take` may find something."""
        self._refresh()
        return bool(self._offered)

    def begin(self, flow: str) -> bool:
        """Mark a flow as taken, unless it is marked."""
        if flow not in self._flows or flow in self._marks:
            return False
        self._marks.begin(flow, flow)
        return True

    def take_flows(self, room: int) -> list[Flow]:
        """Take at most `room` flows to look at."""
        self._refresh()
        taken = []
        for name in list(islice((name for name in self._to_look if name not in self._marks), room)):
            del self._to_look[name]
            flow = self._flows.get(name)
            if flow is not None and flow.graph is not None and name in self._running:
                self._marks.begin(name, name)
                taken.append(flow)
        return taken

    def finish(self, key: str) -> None:
        if key in self._flows:
            self._marks.end(key)  # it is looked at again when something has changed
        else:
            super().finish(key)

    def refresh(self, flow: str) -> None:
        """Bring `is_at_rest` of a flow up to date."""
        graph = self._graph(flow)
        if graph is not None:
            graph.refresh()

    def _refresh(self) -> None:
        """Find what is over, once for all changes since the last time."""
        names, self._to_refresh = self._to_refresh, set()
        for name in sorted(names):
            graph = self._graph(name)
            if graph is not None:
                graph.refresh()

    def _offer(self, key: str) -> None:
        name, _, entry = key.partition("/")
        flow = self._flows.get(name)
        if flow is None or key in self._marks:
            return
        if not entry:
            self._to_look[name] = None
        elif flow.graph is not None and entry in flow.graph.ready:
            self._offered[key] = None
        elif flow.graph is not None:
            self._review(flow)  # it has started, or will not: so the flow may be at rest

    def _is_still_there(self, key: str) -> bool:
        name, _, entry = key.partition("/")
        graph = self._graph(name)
        return graph is not None and (not entry or entry in graph)
