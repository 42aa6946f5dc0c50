"""What a primary reports of the tasks that it ends itself, and what it writes into the history."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.names import call_name
from herdmaster.core.transitions import NewTask
from herdmaster.inspection.history import read_history
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from tests.roles.primary.flow_stage import StagedFlow
from tests.roles.stage import PATIENCE, TIMEOUT, Gate, Stage, call_payload, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long


class Measured(Instruments):
    """A master with instruments that remember."""

    def __init__(self, stage: Stage) -> None:
        self.ends: list[AttemptEnd] = []
        self.takeovers: list[float] = []
        self.recovered: list[tuple[str, int]] = []
        self.flows: list[tuple[str, ...]] = []
        settings = MasterSettings(session_timeout=TIMEOUT, max_deliveries=1)
        self.master = Master(stage.hosts, settings, System(instruments=self))
        stage.start(self.master)

    def attempt_ended(self, end: AttemptEnd, /) -> None:
        self.ends.append(end)

    def flow_started(self, name: str, /) -> None:
        self.flows.append((name,))

    def flow_ended(self, name: str, state: str, seconds: float, /) -> None:
        assert 0 <= seconds < 60
        self.flows.append((name, state))

    def took_over(self, seconds: float, /) -> None:
        self.takeovers.append(seconds)

    def tasks_recovered(self, reason: str, count: int = 1, /) -> None:
        self.recovered.append((reason, count))


async def test_a_task_that_is_cancelled_or_expires_before_it_runs_is_reported(stage: Stage) -> None:
    measured = Measured(stage)
    client = await stage.client()
    cancelled = client.put(NewTask(new_call_name("mail"), call_payload("m:f")))
    await cancelled.accepted
    await stage.put(layout.cancel_path(cancelled.name))
    name = call_name(new_raw_name().removeprefix("task-"), conditional=True)
    expiring = client.put(NewTask(name, call_payload("m:g"), expires_ms=10))
    await asyncio.gather(cancelled.outcome(), expiring.outcome())
    await until(lambda: len(measured.ends) == 2, "two reports")
    first, second = sorted(measured.ends, key=lambda end: end.call)

    assert (first.task, first.call, first.queue, first.result) == (
        cancelled.name,
        "m:f",
        "mail",
        EndState.CANCELLED,
    )
    assert (second.task, second.call, second.queue, second.result) == (
        expiring.name,
        "m:g",
        "default",
        EndState.EXPIRED,
    )
    assert first.times is second.times is None
    assert len(measured.takeovers) == 1
    assert 0 <= measured.takeovers[0] < 15


async def test_flows_and_the_ends_of_their_steps_are_reported(stage: Stage) -> None:
    measured = Measured(stage)
    await until(lambda: measured.master.take_census() is not None, "a primary that has listed the flows")
    flow = await StagedFlow(stage, "0", "1", "0:2").make()
    await stage.put(layout.cancel_path(flow.task("0")))
    await until(lambda: len(measured.ends) == 1, "a report")
    assert (measured.ends[0].flow, measured.ends[0].step, measured.ends[0].result) == (
        flow.name,
        "0",
        EndState.CANCELLED,
    )
    await until(lambda: measured.flows == [("report",)], "a flow")
    census = measured.master.take_census()
    assert census is not None
    assert census.flows == 1
    await flow.complete("1")
    await until(lambda: measured.flows == [("report",), ("report", "failed")], "its end")


async def test_a_task_that_is_buried_is_reported_with_its_error(stage: Stage) -> None:
    measured = Measured(stage)
    client = await stage.client()
    gate: Gate = stage.gate()
    task = client.put(NewTask(new_raw_name(), b"deadly"))
    for losses in (1, 2):
        worker = await stage.worker(raw=gate)
        await until(lambda losses=losses: len(gate.entered) == losses, "it runs")  # type: ignore[misc]
        await stage.abandon(worker)
        await stage.expire(worker)
    await task.outcome(30)
    await until(lambda: len(measured.ends) == 1, "a report")
    (end,) = measured.ends

    assert (end.task, end.result) == (task.name, EndState.BURIED)
    assert measured.recovered == [("worker lost", 1)]


async def test_the_history_of_a_master_has_its_backlog(stage: Stage) -> None:
    measured = Measured(stage)
    client = await stage.client()
    for _ in range(3):
        await client.put(NewTask(new_call_name("mail"), call_payload("m:f"))).accepted
    await until(lambda: (c := measured.master.take_census()) is not None and c.waiting == {"mail": 3}, "a census")
    assert await measured.master._history.write(stage.zk)
    history = await read_history(stage.zk, 0, 10**13 - 1)

    assert [sample.queues for sample in history.backlog] == [{"mail": 3}]
    assert not await measured.master._history.write(stage.zk)  # nothing has changed


async def test_a_master_that_is_stopped_writes_what_it_ended_since_its_last_batch(stage: Stage) -> None:
    measured = Measured(stage)
    client = await stage.client()
    task = client.put(NewTask(new_call_name("mail"), call_payload("m:f")))
    await task.accepted
    await stage.put(layout.cancel_path(task.name))
    await task.outcome()
    await until(lambda: len(measured.ends) == 1, "a report")
    measured.master.stop()

    async def is_written() -> bool:
        history = await read_history(stage.zk, 0, 10**13 - 1)
        return history.total().results.get(EndState.CANCELLED) == 1

    async with asyncio.timeout(PATIENCE):
        while not await is_written():
            await asyncio.sleep(0.05)
