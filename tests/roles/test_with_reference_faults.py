"""Our roles beside those of the reference with the faults that the programs really have: what ours alone hold is not
lost, and what the others leave lying stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.overdue import Patience
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of
from tests.reference.master import MasterState, ReferenceMaster
from tests.reference.masters import CMaster, CuratorMaster
from tests.reference.worker import ReferenceWorker
from tests.roles.stage import TIMEOUT, Ran, Stage, Submitted, new_raw_name, until

pytestmark = pytest.mark.long

SETTINGS = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0, patience=Patience(task=1.0, inbox=1.0))


@pytest.fixture
async def close_later() -> AsyncIterator[Callable[[Callable[[], None]], object]]:
    with ExitStack() as stack:
        yield stack.callback
        await asyncio.to_thread(stack.close)


CloseLater = Callable[[Callable[[], None]], object]


async def test_a_java_worker_that_repeats_its_status_at_the_wrong_path_leaves_nothing_behind(
    stage: Stage, namespace: str, close_later: CloseLater
) -> None:
    await stage.master(SETTINGS)
    client = await stage.client()
    async with Proxy(namespace) as proxy:
        worker = ReferenceWorker(proxy.hosts, session_timeout=TIMEOUT, repeats_wrongly=True)
        close_later(worker.close)
        await asyncio.to_thread(worker.start)
        lost = proxy.lose_reply(request_of(OpCode.CREATE, layout.STATUS))
        name = new_raw_name()
        await stage.put(layout.task_path(name))
        await stage.until_exists(f"{layout.status_path(name)}/status")
        assert lost.happened.is_set()
        submitted = Submitted(name)
        submitted.accepted.set_result(None)
        client.outcomes.wait_for(name, submitted.handle_ended)
        assert (await submitted.outcome()).state is OutcomeState.DONE
        await stage.until_gone(layout.status_path(name))
        await asyncio.to_thread(worker.close)  # perhaps its delete of the assignment was lost, too
    await stage.worker(raw=Ran())
    await stage.until_gone(layout.inbox_path(worker.name))
    await stage.until_empty(layout.TASKS)


async def test_a_task_whose_delete_a_java_master_lost_ends_and_is_dropped(
    stage: Stage, namespace: str, close_later: CloseLater
) -> None:
    async with Proxy(namespace) as proxy:
        primary = ReferenceMaster(proxy.hosts, session_timeout=TIMEOUT, repeats_wrongly=True)
        close_later(primary.close)
        await asyncio.to_thread(primary.start)
        await stage.master(SETTINGS, is_primary=False)
        gate = stage.gate()
        worker = await stage.worker(raw=gate)
        await until(lambda: primary.workers == [worker.name], "the worker to be noticed")
        client = await stage.client()
        lost = proxy.lose_request(request_of(OpCode.DELETE, layout.TASKS))
        submitted = client.put_raw()
        await until(lambda: gate.entered == [submitted.name], "it to run")
        await lost.happened.wait()
        await stage.until_empty(layout.TASKS)  # by the master that stands in
        gate.open()
        assert (await submitted.outcome()).state is OutcomeState.DONE
        await stage.until_empty()

        assert gate.entered == [submitted.name]
        await asyncio.to_thread(primary.close)


async def test_two_java_masters_that_both_take_themselves_for_the_primary_lose_nothing_of_ours(
    stage: Stage, namespace: str, close_later: CloseLater
) -> None:
    """Both have one id: the second one's create of /master is lost, and it finds its own id there."""
    first = ReferenceMaster(namespace, session_timeout=TIMEOUT, master_id="1a2b")
    close_later(first.close)
    await asyncio.to_thread(first.start)
    async with Proxy(namespace) as proxy:
        lost = proxy.lose_reply(request_of(OpCode.CREATE, layout.MASTER))
        second = ReferenceMaster(proxy.hosts, session_timeout=TIMEOUT, master_id="1a2b")
        close_later(second.close)
        await asyncio.to_thread(second.start)
        assert lost.happened.is_set()
        assert (first.state, second.state) == (MasterState.ELECTED, MasterState.ELECTED)
        await stage.master(SETTINGS, is_primary=False)
        workers = [await stage.worker(raw=Ran()) for _ in range(2)]
        names = sorted(worker.name for worker in workers)
        await until(lambda: first.workers == second.workers == names, "the workers to be noticed")
        client = await stage.client()
        submitted = [client.put_raw() for _ in range(30)]
        for each in submitted:
            assert (await each.outcome()).state is OutcomeState.DONE
        await asyncio.to_thread(second.close)
    await asyncio.to_thread(first.close)
    await stage.until_empty(layout.TASKS)


async def test_under_a_c_master_our_tasks_run_and_those_of_a_lost_worker_too(
    stage: Stage, close_later: CloseLater
) -> None:
    primary = CMaster(stage.hosts, session_timeout=TIMEOUT)
    close_later(primary.close)
    await asyncio.to_thread(primary.start)
    await stage.master(SETTINGS, is_primary=False)
    gate = stage.gate()
    lost = await stage.worker(raw=gate)
    await until(lambda: primary.workers == [lost.name], "the worker to be noticed")
    client = await stage.client()
    ours = client.put_raw()  # its name is longer than what the C program reads
    theirs = "task-0000000001"
    await stage.put(layout.task_path(theirs))
    await until(lambda: {ours.name, theirs} == set(gate.entered), "both to run", 20)
    await stage.abandon(lost)
    ran = Ran()
    await stage.worker(raw=ran)
    assert (await ours.outcome(30)).state is OutcomeState.DONE
    await stage.until_exists(layout.status_path(theirs))

    assert sorted(ran.names) == sorted([ours.name, theirs])


async def test_when_a_c_master_has_died_of_a_task_without_a_worker_ours_takes_over(
    stage: Stage, close_later: CloseLater
) -> None:
    primary = CMaster(stage.hosts, session_timeout=TIMEOUT)
    close_later(primary.close)
    await asyncio.to_thread(primary.start)
    master = await stage.master(SETTINGS, is_primary=False)
    await stage.put(layout.task_path("task-0000000001"))
    await until(lambda: master.is_primary, "ours to take over")
    await stage.worker(raw=Ran())

    await stage.until_exists(layout.status_path("task-0000000001"))


async def test_what_stands_in_tasks_survives_a_curator_master_and_its_workers(
    stage: Stage, close_later: CloseLater
) -> None:
    primary = CuratorMaster(stage.hosts, session_timeout=TIMEOUT)
    close_later(primary.close)
    await asyncio.to_thread(primary.start)
    await stage.master(SETTINGS, is_primary=False)
    gate = stage.gate()
    drained = await stage.worker(raw=gate, slots=1, drain_timeout=0.3)
    await until(lambda: primary.workers == [drained.name], "the worker to be noticed")
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(5)]
    inbox = layout.inbox_path(drained.name)

    async def holds_all() -> bool:
        return len(await stage.names(inbox)) == 5

    await until(holds_all, "all to be assigned")
    end = asyncio.ensure_future(stage.stop(drained))  # what it leaves would be deleted
    await until(lambda: not primary.workers, "its end to be noticed")
    await end
    gate.open()
    await asyncio.to_thread(primary.close)  # its /master stays, so no master of ours can be primary
    await stage.worker(raw=(ran := Ran()))
    for each in submitted:
        assert (await each.outcome(30)).state is OutcomeState.DONE

    assert set(ran.names) == {each.name for each in submitted}


async def test_a_status_called_null_and_other_names_below_status_disturb_nothing(stage: Stage) -> None:
    await stage.put(f"{layout.STATUS}/null", f"{layout.STATUS}/{new_raw_name()}/status", data=b"done")
    await stage.master(SETTINGS)
    await stage.worker(raw=Ran())
    client = await stage.client()

    assert (await client.put_raw().outcome()).state is OutcomeState.DONE
