"""Outcomes: each is told once, whatever happens to connections and sessions, and then it is collected."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.outcome import Outcome, OutcomeState, decode_result, encode_outcome, encode_result
from herdmaster.errors import BadOutcome, HerdError
from herdmaster.roles.client.outcomes import MAX_READ
from herdmaster.zookeeper.model import Acl, Id, Permission
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.client.waiting import wait_for
from tests.roles.stage import Stage, new_call_name, new_raw_name, until

WRITE_ONLY = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


def outcome_of(name: str, value: object = 5) -> bytes:
    return encode_outcome(name, Outcome(OutcomeState.DONE, encode_result(value)))


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


@pytest.mark.long
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
    assert await stage.names(layout.STATUS) == [names[1]]  # it is not the client's to delete, whatever wrote it


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


async def test_an_outcome_that_is_not_taken_is_not_collected(stage: Stage) -> None:
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


async def test_what_is_not_waited_for_any_more_leaves_nothing_behind(stage: Stage) -> None:
    client = await stage.client()
    names = [new_raw_name() for _ in range(100)]
    await wait_for(client, *names)
    assert client.outcomes.waiting == 100
    for name in names:
        client.outcomes.forget(name)

    assert client.outcomes.waiting == 0
    watched = {path for table in client.session._session.watches._tables.values() for path in table}
    assert not any("/status/" in path for path in watched)
    await stage.put(f"/status/{names[0]}", data=b"done")
    (later,) = await wait_for(client, other := new_raw_name())
    await stage.put(f"/status/{other}", data=b"done")
    await later.outcome()
    assert await stage.exists(f"/status/{names[0]}")
