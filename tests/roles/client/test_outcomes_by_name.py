"""Tasks that are waited for by name, and tasks that vanish: each ends with OutcomeGone once it is nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from herdmaster.errors import OutcomeGone
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.client import outcomes
from herdmaster.zookeeper.client import Client
from tests.proxy import Proxy
from tests.roles.client.waiting import wait_for
from tests.roles.module_asyncio import replace_asyncio
from tests.roles.stage import Stage, new_raw_name, until


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
async def test_a_task_that_ends_without_an_outcome_keeps_no_client_waiting_that_knows_only_its_name(
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
            # It was in /tasks. Now it ends, and another client is quicker.
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


# --- tasks that vanish -----------------------------------------------------------------------------------------------


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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

    replace_asyncio(monkeypatch, outcomes, timeout_at=timeout_early)
    await stage.client()
    await asyncio.sleep(0.5)  # at least 0.16 s lie between two looks
    assert 1 <= looks <= 6
