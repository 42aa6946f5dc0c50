"""Our roles beside those of the reference, where one of them fails in the middle of its two requests."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import TypeVar

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.transitions import NewTask
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy
from tests.reference.client import ReferenceClient
from tests.reference.master import MasterState, ReferenceMaster
from tests.reference.mixes import Role as ReferenceRole
from tests.reference.worker import ReferenceWorker
from tests.roles.stage import LONGEST, TIMEOUT, Ran, Stage, new_raw_name, until

RoleT = TypeVar("RoleT", bound=ReferenceRole)

SETTINGS = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0)


class IsdoneError(Exception):
    """Its name contains `done`."""


class References:
    """The reference's roles, which have threads of their own."""

    def __init__(self, hosts: str, stack: ExitStack) -> None:
        self._hosts = hosts
        self._stack = stack

    async def master(self) -> ReferenceMaster:
        return await self._start(ReferenceMaster(self._hosts, session_timeout=TIMEOUT))

    async def worker(
        self, execute: Callable[[str, bytes], None] = lambda _name, _data: None, session_timeout: float = TIMEOUT
    ) -> ReferenceWorker:
        return await self._start(ReferenceWorker(self._hosts, session_timeout=session_timeout, execute=execute))

    async def client(self) -> ReferenceClient:
        return await self._start(ReferenceClient(self._hosts, session_timeout=TIMEOUT))

    async def _start(self, role: RoleT) -> RoleT:
        self._stack.callback(role.close)
        await asyncio.to_thread(role.start)
        return role


@pytest.fixture
async def reference(stage: Stage) -> AsyncIterator[References]:
    with ExitStack() as stack:
        yield References(stage.hosts, stack)
        await asyncio.to_thread(stack.close)


# --- workers of the reference under our primary --------------------------------------------------------------------


async def test_a_reference_worker_that_dies_between_status_and_delete_makes_nothing_run_twice(stage: Stage) -> None:
    await stage.master(SETTINGS)
    ran = Ran()
    name = new_raw_name()
    # What is left of it: its session is over, the status is there, the assignment is there.
    await stage.put("/assign/worker-1a2b", f"/assign/worker-1a2b/{name}", layout.status_path(name), data=b"done")
    await stage.worker(raw=ran)
    await stage.until_gone("/assign/worker-1a2b")

    assert ran.names == []
    assert await stage.leftovers() == [layout.status_path(name)]


async def test_a_status_that_a_reference_worker_wrote_is_kept_when_ours_ends_the_same_task(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate)
    name = new_raw_name()
    await stage.put(layout.assignment_path(worker.name, name))
    await until(lambda: gate.entered == [name], "it to run")
    await stage.put(layout.status_path(name), data=b"done")
    gate.open()
    await stage.until_gone(layout.assignment_path(worker.name, name))

    assert await stage.data(layout.status_path(name)) == b"done"


async def test_a_status_that_was_collected_before_the_assignment_could_be_dropped_comes_not_back(
    namespace: str, stage: Stage
) -> None:
    """The assignment is dropped because of a status that is gone by then: the task has ended all the same."""
    async with Proxy(namespace) as proxy:
        gate = stage.gate()
        worker = await stage.worker(raw=gate, hosts=proxy.hosts)
        name = new_raw_name()
        await stage.put(layout.assignment_path(worker.name, name))
        await until(lambda: gate.entered == [name], "it to run")
        await stage.put(layout.status_path(name), data=b"done")
        held = proxy.hold_request(is_drop)
        gate.open()
        await held.happened.wait()
        await stage.zk.delete(layout.status_path(name))
        held.go_on.set()
        await stage.until_gone(layout.assignment_path(worker.name, name))
        await stage.stop(worker)

    assert await stage.leftovers() == []


def is_drop(opcode: int, body: bytes) -> bool:
    """A transaction that begins with the check of a status."""
    return opcode == OpCode.MULTI and body.startswith(OpCode.CHECK.to_bytes(4, "big")) and b"/status/" in body


async def test_calls_go_to_our_own_workers_only(stage: Stage, reference: References) -> None:
    await stage.master(SETTINGS)
    stray: queue.SimpleQueue[str] = queue.SimpleQueue()
    await reference.worker(lambda name, _data: stray.put(name))
    client = await stage.client()
    submitted = [client.put_call("m:f", number) for number in range(20)]
    await asyncio.gather(*(each.accepted for each in submitted))
    raw = client.put_raw()
    await raw.outcome()
    assert stray.get(timeout=5) == raw.name
    assert len(await stage.names(layout.TASKS)) == 20
    await stage.worker({"m:f": lambda number: number})
    for number, each in enumerate(submitted):
        assert await each.result() == number

    assert stray.empty()


@pytest.mark.long
async def test_a_reference_worker_is_never_given_more_than_it_can_queue(stage: Stage, reference: References) -> None:
    await stage.master(MasterSettings(session_timeout=LONGEST))
    go_on = threading.Event()
    worker = await reference.worker(lambda _name, _data: (go_on.wait(50), None)[1], LONGEST)
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(400)]
    await asyncio.gather(*(each.accepted for each in submitted))
    inbox = layout.inbox_path(worker.name)
    await until(lambda: _count(stage, inbox, 60), "its window to be full")
    assert len(await stage.names(layout.TASKS)) == 340
    go_on.set()
    for each in submitted:
        await each.outcome()

    assert worker.dropped == 0
    await stage.until_empty()


async def _count(stage: Stage, folder: str, count: int) -> bool:
    return len(await stage.names(folder)) == count


async def test_the_tasks_of_a_lost_reference_worker_run_on_ours(stage: Stage, reference: References) -> None:
    await stage.master(SETTINGS)
    go_on = threading.Event()
    worker = await reference.worker(lambda _name, _data: (go_on.wait(20), None)[1])
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(10)]
    await until(lambda: _count(stage, layout.inbox_path(worker.name), 10), "it to hold them all")
    ran = Ran()
    await stage.worker(raw=ran, slots=8)
    await asyncio.to_thread(worker.close)
    go_on.set()
    for each in submitted:
        await each.outcome()

    assert sorted(ran.names) == sorted(each.name for each in submitted)
    await stage.until_gone(layout.inbox_path(worker.name))


# --- our roles under a primary of the reference --------------------------------------------------------------------


async def test_our_master_takes_over_what_a_reference_primary_left_in_two_places(
    stage: Stage, reference: References
) -> None:
    gate = stage.gate()
    first = await reference.master()
    worker = await stage.worker(raw=gate)
    name = new_raw_name()
    await until(lambda: first.workers == [worker.name], "the worker to be noticed")
    await asyncio.to_thread(first.close)
    await stage.put(layout.assignment_path(worker.name, name), layout.task_path(name))  # it died before the delete
    await until(lambda: gate.entered == [name], "it to run")
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master(SETTINGS)
    await stage.until_empty(layout.TASKS)
    gate.open()
    await stage.until_exists(layout.status_path(name))

    assert (gate.entered, ran.names) == ([name], [])


async def test_our_backup_follows_a_reference_primary_and_gives_out_what_that_one_passed_over(
    stage: Stage, reference: References, caplog: pytest.LogCaptureFixture
) -> None:
    primary = await reference.master()
    backup = await stage.master(SETTINGS, is_primary=False)
    client = await stage.client()
    passed_over = client.put_raw()  # no worker is there, so the reference master never looks at it again
    await until(lambda: f"no worker for {passed_over.name}: passed over" in caplog.messages, "it to be passed over")
    await stage.worker()
    await until(lambda: len(primary.workers) == 1, "the worker to be noticed")
    await client.put_raw().outcome()
    assert await stage.names(layout.TASKS) == [passed_over.name]
    await asyncio.to_thread(primary.close)

    await passed_over.outcome()
    assert backup.is_primary


async def test_a_reference_backup_follows_our_primary(stage: Stage, reference: References) -> None:
    ours = await stage.master(SETTINGS)
    backup = await reference.master()
    assert backup.state is MasterState.NOT_ELECTED
    await stage.stop(ours)
    assert await asyncio.to_thread(backup.wait_for_state, MasterState.ELECTED, 10)
    await stage.worker()
    await until(lambda: len(backup.workers) == 1, "the worker to be noticed")

    client = await stage.client()
    await client.put_raw().outcome()


async def test_our_worker_that_drains_under_a_reference_primary_runs_its_inbox_empty(
    stage: Stage, reference: References, caplog: pytest.LogCaptureFixture
) -> None:
    primary = await reference.master()
    await stage.master(SETTINGS, is_primary=False)  # it stands in, and tells of the worker
    gate, ran = stage.gate(), Ran()
    worker = await stage.worker(raw=gate, slots=1)
    await until(lambda: len(primary.workers) == 1, "the worker to be noticed")
    client = await stage.client()
    submitted = [client.put_raw() for _ in range(5)]
    await until(lambda: _count(stage, layout.inbox_path(worker.name), 5), "all to be assigned")
    await stage.worker(raw=ran)
    await until(lambda: len(primary.workers) == 2, "the other worker to be noticed")
    end = asyncio.ensure_future(stage.stop(worker))
    await until(lambda: worker.is_stopping, "it to drain")
    gate.open()
    await end
    for each in submitted:
        await each.outcome()

    assert (sorted(gate.entered), ran.names) == (sorted(each.name for each in submitted), [])
    told = [f"{worker.name} has drained", f"{worker.name} was lost"]
    await until(lambda: sum(caplog.messages.count(line) for line in told) == 2, "both to say so")
    assert told[1] not in caplog.messages


async def test_a_worker_of_ours_that_is_lost_under_a_reference_primary_loses_no_task(
    stage: Stage, reference: References
) -> None:
    primary = await reference.master()
    gate = stage.gate()
    lost = await stage.worker(raw=gate)
    await until(lambda: len(primary.workers) == 1, "the worker to be noticed")
    client = await reference.client()
    name = await asyncio.to_thread(client.submit, b"payload")
    await until(lambda: gate.entered == [name], "it to run")
    ran = Ran()
    await stage.worker(raw=ran)
    await until(lambda: len(primary.workers) == 2, "the other worker to be noticed")
    await stage.expire(lost)
    await stage.stop(lost)

    assert await asyncio.to_thread(client.wait, name, 15) == b"done"
    assert ran.names == [name]
    assert ran.payloads[name] == b"payload"


async def test_a_reference_client_takes_our_outcomes_and_collects_them(stage: Stage, reference: References) -> None:
    await stage.master(SETTINGS)
    errors: dict[bytes, Exception] = {b"plain": ValueError("no"), b"treacherous": IsdoneError("no")}

    def handle(_name: str, payload: bytes) -> None:
        if payload in errors:
            raise errors[payload]

    await stage.worker(raw=handle)
    client = await reference.client()
    names = [await asyncio.to_thread(client.submit, payload) for payload in (b"fine", *errors)]
    outcomes = [await asyncio.to_thread(client.wait, name, 15) for name in names]

    # The reference takes whatever contains `done` for a success.
    assert outcomes == [b"done", b"failed: ValueError", b"failed"]
    await stage.until_empty()


# --- what a reference primary leaves to our masters ------------------------------------------------------------------


@pytest.mark.long
async def test_delayed_tasks_run_under_a_reference_primary_with_a_master_of_ours(
    stage: Stage, reference: References
) -> None:
    primary = await reference.master()
    await stage.master(SETTINGS, is_primary=False)
    ran = Ran()
    await stage.worker(raw=ran)
    await until(lambda: len(primary.workers) == 1, "the worker to be noticed")
    client = await stage.client()
    due = time.time_ns() // 1_000_000 + 1000
    submitted = client.put(NewTask(new_raw_name(), b"", due_ms=due))
    await submitted.outcome()

    assert time.time_ns() // 1_000_000 >= due
    assert ran.names == [submitted.name]


async def test_tasks_are_cancelled_under_a_reference_primary_with_a_master_of_ours(
    stage: Stage, reference: References
) -> None:
    primary = await reference.master()
    await stage.master(SETTINGS, is_primary=False)
    gate = stage.gate()
    await stage.worker(raw=gate, slots=1)
    await until(lambda: len(primary.workers) == 1, "the worker to be noticed")
    client = await stage.client()
    running, assigned = client.put_raw(), client.put_raw()
    delayed = client.put(NewTask(new_raw_name(), b"", due_ms=time.time_ns() // 1_000_000 + 600_000))
    await until(lambda: len(gate.entered) == 1, "one to run")
    for submitted in (running, assigned, delayed):
        await submitted.accepted
        await stage.put(layout.cancel_path(submitted.name))
    for submitted in (running, assigned, delayed):
        assert (await submitted.outcome()).state is OutcomeState.CANCELLED
    gate.open()

    await stage.until_empty()
    assert await stage.names(layout.CANCEL) == []
