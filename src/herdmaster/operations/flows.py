"""Operations of people on flows: cancel, retry, remove. Each is one or several transactions of the table, decided anew
where another change came first and where a reply was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core import flow_moves, layout
from herdmaster.core.each_items import decode_items
from herdmaster.core.flow_graph import OPTIONAL
from herdmaster.core.flow_moves import RetriedStep
from herdmaster.core.flows import FlowHeader, FlowState, decode_header, encode_header, task_of
from herdmaster.core.outcome import decode_outcome
from herdmaster.core.payload import decode_call, for_next_run, with_start_of_step
from herdmaster.errors import BadPayload, HerdError
from herdmaster.inspection.flow_names import group_of, sort_key
from herdmaster.inspection.flow_records import read_records
from herdmaster.inspection.flows import UNENDED, NoSuchFlow
from herdmaster.inspection.reading import names_of
from herdmaster.operations.committing import commit
from herdmaster.roles.shared import flow_removal
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

_MAX_TRIES: Final = 20
_MAX_BYTES: Final = MAX_BATCH_BYTES * 3 // 4
_BYTES_BESIDE_PAYLOAD: Final = 800
"""Of the five paths of a step that is retried."""
_MAX_STEPS: Final = 100
_LOOK_SECONDS: Final = 1.0
"""For one look at a flow by a person who does not want to wait."""
_STOPPED: Final = frozenset({FlowState.CANCELLED, FlowState.EXPIRED})


class NothingToRetry(HerdError):
    """No step of the flow has failed, or none of those that were named."""

    def __init__(self, flow: str, state: FlowState, only: Collection[str]) -> None:
        what = f"none of {', '.join(sorted(only))} has failed" if only else "no step has failed"
        super().__init__(f"{flow} is {state.value}, and {what}: `herd flows tree {flow}` shows its steps")


class FlowNotEnded(HerdError):
    """The flow cannot be removed while it runs."""

    def __init__(self, flow: str, state: FlowState) -> None:
        if state is FlowState.BUILDING:
            what = "is still being built: give --force if the program that submits it is gone"
        else:
            what = f"is {state.value}: cancel it first, or give --force"
        super().__init__(f"{flow} {what}")


class _Stored(msgspec.Struct, frozen=True):
    """A header as it was read."""

    header: FlowHeader
    version: int
    has_status: bool
    has_cancel: bool


class BadHeader(HerdError):
    """The header of the flow cannot be read."""

    def __init__(self, flow: str, why: str) -> None:
        super().__init__(f"{flow}: {why}. `herd flows remove --force {flow}` deletes it")


# --- cancel ----------------------------------------------------------------------------------------------------------


async def cancel_flow(client: Client, flow: str) -> FlowState | None:
    """Ask the primary to cancel a flow. Return the state in which it had ended before, None if the request stands.
    Raises NoSuchFlow, HerdError while the flow is being built, and the errors of ZooKeeper, as all of these do."""
    move = flow_moves.cancel_flow(flow)
    for _ in range(_MAX_TRIES):
        stored = await _read(client, flow)
        state = stored.header.state
        if state is FlowState.BUILDING:
            raise HerdError(
                f"{flow} is still being built: cancel it when its program has submitted all of it. If that program is "
                "gone, `herd flows remove --force` deletes it, and else a master after an hour"
            )
        if state is not FlowState.RUNNING:
            return state
        if stored.has_cancel or await commit(client, [move]):
            return None
    raise _uncertain(flow)


async def wait_for_end(client: Client, flow: str, patience: float | None) -> FlowState | None:
    """Wait until the flow has ended, and return how; None if it has not within `patience` seconds. Looks at least
    once. Raises NoSuchFlow."""
    try:
        if patience is not None and patience <= 0:
            patience = _LOOK_SECONDS
        async with asyncio.timeout(patience):
            while True:
                changed = asyncio.Event()

                def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
                    changed.set()

                try:
                    data, _ = await client.get(layout.flow_path(flow), handle)
                except errors.NoNode:
                    raise NoSuchFlow(flow) from None
                state = decode_header(data).state
                if state not in UNENDED:
                    return state
                await wait_unless_over(client, changed)
    except TimeoutError:
        return None


# --- retry -----------------------------------------------------------------------------------------------------------


async def retry_flow(client: Client, flow: str, only: Collection[str] = (), now_ms: int | None = None) -> int:
    """Run the steps of a flow that failed again, each once, and return how many. `only` has the ids or names of those
    that are wanted; that of an `each` stands for its items as well.

    A flow that has ended is opened again. One that was cancelled or has expired goes on even if nothing failed. What
    `once` saved and the results of other steps are used. Raises NoSuchFlow, NothingToRetry, and HerdError for a flow
    that is being built or removed.
    """
    retry = _Retry(client, flow, frozenset(only), time.time_ns() // 1_000_000 if now_ms is None else now_ms)
    for _ in range(_MAX_TRIES):
        if await retry.go_on():
            return len(retry.tasks)
    raise _uncertain(flow)


class _Retry:
    """A request to retry, which is carried out once although parts of it are sent again. `tasks` are the names of the
    tasks that it makes, by step."""

    def __init__(self, client: Client, flow: str, only: frozenset[str], now_ms: int) -> None:
        self._client = client
        self._flow = flow
        self._only = only
        self._now_ms = now_ms
        self._retries = 0
        self._is_sent = False
        self.tasks: dict[str, str] = {}

    async def go_on(self) -> bool:
        """Return whether nothing is left to do. Raises as `retry_flow`."""
        stored = await _read(self._client, self._flow)
        _refuse_unfit(self._flow, stored)
        self._retries = self._retries or stored.header.retries + 1
        async for batch in self._batches():
            self.tasks.update((each.step, each.task) for each in batch)
            if not await self._commit(stored, batch):
                return False
            stored = await _read(self._client, self._flow)
        if self.tasks or self._is_sent:
            return True
        if stored.header.state not in _STOPPED or self._only or not (stored.has_cancel or stored.has_status):
            raise NothingToRetry(self._flow, stored.header.state, self._only)
        return await self._commit(stored, [])

    async def _commit(self, stored: _Stored, batch: Sequence[RetriedStep]) -> bool:
        retries = max(self._retries, stored.header.retries)
        header = encode_header(
            msgspec.structs.replace(stored.header, state=FlowState.RUNNING, retries=retries, ended=None, error=None)
        )
        if stored.header.state is FlowState.RUNNING:
            move = flow_moves.retry_step(self._flow, stored.version, header, batch)
        else:
            move = flow_moves.reopen_flow(
                self._flow, stored.version, header, batch, has_status=stored.has_status, has_cancel=stored.has_cancel
            )
        result = await commit(self._client, [move])
        self._is_sent = self._is_sent or result is not False
        return result is True

    async def _batches(self) -> AsyncIterator[list[RetriedStep]]:
        """Yield the failed steps that are wanted, as many at a time as fit a transaction."""
        batch: list[RetriedStep] = []
        size = 0
        async for each in self._failed():
            own = len(each.data) + _BYTES_BESIDE_PAYLOAD
            if batch and (size + own > _MAX_BYTES or len(batch) >= _MAX_STEPS):
                yield batch
                batch, size = [], 0
            batch.append(each)
            size += own
        if batch:
            yield batch

    async def _failed(self) -> AsyncIterator[RetriedStep]:
        folders = (layout.flow_failed_path(self._flow), layout.flow_results_path(self._flow))
        failed, done = map(names_of, await self._client.multi_children(folders))
        results = frozenset(done)
        paths = [layout.flow_failed_path(self._flow, step) for step in sorted(failed, key=sort_key)]
        async for path, (data, _) in read_records(self._client, paths):
            step = layout.name_of(path)
            items = await self._read_items(data or b"", results)
            each = _retried(step, data or b"", results, items, only=self._only, now_ms=self._now_ms)
            if each is not None and self.tasks.get(step, each.task) == each.task:
                yield each

    async def _read_items(self, data: bytes, results: Collection[str]) -> dict[str, list[str]]:
        """Return the items of each `each` that was missing when the step started, and was made since."""
        try:
            call = decode_call(data)
        except BadPayload:
            return {}
        refs = () if call.flow is None else call.flow.refs
        made = sorted({ref.step for ref in refs if ref.each and ref.step in call.missing and ref.step in results})
        paths = [layout.flow_result_path(self._flow, step) for step in made]
        nodes = await self._client.multi_read(paths) if paths else []
        return {
            step: _items_in(step, node[0] or b"")
            for step, node in zip(made, nodes, strict=True)
            if isinstance(node, tuple)
        }


def _items_in(step: str, result: bytes) -> list[str]:
    """Return the items of an `each` by its result. Raises HerdError."""
    outcome = decode_outcome(step, result)
    return decode_items(step, outcome.result or b"").ids(step)


def _retried(
    step: str,
    data: bytes,
    results: Collection[str],
    items: Mapping[str, Sequence[str]],
    *,
    only: Collection[str],
    now_ms: int,
) -> RetriedStep | None:
    """Return the next run of a failed step; None if it is not wanted, or no step at all. A parent that was missing is
    still, unless it is done by now; of an `each` that was made since, those of its `items` are that are not done.
    Raises HerdError."""
    try:
        call = decode_call(data)
        flow = call.flow
        if flow is None:
            return None
        if only and not {step, group_of(step), flow.name} & set(only):
            return None
        parents = (each for parent in call.missing for each in (parent, *items.get(parent, ())))
        missing = tuple(dict.fromkeys(parent for parent in parents if parent not in results))
        fresh = with_start_of_step(for_next_run(data), now_ms, missing)
        return RetriedStep(step, task_of(flow, call.run + 1), fresh, OPTIONAL if call.missing else "")
    except BadPayload as error:
        raise HerdError(f"step {step} cannot be retried: {error}") from None


def _refuse_unfit(flow: str, stored: _Stored) -> None:
    state = stored.header.state
    if state is FlowState.RUNNING and stored.has_cancel:
        raise HerdError(f"{flow} is about to be cancelled: retry it when it has ended")
    if state is FlowState.BUILDING:
        raise HerdError(f"{flow} is still being built: retry it when its program has submitted all of it")
    if state is FlowState.REMOVED:
        raise HerdError(f"{flow} is being removed, and cannot be retried any more")


# --- remove ----------------------------------------------------------------------------------------------------------


async def check_removal(client: Client, flow: str, *, is_forced: bool) -> FlowState:
    """Return the state of a flow that may be removed. Raises NoSuchFlow; and FlowNotEnded, and BadHeader for one that
    cannot be read, unless it `is_forced`."""
    try:
        state = (await _read(client, flow)).header.state
    except BadHeader:
        if not is_forced:
            raise
        return FlowState.REMOVED
    if state in UNENDED and not is_forced:
        raise FlowNotEnded(flow, state)
    return state


async def remove_flow(client: Client, flow: str, force_within: float | None = None) -> None:
    """Delete a flow that has ended, with its results and its outcome. With `force_within` (seconds) one that runs is
    cancelled first, and one that is being built is deleted. Raises NoSuchFlow, FlowNotEnded, and HerdError if no
    primary ends the flow in that time, or if it is retried again and again."""
    state = await check_removal(client, flow, is_forced=force_within is not None)
    if state is FlowState.RUNNING:
        await cancel_flow(client, flow)
        if await wait_for_end(client, flow, force_within) is None:
            raise HerdError(f"{flow} has not ended within {force_within:g} s; the request to cancel it stands")
    try:
        is_removed = await flow_removal.remove_flow(client, flow)
    except errors.NoAuth:
        # In a closed namespace only masters delete results. They delete what is marked as removed.
        is_removed = (await _read(client, flow)).header.state is FlowState.REMOVED
        if not is_removed:
            raise
    if not is_removed:
        raise HerdError(f"{flow} runs again: it was retried meanwhile")


# --- all -------------------------------------------------------------------------------------------------------------


async def _read(client: Client, flow: str) -> _Stored:
    await client.sync()
    paths = (layout.flow_path(flow), layout.status_path(flow), layout.flow_cancel_path(flow))
    own, status, cancel = await client.multi_read(paths)
    if isinstance(own, errors.NoNode):
        raise NoSuchFlow(flow)
    if isinstance(own, errors.ServerError):
        raise own
    data, stat = own
    try:
        header = decode_header(data)
    except BadPayload as error:
        raise BadHeader(flow, str(error)) from None
    return _Stored(header, stat.version, isinstance(status, tuple), isinstance(cancel, tuple))


def _uncertain(flow: str) -> HerdError:
    return HerdError(f"{flow}: no certain answer after {_MAX_TRIES} tries; `herd flows show {flow}` tells")
