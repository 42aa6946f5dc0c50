"""What a process writes of its history, whatever happens to its connection."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.history import Batch, EndState, FailureRecord, decode_batch, read_batch
from herdmaster.core.history_recorder import Recorder
from herdmaster.roles.shared import history_writer
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.history_writer import HistoryWriter
from herdmaster.roles.shared.system import System
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState


class Clock:
    now = 0.0

    def __init__(self) -> None:
        self._milliseconds = itertools.count(1_700_000_000_000)

    def unix_ms(self) -> int:
        """Another millisecond each time, because batches of the same one have no order."""
        return next(self._milliseconds)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder("worker-1", "host", 0)


def _writer(recorder: Recorder) -> HistoryWriter:
    clock = Clock()
    return HistoryWriter(recorder, System(unix_ms=clock.unix_ms), clock.unix_ms)


async def batches(zk: Client) -> list[Batch]:
    found = [await zk.get(layout.history_path(name)) for name in sorted(await zk.children(layout.HISTORY))]
    read = [decode_batch(data) for data, _ in found]
    return [each for each in read if each is not None]


async def test_nothing_is_written_where_nothing_has_ended(zk: Client, recorder: Recorder) -> None:
    await make_folders(zk)

    assert not await _writer(recorder).write(zk)
    assert await batches(zk) == []


async def test_each_batch_has_what_ended_since_the_last_one(zk: Client, recorder: Recorder) -> None:
    await make_folders(zk)
    writer = _writer(recorder)
    for number in (1, 2):
        for _ in range(number):
            recorder.count("a", "q", EndState.DONE)
        assert await writer.write(zk)

    first, second = await batches(zk)
    assert [each.counts[0].total for each in (first, second)] == [1, 2]
    assert first.ends == second.begins


async def test_a_batch_whose_reply_is_lost_is_counted_once(recorder: Recorder) -> None:
    async with EmbeddedZooKeeper() as zookeeper, Client(zookeeper.hosts, session_timeout=4.0) as zk:
        await make_folders(zk)
        writer = _writer(recorder)
        recorder.count("a", "q", EndState.DONE)
        zookeeper.drop_after(times=1)
        assert not await writer.write(zk)
        recorder.count("a", "q", EndState.DONE)

        assert await writer.write(zk)  # the same one again
        assert await writer.write(zk)
        assert [each.counts[0].total for each in await batches(zk)] == [1, 1]


async def test_a_deleted_folder_is_made_again(zk: Client, recorder: Recorder) -> None:
    await make_folders(zk)
    await zk.delete(layout.HISTORY)
    recorder.count("a", "q", EndState.DONE)
    writer = _writer(recorder)

    assert not await writer.write(zk)
    assert await writer.write(zk)
    assert len(await batches(zk)) == 1


async def test_a_backlog_is_written_once_a_minute_while_it_changes(zk: Client) -> None:
    await make_folders(zk)
    clock, backlog = Clock(), {"q": 1}
    system = System(clock=lambda: clock.now, unix_ms=clock.unix_ms)
    writer = HistoryWriter(Recorder("master-1", "host", 0), system, clock.unix_ms, lambda: backlog)
    written = []
    for seconds, waiting in ((0, 1), (5, 2), (60, 2), (120, 2), (125, 0), (180, 0)):
        clock.now, backlog["q"] = float(seconds), waiting
        written.append(await writer.write(zk))

    assert written == [True, False, True, False, True, False]
    assert [each.backlog for each in await batches(zk)] == [{"q": 1}, {"q": 2}, {"q": 0}]


async def test_an_end_writes_what_a_lost_reply_left_and_what_ended_since(recorder: Recorder) -> None:
    async with EmbeddedZooKeeper() as zookeeper, Client(zookeeper.hosts, session_timeout=4.0) as zk:
        await make_folders(zk)
        writer = _writer(recorder)
        recorder.count("a", "q", EndState.DONE)
        zookeeper.drop_after(times=1)
        assert not await writer.write(zk)
        recorder.count("a", "q", EndState.FAILED)
        await zk.sync()  # the connection is back

        await writer.finish(zk)
        assert [dict(each.counts[0].results) for each in await batches(zk)] == [
            {EndState.DONE: 1},
            {EndState.FAILED: 1},
        ]


async def test_a_batch_is_not_forgotten_because_the_one_before_it_is_written_twice(recorder: Recorder) -> None:
    """The periodic writer waits for its reply while `finish` writes the same batch and then the next one."""
    async with EmbeddedZooKeeper() as zookeeper, Client(zookeeper.hosts, session_timeout=4.0) as zk:
        await make_folders(zk)
        writer = _writer(recorder)
        recorder.count("a", "q", EndState.DONE)
        periodic = asyncio.ensure_future(writer.write(zk))
        await asyncio.sleep(0)
        first = writer._unwritten
        recorder.count("a", "q", EndState.FAILED)
        assert await writer.write(zk)  # the same batch
        last = asyncio.ensure_future(writer.write(zk))
        await asyncio.sleep(0)
        assert first is not None
        writer._drop(first)  # as the periodic writer does when its reply comes late
        assert writer._unwritten not in {None, first}
        assert await periodic
        assert await last
        assert len(await batches(zk)) == 2


async def test_a_batch_is_named_by_the_clock_of_the_servers(zk: Client) -> None:
    await make_folders(zk)
    wrong = 1_000_000_000_000
    recorder = Recorder("worker-1", "host", wrong)
    writer = HistoryWriter(recorder, System(unix_ms=lambda: wrong + 5000), lambda: 1_700_000_000_000)
    recorder.fail(FailureRecord("task-1", "a", "q", EndState.FAILED, "E", "", wrong + 4000, wrong + 1000))
    assert await writer.write(zk)

    (name,) = await zk.children(layout.HISTORY)
    read = read_batch(name, (await zk.get(layout.history_path(name)))[0])
    assert read is not None
    assert (read.begins, read.ends) == (1_699_999_995_000, 1_700_000_000_000)
    assert [(each.began, each.ended) for each in read.failures] == [(1_699_999_996_000, 1_699_999_999_000)]


# --- reply by reply --------------------------------------------------------------------------------------------------


class AnsweringClient:
    """Answers each create with the next of `errors`; None: it is made. `workers` is the number of workers."""

    state = SessionState.CONNECTED

    def __init__(self, *answers: Exception | None, workers: int | Exception | None = 0) -> None:
        self.answers = list(answers)
        self.workers = workers
        self.written: list[tuple[str, bytes]] = []

    async def create(self, path: str, data: bytes) -> None:
        self.written.append((path, data))
        error = self.answers.pop(0)
        if error is not None:
            raise error

    async def exists(self, path: str) -> object:
        assert path == layout.WORKERS
        if isinstance(self.workers, Exception):
            raise self.workers
        return None if self.workers is None else SimpleNamespace(num_children=self.workers)


async def test_a_refusal_is_told_once_until_a_batch_is_written_again(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    writer = _writer(recorder)
    refusal = errors.NoAuth("history")
    client: Any = AnsweringClient(refusal, refusal, None, refusal)
    told = []
    for _ in range(4):
        recorder.count("a", "q", EndState.DONE)
        await writer.write(client)
        told.append(len(caplog.messages))

    assert told == [1, 1, 1, 2]
    assert len({data for _, data in client.written}) == 4, "what was refused is not written again"


@pytest.mark.parametrize("again", [None, errors.NodeExists("batch")])
async def test_a_batch_in_doubt_is_written_again_under_its_name(recorder: Recorder, again: Exception | None) -> None:
    writer = _writer(recorder)
    client: Any = AnsweringClient(errors.ConnectionLoss(), again)
    recorder.count("a", "q", EndState.DONE)
    assert not await writer.write(client)
    assert await writer.write(client)
    assert not await writer.write(client)

    assert client.written[0] == client.written[1]
    assert len(client.written) == 2


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [(0, 5.0), (100, 5.0), (200, 10.0), (None, 5.0), (errors.ConnectionLoss(), 5.0), (errors.NoAuth("workers"), 5.0)],
)
async def test_all_workers_together_write_at_most_twenty_batches_a_second(
    recorder: Recorder, workers: int | Exception | None, seconds: float
) -> None:
    client: Any = AnsweringClient(workers=workers)

    assert await _writer(recorder)._interval(client) == seconds


async def test_the_end_waits_for_no_connection_and_raises_nothing(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _writer(recorder)
    recorder.count("a", "q", EndState.DONE)
    client: Any = AnsweringClient(errors.SessionExpired("over"))
    client.state = SessionState.DISCONNECTED
    await writer.finish(client)
    assert client.written == []

    client.state = SessionState.CONNECTED
    await writer.finish(client)
    assert len(client.written) == 1

    async def hang(_path: str, _data: bytes) -> None:
        await asyncio.Event().wait()

    client.create = hang
    monkeypatch.setattr(history_writer, "_FINISH_SECONDS", 0.01)
    async with asyncio.timeout(10):
        await writer.finish(client)
