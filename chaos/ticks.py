"""Judges schedules by the transactions that ZooKeeper has logged: each time has one task, not before its time."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.transactions import Change, Kind, Transaction
from herdmaster.core import layout
from herdmaster.core.layout import TickName, parse_tick_name
from herdmaster.core.names import ulid_time_ms


class Made(msgspec.Struct, frozen=True):
    """A task that a schedule made for a time, at another time, both in unix milliseconds."""

    due_ms: int
    at_ms: int
    task: str


class TickJudge:
    """Reads transactions in their order. `faults` are texts, empty if all is well."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace
        self._ticks: dict[tuple[str, str], TickName] = {}  # by schedule and its id
        self._seen: set[tuple[str, str, int]] = set()
        self.made: dict[str, list[Made]] = {}
        self.faults: list[str] = []

    def read(self, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            if not transaction.is_doubtful:
                self._read(transaction)

    def _read(self, transaction: Transaction) -> None:
        consumed: TickName | None = None
        for change in transaction.changes:
            path = change.path.removeprefix(self._namespace)
            if path.startswith(f"{layout.TICKS}/"):
                tick = parse_tick_name(layout.name_of(path))
                if tick is None:
                    self.faults.append(f"{path} is no tick")
                else:
                    consumed = self._take_tick(change, tick)
            elif path.startswith(f"{layout.TASKS}/") and change.kind is Kind.CREATED and consumed is not None:
                self._take_task(consumed, layout.name_of(path), transaction.at)
        self._count_ticks(transaction)

    def _take_tick(self, change: Change, tick: TickName) -> TickName | None:
        """Return the tick that the tasks that follow are of."""
        key = tick.schedule, tick.id
        if change.kind is Kind.DELETED:
            if self._ticks.pop(key, None) != tick:
                self.faults.append(f"{tick} was not the tick of its schedule")
            return tick
        if key in self._ticks:
            self.faults.append(f"{tick.schedule} has two ticks: {self._ticks[key]} and {tick}")
        self._ticks[key] = tick
        return None

    def _take_task(self, tick: TickName, task: str, at_ms: int) -> None:
        due_ms = ulid_time_ms(task)
        if due_ms is None:
            self.faults.append(f"{task} of {tick.schedule} has no time in its name")
            return
        if (tick.schedule, tick.id, due_ms) in self._seen:
            self.faults.append(f"{tick.schedule} made two tasks for {due_ms}")
        if at_ms < due_ms:
            self.faults.append(f"{tick.schedule} made the task for {due_ms} early, at {at_ms}")
        self._seen.add((tick.schedule, tick.id, due_ms))
        self.made.setdefault(tick.schedule, []).append(Made(due_ms, at_ms, task))

    def _count_ticks(self, transaction: Transaction) -> None:
        """Every schedule has a tick after each transaction."""
        for change in transaction.changes:
            path = change.path.removeprefix(self._namespace)
            if change.kind is not Kind.DELETED or not path.startswith(f"{layout.TICKS}/"):
                continue
            tick = parse_tick_name(layout.name_of(path))
            if tick is None or (tick.schedule, tick.id) in self._ticks:
                continue
            schedule = f"{self._namespace}{layout.schedule_path(tick.schedule)}"
            if not any(each.kind is Kind.DELETED and each.path == schedule for each in transaction.changes):
                self.faults.append(f"{tick.schedule} has lost its tick {tick}")
