"""Several clients that wait for one task: each gets the outcome, whichever reads it first."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from tests.proxy import Proxy
from tests.roles.client.waiting import wait_for
from tests.roles.stage import TIMEOUT, Stage, StagedClient, new_call_name, new_raw_name, until


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


@pytest.mark.long
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


async def test_a_kept_outcome_stays_unmarked_after_every_client_has_read_it(stage: Stage) -> None:
    name = new_call_name()
    await stage.put(f"/tasks/{name}")
    owner, other = await stage.client(), await stage.client()
    (submitted,) = await wait_for(owner, name)
    attached = other.wait_by_name(name)
    await registered(stage, other, name=name)
    await stage.zk.delete(f"/tasks/{name}")
    await stage.put(f"/status/{name}", data=encode_outcome(name, Outcome(OutcomeState.DONE, keep=True)))
    await submitted.outcome()
    await attached.outcome()

    again = [other.wait_by_name(name), owner.wait_by_name(name)]
    assert [(await each.outcome()).state for each in again] == [OutcomeState.DONE] * 2
    await stage.until_empty(layout.WAITERS)  # no client waits, and none has marked it
    for role in (owner, other):
        await role.session.sync()  # what they do about the status has been done
    assert await stage.names(layout.STATUS) == [name]


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
