"""Overdue tasks are assigned and recovered by the master that stands in."""

from __future__ import annotations

import asyncio
import time

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.queues import QueueSettings, encode_queue
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.overdue import Patience
from herdmaster.zookeeper.model import Acl, Id, Permission
from tests.roles.stage import (
    REFERENCE,
    TIMEOUT,
    Ran,
    Stage,
    StagedMaster,
    call_payload,
    new_call_name,
    new_raw_name,
    until,
)

PATIENCE = 0.4


async def stand_in(stage: Stage, *, task: float = PATIENCE, inbox: float = PATIENCE) -> StagedMaster:
    await stage.play_primary(REFERENCE)
    settings = MasterSettings(session_timeout=TIMEOUT, patience=Patience(task=task, inbox=inbox))
    return await stage.master(settings, is_primary=False)


async def made_at(stage: Stage, path: str) -> int:
    stat = await stage.zk.exists(path)
    assert stat is not None
    return stat.ctime


@pytest.mark.long
async def test_tasks_that_stand_too_long_are_assigned_calls_to_our_workers_only(stage: Stage) -> None:
    await stage.put("/workers/worker-1a2b", data=b"Idle")
    await stage.put("/assign/worker-1a2b")
    await stand_in(stage)
    await stage.worker({"m:f": lambda: 1}, raw=Ran())
    call, raw = new_call_name(), new_raw_name()
    await stage.put(layout.task_path(call), data=call_payload("m:f"))
    put_at = await made_at(stage, layout.task_path(call))
    await stage.until_exists(layout.status_path(call))
    assert await made_at(stage, layout.status_path(call)) - put_at >= PATIENCE * 1000

    await stage.put(layout.task_path(raw), data=b"raw")
    await stage.until_gone(layout.task_path(raw))

    async def has_moved() -> bool:
        return raw in [*await stage.names(layout.inbox_path("worker-1a2b")), *await stage.names(layout.STATUS)]

    await until(has_moved, "it to be assigned")
    assert call not in await stage.names(layout.inbox_path("worker-1a2b"))


@pytest.mark.long
async def test_inboxes_whose_workers_are_gone_too_long_are_recovered_and_stay(stage: Stage) -> None:
    first, late = new_raw_name(), new_raw_name()
    await stage.put(f"/assign/worker-gone/{first}", data=b"payload")
    await stand_in(stage)
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.until_exists(layout.status_path(first))
    # The primary had not heard yet that the worker is gone, and is about to delete what it assigned from /tasks.
    await stage.put(f"/assign/worker-gone/{late}", data=b"late")
    put_at = await made_at(stage, f"/assign/worker-gone/{late}")
    await stage.until_exists(layout.status_path(late))

    assert await made_at(stage, layout.status_path(late)) - put_at >= PATIENCE * 1000
    assert ran.payloads == {first: b"payload", late: b"late"}
    assert "worker-gone" in await stage.names(layout.ASSIGN)


@pytest.mark.long
async def test_nothing_is_done_while_the_primary_is_young(stage: Stage) -> None:
    await stand_in(stage, task=1.0)
    await stage.put(layout.task_path(name := new_raw_name()))
    for number in range(5):
        await asyncio.sleep(0.2)
        # In one transaction: the master that stands in would be elected between the two.
        await stage.zk.transaction().delete(layout.MASTER).create(layout.MASTER, f"{number:x}".encode()).commit()
    took_over = await made_at(stage, layout.MASTER)
    await stage.worker(raw=Ran())
    await stage.until_exists(layout.status_path(name))

    assert await made_at(stage, layout.status_path(name)) - took_over >= 1000


@pytest.mark.long
async def test_of_two_copies_one_is_dropped(stage: Stage) -> None:
    gate = stage.gate()
    ended, held, left, unread = (new_raw_name() for _ in range(4))
    worker = await stage.worker(raw=gate, slots=2)
    await stage.put(*map(layout.task_path, (ended, held, left)), data=b"x")
    await stage.put(layout.status_path(ended), data=b"done")
    await stage.put(layout.assignment_path(worker.name, held), f"/assign/worker-gone/{left}", data=b"x")
    only_al = (Acl(int(Permission.ALL), Id("digest", "al:x")),)
    await stage.zk.create(layout.task_path(unread), b"x", acl=only_al)
    await stand_in(stage)
    await stage.until_gone(f"/assign/worker-gone/{left}")
    await stage.until_empty(layout.TASKS)
    await until(lambda: set(gate.entered) == {held, left}, "both to run")
    gate.open()
    await stage.until_empty(layout.inbox_path(worker.name))

    assert sorted(gate.entered) == sorted([held, left])
    assert await stage.names(layout.STATUS) == sorted([ended, held, left, unread])
    assert (await stage.data(layout.status_path(unread))).startswith(b"failed: BadPayload: its payload cannot be read")


@pytest.mark.long
async def test_conditions_and_pauses_hold_for_what_is_overdue_too(stage: Stage) -> None:
    await stage.put(layout.queue_path("mail"), data=encode_queue(QueueSettings(paused=True)))
    await stand_in(stage)
    now = time.time_ns() // 1_000_000
    over, valid, paused = new_call_name() + ".c", new_call_name() + ".c", new_call_name("mail")
    for name, expires in ((over, now - 1), (valid, now + 600_000)):
        call = Call(1, "m:f", *encode_arguments((), {}), expires=expires)
        await stage.put(layout.task_path(name), data=encode_call(call))
    await stage.put(layout.task_path(paused), data=call_payload("m:f"))
    await stage.worker({"m:f": lambda: 1}, queues=("default", "mail"))
    states = {}
    for name in (over, valid):
        await stage.until_exists(layout.status_path(name))
        states[name] = decode_outcome(name, await stage.data(layout.status_path(name))).state

    assert states == {over: OutcomeState.EXPIRED, valid: OutcomeState.DONE}
    assert await stage.names(layout.TASKS) == [paused]


@pytest.mark.long
async def test_a_connection_that_breaks_costs_a_round(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stand_in(stage)
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.put(layout.task_path(name := new_raw_name()))
    stage.break_connections()
    await until(lambda: ran.names == [name], "it to run")

    assert not any("starting again" in message for message in caplog.messages)
