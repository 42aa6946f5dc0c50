"""Tasks with a uniqueness key: whatever is lost on the way, one of them is accepted, and the others learn which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted
from herdmaster.roles.client.journal_items import Accepted, KeyTaken
from herdmaster.roles.client.key_claims import KeyedSubmissions
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.lagging import lagging
from tests.proxy import Fault, Match, Proxy, multi_with, request_of
from tests.roles.stage import Stage, StagedClient, Submitted, new_call, until

pytestmark = pytest.mark.long

KEY = hash_key("the key")


def _keyed(key: str = KEY) -> NewTask:
    return msgspec.structs.replace(new_call("m:f"), key_hash=key)


async def _holder(*submitted: Submitted) -> str:
    """The name of the task that was accepted, once everybody has been told; exactly one."""
    async with asyncio.timeout(30):
        told = await asyncio.gather(*(each.accepted for each in submitted), return_exceptions=True)
    accepted = [each.name for each, error in zip(submitted, told, strict=True) if error is None]
    others = [error for error in told if error is not None]
    assert all(isinstance(error, DuplicateTask) for error in others), others
    named = {error.name for error in others if isinstance(error, DuplicateTask)}
    assert len(accepted) <= 1
    assert len(named | set(accepted)) == 1
    return (accepted or list(named))[0]


async def test_the_second_task_with_a_key_is_told_who_holds_it(stage: Stage) -> None:
    client, other = await stage.client(), await stage.client()
    first = client.put(_keyed())
    await first.accepted
    second, third = client.put(_keyed()), other.put(_keyed())

    assert await _holder(first, second, third) == first.name
    assert await stage.names(layout.TASKS) == [first.name]
    assert await stage.data(layout.key_path(KEY)) == first.name.encode()


async def test_of_many_with_one_key_that_are_submitted_at_once_one_is_accepted(stage: Stage) -> None:
    client, other = await stage.client(), await stage.client()
    submitted = [each.put(_keyed()) for _ in range(250) for each in (client, other)]
    plain = [client.put_raw() for _ in range(50)]

    holder = await _holder(*submitted)
    await asyncio.gather(*(each.accepted for each in plain))
    assert await stage.names(layout.TASKS) == sorted([holder, *(each.name for each in plain)])


async def test_a_taken_key_holds_up_no_other_task_of_the_batch(stage: Stage) -> None:
    client = await stage.client()
    first = client.put(_keyed())
    await first.accepted
    submitted = [client.put(_keyed()) if number == 30 else client.put_raw() for number in range(60)]
    await asyncio.gather(*(each.accepted for each in submitted), return_exceptions=True)

    assert isinstance(submitted[30].accepted.exception(), DuplicateTask)
    assert len(await stage.names(layout.TASKS)) == 60


async def test_a_key_that_goes_before_its_holder_is_read_is_free_again(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        first = client.put(_keyed())
        await first.accepted
        held = proxy.hold_request(request_of(OpCode.SYNC))
        second = client.put(_keyed())
        await held.happened.wait()
        await stage.zk.delete(layout.key_path(KEY))
        held.go_on.set()
        await second.accepted

        assert await stage.data(layout.key_path(KEY)) == second.name.encode()
        assert await stage.names(layout.TASKS) == sorted([first.name, second.name])
        await stage.stop(client)


Lose = Callable[[Proxy, Match], Fault]


def _lose_request(proxy: Proxy, match: Match) -> Fault:
    return proxy.lose_request(match)


def _lose_reply(proxy: Proxy, match: Match) -> Fault:
    return proxy.lose_reply(match)


@pytest.mark.parametrize("lose", [_lose_request, _lose_reply])
@pytest.mark.parametrize(
    "step", [multi_with(f"/keys/{KEY}"), request_of(OpCode.SYNC), request_of(OpCode.MULTI_READ, f"/keys/{KEY}")]
)
@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_whatever_is_lost_on_the_way_one_task_holds_the_key(
    namespace: str, stage: Stage, lose: Lose, step: Match, expires: bool
) -> None:
    other = await stage.client()
    first = other.put(_keyed())
    await first.accepted
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await client.put_raw().accepted
        lost = lose(proxy, step)
        second, third = client.put(_keyed()), client.put(_keyed())
        await lost.happened.wait()
        if expires:
            proxy.refuse()
            await stage.expire(client)
            proxy.refuse(refusing=False)

        assert await _holder(first, second, third) == first.name
        assert first.name in await stage.names(layout.TASKS)
        assert len(await stage.names(layout.TASKS)) == 2
        await stage.stop(client)


@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
@pytest.mark.parametrize("lose", [_lose_request, _lose_reply])
async def test_a_claim_whose_answer_is_lost_is_not_taken_for_another_ones(
    namespace: str, stage: Stage, lose: Lose, expires: bool
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await client.put_raw().accepted
        lost = lose(proxy, multi_with(f"/keys/{KEY}"))
        first, second = client.put(_keyed()), client.put(_keyed())
        await lost.happened.wait()
        if expires:
            proxy.refuse()
            await stage.expire(client)
            proxy.refuse(refusing=False)

        assert await _holder(first, second) == first.name
        assert first.accepted.exception() is None
        assert len(await stage.names(layout.TASKS)) == 2
        await stage.stop(client)


async def test_a_client_that_gives_up_is_told_and_the_next_one_claims_the_key(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await client.put_raw().accepted
        proxy.refuse()
        await until(lambda: client.session.state.value == "disconnected", "the loss of the connection")
        first, second, third = (client.put(_keyed()) for _ in range(3))
        client.give_up(first.name)
        client.give_up(third.name)
        for each in (first, third):
            with pytest.raises(NotSubmitted):
                await each.accepted
        proxy.refuse(refusing=False)
        await second.accepted

        assert second.name in await stage.names(layout.TASKS)
        await stage.stop(client)


async def test_a_client_that_seeks_the_holder_at_the_end_was_not_accepted(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        await client.put(_keyed()).accepted
        held = proxy.hold_request(request_of(OpCode.SYNC))
        second, third = client.put(_keyed()), client.put(_keyed())
        await held.happened.wait()
        stopping = asyncio.ensure_future(stage.stop(client))
        held.go_on.set()
        await stopping

        told = await asyncio.gather(second.accepted, third.accepted, return_exceptions=True)
        assert [type(error) for error in told] in ([NotSubmitted] * 2, [DuplicateTask] * 2)


async def test_a_key_that_names_no_task_says_what_to_delete(stage: Stage) -> None:
    client = await stage.client()
    await stage.put(layout.key_path(KEY), data=b"no task")

    with pytest.raises(NotSubmitted, match=rf"/keys/{KEY} names no task but 'no task'; delete it"):
        await client.put(_keyed()).accepted


async def test_the_outcome_of_a_task_with_a_key_is_not_collected(stage: Stage) -> None:
    client, other = await stage.client(), await stage.client()
    await _ended_with_key(stage, client)

    (name,) = await stage.names(layout.STATUS)
    assert (await other.wait_by_name(name).outcome()).key == KEY
    await client.put_raw().accepted
    assert await stage.names(layout.STATUS) == [name]


async def _ended_with_key(stage: Stage, client: StagedClient) -> None:
    submitted = client.put(_keyed())
    await submitted.accepted
    status = b'{"herd":1,"state":"done","result":5,"key":"%s"}' % KEY.encode()
    await stage.put(layout.status_path(submitted.name), data=status)
    assert (await submitted.outcome()).key == KEY


def test_a_delay_counts_from_when_it_was_asked_for_however_long_its_key_was_anothers() -> None:
    now = 0.0
    sent: list[tuple[str, float]] = []
    settle: list[Accepted] = []

    def submit(task: NewTask, accepted: Accepted, asked_at: float) -> None:
        sent.append((task.name, asked_at))
        settle.append(accepted)

    keyed = KeyedSubmissions(submit, lambda: now)
    tasks = [_keyed(), _keyed()]
    for number, task in enumerate(tasks):
        now = 10.0 + number
        keyed.submit(task, lambda _task, _error: None)
    now = 30.0
    settle[0](tasks[0], NotSubmitted("no connection"))
    assert sent == [(tasks[0].name, 10.0), (tasks[1].name, 11.0)]


class Journal:
    """Claims that were sent, and what their callers were told."""

    def __init__(self) -> None:
        self.sent: list[Accepted] = []
        self.told: list[HerdError | None] = []
        self.keyed = KeyedSubmissions(lambda _task, accepted, _asked_at: self.sent.append(accepted), lambda: 0.0)

    def submit(self, task: NewTask) -> None:
        self.keyed.submit(task, lambda _task, error: self.told.append(error))


async def test_a_server_that_lags_behind_names_no_former_holder() -> None:
    journal, task, holder, former = Journal(), _keyed(), new_call("m:f").name, new_call("m:f").name
    journal.submit(task)
    journal.sent[0](task, KeyTaken(KEY))
    path = layout.key_path(KEY)
    finding = asyncio.ensure_future(journal.keyed.run(lagging({path: holder.encode()}, {path: former.encode()})))
    async with asyncio.timeout(5):
        while not journal.told:
            await asyncio.sleep(0)
    finding.cancel()
    assert [error.name for error in journal.told if isinstance(error, DuplicateTask)] == [holder]


async def test_a_claim_that_is_given_up_while_its_old_key_is_looked_for_is_not_sent() -> None:
    journal = Journal()
    task = msgspec.structs.replace(_keyed(), old_key_hash=hash_key("old"))
    journal.submit(task)

    class Client:
        async def multi_read(self, paths: Iterable[str]) -> list[object]:
            journal.keyed.give_up(task.name)
            return [errors.NoNode(path) for path in paths]

    client: Any = Client()
    finding = asyncio.ensure_future(journal.keyed.run(client))
    async with asyncio.timeout(5):
        while not journal.told:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    finding.cancel()
    assert (len(journal.told), journal.sent) == (1, [])
