"""With a primary: calls find the worker that has their function, and cancelled ones leave their slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.options import PoolKind
from herdmaster.core.outcome import OutcomeState
from tests.roles import app
from tests.roles.stage import Stage, until

pytestmark = pytest.mark.long


@pytest.mark.fallback("TRY_LATER_SECONDS")  # the worker that was not asked may have no room
async def test_calls_find_the_worker_that_has_their_function(stage: Stage) -> None:
    await stage.master()
    await stage.worker({"m:old": lambda: "old"})
    await stage.worker({"m:old": lambda: "old", "m:new": lambda: "new"})
    client = await stage.client()
    submitted = [client.put_call("m:new") for _ in range(8)]

    for each in submitted:
        outcome = await each.outcome(40.0)
        assert (outcome.state, outcome.attempt) == (OutcomeState.DONE, 1)
    await stage.until_empty()


@pytest.mark.fallback("TRY_LATER_SECONDS")  # the worker that was not asked may have no room
async def test_no_call_fails_while_one_of_many_workers_has_its_function(stage: Stage) -> None:
    await stage.master()
    for _ in range(6):
        await stage.worker({"m:old": lambda: "old"})
    await stage.worker({"m:new": lambda: "new"})
    client = await stage.client()
    submitted = [client.put_call("m:new") for _ in range(60)]

    for each in submitted:
        assert (await each.outcome(50.0)).state is OutcomeState.DONE
    await stage.until_empty()


async def test_a_call_that_no_worker_has_fails_and_says_who_was_asked(stage: Stage) -> None:
    await stage.master()
    workers = [await stage.worker({"m:f": lambda: 1}) for _ in range(2)]
    client = await stage.client()
    error = (await client.put_call("m:missing").outcome(50.0)).error

    assert error is not None
    assert error.type == "UnknownCall"
    assert "m:missing is not registered" in error.message
    assert any(worker.name in error.message for worker in workers)
    await stage.until_empty()


@pytest.mark.fallback("TRY_LATER_SECONDS")  # the worker that was not asked may have no room
async def test_calls_find_the_worker_whose_function_takes_their_arguments(stage: Stage) -> None:
    """As while a new version is deployed worker by worker."""
    await stage.master()
    await stage.worker({"m:notify": lambda user: f"old: {user}"})
    await stage.worker({"m:notify": lambda user, channel="mail": f"new: {user} by {channel}"})
    client = await stage.client()
    submitted = [client.put_call("m:notify", number, "sms") for number in range(8)]

    assert [await each.result() for each in submitted] == [f"new: {number} by sms" for number in range(8)]
    await stage.until_empty()


async def test_arguments_that_no_worker_takes_fail_once_all_were_asked(stage: Stage) -> None:
    await stage.master()
    workers = [await stage.worker({"m:f": lambda: 1}) for _ in range(2)]
    client = await stage.client()
    error = (await client.put_call("m:f", "one too many").outcome(50.0)).error

    assert error is not None
    assert error.type == "WrongArguments"
    assert "m:f takes 0 positional arguments, and was given 1" in error.message
    assert all(worker.name in error.message for worker in workers)
    await stage.until_empty()


@pytest.mark.parametrize("pool", PoolKind)
async def test_a_running_task_that_is_cancelled_ends_as_that_and_the_next_has_its_slot(
    stage: Stage, pool: PoolKind, tmp_path: Path
) -> None:
    await stage.master()
    plain = PoolKind.THREAD if pool is PoolKind.ASYNCIO else pool
    await stage.worker(app.functions(plain), app=app.APP, slots=1)
    client = await stage.client()
    nap = "m:nap_async" if pool is PoolKind.ASYNCIO else "m:nap"
    running = client.put_call(nap, 60, str(tmp_path / "first"))
    await until((tmp_path / "first").exists, "it to begin", 40.0)
    after = client.put_call(nap, 0, str(tmp_path / "second"))
    await stage.put(f"{layout.CANCEL}/{running.name}")

    assert (await running.outcome(40.0)).state is OutcomeState.CANCELLED
    assert (await after.outcome(40.0)).state is OutcomeState.DONE
    assert not (tmp_path / "first.ended").exists()
    await stage.until_empty(layout.CANCEL)
