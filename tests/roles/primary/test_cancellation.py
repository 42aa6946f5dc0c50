"""Cancelling: the task ends as cancelled where it is, or the request goes."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.children import NOTHING, key_of_child
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import with_saved
from herdmaster.core.transitions import NewTask
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.model import Acl, CreateMode, Id, Permission
from tests.proxy import Proxy, multi_with
from tests.roles.primary.test_promotion import now_ms
from tests.roles.stage import Ran, Stage, call_payload, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


async def request(stage: Stage, *tasks: str) -> None:
    await stage.put(*map(layout.cancel_path, tasks), data=b"")


async def test_a_waiting_task_ends_as_cancelled(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    call, raw = client.put_call("m:f"), client.put_raw()
    await call.accepted
    await raw.accepted
    await request(stage, call.name, raw.name)

    assert (await call.outcome()).state is OutcomeState.CANCELLED
    assert (await raw.outcome()).state is OutcomeState.CANCELLED
    await stage.until_empty()
    assert await stage.names(layout.CANCEL) == []


async def test_a_delayed_task_ends_as_cancelled_and_never_runs(stage: Stage) -> None:
    await stage.master()
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    submitted = client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 600_000))
    await submitted.accepted
    await request(stage, submitted.name)

    assert (await submitted.outcome()).state is OutcomeState.CANCELLED
    await stage.until_empty()
    assert ran.names == []


async def test_an_assigned_task_ends_as_cancelled(stage: Stage) -> None:
    await stage.master()
    gate = stage.gate()
    await stage.worker(raw=gate, slots=1)
    client = await stage.client()
    running = client.put_raw()
    await until(lambda: gate.entered == [running.name], "it to run")
    await request(stage, running.name)
    assert (await running.outcome()).state is OutcomeState.CANCELLED
    gate.open()

    await stage.until_empty()
    assert await stage.names(layout.CANCEL) == []


async def test_a_task_of_a_lost_worker_is_cancelled_or_recovered_but_not_both(stage: Stage) -> None:
    names = [new_raw_name() for _ in range(100)]
    await stage.put(*(layout.assignment_path("worker-gone", name) for name in names))
    await request(stage, *names)
    await stage.master()
    await stage.until_empty(layout.CANCEL, layout.TASKS, "/assign")

    assert sorted(await stage.names(layout.STATUS)) == sorted(names)


async def test_a_request_for_a_task_that_has_ended_or_never_was_is_consumed(stage: Stage) -> None:
    await stage.master()
    ended, never = new_raw_name(), new_call_name()
    await stage.put(layout.status_path(ended), data=b"done")
    await request(stage, ended, never)
    await stage.until_empty(layout.CANCEL)

    assert await stage.leftovers() == [layout.status_path(ended)]
    assert await stage.data(layout.status_path(ended)) == b"done"


async def test_names_outside_of_the_grammar_are_left_alone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await make_folders(stage.zk)
    name = new_raw_name()
    await stage.put("/cancel/garbage", layout.cancel_path(name), data=b"\xff" * 1000)
    await stage.master()
    await stage.until_gone(layout.cancel_path(name))

    assert await stage.names(layout.CANCEL) == ["garbage"]
    assert sum("garbage" in message for message in caplog.messages) == 1


async def test_what_cannot_be_deleted_is_set_aside_and_holds_nothing_up(stage: Stage) -> None:
    await make_folders(stage.zk)
    stuck, free = new_raw_name(), new_raw_name()
    await stage.put(layout.task_path(stuck), layout.task_path(free))
    await stage.put(layout.cancel_path(stuck) + "/child")
    await request(stage, free)
    await stage.master()
    await stage.until_gone(layout.cancel_path(free))

    assert await stage.leftovers() == sorted([layout.task_path(stuck), layout.status_path(free)], reverse=True)


async def test_a_task_that_has_a_status_already_keeps_it(stage: Stage) -> None:
    """Only a worker of the reference leaves such: it writes the status before it deletes the assignment."""
    await stage.master()
    worker = await stage.worker(raw=stage.gate(), slots=1)
    name = new_raw_name()
    await stage.put(layout.status_path(name), data=b"done")
    await stage.put(layout.assignment_path(worker.name, name))
    await request(stage, name)
    await stage.until_empty(layout.CANCEL, layout.inbox_path(worker.name))

    assert await stage.data(layout.status_path(name)) == b"done"


async def test_a_payload_that_may_not_be_read_is_no_hindrance(stage: Stage) -> None:
    await make_folders(stage.zk)
    name = new_call_name()
    due = now_ms() + 600_000
    await stage.zk.create(layout.delayed_path(due, name), b"", acl=NOT_READABLE)
    await request(stage, name)
    await stage.master()
    await stage.until_empty(layout.CANCEL, layout.DELAYED)

    assert await stage.exists(layout.status_path(name))


@pytest.mark.parametrize("seed", range(3))
async def test_cancelling_while_tasks_are_assigned_run_and_end(stage: Stage, seed: int) -> None:
    """Each ends exactly once, as done or as cancelled, and nothing is left of it."""
    rng = random.Random(seed)
    await stage.master()
    await stage.worker({"m:f": lambda: None}, raw=Ran(), slots=2)
    client = await stage.client()
    tasks = []
    for _ in range(200):
        due = now_ms() + rng.randrange(400) if rng.random() < 0.4 else None
        if rng.random() < 0.5:
            tasks.append(client.put(NewTask(new_raw_name(), b"", due_ms=due)))
        else:
            tasks.append(client.put(NewTask(new_call_name(), call_payload("m:f"), due_ms=due)))
        if rng.random() < 0.3:
            chosen = rng.choice(tasks)
            await chosen.accepted
            if not await stage.exists(layout.cancel_path(chosen.name)):
                await request(stage, chosen.name)
        if rng.random() < 0.02:
            stage.break_connections()
    outcomes = await asyncio.gather(*(task.outcome(40.0) for task in tasks))

    assert {outcome.state for outcome in outcomes} == {OutcomeState.DONE, OutcomeState.CANCELLED}
    await stage.until_empty()
    await stage.until_empty(layout.CANCEL)


@pytest.mark.parametrize("loses", ["request", "reply"])
async def test_a_lost_transaction_is_not_guessed_at(namespace: str, stage: Stage, loses: str) -> None:
    name = new_raw_name()
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        await stage.put(layout.task_path(name))
        match = multi_with(layout.CANCEL)
        fault = proxy.lose_request(match) if loses == "request" else proxy.lose_reply(match)
        await request(stage, name)
        await fault.happened.wait()
        await stage.until_empty(layout.CANCEL, layout.TASKS)
        await stage.close()

    assert await stage.data(layout.status_path(name)) == b"failed: TaskCancelled"


async def test_requests_outlive_the_primary(stage: Stage) -> None:
    await make_folders(stage.zk)
    name = new_raw_name()
    await stage.put(layout.delayed_path(now_ms() + 600_000, name))
    await request(stage, name)
    await stage.master()

    await stage.until_empty(layout.CANCEL, layout.DELAYED)
    assert await stage.data(layout.status_path(name)) == b"failed: TaskCancelled"


async def test_the_death_of_the_primary_in_the_middle_of_cancelling_leaves_no_request_unanswered(
    namespace: str, stage: Stage
) -> None:
    names = [new_raw_name() for _ in range(40)]
    await stage.put(*(layout.delayed_path(now_ms() + 600_000, name) for name in names))
    async with Proxy(namespace) as proxy:
        fault = proxy.lose_reply(multi_with(layout.CANCEL))
        primary = await stage.master(hosts=proxy.hosts)
        await request(stage, *names)
        await fault.happened.wait()
        await stage.abandon(primary)
    await stage.master()
    await stage.until_empty(layout.CANCEL, layout.DELAYED, seconds=30.0)

    assert await stage.leftovers() == sorted(map(layout.status_path, names))


async def test_under_a_reference_primary_our_master_cancels(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, b"1a2b3c4d", mode=CreateMode.EPHEMERAL)
    await stage.master(is_primary=False)
    waiting, delayed, assigned, ended = (new_raw_name() for _ in range(4))
    await stage.put(
        layout.task_path(waiting),
        layout.delayed_path(now_ms() + 600_000, delayed),
        layout.assignment_path("worker-1a2b", assigned),
        layout.status_path(ended),
    )
    await request(stage, waiting, delayed, assigned, ended)
    await stage.until_empty(layout.CANCEL)

    assert await stage.leftovers() == sorted(map(layout.status_path, (waiting, delayed, assigned, ended)))


def with_children(payload: bytes, *children: str) -> bytes:
    return with_saved(payload, {key_of_child(each): msgspec.Raw(NOTHING) for each in children})


async def test_the_children_of_a_task_that_waits_are_cancelled_with_it(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    child, grandchild = client.put_call("m:f"), client.put_call("m:f")
    await child.accepted
    await grandchild.accepted
    parent, between = new_call_name(), new_call_name()
    await stage.put(layout.task_path(between), data=with_children(call_payload("m:f"), grandchild.name))
    gone = new_call_name()
    data = with_children(call_payload("m:f"), child.name, between, gone, "no name")
    await stage.put(layout.task_path(parent), data=data)
    await request(stage, parent, child.name)  # that of the child is there already

    assert (await child.outcome()).state is OutcomeState.CANCELLED
    assert (await grandchild.outcome()).state is OutcomeState.CANCELLED
    await stage.until_exists(layout.status_path(parent))
    await stage.until_empty(layout.CANCEL, layout.TASKS)


@pytest.mark.fallback("TRY_LATER_SECONDS")
async def test_a_child_that_comes_while_its_parent_is_cancelled_is_cancelled_too(stage: Stage, namespace: str) -> None:
    async with Proxy(namespace) as proxy:
        master = await stage.master(hosts=proxy.hosts)
        gate = stage.gate()
        worker = await stage.worker({"m:f": lambda: gate("runs", b"")}, slots=1)
        client = await stage.client()
        parent, child = client.put_call("m:f"), client.put_call("m:f", queue="unserved")
        await until(lambda: bool(gate.entered), "the parent to run")
        await child.accepted
        held = proxy.hold_request(multi_with(layout.cancel_path(parent.name), layout.status_path(parent.name)))
        await request(stage, parent.name)
        await until(held.happened.is_set, "the move that cancels")
        path = layout.assignment_path(worker.name, parent.name)
        await stage.zk.set(path, with_children(await stage.data(path), child.name))
        held.go_on.set()

        assert (await parent.outcome()).state is OutcomeState.CANCELLED
        assert (await child.outcome()).state is OutcomeState.CANCELLED
        await stage.until_empty(layout.CANCEL)
        await stage.stop(master)
