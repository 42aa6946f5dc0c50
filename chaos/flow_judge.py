"""Judges flows by the transactions that ZooKeeper has logged: each step starts once and ends once, and a flow ends when
all its steps are done. The flows of the chaos have no step that fails, and no retries."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.transactions import Change, Kind, Transaction
from herdmaster.core import layout
from herdmaster.core.flow_graph import step_of

_FLOWS = f"{layout.FLOWS}/"


class _Flow(msgspec.Struct):
    """A flow that runs. `started` are the tasks of steps that were ever made."""

    waiting: set[str] = msgspec.field(default_factory=set)
    edges: set[str] = msgspec.field(default_factory=set)
    running: set[str] = msgspec.field(default_factory=set)
    started: set[str] = msgspec.field(default_factory=set)
    results: set[str] = msgspec.field(default_factory=set)


class FlowJudge:
    """Reads transactions in their order. `faults` are texts, empty if all is well; `ended` counts flows."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace
        self._flows: dict[str, _Flow] = {}
        self.ended = 0
        self.faults: list[str] = []

    @property
    def running(self) -> list[str]:
        """Return the flows that have not ended."""
        return list(self._flows)

    def take_faults(self) -> list[str]:
        """Return what was wrong since the last call, and the flows that have not ended, when all has settled."""
        found, self.faults = self.faults, []
        return [*found, *(f"{name} has not ended" for name in self.running)]

    def read(self, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            if not transaction.is_doubtful:
                self._read(transaction)

    def _read(self, transaction: Transaction) -> None:
        by_flow: dict[str, list[tuple[Kind, str]]] = {}
        for change in transaction.changes:
            path = change.path.removeprefix(self._namespace)
            if path.startswith(_FLOWS):
                flow, _, below = path.removeprefix(_FLOWS).partition("/")
                by_flow.setdefault(flow, []).append((change.kind, below))
        for flow, changes in by_flow.items():
            self._read_flow(flow, changes, transaction.changes)

    def _read_flow(self, name: str, changes: list[tuple[Kind, str]], all_changes: Iterable[Change]) -> None:
        if (Kind.CREATED, "") in changes:
            self._flows[name] = _Flow()
        flow = self._flows.get(name)
        if flow is None:
            return  # it has ended, and is removed
        before = len(flow.running), len(flow.results)
        for kind, path in changes:
            self._take(name, flow, kind, path)
        ended = before[0] - len(flow.running)
        if len(flow.results) - before[1] != max(ended, 0):
            self.faults.append(f"{name}: {ended} steps ended with {len(flow.results) - before[1]} results")
        made = {layout.name_of(each.path) for each in all_changes if each.kind is Kind.CREATED and _is_task(each)}
        for kind, path in changes:
            if kind is Kind.CREATED and path.startswith("running/") and layout.name_of(path) not in made:
                self.faults.append(f"{name}: {path} runs, and is no task")
        if (Kind.DELETED, "running") in changes:
            self._end(name, flow)

    def _take(self, name: str, flow: _Flow, kind: Kind, path: str) -> None:
        match kind, path.split("/"):
            case Kind.CREATED, ["steps", entry]:
                flow.waiting.add(entry)
            case Kind.CREATED, ["steps", entry, parent]:
                flow.edges.add(f"{entry}/{parent}")
            case Kind.DELETED, ["steps", entry, parent]:
                flow.edges.discard(f"{entry}/{parent}")
                if parent not in flow.results:
                    self.faults.append(f"{name}: {entry} no longer waits for {parent}, which is not done")
            case Kind.DELETED, ["steps", entry]:
                flow.waiting.discard(entry)
                left = [edge for edge in flow.edges if edge.startswith(f"{entry}/")]
                parent, is_follower, _ = entry.rpartition(":")
                if left or (is_follower and parent not in flow.results):
                    self.faults.append(f"{name}: {entry} started too early")
            case Kind.CREATED, ["running", task]:
                if task in flow.started:
                    self.faults.append(f"{name}: {task} started twice")
                flow.started.add(task)
                flow.running.add(task)
            case Kind.DELETED, ["running", task]:
                flow.running.discard(task)
            case Kind.CREATED, ["results", step]:
                flow.results.add(step)
            case Kind.CREATED, ["failed", step]:
                self.faults.append(f"{name}: step {step} failed")

    def _end(self, name: str, flow: _Flow) -> None:
        if flow.running or flow.waiting:
            left = sorted({*flow.running, *map(step_of, flow.waiting)})
            self.faults.append(f"{name} has ended without {', '.join(left[:3])}")
        self.ended += 1
        del self._flows[name]


def _is_task(change: Change) -> bool:
    return f"{layout.TASKS}/" in change.path
