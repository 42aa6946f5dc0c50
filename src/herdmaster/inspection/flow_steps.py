"""Reads the steps of one flow: names first, then only as many records as people look at, many in one request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.each_items import decode_items
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import StepNote, parents_of
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.core.payload import Call, decode_call
from herdmaster.errors import BadOutcome, BadPayload, TaskCancelled, TaskExpired
from herdmaster.inspection.flow_names import (
    FlowNames,
    When,
    adder_of,
    group_of,
    grouped,
    parse_entry,
    sort_key,
    step_in,
    weightiest,
    when_of,
)  # fmt: skip
from herdmaster.inspection.flow_records import read_records
from herdmaster.inspection.flow_seen import StepInfo, StepState
from herdmaster.inspection.reading import names_of
from herdmaster.inspection.tasks import Inspector, TaskDetails
from herdmaster.zookeeper.client import Client

_FOLDERS_AT_ONCE: Final = 50
_MARKS_AT_ONCE: Final = 500
_MAX_ERRORS: Final = 10
_MOST_OF_EACH: Final = 40
"""Bytes of the result of an `each`."""
_ENDS: Final = {TaskCancelled.__name__: StepState.CANCELLED, TaskExpired.__name__: StepState.EXPIRED}


async def read_names(client: Client, flow: str) -> FlowNames:
    """Read the names below a flow. Folders that are absent are empty. Raises the errors of ZooKeeper."""
    running, steps, done, failed = map(
        names_of,
        await client.multi_children((
            layout.flow_running_path(flow), layout.flow_steps_path(flow),
            layout.flow_results_path(flow), layout.flow_failed_path(flow),
        )),
    )  # fmt: skip
    entries = tuple(parse_entry(name) for name in steps)
    edges: dict[str, tuple[str, ...]] = {}
    joins = [entry.name for entry in entries if entry.parent is None]
    for start in range(0, len(joins), _FOLDERS_AT_ONCE):
        some = joins[start : start + _FOLDERS_AT_ONCE]
        listings = await client.multi_children(layout.flow_step_path(flow, name) for name in some)
        edges.update((name, names_of(listing)) for name, listing in zip(some, listings, strict=True))
    live: dict[str, str] = {}
    for start in range(0, len(running), _MARKS_AT_ONCE):
        tasks = running[start : start + _MARKS_AT_ONCE]
        marks = await client.multi_read(layout.flow_running_path(flow, task) for task in tasks)
        live.update(
            (task, step_in(mark[0])) for task, mark in zip(tasks, marks, strict=True) if isinstance(mark, tuple)
        )
    return FlowNames(live, entries, edges, frozenset(done), frozenset(failed))


async def read_steps(client: Client, flow: str, names: FlowNames, *, has_ended: bool) -> tuple[StepInfo, ...]:
    """Return all steps by id; items of an `each` are counted, and not returned. Raises as `read_names`."""
    reader = _StepReader(client, flow, names, has_ended=has_ended)
    await reader.read()
    return reader.steps()


class _Group:
    """What is shown as one step: a step, or an `each` with its items."""

    def __init__(self) -> None:
        self.own: StepInfo | None = None
        self.items: Counter[StepState] = Counter()
        self.errors: dict[str, ErrorInfo] = {}
        self.example: StepInfo | None = None  # an item, where there is no step of its own
        self.chunked: int | None = None

    def info(self, ident: str) -> StepInfo:
        own = self.own or self.example or StepInfo(ident, "", StepState.DONE)
        adder = None if own.parents else adder_of(ident)
        if adder is not None:
            own = msgspec.structs.replace(own, parents=(adder,))
        if not self.items:
            return own
        states = Counter(self.items)
        if self.own is not None and (own.state is not StepState.DONE):
            states[own.state] += 1  # it is about to make more items, or could not make them all
        if self.own is None:
            own = StepInfo(ident, own.name, own.state, grouped(own.parents), when=own.when)
        return msgspec.structs.replace(
            own, state=weightiest(states), items=dict(self.items), errors=self.errors, chunked=self.chunked
        )


class _StepReader:
    def __init__(self, client: Client, flow: str, names: FlowNames, *, has_ended: bool) -> None:
        self._client = client
        self._flow = flow
        self._names = names
        self._waiting = names.waiting_states(has_ended=has_ended)
        self._groups: dict[str, _Group] = {}

    def steps(self) -> tuple[StepInfo, ...]:
        return tuple(self._groups[ident].info(ident) for ident in sorted(self._groups, key=sort_key))

    async def read(self) -> None:
        await self._read_waiting()
        await self._read_live()
        await self._read_failed()
        await self._read_done()

    async def _read_waiting(self) -> None:
        entries = {layout.flow_step_path(self._flow, entry.name): entry for entry in self._names.entries}
        async for path, (data, _) in read_records(self._client, list(entries)):
            entry = entries[path]
            missing = self._names.parents_of(entry)
            self._add(_info(
                entry.step, self._waiting[entry.step], _call(data),
                waits_for=grouped(missing), parents=missing, when=entry.when,
            ))  # fmt: skip

    async def _read_live(self) -> None:
        """Places are read after the marks, so a step that ends meanwhile is in neither place."""
        live = self._names.live
        shown = _shown(frozenset(live.values()))
        wanted = [task for task, step in live.items() if step in shown]
        found = {each.seen.name: each for each in await Inspector(self._client).look(list(live), wanted)}
        gone = [step for task, step in live.items() if task not in found]
        ended = await self._ended(gone) if gone else {}
        for task, step in live.items():
            if task in found:
                self._add(_live_info(step, found[task]))
            elif step not in ended:
                self._add(StepInfo(step, "", StepState.RUNNING, task=task))
        self._done = self._names.done | {step for step, state in ended.items() if state is StepState.DONE}
        self._failed = self._names.failed | {step for step, state in ended.items() if state is StepState.FAILED}

    async def _ended(self, steps: Sequence[str]) -> dict[str, StepState]:
        folders = (layout.flow_results_path(self._flow), layout.flow_failed_path(self._flow))
        done, failed = map(names_of, await self._client.multi_children(folders))
        wanted = frozenset(steps)
        return dict.fromkeys(wanted & set(failed), StepState.FAILED) | dict.fromkeys(wanted & set(done), StepState.DONE)

    async def _read_failed(self) -> None:
        shown = _shown(self._failed)
        paths = {layout.flow_failed_path(self._flow, step): step for step in sorted(shown, key=sort_key)}
        unread = {group_of(step) for step in self._failed - shown}
        async for path, (data, stat) in read_records(self._client, list(paths)):
            call = _call(data)
            error = call.error if call is not None and call.error is not None else ErrorInfo("unknown")
            # Where some items are not read, all count as failed: otherwise most of a cancelled `each` would differ.
            is_among_unread = group_of(paths[path]) in unread
            state = StepState.FAILED if is_among_unread else _ENDS.get(error.type, StepState.FAILED)
            self._add(_info(paths[path], state, call, error=error, ended=stat.ctime))
        self._count(self._failed - shown, StepState.FAILED)

    async def _read_done(self) -> None:
        shown = {step for step in self._done if group_of(step) == step}
        paths = {layout.flow_result_path(self._flow, step): step for step in sorted(shown, key=sort_key)}
        async for path, (data, stat) in read_records(self._client, list(paths)):
            info, outcome = _done_info(paths[path], data, stat.ctime)
            self._add(info)
            if outcome is not None and outcome.result is not None and len(outcome.result) < _MOST_OF_EACH:
                self._groups[info.id].chunked = _chunked(info.id, outcome.result)
        self._count(self._done - shown, StepState.DONE)

    def _add(self, info: StepInfo) -> None:
        ident = group_of(info.id)
        group = self._groups.setdefault(ident, _Group())
        if ident == info.id:
            group.own = info
            return
        group.items[info.state] += 1
        group.example = group.example or info
        if info.error is not None and len(group.errors) < _MAX_ERRORS:
            group.errors[info.id] = info.error

    def _count(self, items: Iterable[str], state: StepState) -> None:
        for step in items:
            group = self._groups.setdefault(group_of(step), _Group())
            group.items[state] += 1


def _shown(steps: Collection[str]) -> set[str]:
    """Return the steps whose records are read: all that are no items, and some items of each group."""
    counts: Counter[str] = Counter()
    shown: set[str] = set()
    for step in sorted(steps, key=sort_key):
        group = group_of(step)
        counts[group] += group != step
        if counts[group] <= _MAX_ERRORS:
            shown.add(step)
    return shown


def _call(data: bytes | None) -> Call | None:
    try:
        return decode_call(data or b"")
    except BadPayload:
        return None


def _info(
    step: str,
    state: StepState,
    call: Call | None,
    *,
    parents: Sequence[str] = (),
    waits_for: tuple[str, ...] = (),
    when: When = "",
    error: ErrorInfo | None = None,
    ended: int | None = None,
) -> StepInfo:
    """Return what a payload says of a step."""
    flow = None if call is None else call.flow
    name, known = ("", ()) if flow is None else (flow.name, parents_of(flow))
    run = 0 if call is None else call.run
    attempt = 1 if call is None else call.attempt
    every = grouped((*known, *parents))
    when = when or ("" if flow is None else when_of(flow.mark))
    return StepInfo(
        step, name, state, every, waits_for, when, run=run, attempt=attempt, error=error, ended=ended
    )  # fmt: skip


def _live_info(step: str, found: TaskDetails) -> StepInfo:
    seen = found.seen
    info = _info(step, StepState(seen.state.value), found.call)
    began = seen.progress.since if seen.progress is not None else None
    return msgspec.structs.replace(
        info, task=seen.name, worker=seen.worker, due=seen.due, began=began,
        error=None if found.call is None else found.call.error,
    )  # fmt: skip


def _done_info(step: str, data: bytes | None, ended: int) -> tuple[StepInfo, Outcome | None]:
    try:
        outcome = decode_outcome(step, data or b"")
    except BadOutcome as error:
        return StepInfo(step, "", StepState.DONE, ended=ended, error=ErrorInfo(type(error).__name__, str(error))), None
    note = outcome.step or StepNote("")
    info = StepInfo(
        step, note.name, StepState.DONE, grouped(note.after), when=when_of(note.mark), worker=outcome.worker,
        attempt=outcome.attempt, began=outcome.started, ended=outcome.ended or ended,
    )  # fmt: skip
    return info, outcome


def _chunked(step: str, result: msgspec.Raw) -> int | None:
    """Return how many items are in chunks by the result of an `each`; of another step it means nothing."""
    try:
        items = decode_items(step, result)
    except BadOutcome:
        return None
    return items.count if items.chunk else None
