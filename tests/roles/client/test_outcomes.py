"""Outcomes: each is told once, whatever happens to connections and sessions, and then it is collected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.outcome import Outcome, OutcomeState, decode_result, encode_outcome, encode_result
from herdmaster.errors import BadOutcome, HerdError, OutcomeGone
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.client import outcomes
from herdmaster.roles.client.outcomes import MAX_READ
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.stage import TIMEOUT, Stage, StagedClient, Submitted, new_call_name, new_raw_name, until

WRITE_ONLY = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


def outcome_of(name: str, value: object = 5) -> bytes:
    return encode_outcome(name, Outcome(OutcomeState.DONE, encode_result(value)))


async def wait_for(client: StagedClient, *names: str) -> list[Submitted]:
    """Waits as the submitter does: the task is accepted, and will end."""
    waiting = [Submitted(name) for name in names]
    for each in waiting:
        each.accepted.set_result(None)
        client.outcomes.wait_for(each.name, each.handle_ended)
    await until(lambda: not client.outcomes._to_arm, "the watches to be armed")
    await client.session.sync()
    return waiting


async def test_an_outcome_that_comes_is_told_and_collected(stage: Stage) -> None:
    client = await stage.client()
    name = new_call_name()
    (waiting,) = await wait_for(client, name)
    await stage.put(f"/status/{name}", data=outcome_of(name, [1, "a"]))

    assert decode_result(await waiting.outcome()) == [1, "a"]
    await stage.until_empty()


async def test_an_outcome_below_which_others_have_put_something_is_told_and_collected(stage: Stage) -> None:
    """A Java worker whose connection broke repeats its status at the wrong path."""
    client = await stage.client()
    name = new_raw_name()
    (submitted,) = await wait_for(client, name)
    status = layout.status_path(name)
    transaction = stage.zk.transaction()
    for path in (status, f"{status}/status", f"{status}/status/status"):
        transaction.create(path, b"done")
    await transaction.commit()

    assert (await submitted.outcome()).state is OutcomeState.DONE
    await stage.until_gone(status)


async def test_an_outcome_that_is_there_already_is_told_at_once(stage: Stage) -> None:
    client = await stage.client()
    name = new_raw_name()
    await stage.put(f"/status/{name}", data=b"done")
    (waiting,) = await wait_for(client, name)

    assert (await waiting.outcome()).state is OutcomeState.DONE


async def test_a_failure_is_told_as_one(stage: Stage) -> None:
    client = await stage.client()
    name = new_call_name()
    (waiting,) = await wait_for(client, name)
    failed = Outcome(OutcomeState.FAILED, error=ErrorInfo("ValueError", "no"))
    await stage.put(f"/status/{name}", data=encode_outcome(name, failed))

    assert (await waiting.outcome()).error == ErrorInfo("ValueError", "no")


@pytest.mark.long
async def test_thousands_are_waited_for_with_few_requests(namespace: str, stage: Stage) -> None:
    opcodes: list[int] = []

    def count(opcode: int, _body: bytes) -> bool:
        opcodes.append(opcode)
        return False

    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        proxy.lose_request(count)
        names = [new_raw_name() for _ in range(5000)]
        waiting = await wait_for(client, *names)
        assert opcodes.count(OpCode.SET_WATCHES) <= 3  # 128 KiB each
        for start in range(0, len(names), 500):
            await stage.put(*(f"/status/{name}" for name in names[start : start + 500]), data=b"done")
        for each in waiting:
            await each.outcome()
        assert len(opcodes) < 500
        await stage.until_empty()
        await stage.stop(client)


async def test_large_outcomes_are_read_few_at_a_time(namespace: str, stage: Stage) -> None:
    client = await stage.client()
    names = [new_call_name() for _ in range(60)]
    for name in names:
        await stage.put(f"/status/{name}", data=outcome_of(name, "x" * 400_000))
    waiting = await wait_for(client, *names)
    for each in waiting:
        assert len(str(decode_result(await each.outcome()))) == 400_000
    assert client.outcomes._size > 300_000
    assert MAX_READ * 512 < 1_048_576


# --- connections and sessions ----------------------------------------------------------------------------------------


async def test_what_ends_while_the_connection_is_away_is_told_after_it_is_back(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        names = [new_raw_name() for _ in range(300)]
        waiting = await wait_for(client, *names)
        proxy.refuse()
        await stage.put(*(f"/status/{name}" for name in names), data=b"done")
        proxy.refuse(refusing=False)
        for each in waiting:
            await each.outcome()
        await stage.stop(client)


async def test_futures_of_accepted_tasks_outlive_sessions(stage: Stage) -> None:
    client = await stage.client()
    name = new_raw_name()
    (waiting,) = await wait_for(client, name)
    session = client.session
    await stage.expire(client)
    await until(lambda: client.session is not session, "a new session")
    await stage.put(f"/status/{name}", data=b"done")

    await waiting.outcome()
    await stage.until_empty()


async def test_a_lost_reply_to_a_read_loses_no_outcome(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        (waiting,) = await wait_for(client, name)
        lost = proxy.lose_reply(request_of(OpCode.MULTI_READ, name))
        await stage.put(f"/status/{name}", data=b"done")
        await waiting.outcome()
        assert lost.happened.is_set()
        await stage.stop(client)


@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_a_status_whose_deletion_was_lost_is_deleted_all_the_same(
    namespace: str, stage: Stage, expires: bool
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        (waiting,) = await wait_for(client, name)
        lost = proxy.lose_request(multi_with(f"/status/{name}"))
        await stage.put(f"/status/{name}", data=b"done")
        await waiting.outcome()
        await lost.happened.wait()
        if expires:
            proxy.refuse()
            await stage.expire(client)
            proxy.refuse(refusing=False)
        await stage.until_empty()
        await stage.stop(client)


# --- outcomes that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b'{"herd":1', b'{"herd":2,"state":"done"}', b'{"herd":1,"state":"failed"}', b"done"]
)
async def test_a_hostile_status_is_told_as_a_bad_outcome_and_the_others_are_unharmed(stage: Stage, data: bytes) -> None:
    client = await stage.client()
    names = [new_call_name() for _ in range(3)]
    waiting = await wait_for(client, *names)
    await stage.put(f"/status/{names[1]}", data=data)
    await stage.put(f"/status/{names[0]}", data=outcome_of(names[0]))
    await stage.put(f"/status/{names[2]}", data=outcome_of(names[2]))

    with pytest.raises(BadOutcome, match=names[1]):
        await waiting[1].outcome()
    assert [decode_result(await waiting[number].outcome()) for number in (0, 2)] == [5, 5]
    await stage.until_gone(f"/status/{names[0]}")
    await stage.until_gone(f"/status/{names[2]}")
    assert await stage.names(layout.STATUS) == [names[1]]  # whoever wrote it, it is not the client's to delete


async def test_a_status_that_may_not_be_read_is_told_as_such_and_not_asked_for_again_and_again(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        await stage.zk.create(f"/status/{name}", b"done", acl=WRITE_ONLY)
        (waiting,) = await wait_for(client, name)

        with pytest.raises(BadOutcome, match="NoAuth"):
            await waiting.outcome()
        await stage.stop(client)


async def test_a_callback_that_fails_keeps_no_other_outcome_from_being_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    client = await stage.client()
    names = [new_raw_name() for _ in range(3)]
    await stage.put(*(f"/status/{name}" for name in names), data=b"done")

    def fail(_name: str, _outcome: Outcome | None, _error: HerdError | None) -> bool:
        raise ZeroDivisionError

    client.outcomes.wait_for(names[0], fail)
    first, second = await wait_for(client, *names[1:])
    await first.outcome()
    await second.outcome()

    assert any(names[0] in record.getMessage() and record.exc_info for record in caplog.records)
    caplog.clear()


async def test_an_outcome_that_nobody_takes_is_not_collected(stage: Stage) -> None:
    client = await stage.client()
    name = new_raw_name()
    told = asyncio.Event()

    def refuse(_name: str, _outcome: Outcome | None, _error: HerdError | None) -> bool:
        told.set()
        return False

    client.outcomes.wait_for(name, refuse)
    await stage.put(f"/status/{name}", data=b"done")
    await told.wait()
    (later,) = await wait_for(client, other := new_raw_name())
    await stage.put(f"/status/{other}", data=b"done")
    await later.outcome()

    assert await stage.names(layout.STATUS) in ([name], [name, other])


async def test_what_nobody_waits_for_any_more_leaves_nothing_behind(stage: Stage) -> None:
    client = await stage.client()
    names = [new_raw_name() for _ in range(100)]
    await wait_for(client, *names)
    assert client.outcomes.waiting == 100
    for name in names:
        client.outcomes.forget(name)

    assert client.outcomes.waiting == 0
    assert not any(client.session._session.watches._tables.values())
    await stage.put(f"/status/{names[0]}", data=b"done")
    (later,) = await wait_for(client, other := new_raw_name())
    await stage.put(f"/status/{other}", data=b"done")
    await later.outcome()
    assert await stage.exists(f"/status/{names[0]}")


# --- waiting by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/tasks/{}", "/delayed/1700000000000-{}", "/assign/worker-w/{}"])
async def test_a_task_that_is_somewhere_is_waited_for_by_name(stage: Stage, place: str) -> None:
    name = new_raw_name()
    await stage.put(place.format(name))
    client = await stage.client()
    waiting = client.wait_by_name(name)
    await until(lambda: not client.outcomes._to_locate, "it to be looked for")
    assert not waiting.ended.done()
    await stage.put(f"/status/{name}", data=b"done")

    await waiting.outcome()


async def test_a_task_that_is_nowhere_is_gone(stage: Stage) -> None:
    client = await stage.client()
    few = [client.wait_by_name(new_raw_name()) for _ in range(2)]
    many = [client.wait_by_name(new_raw_name()) for _ in range(100)]

    for each in few + many:
        with pytest.raises(OutcomeGone, match=each.name):
            await each.outcome()
    assert client.outcomes.waiting == 0


async def test_many_names_are_told_apart(stage: Stage) -> None:
    here = [new_raw_name() for _ in range(40)]
    await stage.put(*(f"/tasks/{name}" for name in here))
    client = await stage.client()
    waiting = [client.wait_by_name(name) for name in here]
    gone = [client.wait_by_name(new_raw_name()) for _ in range(40)]
    for each in gone:
        with pytest.raises(OutcomeGone):
            await each.outcome()

    assert not any(each.ended.done() for each in waiting)


async def test_an_outcome_that_another_client_collected_while_this_one_was_away_is_gone(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        await stage.put(f"/tasks/{name}")
        waiting = client.wait_by_name(name)
        await until(lambda: not client.outcomes._to_locate, "it to be looked for")
        proxy.refuse()
        await stage.zk.delete(f"/tasks/{name}")
        await stage.put(f"/status/{name}", data=b"done")
        await stage.zk.delete(f"/status/{name}")
        proxy.refuse(refusing=False)

        with pytest.raises(OutcomeGone):
            await waiting.outcome()
        await stage.stop(client)


async def test_after_an_absence_longer_than_the_time_to_live_what_is_nowhere_is_gone(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts, outcome_ttl=0.2)
        waiting = await wait_for(client, new_raw_name())
        proxy.refuse()
        await until(lambda: client.outcomes._away_since is not None, "the loss of the connection")
        await asyncio.sleep(0.3)
        proxy.refuse(refusing=False)

        with pytest.raises(OutcomeGone):
            await waiting[0].outcome()
        await stage.stop(client)


async def test_a_search_that_the_sessions_end_interrupts_is_taken_up_by_the_next(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        name = new_raw_name()
        asked = asyncio.Event()

        def is_search(_opcode: int, body: bytes) -> bool:
            if name.encode() in body:
                asked.set()
            return False

        proxy.lose_request(is_search)
        proxy.hold(replies=True)
        waiting = client.wait_by_name(name)
        await asked.wait()
        await stage.expire(client)
        proxy.cut()
        proxy.pass_on()

        with pytest.raises(OutcomeGone):
            await waiting.outcome()
        await stage.stop(client)


@pytest.mark.long
async def test_a_task_that_ends_without_an_outcome_keeps_nobody_waiting_who_knows_only_its_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "LOOK_AGAIN_SECONDS", 0.2)
    client, other = await stage.client(), await stage.client()
    name = client.put_raw().name
    await stage.until_exists(f"/tasks/{name}")
    attached = other.wait_by_name(name)
    await asyncio.sleep(0.5)  # it is looked for, and found, a few times
    assert not attached.ended.done()
    await stage.zk.delete(f"/tasks/{name}")

    with pytest.raises(OutcomeGone):
        await attached.outcome()


async def test_an_outcome_that_another_client_collects_during_a_search_is_looked_for_once_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[list[str]] = []

    async def search(session: Client, tasks: Sequence[str]) -> list[str]:
        missing = await find_missing(session, tasks)
        searches.append(list(tasks))
        if len(searches) == 1:
            # It was in /tasks. Now it ends, and somebody else is quicker.
            transaction = stage.zk.transaction()
            transaction.create(f"/status/{name}", b"done").delete(f"/status/{name}").delete(f"/tasks/{name}")
            await transaction.commit()
            for _ in range(3):  # the event comes before the first reply, and before the last that nothing is there
                await session.sync()
        return missing

    client = await stage.client()
    monkeypatch.setattr(outcomes, "find_missing", search)
    name = new_raw_name()
    await stage.put(f"/tasks/{name}")
    waiting = client.wait_by_name(name)

    with pytest.raises(OutcomeGone):
        await waiting.outcome()
    assert searches == [[name], [name]]


# --- several that wait for one task ----------------------------------------------------------------------------------


async def registered(stage: Stage, *clients: StagedClient, name: str) -> None:
    """Waits until each of the clients is known to wait for the task by name."""
    await until(lambda: all(client.outcomes._waiters.is_registered(name) for client in clients), "the registrations")


@pytest.mark.parametrize("first", ["the submitter", "a waiter"])
async def test_all_that_wait_for_a_task_get_its_outcome_whichever_reads_it_first(
    namespace: str, stage: Stage, first: str
) -> None:
    name = new_raw_name()
    await stage.put(f"/tasks/{name}")
    async with Proxy(namespace) as slow, Proxy(namespace) as quick:
        owner = await stage.client((quick if first == "the submitter" else slow).hosts)
        others = [await stage.client((slow if first == "the submitter" else quick).hosts) for _ in range(2)]
        (submitted,) = await wait_for(owner, name)
        attached = [other.wait_by_name(name) for other in others]
        await registered(stage, *others, name=name)
        slow.hold(replies=True)
        await stage.put(f"/status/{name}", data=b"done")
        early, late = ([submitted], attached) if first == "the submitter" else (attached, [submitted])
        for each in early:
            await each.outcome()
        for _ in range(3):  # whatever the first ones do about the status has been done
            await quick_client(owner, others, first).session.sync()
        assert not any(each.ended.done() for each in late)
        slow.pass_on()

        for each in late:
            assert (await each.outcome()).state is OutcomeState.DONE
        await until(lambda: read_marks(stage), "the outcome to be marked as read")
        for role in (owner, *others):
            await stage.stop(role)


def quick_client(owner: StagedClient, others: list[StagedClient], first: str) -> StagedClient:
    return owner if first == "the submitter" else others[0]


async def read_marks(stage: Stage) -> bool:
    names = await stage.names(layout.WAITERS)
    return bool(names) and all([await stage.data(layout.waiters_path(name)) == b"read" for name in names])


async def test_an_outcome_that_was_left_to_others_goes_after_a_while(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(f"/tasks/{name}")
    owner, other = await stage.client(), await stage.client()
    (submitted,) = await wait_for(owner, name)
    attached = other.wait_by_name(name)
    await registered(stage, other, name=name)
    await stage.zk.delete(f"/tasks/{name}")
    await stage.put(f"/status/{name}", data=b"done")
    await submitted.outcome()
    await attached.outcome()
    assert await stage.exists(f"/status/{name}")

    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=0.5, dead=9.0, journal=9.0)))
    await stage.until_empty()
    await stage.until_empty(layout.WAITERS)


async def test_a_waiter_that_gives_up_leaves_the_outcome_to_be_collected(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(f"/tasks/{name}")
    owner, other = await stage.client(), await stage.client()
    (submitted,) = await wait_for(owner, name)
    other.wait_by_name(name)
    await registered(stage, other, name=name)
    other.outcomes.forget(name)
    await stage.until_empty(layout.WAITERS)
    await stage.zk.delete(f"/tasks/{name}")
    await stage.put(f"/status/{name}", data=b"done")

    await submitted.outcome()
    await stage.until_empty()


async def test_a_waiter_registers_again_in_its_next_session(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(f"/tasks/{name}")
    owner, other = await stage.client(), await stage.client()
    (submitted,) = await wait_for(owner, name)
    attached = other.wait_by_name(name)
    await registered(stage, other, name=name)
    session = other.session
    await stage.expire(other)
    await until(lambda: other.session is not session, "a new session")
    await registered(stage, other, name=name)
    await stage.put(f"/status/{name}", data=b"done")

    await submitted.outcome()
    await attached.outcome()


# --- tasks that vanish -----------------------------------------------------------------------------------------------


async def test_a_submitted_task_that_was_deleted_is_found_to_be_gone_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "LOOK_AT_ALL_SECONDS", 0.2)
    monkeypatch.setattr(outcomes, "FIRST_LOOK_SECONDS", 0.1)
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(30)]
    for each in submitted:
        await each.accepted
    await asyncio.sleep(0.5)  # some looks, which find them
    assert not any(each.ended.done() for each in submitted)
    for each in submitted[1:]:
        await stage.zk.delete(f"/tasks/{each.name}")

    for each in submitted[1:]:
        with pytest.raises(OutcomeGone, match=each.name):
            await each.outcome()
    assert not submitted[0].ended.done()


async def test_after_a_new_session_a_task_that_has_vanished_is_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an in-memory server was restarted, which knows neither the session nor the task."""
    monkeypatch.setattr(outcomes, "FIRST_LOOK_SECONDS", 0.1)
    client = await stage.client()
    submitted = client.put_raw()
    await submitted.accepted
    await asyncio.sleep(0.3)  # the first look of the first session is over
    await stage.clear()
    await stage.expire(client)

    with pytest.raises(OutcomeGone, match=submitted.name):
        await submitted.outcome()


@pytest.mark.parametrize("count", [1, 3000], ids=["asked for one by one", "in listings"])
async def test_a_task_that_moves_all_the_time_is_never_missed(stage: Stage, count: int) -> None:
    name = new_raw_name()
    places = [
        f"/tasks/{name}",
        f"/assign/worker-a/{name}",
        f"/delayed/1700000000000-{name}",
        f"/assign/worker-b/{name}",
    ]
    await make_folders(stage.zk)
    await stage.put(places[0], "/assign/worker-a", "/assign/worker-b")
    done = asyncio.Event()

    async def move() -> None:
        here = 0
        while not done.is_set():
            there = (here + 1) % len(places)
            await stage.zk.transaction().delete(places[here]).create(places[there]).commit()
            here = there

    moving = asyncio.ensure_future(move())
    client = await stage.client()
    others = [new_raw_name() for _ in range(count - 1)]
    for _ in range(40):
        assert await find_missing(client.session, [name, *others]) == others
    done.set()
    await moving


async def test_a_folder_that_cannot_be_listed_is_told_and_its_tasks_are_not_called_missing(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.set_acl("/tasks", WRITE_ONLY)
    try:
        with pytest.raises(errors.NoAuth):
            await find_missing(stage.zk, [new_raw_name() for _ in range(3000)])
    finally:
        await stage.zk.set_acl("/tasks", OPEN_ACL)


async def test_a_timer_that_fires_a_little_early_does_not_make_the_client_spin(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop runs a timer whose time has come within the resolution of its clock."""
    monkeypatch.setattr(outcomes, "LOOK_AT_ALL_SECONDS", 0.2)
    monkeypatch.setattr(outcomes, "FIRST_LOOK_SECONDS", 0.2)
    looks = 0

    timeout_at = asyncio.timeout_at

    def timeout_early(when: float | None) -> asyncio.Timeout:
        nonlocal looks
        looks += 1
        return timeout_at(None if when is None else when - 0.02)

    monkeypatch.setattr("herdmaster.roles.client.outcomes.asyncio.timeout_at", timeout_early)
    await stage.client()
    await asyncio.sleep(0.5)  # at least 0.16 s lie between two looks
    assert 1 <= looks <= 6
