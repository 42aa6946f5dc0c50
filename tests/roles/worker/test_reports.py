"""What a worker reports of the attempts that it ended, and writes into the history."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.options import RunOptions
from herdmaster.core.transitions import NewTask
from herdmaster.inspection.history import read_history
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.running.registration import Registration
from tests.roles.stage import TIMEOUT, Stage, new_call, new_call_name, until

pytestmark = pytest.mark.long


def area(width: int, height: int) -> int:
    return width * height


def fail() -> None:
    raise ValueError("no route to the bank")


class Reported(Instruments):
    """A worker whose reports are kept."""

    def __init__(self, stage: Stage, functions: dict[str, object]) -> None:
        self.ends: list[AttemptEnd] = []
        self.worker = Worker(
            stage.hosts,
            functions,  # type: ignore[arg-type]  # functions of any signature
            WorkerSettings(session_timeout=TIMEOUT),
            system=System(instruments=self),
        )
        stage.start(self.worker)

    def attempt_ended(self, end: AttemptEnd, /) -> None:
        self.ends.append(end)

    async def of(self, task: str, count: int = 1) -> list[AttemptEnd]:
        await until(lambda: sum(end.task == task for end in self.ends) >= count, f"{count} reports of {task}")
        return [end for end in self.ends if end.task == task]


async def test_a_task_that_is_done_is_reported_with_its_times(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    reported = Reported(stage, {"m:area": area})
    task = client.put_call("m:area", 6, 7)
    outcome = await task.outcome()
    (end,) = await reported.of(task.name)

    assert (end.call, end.queue, end.result, end.attempt) == ("m:area", "default", EndState.DONE, 1)
    assert (end.began, end.ended, end.worker) == (outcome.started, outcome.ended, outcome.worker)
    assert end.times is not None
    assert 0 <= end.times[0] < 15_000


async def test_each_attempt_is_reported_once_and_waits_from_its_own_time(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    options = RunOptions(max_attempts=2, backoff=1.2, max_backoff=1.2)
    reported = Reported(stage, {"m:fail": Registration(fail, options)})
    task = client.put_call("m:fail")
    await task.outcome()
    ends = await reported.of(task.name, 2)

    assert [end.result for end in ends] == [EndState.RETRIED, EndState.BURIED]
    assert [end.attempt for end in ends] == [1, 2]
    assert {end.error.message for end in ends if end.error is not None} == {"no route to the bank"}
    assert all(end.times is not None and end.times[0] < 1000 for end in ends)  # the delay is no waiting


async def test_what_is_not_run_is_reported_as_refused(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    reported = Reported(stage, {"m:area": area})
    task = client.put(new_call("m:area", 6, 7))
    bad = client.put(NewTask(new_call_name(), b"no call"))
    await bad.outcome()
    await task.outcome()
    (end,) = await reported.of(bad.name)

    assert (end.call, end.result, end.times) == ("", EndState.REFUSED, None)


async def test_a_raw_task_is_reported_without_a_call(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    reported = Reported(stage, {})
    task = client.put_raw(b"hello")
    await task.outcome()
    (end,) = await reported.of(task.name)

    assert (end.call, end.queue, end.result) == ("", "default", EndState.DONE)


async def test_what_is_handed_back_while_it_runs_is_reported_by_the_worker_that_ends_it(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    gate = asyncio.Event()
    entered: list[str] = []

    async def wait() -> None:
        entered.append("once")
        await gate.wait()

    first = Reported(stage, {"m:wait": Registration(wait, RunOptions())})
    task = client.put_call("m:wait")
    await until(lambda: len(entered) == 1, "the task runs")
    second = Reported(stage, {"m:wait": Registration(wait, RunOptions())})
    await until(lambda: bool(second.worker.name), "a second worker")
    worker = first.worker
    worker._settings = WorkerSettings(session_timeout=TIMEOUT, drain_timeout=0.1)
    await stage.stop(worker)
    gate.set()
    await task.outcome()
    await second.of(task.name)

    assert first.ends == []


async def test_a_worker_that_stops_writes_its_history_first(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    reported = Reported(stage, {"m:area": area, "m:fail": fail})
    tasks = [client.put_call("m:area", 6, 7) for _ in range(5)] + [client.put_call("m:fail")]
    await asyncio.gather(*(task.outcome() for task in tasks))
    await until(lambda: len(reported.ends) == 6, "six reports")
    name = reported.worker.name
    await stage.stop(reported.worker)
    history = await read_history(stage.zk, 0, 10**13 - 1)

    assert {each.call: each.results for each in history.counts} == {
        "m:area": {EndState.DONE: 5},
        "m:fail": {EndState.FAILED: 1},
    }
    (failure,) = history.failures
    assert (failure.task, failure.call, failure.worker) == (tasks[-1].name, "m:fail", name)
    assert (failure.error, failure.message) == ("ValueError", "no route to the bank")
    assert failure.began is not None
