"""Submission: accepted exactly once, or refused for certain, or honestly unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client.due_times import DueTimes
from herdmaster.roles.client.journal_items import Batch
from herdmaster.roles.client.submission_journal import MAX_BATCH_TASKS, MAX_BATCHES_IN_FLIGHT, SubmissionJournal
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.model import CreateMode, Stat
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Match, Proxy, multi_with, request_of
from tests.roles.stage import PATIENCE, Stage, StagedClient, Submitted, call_payload, new_call_name, new_raw_name, until


async def accepted(*submitted: Submitted, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(each.accepted for each in submitted))


async def journal_of(stage: Stage) -> str:
    (name,) = await stage.names(layout.CLIENTS)
    return layout.client_path(name)


async def version(stage: Stage) -> int:
    stat = await stage.zk.exists(await journal_of(stage))
    assert stat is not None
    return stat.version


async def test_the_journals_version_counts_the_accepted_batches(stage: Stage) -> None:
    client = await stage.client()
    for count in range(1, 4):
        submitted = [client.put_raw() for _ in range(3)]
        await accepted(*submitted)
        assert await version(stage) == count

    assert len(await stage.names(layout.TASKS)) == 9


async def test_many_submissions_share_batches(stage: Stage) -> None:
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(1000)]
    await accepted(*submitted)

    assert await version(stage) == 1000 / MAX_BATCH_TASKS
    assert await stage.names(layout.TASKS) == sorted(each.name for each in submitted)


async def test_no_more_than_four_batches_wait_for_their_answer(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await accepted(client.put_raw())
        proxy.hold(requests=True)
        submitted = [client.put_raw() for _ in range((MAX_BATCHES_IN_FLIGHT + 2) * MAX_BATCH_TASKS)]
        await until(lambda: len(client.journal._sent) > 0, "batches under way")
        assert len(client.journal._sent) == MAX_BATCHES_IN_FLIGHT == 4
        proxy.pass_on()
        await accepted(*submitted)
        await stage.stop(client)


async def test_large_payloads_are_spread_over_batches_that_fit(stage: Stage) -> None:
    client = await stage.client()
    submitted = [client.put_raw(b"x" * 100_000) for _ in range(8)]
    await accepted(*submitted)

    assert await version(stage) == 8


async def test_a_lost_request_is_sent_again(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        lost = proxy.lose_request(multi_with(f"/tasks/{name}"))
        submitted = client.put(NewTask(name, b"payload"))
        await accepted(submitted)
        assert lost.happened.is_set()
        assert await stage.data(f"/tasks/{name}") == b"payload"
        await stage.stop(client)


@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_a_task_whose_reply_was_lost_is_not_created_again_although_it_has_long_run(
    namespace: str, stage: Stage, expires: bool
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        lost = proxy.lose_reply(multi_with(f"/tasks/{name}"))
        submitted = client.put(NewTask(name, b"payload"))
        await lost.happened.wait()
        proxy.refuse()
        await stage.until_exists(f"/tasks/{name}")
        await stage.zk.delete(f"/tasks/{name}")  # it was assigned, run and collected
        if expires:
            await stage.expire(client)
        proxy.refuse(refusing=False)
        await accepted(submitted)
        await accepted(client.put_raw())  # whatever was to be sent again would have come before it

        assert not await stage.exists(f"/tasks/{name}")
        assert await version(stage) == 2
        await stage.stop(client)


async def test_every_submission_is_accepted_once_while_the_connection_breaks_again_and_again(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        submitted: list[Submitted] = []
        for round_number in range(10):
            lose: Callable[[Match], object] = proxy.lose_reply if round_number % 2 else proxy.lose_request
            lose(multi_with("/tasks/"))
            submitted += [client.put_raw() for _ in range(150)]
            await until(lambda: client.journal.unresolved < 150, "some of them to be accepted")
        await accepted(*submitted)
        assert len(await stage.names(layout.TASKS)) == 1500
        await stage.stop(client)


async def test_what_waits_when_the_session_ends_is_sent_by_the_next_one(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await accepted(client.put_raw())
        proxy.refuse()
        await until(lambda: client.session.state.value == "disconnected", "the loss of the connection")
        submitted = client.put_raw()
        await asyncio.sleep(0)  # the journal has seen it, and cannot send it
        await stage.expire(client)
        proxy.refuse(refusing=False)
        await accepted(submitted)
        await stage.stop(client)


async def test_late_requests_of_an_old_session_cannot_land_once_a_new_one_has_begun(
    namespace: str, stage: Stage
) -> None:
    await make_folders(stage.zk)
    journal = SubmissionJournal(lambda: "c1", DueTimes(boot_clock, lambda: 0))
    told: list[HerdError | None] = []
    name = new_raw_name()
    async with Proxy(namespace) as proxy:
        old = Client(proxy.hosts, session_timeout=4.0)
        await old.open()
        running = asyncio.ensure_future(journal.run(old))
        first = Submitted(new_raw_name())
        journal.submit(NewTask(first.name, b""), first.handle_accepted)
        await accepted(first)
        proxy.hold(requests=True)
        journal.submit(NewTask(name, b"late"), lambda _, error: told.append(error))
        await until(lambda: len(journal._sent) == 1, "the batch to be on its way")
        journal.give_up(name)
        assert isinstance(told[0], SubmissionUnknown)
        await old.abandon()
        with suppress(errors.SessionExpired):
            await running

        # The old session lives on at the server, and its batch is still on the wire when the new one begins.
        async with Client(namespace, session_timeout=4.0) as new:
            running = asyncio.ensure_future(journal.run(new))
            second = Submitted(new_raw_name())
            await stage.until_exists(layout.alive_path("client-c1", new.session_id))
            proxy.pass_on()
            await until(lambda: not proxy._pairs, "the late bytes to be through")
            journal.submit(NewTask(second.name, b""), second.handle_accepted)
            await accepted(second)
            running.cancel()

    assert sorted(await stage.names(layout.TASKS)) == sorted([first.name, second.name])


async def test_a_journal_that_was_swept_leaves_what_was_unresolved_unknown_and_says_so(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await accepted(client.put_raw())
        path = await journal_of(stage)
        name = new_raw_name()
        lost = proxy.lose_reply(multi_with(f"/tasks/{name}"))
        submitted = client.put(NewTask(name, b"payload"))
        await lost.happened.wait()
        proxy.refuse()
        for alive in await stage.names(path):
            await stage.zk.delete(f"{path}/{alive}")
        await stage.zk.delete(path)
        proxy.refuse(refusing=False)

        with pytest.raises(SubmissionUnknown, match=name):
            await submitted.outcome()
        await accepted(client.put_raw())
        assert await journal_of(stage) != path  # an id is never used again
        await stage.stop(client)


async def test_what_was_certainly_refused_is_no_unknown_when_the_journal_is_gone(stage: Stage) -> None:
    client = await stage.client()
    await accepted(client.put_raw())
    path = await journal_of(stage)
    for alive in await stage.names(path):
        await stage.zk.delete(f"{path}/{alive}")
    await stage.zk.delete(path)

    await accepted(client.put_raw(), client.put_raw())
    assert len(await stage.names(layout.TASKS)) == 3


async def test_a_bad_version_by_itself_never_means_accepted(stage: Stage) -> None:
    client = await stage.client()
    await accepted(client.put_raw())
    await stage.zk.set(await journal_of(stage), b"another session was here")
    submitted = client.put_raw()
    await accepted(submitted)

    assert await stage.exists(f"/tasks/{submitted.name}")


async def test_an_alive_node_that_was_deleted_is_announced_anew(stage: Stage) -> None:
    client = await stage.client()
    await accepted(client.put_raw())
    path = await journal_of(stage)
    alive = layout.alive_name(client.session.session_id)
    await stage.zk.delete(f"{path}/{alive}")
    await accepted(client.put_raw())

    assert await stage.names(path) == [alive]


@pytest.mark.parametrize("gone", [layout.TASKS, layout.CLIENTS, "/"])
async def test_a_folder_that_was_deleted_is_made_again_and_nothing_is_lost(stage: Stage, gone: str) -> None:
    client = await stage.client()
    await accepted(client.put_raw())
    await stage.clear(gone)
    submitted = [client.put_raw() for _ in range(3)]
    await accepted(*submitted)

    assert {each.name for each in submitted} <= set(await stage.names(layout.TASKS))


# --- refusals, each with its own reason and without harm to the rest of its batch ------------------------------------


async def test_a_payload_that_no_frame_can_carry_is_not_submitted_and_the_rest_is(stage: Stage) -> None:
    client = await stage.client()
    good = [client.put_raw() for _ in range(3)]
    bad = client.put_raw(b"x" * 1_048_575)
    good += [client.put_raw() for _ in range(3)]

    with pytest.raises(NotSubmitted, match=rf"{bad.name}.*1048575"):
        await bad.outcome()
    await accepted(*good)
    assert not await stage.exists(f"/tasks/{bad.name}")


async def test_what_can_take_no_time_limit_is_not_submitted_and_the_rest_is(stage: Stage) -> None:
    client = await stage.client()
    good = [client.put_raw() for _ in range(2)]
    bad = [client.put(NewTask(new_call_name(), data, expires_ms=60_000)) for data in (b"garbage", bytes(600_000))]
    good += [client.put_raw(), client.put(NewTask(new_call_name(), call_payload("m:f"), expires_ms=60_000))]

    for each in bad:
        with pytest.raises(NotSubmitted, match=rf"{each.name} was refused: the payload"):
            await each.outcome()
    await accepted(*good)
    alone = client.put(NewTask(new_call_name(), b"garbage", expires_ms=60_000))
    with pytest.raises(NotSubmitted, match="was refused"):
        await alone.outcome()
    await accepted(client.put_raw())


async def test_a_name_that_exists_already_is_not_submitted_and_the_rest_is(stage: Stage) -> None:
    client = await stage.client()
    first = client.put_raw(b"first")
    await accepted(first)
    batch = [client.put_raw(), client.put(NewTask(first.name, b"second")), client.put_raw()]

    with pytest.raises(NotSubmitted, match="NodeExists"):
        await batch[1].outcome()
    await accepted(batch[0], batch[2])
    assert await stage.data(f"/tasks/{first.name}") == b"first"


async def test_a_callback_that_fails_keeps_no_other_from_being_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    client = await stage.client()
    submitted = [client.put_raw()]

    def fail(_task: NewTask, _error: HerdError | None) -> None:
        raise ZeroDivisionError

    client.journal.submit(NewTask("task-bad", b""), fail)
    submitted.append(client.put_raw())
    await accepted(*submitted)

    assert any("task-bad" in record.getMessage() and record.exc_info for record in caplog.records)
    caplog.clear()


# --- giving up -------------------------------------------------------------------------------------------------------


async def test_giving_up_on_what_was_never_sent_is_certain(stage: Stage) -> None:
    client = StagedClient("127.0.0.1:1/nowhere")
    submitted = client.put_raw()
    client.journal.give_up(submitted.name)

    with pytest.raises(NotSubmitted, match="no connection to ZooKeeper"):
        await submitted.outcome()


async def test_giving_up_on_what_is_under_way_is_honest(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await accepted(client.put_raw())
        proxy.hold(requests=True)
        submitted = client.put_raw()
        await until(lambda: len(client.journal._sent) == 1, "it to be under way")
        client.journal.give_up(submitted.name)
        client.journal.give_up(submitted.name)

        with pytest.raises(SubmissionUnknown) as caught:
            await submitted.outcome()
        assert caught.value.names == (submitted.name,)
        proxy.pass_on()
        await accepted(client.put_raw())
        await stage.stop(client)


async def test_what_was_given_up_on_takes_no_room_while_the_connection_is_away() -> None:
    journal = SubmissionJournal(lambda: "c1", DueTimes(boot_clock, lambda: 0))
    for _ in range(10_000):
        name = new_raw_name()
        journal.submit(NewTask(name, b"x"), lambda _, error: None)
        journal.give_up(name)

    assert journal.unresolved == 0
    assert len(journal._queue) <= 2 * MAX_BATCH_TASKS


async def test_at_the_end_everybody_is_told_what_is_known(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await accepted(client.put_raw())
        proxy.hold(requests=True)
        sent = client.put_raw()
        await until(lambda: len(client.journal._sent) == 1, "it to be under way")
        proxy.refuse()
        await until(lambda: client.session.state.value == "disconnected", "the loss of the connection")
        waiting = client.put_raw()
        await stage.stop(client)
        late = client.put_raw()

    with pytest.raises(SubmissionUnknown):
        await sent.outcome()
    with pytest.raises(NotSubmitted):
        await waiting.outcome()
    with pytest.raises(NotSubmitted, match="closed"):
        await late.outcome()


async def test_a_client_that_is_stopped_between_two_runs_keeps_no_caller_waiting() -> None:
    client = StagedClient("127.0.0.1:1/nowhere")
    submitted = client.put_raw()
    client.stop()

    with pytest.raises(NotSubmitted):
        await submitted.outcome()


async def test_a_client_that_stops_takes_its_journal_with_it(stage: Stage) -> None:
    client = await stage.client()
    await accepted(client.put_raw())
    await stage.stop(client)

    assert await stage.names(layout.CLIENTS) == []


async def test_a_client_that_only_waits_has_no_journal(stage: Stage) -> None:
    await stage.client()

    assert await stage.names(layout.CLIENTS) == []


# --- times -----------------------------------------------------------------------------------------------------------


def _delayed(seconds: float) -> NewTask:
    return NewTask(new_raw_name(), b"payload", delay_ms=round(seconds * 1000))


async def test_a_delay_becomes_a_time_of_the_servers_clock(stage: Stage) -> None:
    client = await stage.client()
    client.journal._due_times = DueTimes(boot_clock, lambda: 0)  # this machine's own clock is wrong
    before = (await stage.zk.set(layout.TASKS, b"")).mtime
    submitted = client.put(_delayed(60))
    await accepted(submitted)
    after = (await stage.zk.set(layout.TASKS, b"")).mtime

    (name,) = await stage.names(layout.DELAYED)
    found = layout.parse_delayed_name(name)
    assert found is not None
    assert found[1] == submitted.name
    assert before + 59_000 <= found[0] <= after + 61_000
    assert await version(stage) == 1  # reading the clock is not counted as a batch


@pytest.mark.parametrize("loses_reply", [False, True])
@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_a_delayed_task_is_accepted_once_although_the_servers_time_came_late(
    namespace: str, stage: Stage, loses_reply: bool, expires: bool
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        lose = proxy.lose_reply if loses_reply else proxy.lose_request
        lost = lose(request_of(OpCode.SET_DATA, "/alive-"))
        submitted = [client.put(_delayed(60)), client.put_raw()]
        await lost.happened.wait()
        if expires:
            proxy.refuse()
            await stage.expire(client)
            proxy.refuse(refusing=False)
        await accepted(*submitted)

        assert len(await stage.names(layout.DELAYED)) == 1
        assert await stage.names(layout.TASKS) == [submitted[1].name]
        await stage.stop(client)


async def test_the_loss_of_the_alive_node_delays_a_delayed_task_a_little(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        held = proxy.hold_request(request_of(OpCode.SET_DATA, "/alive-"))
        submitted = client.put(_delayed(60))
        await held.happened.wait()
        (alive,) = await stage.names(await journal_of(stage))
        await stage.zk.delete(f"{await journal_of(stage)}/{alive}")
        held.go_on.set()
        await accepted(submitted)

        assert len(await stage.names(layout.DELAYED)) == 1
        await stage.stop(client)


# --- preparing, request by request -----------------------------------------------------------------------------------


class PreparingClient:
    """A journal with alive nodes of two sessions before. What is in `raises` raises that once."""

    session_id = 7

    def __init__(self, **raises: errors.ZooKeeperError) -> None:
        self.calls: list[tuple[str, str]] = []
        self._raises = raises

    def _call(self, name: str, path: str) -> None:
        self.calls.append((name, path))
        error = self._raises.pop(f"{name}_{len(layout_parts(path))}", None)
        if error is not None:
            raise error

    async def create(self, path: str, *, mode: CreateMode = CreateMode.PERSISTENT) -> None:
        assert (mode is CreateMode.EPHEMERAL) == ("alive-" in path)
        self._call("create", path)

    async def delete(self, path: str) -> None:
        self._call("delete", path)

    async def children(self, path: str) -> tuple[str, ...]:
        self._call("children", path)
        return (layout.alive_name(1), layout.alive_name(2))


def layout_parts(path: str) -> list[str]:
    return path.strip("/").split("/")


@pytest.mark.parametrize(
    "raises",
    [
        {},
        {"create_2": errors.NodeExists("journal")},
        {"create_2": errors.ConnectionLoss()},
        {"delete_3": errors.NoNode("alive")},
        {"delete_3": errors.ConnectionLoss()},
        {"create_3": errors.NodeExists("mine")},
        {"create_3": errors.ConnectionLoss()},
    ],
    ids=str,
)
async def test_preparing_goes_on_whatever_an_earlier_request_has_done(raises: dict[str, errors.ZooKeeperError]) -> None:
    journal = SubmissionJournal(lambda: "c1", DueTimes(boot_clock, lambda: 0))
    client = PreparingClient(**raises)
    given: Any = client
    await journal._prepare(given)

    path = layout.client_path("client-c1")
    repeats = [call for call in client.calls if client.calls.count(call) > 1]
    assert dict.fromkeys(client.calls) == dict.fromkeys(
        [
            ("create", path),
            ("children", path),
            ("delete", f"{path}/{layout.alive_name(1)}"),
            ("delete", f"{path}/{layout.alive_name(2)}"),
            ("create", f"{path}/{layout.alive_name(7)}"),
        ]
    )
    assert bool(repeats) == any(isinstance(error, errors.ConnectionLoss) for error in raises.values())
    assert journal._prepared


class DoubtfulClient:
    """Finds the journal at this version, or gone."""

    session_id, acl_size = 7, 0

    def __init__(self, version: int | None) -> None:
        self._version = version

    async def sync(self, _path: str) -> None:
        return None

    async def exists(self, _path: str) -> Stat | None:
        return None if self._version is None else Stat(0, 0, 0, 0, self._version, 0, 0, 0, 0, 0, 0)


async def test_after_a_doubt_whose_journal_is_gone_the_journal_goes_on_at_once() -> None:
    journal = SubmissionJournal(lambda: "c1", DueTimes(boot_clock, lambda: 0))
    journal._in_doubt = journal._prepared = True
    given: Any = DoubtfulClient(None)
    await journal._settle_doubt(given)

    assert journal._wake.is_set(), "nothing else wakes it until the next submission"
    assert (journal._prepared, journal._in_doubt) == (False, True)


async def test_a_journal_that_is_swept_while_it_is_prepared_goes_on_under_another_id() -> None:
    ids = iter(("c1", "c2"))
    journal = SubmissionJournal(lambda: next(ids), DueTimes(boot_clock, lambda: 0))
    client = PreparingClient(children_2=errors.NoNode("journal"))
    given: Any = client
    await journal._prepare(given)

    assert [path for name, path in client.calls if name == "create"] == [
        layout.client_path("client-c1"),
        layout.client_path("client-c2"),
        layout.alive_path("client-c2", 7),
    ]


@pytest.mark.parametrize(
    ("answer", "is_prepared", "is_wanted"),
    [(None, True, False), (errors.NoNode("alive"), False, True), (errors.ConnectionLoss(), True, True)],
)
async def test_after_the_servers_time_was_asked_for_the_journal_goes_on_in_any_case(
    answer: Exception | None, is_prepared: bool, is_wanted: bool
) -> None:
    class Client:
        session_id = 7

        async def set(self, path: str, _data: bytes) -> Stat:
            assert path == layout.alive_path("client-c1", 7)
            if answer is not None:
                raise answer
            return Stat(*(0,) * 11)

    journal = SubmissionJournal(lambda: "c1", DueTimes(boot_clock, lambda: 0))
    journal._prepared = journal._time_is_wanted = True
    given: Any = Client()
    await journal._read_time(given)

    assert (journal._prepared, journal._time_is_wanted) == (is_prepared, is_wanted)
    assert journal._wake.is_set()


@pytest.mark.parametrize(("refused", "told"), [(True, NotSubmitted), (False, SubmissionUnknown)])
def test_what_was_in_a_refused_batch_is_certainly_not_accepted(refused: bool, told: type[HerdError]) -> None:
    nothing: Any = None
    errors_told: list[HerdError | None] = []
    journal = SubmissionJournal(lambda: "a", nothing)
    journal.submit(NewTask("task-a", b""), lambda _task, error: errors_told.append(error))
    batch = Batch([journal._queue.popleft()], 0, nothing)
    batch.refused = refused
    journal._sent.append(batch)
    journal.give_up("task-a")
    assert [type(error) for error in errors_told] == [told]
