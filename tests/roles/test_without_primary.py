"""A worker while there is no primary: the next one may be of the reference, so nothing goes back before it is there."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.options import RunOptions
from herdmaster.running.registration import Registration
from tests.roles.stage import Stage, call_payload, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long


async def test_a_worker_that_leaves_keeps_what_waits_in_its_inbox(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    running, waiting = new_raw_name(), new_raw_name()
    await stage.put(layout.assignment_path(worker.name, running), layout.assignment_path(worker.name, waiting))
    session = worker._session
    assert session is not None
    await until(lambda: len(session.running) == 1, "one task to run")
    gate.open()
    await stage.stop(worker)

    assert await stage.names(layout.TASKS) == []
    assert await stage.names(layout.WORKERS) == []
    left = await stage.names(layout.inbox_path(worker.name))
    ended = await stage.names(layout.STATUS)
    assert sorted([*left, *ended]) == sorted([running, waiting])


async def test_a_task_that_failed_is_tried_again_when_there_is_a_primary(stage: Stage) -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("not yet")

    worker = await stage.worker({"m:f": Registration(fail, RunOptions(max_attempts=2, backoff=0.0))})
    name = new_call_name()
    await stage.put(layout.assignment_path(worker.name, name), data=call_payload("m:f"))
    await until(lambda: len(runs) == 1, "the first attempt")
    session = worker._session
    assert session is not None
    await until(lambda: len(session._tasks.going_back) == 1, "it to wait for a primary")
    assert await stage.names(layout.TASKS) == []

    await stage.master()
    await stage.until_exists(layout.status_path(name))
    assert len(runs) == 2
