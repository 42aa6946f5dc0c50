"""The primary: each task in one place, whatever it finds and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from herdmaster.core import layout
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.stage import LONGEST, TIMEOUT, Ran, Stage, new_raw_name, until

SHORT = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=0.3)


async def test_a_task_goes_to_a_worker_runs_and_ends(stage: Stage) -> None:
    await stage.master()
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    submitted = client.put_raw(b"data")
    await submitted.outcome()

    assert ran.payloads == {submitted.name: b"data"}
    await stage.until_empty()


async def test_no_worker_alive_keeps_the_backlog(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(300)]
    await asyncio.gather(*(each.accepted for each in submitted))
    assert len(await stage.names(layout.TASKS)) == 300
    await stage.worker()
    for each in submitted:
        await each.outcome()


async def test_tasks_go_to_the_queues_that_workers_serve(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.master()
    mail: list[int] = []
    await stage.worker({"m:f": mail.append}, queues=("mail",))
    client = await stage.client()
    lonely = client.put_call("m:f", 2, queue="slow")
    await client.put_call("m:f", 1, queue="mail").outcome()
    await until(lambda: "no worker serves queue slow: its tasks wait" in caplog.messages, "the word")
    assert mail == [1]
    await stage.worker({"m:f": mail.append}, queues=("slow",))

    await lonely.outcome()


async def test_the_log_tells_a_worker_that_has_drained_from_one_that_was_lost(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    drained, lost = await stage.worker(), await stage.worker()
    await until(lambda: {f"{drained.name} joined", f"{lost.name} joined"} <= set(caplog.messages), "both to join")
    caplog.clear()
    await stage.expire(lost)
    await until(lambda: f"{lost.name} was lost" in told_by_the_primary(caplog), "the word about the lost one")
    await stage.stop(drained)
    await until(lambda: f"{drained.name} has drained" in told_by_the_primary(caplog), "the word about the other")

    ends = [told for told in told_by_the_primary(caplog) if told.endswith(("was lost", "has drained"))]
    assert ends == [f"{lost.name} was lost", f"{drained.name} has drained"]


def told_by_the_primary(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "herdmaster.master"]


# --- the takeover ----------------------------------------------------------------------------------------------------


async def test_tasks_and_the_assignment_both_present_with_a_live_worker_runs_once(stage: Stage) -> None:
    ran = Ran()
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    name = new_raw_name()
    await stage.put(layout.assignment_path(worker.name, name), layout.task_path(name))
    await until(lambda: gate.entered == [name], "it to run")
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_empty(layout.TASKS)
    gate.open()
    await stage.until_exists(layout.status_path(name))

    assert (gate.entered, ran.names) == ([name], [])


async def test_tasks_and_the_assignment_both_present_with_a_lost_worker_runs_once(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(f"/assign/worker-gone/{name}", layout.task_path(name))
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_exists(layout.status_path(name))
    await stage.until_gone("/assign/worker-gone")

    assert ran.names == [name]
    assert await stage.leftovers() == [layout.status_path(name)]


async def test_a_status_that_exists_already_drops_what_else_there_is(stage: Stage) -> None:
    waiting, lost = new_raw_name(), new_raw_name()
    await stage.put(layout.task_path(waiting), layout.status_path(waiting), data=b"done")
    await stage.put(f"/assign/worker-gone/{lost}", layout.status_path(lost), data=b"done")
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_empty(layout.TASKS)
    await stage.until_gone("/assign/worker-gone")

    assert ran.names == []
    assert await stage.names(layout.STATUS) == sorted([waiting, lost])


@pytest.mark.parametrize("seed", range(4))
async def test_a_takeover_ends_with_each_task_in_one_place(stage: Stage, seed: int) -> None:
    rng = random.Random(seed)
    names = [new_raw_name() for _ in range(60)]
    gates = [stage.gate(), stage.gate()]
    alive = [(await stage.worker(raw=gate, slots=1)).name for gate in gates]
    ended = {name for name in names if rng.random() < 0.2}
    paths = {layout.inbox_path("worker-gone"), layout.inbox_path("worker-lost")}
    paths |= {layout.status_path(name) for name in ended}
    for name in names:
        inboxes = rng.sample(["worker-gone", "worker-lost"], rng.randrange(3))
        inboxes += rng.sample(alive, rng.randrange(2)) if name not in ended else []
        paths |= {layout.assignment_path(worker, name) for worker in inboxes}
        if not inboxes or rng.random() < 0.5:
            paths.add(layout.task_path(name))
    await stage.put(*sorted(paths))
    await stage.master(SHORT)
    await stage.until_gone(layout.inbox_path("worker-gone"))
    await stage.until_gone(layout.inbox_path("worker-lost"))

    async def is_settled() -> bool:
        found = [path.rpartition("/")[2] for path in await stage.leftovers()]
        return sorted(found) == sorted(names)

    await until(is_settled, "each task to be in one place")
    assert set(await stage.names(layout.STATUS)) == ended
    for gate in gates:
        gate.open()
    await stage.until_empty(layout.TASKS)
    for name in set(names) - ended:
        await stage.until_exists(layout.status_path(name))

    assert sorted(gates[0].entered + gates[1].entered) == sorted(set(names) - ended)


@pytest.mark.long
async def test_an_inbox_without_a_worker_goes_after_a_while_and_not_before(stage: Stage) -> None:
    await stage.put("/assign/worker-gone")
    await stage.master(MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0))
    await asyncio.sleep(0.3)
    assert await stage.exists("/assign/worker-gone")

    await stage.until_gone("/assign/worker-gone")


@pytest.mark.long
async def test_an_inbox_whose_worker_registers_later_stays(stage: Stage) -> None:
    await stage.master(MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0))
    await stage.put("/assign/worker-1a2b")  # as a reference worker does it, in two steps
    await stage.put("/workers/worker-1a2b", data=b"Idle")
    await stage.put("/assign/worker-gone")
    await stage.until_gone("/assign/worker-gone")  # so the time is over

    assert await stage.exists("/assign/worker-1a2b")


# --- workers that are lost -------------------------------------------------------------------------------------------


async def test_a_lost_workers_tasks_run_on_another_and_its_inbox_goes(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    gate, ran = stage.gate(), Ran()
    lost = await stage.worker(raw=gate, slots=4)
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(4)]
    await until(lambda: len(gate.entered) == 4, "all to run")
    name = lost.name
    await stage.worker(raw=ran)
    await stage.expire(lost)
    await stage.stop(lost)
    for each in submitted:
        await each.outcome()

    assert sorted(ran.names) == sorted(each.name for each in submitted)
    await stage.until_gone(layout.inbox_path(name))
    await until(lambda: f"recovered 4 tasks of {name}" in caplog.messages, "the word")


@pytest.mark.long
async def test_thousands_of_tasks_of_a_lost_worker_are_recovered(stage: Stage) -> None:
    names = [f"task-{number:010d}" for number in range(3000)]
    for start in range(0, len(names), 500):
        await stage.put(*(f"/assign/worker-gone/{name}" for name in names[start : start + 500]), data=b"x")
    ran = Ran()
    # All of it runs in one loop. On a busy machine this may take longer than a short session lives, and then some tasks
    # run twice.
    await stage.worker(raw=ran, slots=8, session_timeout=LONGEST)
    await stage.master(MasterSettings(session_timeout=LONGEST))
    await stage.until_gone("/assign/worker-gone", 30)
    await until(lambda: set(ran.names) == set(names), "all to run", 30)
    await stage.until_empty(layout.TASKS)


# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", ["lose_request", "lose_reply"])
@pytest.mark.parametrize("what", ["payloads", "assignment"])
async def test_what_is_lost_between_primary_and_server_is_done_once(
    namespace: str, stage: Stage, lose: str, what: str
) -> None:
    async with Proxy(namespace) as proxy:
        master = await stage.master(hosts=proxy.hosts)
        ran = Ran()
        await stage.worker(raw=ran)
        client = await stage.client()
        names = [new_raw_name() for _ in range(20)]
        match = request_of(OpCode.MULTI_READ, "/tasks/") if what == "payloads" else multi_with("/assign/", "/tasks/")
        lost = getattr(proxy, lose)(match)
        await stage.put(*map(layout.task_path, names))
        await stage.until_empty(layout.TASKS)
        await until(lambda: len(ran.names) >= len(names), "all to run")
        assert lost.happened.is_set()
        await stage.until_empty(layout.ASSIGN + "/" + (await stage.names(layout.ASSIGN))[0])
        await stage.stop(master)
        await stage.stop(client)

    assert sorted(ran.names) == sorted(names)


async def test_a_name_that_leaves_and_comes_back_between_listings_is_assigned_again(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        master = await stage.master(hosts=proxy.hosts)
        gate, ran = stage.gate(), Ran()
        first = await stage.worker(raw=gate, slots=1)
        name = new_raw_name()
        await stage.put(layout.task_path(name))
        await until(lambda: gate.entered == [name], "it to run")
        proxy.refuse()
        await until(lambda: master.session.state.value == "disconnected", "the loss of the connection")
        # Handed back while the primary does not look: the listing that it sees next is the one from before.
        await stage.zk.delete(layout.assignment_path(first.name, name))
        await stage.put(layout.task_path(name))
        await stage.worker(raw=ran, slots=8)
        proxy.refuse(refusing=False)
        # By either: the first has room again, since what it still runs is not its task any more.
        await until(lambda: len(gate.entered) + len(ran.names) == 2, "it to run again")
        gate.open()
        await stage.until_exists(layout.status_path(name))
        await stage.stop(master)

    assert set(gate.entered + ran.names) == {name}


async def test_a_takeover_that_is_interrupted_begins_again(namespace: str, stage: Stage) -> None:
    waiting, ended = new_raw_name(), new_raw_name()
    await stage.put(*map(layout.task_path, (waiting, ended)), layout.status_path(ended))
    async with Proxy(namespace) as proxy:
        ran = Ran()
        await stage.worker(raw=ran)
        lost = proxy.lose_reply(request_of(OpCode.GET_CHILDREN, layout.TASKS))
        starting = asyncio.ensure_future(stage.master(hosts=proxy.hosts))
        for folder in (layout.ASSIGN, layout.WORKERS, layout.STATUS):
            await lost.happened.wait()
            lost = proxy.lose_reply(request_of(OpCode.GET_CHILDREN, folder))
        await lost.happened.wait()
        master = await starting
        await stage.until_exists(layout.status_path(waiting))
        await stage.until_empty(layout.TASKS)
        await stage.stop(master)

    assert ran.names == [waiting]


async def test_a_primary_resigns_only_by_ending_its_session(stage: Stage) -> None:
    master = await stage.master()
    _, stat = await stage.zk.get(layout.MASTER)
    await stage.stop(master)

    assert master.session.state.is_final
    assert not await stage.exists(layout.MASTER)
    assert await stage.names(layout.MASTERS) == []
    assert stat.ephemeral_owner == master.session.session_id


@pytest.mark.long
@pytest.mark.fallback("TRY_LATER_SECONDS", "_TRY_LATER_SECONDS")  # then the move is tried again
async def test_a_folder_that_was_deleted_is_made_again(stage: Stage) -> None:
    await stage.master()
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    await client.put_raw().outcome()
    for folder in (layout.TASKS, layout.WORKERS, layout.ASSIGN, layout.STATUS):
        await stage.clear(folder)
        await client.put_raw().outcome()

    assert len(ran.names) == 5
