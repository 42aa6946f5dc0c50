"""Finds and lists single tasks: the state of each, what it calls, and its outcome.

Places are read in the order in which a task moves, so a task that moves meanwhile is seen late rather than not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.names import is_call, parse_task_name, parse_worker_name, ulid_time_ms
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.core.payload import Call, decode_call
from herdmaster.core.progress import TaskProgress, decode_progress
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadOutcome, BadPayload, ConfigurationError
from herdmaster.inspection.payloads import is_big, read_payloads
from herdmaster.inspection.processes import ProcessSeen
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.inspection.task_seen import UNENDED, TaskFilter, TaskSeen, TaskState
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 50
_FEW: Final = 20
"""So many tasks are looked for one by one; for more, the folders are listed."""
_LOOKS: Final = 3
"""One look can miss a task that moves between two places."""


class TaskDetails(msgspec.Struct, frozen=True):
    """A task with the contents of its payload and outcome, as far as they can be read; `fault` says why not. `process`
    is the worker's, where a caller has looked for it."""

    seen: TaskSeen
    call: Call | None = None
    outcome: Outcome | None = None
    raw: bytes | None = None
    fault: str | None = None
    process: ProcessSeen | None = None


class _Found(msgspec.Struct):
    """A task and the place where it was found; `state` is only roughly known for one that has ended."""

    name: str
    state: TaskState
    path: str
    due: int | None = None
    worker: str | None = None


class Inspector:
    """Looks over a session of the caller. What cannot be read is left out, and is added to `unreadable`."""

    def __init__(self, client: Client, unreadable: Unreadable | None = None) -> None:
        self._client = client
        self._reader = ListingReader(client, unreadable)

    async def list_tasks(self, only: TaskFilter) -> AsyncIterator[TaskSeen]:
        """Yield the tasks that the filter takes, oldest first. The calls of big payloads are read only for a filter
        that needs them. Raises ConfigurationError if the namespace does not exist, SessionExpired."""
        await self._client.sync()
        found = await self._places(only.states)
        running = await self._running()
        wanted = [each for each in found.values() if only.takes_name(each.name)]
        if only.flow is not None:
            steps = frozenset(await self._reader.names(layout.flow_running_path(only.flow)))
            wanted = [each for each in wanted if each.name in steps]
        wanted.sort(key=lambda each: (ulid_time_ms(each.name) or 0, each.name))
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            for seen in await self._see(some, running, await self._calls(some, with_big=only.needs_payloads)):
                if only.takes(seen):
                    yield seen

    async def names(self, states: frozenset[TaskState], queue: str) -> list[str]:
        """Return the names of the tasks of a queue in places for these states, oldest first. Reads no payloads. Raises
        as `list_tasks`."""
        await self._client.sync()
        only = TaskFilter(queue=queue)
        return sorted(name for name in await self._places(states) if only.takes_name(name))

    async def find(self, task: str) -> TaskDetails | None:
        """Return a task, None if it is nowhere. Raises as `list_tasks`."""
        await self._client.sync()
        for _ in range(_LOOKS):
            found = (await self._places(frozenset(TaskState), (task,))).get(task)
            if found is None:
                continue
            calls = await self._calls([found], with_big=True)
            (seen,) = await self._see([found], await self._running(), calls) or (None,)
            if seen is not None:
                return await self._details(found, seen)
        return None

    async def look(self, tasks: Sequence[str], with_call: Collection[str]) -> list[TaskDetails]:
        """Return those of the tasks that have not ended, some of them with their call. Raises as `list_tasks`."""
        found = await self._places(UNENDED, tasks if len(tasks) <= _FEW else ())
        some = [found[task] for task in tasks if task in found]
        wanted = frozenset(with_call)
        calls = await self._calls([each for each in some if each.name in wanted], with_big=True)
        seen = await self._see(some, await self._running(), calls)
        return [TaskDetails(each, calls.get(each.name)) for each in seen]

    # --- where they are ----------------------------------------------------------------------------------------------

    async def _places(self, states: frozenset[TaskState], only: Sequence[str] = ()) -> dict[str, _Found]:
        """Return the place of each task. With `only` each folder is asked for these tasks alone, if their paths follow
        from their names."""
        found: dict[str, _Found] = {}
        if await self._client.exists("/") is None:
            raise ConfigurationError(f"the namespace in {self._client.hosts} does not exist: check the connect string")
        if TaskState.DELAYED in states:
            for name in await self._reader.names(layout.DELAYED):
                delayed = layout.parse_delayed_name(name)
                if delayed is not None and (not only or delayed[1] in only):
                    path = f"{layout.DELAYED}/{name}"
                    found[delayed[1]] = _Found(delayed[1], TaskState.DELAYED, path, due=delayed[0])
        if TaskState.PENDING in states:
            await self._look_in(layout.TASKS, TaskState.PENDING, found, only)
        if states & {TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RECOVERING}:
            alive = set(await self._reader.names(layout.WORKERS))
            for worker in await self._reader.names(layout.ASSIGN):
                if parse_worker_name(worker) is not None:
                    state = TaskState.ASSIGNED if worker in alive else TaskState.RECOVERING
                    await self._look_in(layout.inbox_path(worker), state, found, only, worker)
        if states - UNENDED - {TaskState.DEAD}:
            await self._look_in(layout.STATUS, TaskState.ENDED, found, only)
        if TaskState.DEAD in states:
            await self._look_in(layout.DEAD, TaskState.DEAD, found, only)
        return found

    async def _look_in(
        self, folder: str, state: TaskState, found: dict[str, _Found], only: Sequence[str], worker: str | None = None
    ) -> None:
        if only:
            stats = await self._reader.stats([f"{folder}/{name}" for name in only])
            names: Iterable[str] = [name for name, stat in zip(only, stats, strict=True) if stat is not None]
        else:
            names = await self._reader.names(folder)
        for name in names:
            if parse_task_name(name) is not None:
                found[name] = _Found(name, state, f"{folder}/{name}", worker=worker)

    async def _running(self) -> dict[str, tuple[str, TaskProgress]]:
        """Return what workers report as running."""
        running: dict[str, tuple[str, TaskProgress]] = {}
        workers = [name for name in await self._reader.names(layout.PROGRESS) if parse_worker_name(name) is not None]
        nodes = await self._reader.nodes([layout.progress_path(worker) for worker in workers])
        for path, (data, _) in nodes.items():
            running.update((each.task, (layout.name_of(path), each)) for each in decode_progress(data).tasks)
        return running

    # --- what they are -----------------------------------------------------------------------------------------------

    async def _calls(self, some: list[_Found], *, with_big: bool) -> dict[str, Call]:
        """Return the calls of those tasks that have one and have not ended, as far as they can be read."""
        wanted = [each for each in some if each.state is not TaskState.ENDED and is_call(each.name)]
        if not with_big:
            wanted = [each for each in wanted if not is_big(each.name)]
        records = await read_payloads(self._client, [(each.name, each.path) for each in wanted])
        calls: dict[str, Call] = {}
        for name, data in records.items():
            with contextlib.suppress(BadPayload, *UNREADABLE):
                calls[name] = decode_call(data)
        return calls

    async def _see(
        self, some: list[_Found], running: dict[str, tuple[str, TaskProgress]], calls: Mapping[str, Call]
    ) -> list[TaskSeen]:
        """Return those of the tasks that still exist."""
        times = await self._times(some)
        ended = [each for each in some if each.state is TaskState.ENDED]
        outcomes = dict(zip((each.name for each in ended), await self._read(ended, _outcome), strict=True))
        seen: list[TaskSeen] = []
        for each in some:
            if each.name not in times or (each.name in outcomes and outcomes[each.name] is None):
                continue
            state, progress = each.state, None
            outcome = outcomes.get(each.name)
            if isinstance(outcome, Outcome):
                state = TaskState(outcome.state.value)
            elif state is TaskState.ASSIGNED and running.get(each.name, ("",))[0] == each.worker:
                state, progress = TaskState.RUNNING, running[each.name][1]
            here = TaskSeen(each.name, state, *_queue(each.name), times[each.name], each.due, each.worker, progress)
            seen.append(_with_content(here, calls.get(each.name), outcome if isinstance(outcome, Outcome) else None))
        return seen

    async def _times(self, some: list[_Found]) -> dict[str, int | None]:
        """Return when each task was submitted, without those that are gone; None if that cannot be read."""
        times: dict[str, int | None] = {each.name: ulid_time_ms(each.name) for each in some}
        raw = [each for each in some if times[each.name] is None]
        for each, stat in zip(raw, await self._reader.stats([each.path for each in raw]), strict=True):
            if stat is None:
                del times[each.name]
            elif isinstance(stat, Stat):
                times[each.name] = stat.ctime
        return times

    async def _read(
        self, some: list[_Found], decode: Callable[[str, bytes], Outcome | BadOutcome]
    ) -> list[Outcome | BadOutcome | None]:
        """Read and decode one record per task; None for a task that is gone."""
        records = await self._client.multi_read([each.path for each in some]) if some else []
        return [
            decode(each.name, record[0] or b"") if isinstance(record, tuple) else _why(record)
            for each, record in zip(some, records, strict=True)
        ]

    async def _details(self, found: _Found, seen: TaskSeen) -> TaskDetails:
        paths = [found.path, layout.status_path(found.name)]
        record, status_record = await self._client.multi_read(paths)
        data, status = _data(record), _data(status_record)
        outcome: Outcome | None = None
        if status is not None:
            decoded = _outcome(found.name, status)
            if isinstance(decoded, BadOutcome):
                return TaskDetails(seen, raw=status, fault=str(decoded))
            outcome = decoded
        if found.state is TaskState.ENDED or data is None:
            why = _why(record) if isinstance(record, errors.ServerError) else None
            return TaskDetails(seen, outcome=outcome, fault=None if why is None else str(why))
        if not is_call(found.name):
            return TaskDetails(seen, outcome=outcome, raw=data)
        try:
            return TaskDetails(seen, decode_call(data), outcome)
        except BadPayload as error:
            return TaskDetails(seen, outcome=outcome, raw=data, fault=str(error))


async def find_task(name: str, client: Client) -> TaskSeen | None:
    """Return a task, None if it is nowhere. Raises as `Inspector.list_tasks`."""
    details = await Inspector(client).find(name)
    return None if details is None else details.seen


def _with_content(seen: TaskSeen, call: Call | None, outcome: Outcome | None) -> TaskSeen:
    """Add what the payload or the outcome says."""
    if outcome is not None:
        error = outcome.error.type if outcome.error is not None else None
        return msgspec.structs.replace(
            seen, worker=outcome.worker, error=error, began=outcome.started, ended=outcome.ended
        )
    error = call.error.type if call is not None and call.error is not None else None
    name = call.call if call is not None else seen.progress.call if seen.progress is not None else None
    return msgspec.structs.replace(
        seen, call=name, error=error, began=seen.progress.since if seen.progress is not None else None
    )


def _queue(name: str) -> tuple[str, int]:
    parsed = parse_task_name(name)
    assert parsed is not None
    return parsed.queue, parsed.priority


def _outcome(name: str, data: bytes) -> Outcome | BadOutcome:
    try:
        return decode_outcome(name, data)
    except BadOutcome as error:
        return error


def _why(error: errors.ServerError) -> BadOutcome | None:
    return None if isinstance(error, errors.NoNode) else BadOutcome(f"it cannot be read: {error}")


def _data(record: tuple[bytes | None, Stat] | errors.ServerError) -> bytes | None:
    return (record[0] or b"") if isinstance(record, tuple) else None
