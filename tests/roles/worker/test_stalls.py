"""Workers whose slots all wait for tasks that wait for a slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.progress import decode_progress
from herdmaster.roles.worker import progress_writer, stalls
from herdmaster.roles.worker.stalls import Stalls
from herdmaster.running import child
from herdmaster.running.current import running_now
from herdmaster.running.delivery import Delivered
from tests.roles.stage import Stage, StagedWorker, call_payload, new_call_name, until

FIRST, SECOND, AWAITED = (new_call_name() for _ in range(3))


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "PATIENCE", 0.0)


def waiting(name: str, *awaited: str) -> Delivered:
    task = Delivered(name, b"", 1)
    for each in awaited:
        task.begin_wait(each)
    return task


async def looked(stage: Stage, *tasks: Delivered) -> Stalls:
    found = Stalls(stage.zk, "worker-w", lambda: tasks)
    await found.look()  # which remembers what waits
    assert not found.is_stalled
    await found.look()
    return found


@pytest.mark.parametrize(
    "place", [layout.task_path(AWAITED), layout.assignment_path("worker-w", AWAITED)], ids=["waits", "here"]
)
async def test_tasks_that_wait_for_one_that_no_slot_is_left_for_are_told_of_once(
    stage: Stage, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.put(place)
    found = await looked(stage, waiting(FIRST, AWAITED))
    await found.look()

    assert found.is_stalled
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{FIRST} waits for {AWAITED}" in line
    assert "more slots" in line


@pytest.mark.parametrize(
    "places",
    [
        [],
        [layout.status_path(AWAITED)],
        [layout.assignment_path("worker-other", AWAITED)],
    ],
    ids=["nowhere", "ended", "elsewhere"],
)
async def test_nothing_is_told_while_what_is_waited_for_runs_elsewhere_or_has_ended(
    stage: Stage, places: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await stage.put(layout.task_path(SECOND), *places)
    found = await looked(stage, waiting(FIRST, AWAITED, SECOND))

    assert not found.is_stalled
    assert caplog.records == []


async def test_tasks_that_wait_for_each_other_in_the_slots_are_told_of(stage: Stage) -> None:
    """As a recursion does that is deeper than there are slots."""
    await stage.put(layout.assignment_path("worker-w", SECOND), layout.task_path(AWAITED))
    found = await looked(stage, waiting(FIRST, SECOND), waiting(SECOND, AWAITED))

    assert found.is_stalled


async def test_it_is_over_when_one_of_them_goes_on(stage: Stage) -> None:
    await stage.put(layout.task_path(AWAITED))
    task = waiting(FIRST, AWAITED)
    tasks = [task]
    found = Stalls(stage.zk, "worker-w", lambda: tasks)
    for _ in range(2):
        await found.look()
    assert found.is_stalled
    tasks.clear()
    await found.look()

    assert not found.is_stalled


async def test_where_a_task_is_is_asked_for_fifty_that_are_waited_for_at_most() -> None:
    asked: list[str] = []

    class Asked:
        def clock(self) -> float:
            return 0.0

        async def exists(self, path: str) -> object:
            asked.append(path)
            return object()

    client: Any = Asked()
    task = waiting(FIRST, *(new_call_name() for _ in range(60)))
    found = Stalls(client, "worker-w", lambda: [task])
    for _ in range(2):
        await found.look()

    assert found.is_stalled
    assert asked == [path for name in task.waits_for[:50] for path in (layout.task_path(name), _inbox(name))]


def _inbox(task: str) -> str:
    return layout.assignment_path("worker-w", task)


# --- a worker --------------------------------------------------------------------------------------------------------


async def begin(stage: Stage, worker: StagedWorker, *calls: tuple[str, str]) -> None:
    for name, function in calls:
        await stage.put(layout.assignment_path(worker.name, name), data=call_payload(function))


async def test_a_worker_shows_which_tasks_wait_and_that_nothing_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_LOOK_SECONDS", 0.05), ("_WRITE_SECONDS", 0.1), ("_SHOWN_AFTER_MS", 50)):
        monkeypatch.setattr(progress_writer, name, value)
    gate = stage.gate()

    def wait() -> None:
        running = running_now.get()
        running.begin_wait(AWAITED)
        gate("waits", b"")
        running.end_wait(AWAITED)

    worker = await stage.worker({"m:wait": wait, "m:work": lambda: gate("works", b"")}, slots=2)
    await stage.put(layout.task_path(AWAITED))
    await begin(stage, worker, (FIRST, "m:wait"), (SECOND, "m:work"))
    await until(_shows(stage, worker, {FIRST: (AWAITED,), SECOND: ()}, stalled=False), "who waits for whom")
    assert not await _shows(stage, worker, {}, stalled=True)()

    session = worker._session
    assert session is not None
    next(task for task in session.running if task.name == SECOND).begin_wait(AWAITED)
    await until(_shows(stage, worker, {FIRST: (AWAITED,), SECOND: (AWAITED,)}, stalled=True), "that nothing goes on")
    gate.open()
    await stage.until_exists(layout.status_path(FIRST))


async def test_a_coroutine_that_awaits_a_task_keeps_its_slot_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_writer, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(stalls, "PATIENCE", 0.1)
    gate = asyncio.Event()

    async def wait() -> None:
        running = running_now.get()
        running.begin_wait(AWAITED)
        while not gate.is_set():
            await asyncio.sleep(0.01)
        running.end_wait(AWAITED)

    worker = await stage.worker({"m:wait": wait}, slots=1)
    await stage.put(layout.task_path(AWAITED))
    await begin(stage, worker, (FIRST, "m:wait"))
    await until(lambda: "nothing goes on" in caplog.text, "that it is told")
    assert "make them steps of a flow" in caplog.text
    assert "docs/guides/flows.md" in caplog.text
    gate.set()
    await stage.until_exists(layout.status_path(FIRST))


def _shows(
    stage: Stage, worker: StagedWorker, waits: dict[str, tuple[str, ...]], *, stalled: bool
) -> Callable[[], Awaitable[bool]]:
    async def shows() -> bool:
        path = layout.progress_path(worker.name)
        if not await stage.exists(path):
            return False
        found = decode_progress(await stage.data(path))
        return found.stalled is stalled and {task.task: task.waits_for for task in found.tasks} == waits

    return shows


def test_a_process_says_what_its_code_waits_for() -> None:
    notes: list[bytes] = []
    task = child.HandedOver(FIRST, b"", 0, reporter=child.Reporter(notes.append), ask=bytes)
    task.begin_wait(AWAITED)
    told = Delivered(FIRST, b"", 1)
    child.apply_note(told, notes[0])

    assert told.waits_for == (AWAITED,)
    task.reporter.close()
