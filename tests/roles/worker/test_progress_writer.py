"""When the progress of running tasks is written, and what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.payload import Call, encode_arguments
from herdmaster.core.progress import MAX_AWAITED, encode_progress
from herdmaster.roles.worker import progress_writer
from herdmaster.roles.worker.progress_writer import ProgressWriter
from herdmaster.roles.worker.timers import Timers
from herdmaster.running.current import ProgressReport
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import CreateMode
from tests.roles.module_asyncio import replace_asyncio

W, NOW = "worker-w", 1_700_000_000_000
PATH = layout.progress_path(W)


class Slots:
    def __init__(self) -> None:
        self.running: list[Delivered] = []

    def find_stalled(self) -> Sequence[Delivered]:
        return ()


class Client:
    """`raises` has for each request, in order, what it raises."""

    def __init__(self, *raises: Exception | None) -> None:
        self.now = 100.0
        self.raises = list(raises)
        self.calls: list[tuple[str, str]] = []
        self.written: list[bytes] = []

    def clock(self) -> float:
        return self.now

    def _answer(self, name: str, path: str, data: bytes) -> None:
        self.calls.append((name, path))
        error = self.raises.pop(0) if self.raises else None
        if error is not None:
            raise error
        self.written.append(data)

    async def set(self, path: str, data: bytes) -> None:
        self._answer("set", path, data)

    async def create(self, path: str, data: bytes, *, mode: CreateMode) -> None:
        assert mode is CreateMode.EPHEMERAL
        self._answer("create", path, data)


def writer_of(client: Client, slots: Slots) -> ProgressWriter:
    given: Any = client
    return ProgressWriter(given, W, slots, lambda: NOW)


def task(name: str, started: int, **more: Any) -> Delivered:
    return Delivered(name, b"", 1, started=started, **more)


def picture_of(*tasks: Delivered) -> str:
    slots = Slots()
    slots.running = list(tasks)
    return writer_of(Client(), slots)._picture().decode()


@pytest.mark.parametrize(
    ("started", "is_shown"), [(0, False), (1, True), (NOW - 2000, True), (NOW - 1999, False), (NOW, False)]
)
def test_a_task_is_shown_from_two_seconds_on(started: int, is_shown: bool) -> None:
    assert ("task-a" in picture_of(task("task-a", started))) == is_shown


def test_a_task_that_reports_progress_is_shown_at_once_with_it() -> None:
    shown = picture_of(task("task-a", NOW, progress=ProgressReport(3, 9, "half a note")))

    assert "half a note" in shown
    assert "3" in shown
    assert "9" in shown


def test_a_task_shows_its_call_and_the_tasks_that_it_has_long_waited_for() -> None:
    call = Call(1, "shop:area", *encode_arguments((), {}), attempt=4)
    long, short = time.monotonic() - 3, time.monotonic() + 60
    waits = {f"task-awaited-{number}": long for number in range(MAX_AWAITED + 1)} | {"task-short": short}
    shown = picture_of(task("task-a", 1, call=call, waits=waits))

    assert "shop:area" in shown
    assert shown.count("task-awaited-") == MAX_AWAITED
    assert "task-short" not in shown


async def written_at(client: Client, slots: Slots, looks: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the writer look so often, once a second, with a task that reports each time. Return the looks that wrote."""
    made: list[int] = []
    before = len(client.calls)

    async def sleep(seconds: float) -> None:
        nonlocal before
        assert seconds == 1.0
        if len(client.calls) > before:
            made.append(len(looked))
        before = len(client.calls)
        looked.append(None)
        client.now += seconds
        slots.running = [task("task-a", 1, progress=ProgressReport(len(looked), 9, ""))]
        if len(looked) > looks:
            raise asyncio.CancelledError

    looked: list[None] = []
    replace_asyncio(monkeypatch, progress_writer, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await writer_of(client, slots).run()
    return made


async def test_progress_is_written_at_most_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()

    assert await written_at(client, Slots(), 6, monkeypatch) == [1, 3, 5]
    assert client.calls == [("set", PATH)] * 3


async def test_what_has_not_changed_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client, slots = Client(), Slots()
    looks = 0

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        client.now += 10.0
        if looks > 5:
            raise asyncio.CancelledError

    replace_asyncio(monkeypatch, progress_writer, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await writer_of(client, slots).run()
    assert client.calls == []


async def test_a_write_that_was_lost_is_made_again_and_a_refused_one_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(errors.ConnectionLoss(), errors.NoAuth("progress"))

    assert await written_at(client, Slots(), 4, monkeypatch) == [1, 3]
    assert len(caplog.messages) == 1
    assert client.written == []


@pytest.mark.parametrize("error", [None, errors.NodeExists("made")])
async def test_the_znode_is_made_when_it_is_not_there(error: Exception | None) -> None:
    client = Client(errors.NoNode("progress"), error)
    await writer_of(client, Slots())._write(encode_progress(()))

    assert client.calls == [("set", PATH), ("create", PATH)]


# --- timers ----------------------------------------------------------------------------------------------------------


async def test_timers_call_with_their_arguments_unless_they_are_cancelled() -> None:
    called: list[object] = []
    timers = Timers()
    timers.call_later(0.0, called.append, "soon")
    timers.call_later(3600.0, called.append, "never")
    async with asyncio.timeout(10):
        while not called:
            await asyncio.sleep(0)
    assert len(timers._handles) == 1
    timers.call_later(0.0, called.append, "cancelled")
    timers.cancel()
    await asyncio.sleep(0.01)

    assert called == ["soon"]
