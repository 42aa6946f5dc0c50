"""Tasks in the pools of a real worker: limits, cancelling, what a lost connection does. The test plays the primary."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.options import Overrides, PoolKind
from herdmaster.core.outcome import Outcome, decode_outcome, decode_result
from herdmaster.core.payload import Call, encode_arguments, encode_call
from tests.proxy import Proxy
from tests.roles import app
from tests.roles.stage import Stage, StagedWorker, new_call_name, until

pytestmark = pytest.mark.long

PLAIN = [PoolKind.THREAD, PoolKind.PROCESS]


async def start(stage: Stage, pool: PoolKind = PoolKind.PROCESS, *, slots: int = 4, hosts: str = "") -> StagedWorker:
    return await stage.worker(app.functions(pool), app=app.APP, slots=slots, hosts=hosts or None)


async def assign(stage: Stage, worker: StagedWorker, function: str, *args: object, **options: object) -> str:
    name = new_call_name()
    wanted = Overrides(**options) if options else None  # type: ignore[arg-type]
    data = encode_call(Call(1, f"m:{function}", *encode_arguments(args, {}), options=wanted))
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    return name


async def outcome(stage: Stage, name: str) -> Outcome:
    await until(lambda: stage.exists(layout.status_path(name)), f"the outcome of {name}", 40.0)
    return decode_outcome(name, await stage.data(layout.status_path(name)))


async def result(stage: Stage, name: str) -> object:
    found = await outcome(stage, name)
    assert found.error is None, found.error
    return decode_result(found)


async def failure(stage: Stage, name: str) -> tuple[str, str]:
    found = await outcome(stage, name)
    assert found.error is not None
    return found.error.type, found.error.message


async def begun(mark: Path) -> None:
    await until(lambda: mark.exists() and bool(mark.read_text()), f"{mark.name} to begin", 40.0)


def is_alive(pid: object) -> bool:
    return Path(f"/proc/{pid}").exists()


# --- where it runs ---------------------------------------------------------------------------------------------------


async def test_a_task_runs_in_a_process_and_its_arguments_are_what_the_hints_say(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage)
    first = await result(stage, await assign(stage, worker, "where"))
    second = await result(stage, await assign(stage, worker, "where"))

    assert first == second != os.getpid()
    name = await assign(stage, worker, "nap", 0, str(tmp_path / "mark"))
    assert await result(stage, name) == "mark"  # which a text has not


async def test_arguments_that_do_not_fit_are_refused_by_their_name_and_not_tried_again(stage: Stage) -> None:
    worker = await start(stage, PoolKind.THREAD)
    for pool in PLAIN:
        name = await assign(stage, worker, "fill", "many", pool=pool, max_attempts=3)
        kind, message = await failure(stage, name)
        assert kind == "WrongArguments"
        assert "m:fill takes `megabytes: int`" in message
        assert await stage.exists(layout.dead_path(name))


async def test_without_an_app_a_task_in_a_process_fails_and_says_what_to_do(stage: Stage) -> None:
    worker = await stage.worker(app.functions())
    kind, message = await failure(stage, await assign(stage, worker, "where"))

    assert kind == "ConfigurationError"
    assert "--app MODULE" in message


async def test_an_app_that_cannot_be_imported_fails_its_tasks_with_the_cause(stage: Stage) -> None:
    worker = await stage.worker(app.functions(), app="tests.roles.no_such_app:herd")
    kind, message = await failure(stage, await assign(stage, worker, "where"))

    assert kind == "TaskDied"
    assert "No module named 'tests.roles.no_such_app'" in message


async def test_what_a_process_prints_is_logged_with_the_name_of_its_task(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await start(stage)
    name = await assign(stage, worker, "speak", "hello")
    await result(stage, name)

    lines = {record.getMessage() for record in caplog.records if record.name == "herdmaster.task"}
    assert {f"{name}: hello", f"{name}: hello!"} <= lines


async def test_hundreds_of_coroutines_run_at_once(stage: Stage, tmp_path: Path) -> None:
    worker = await stage.worker({"m:nap_async": app.nap_async}, slots=None)
    naps = (assign(stage, worker, "nap_async", 5.0, str(tmp_path / f"{number}")) for number in range(300))
    names = await asyncio.gather(*naps)
    await until(lambda: len(worker.running) > 200, "many to run at once", 40.0)
    for name in names:
        await result(stage, name)


async def test_a_worker_runs_no_more_at_a_time_than_it_has_slots_in_all_its_pools(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage, PoolKind.THREAD, slots=3)
    names = []
    for number in range(4):
        names.append(await assign(stage, worker, "nap_async", 0.3, str(tmp_path / f"a{number}")))
        names.append(await assign(stage, worker, "nap", 0.3, str(tmp_path / f"t{number}")))
    most = 0

    async def all_ended() -> bool:
        nonlocal most
        most = max(most, len(worker.running))
        return len(await stage.names(layout.STATUS)) == len(names)

    await until(all_ended, "all to end", 40.0)
    assert most == 3


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", PLAIN)
async def test_a_task_past_its_time_limit_fails_and_its_slot_is_free(
    stage: Stage, pool: PoolKind, tmp_path: Path
) -> None:
    worker = await start(stage, pool, slots=1)
    late = await assign(stage, worker, "nap", 30, str(tmp_path / "late"), timeout=0.5)
    after = await assign(stage, worker, "where")
    kind, message = await failure(stage, late)

    assert kind == "TimeLimitExceeded"
    assert "0.5 s" in message
    await result(stage, after)


async def test_a_coroutine_past_its_time_limit_is_cancelled(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage, slots=1)
    late = await assign(stage, worker, "nap_async", 30, str(tmp_path / "late"), timeout=0.5)

    assert (await failure(stage, late))[0] == "TimeLimitExceeded"
    assert (tmp_path / "late.cancelled").exists()


async def test_a_task_past_its_time_limit_may_be_tried_again(stage: Stage, tmp_path: Path) -> None:
    await stage.play_primary()
    worker = await start(stage)
    retried = await assign(
        stage, worker, "nap", 30, str(tmp_path / "late"),
        timeout=0.3, max_attempts=2, retry_on=("herdmaster.errors.TimeLimitExceeded",), backoff=100.0,
    )  # fmt: skip
    await until(lambda: _is_delayed(stage, retried), "it to be delayed", 40.0)


async def _is_delayed(stage: Stage, name: str) -> bool:
    return any(found.endswith(name) for found in await stage.names(layout.DELAYED))


@pytest.mark.parametrize("pool", [*PLAIN, PoolKind.ASYNCIO])
async def test_a_task_past_its_soft_limit_can_clear_up(stage: Stage, pool: PoolKind) -> None:
    is_async = pool is PoolKind.ASYNCIO
    worker = await start(stage, PoolKind.THREAD if is_async else pool)
    name = await assign(stage, worker, "spin_async" if is_async else "spin", 30, soft_timeout=0.3)

    assert await result(stage, name) == "cleared up"


async def test_a_soft_limit_that_the_code_does_not_catch_is_its_failure(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage)
    name = await assign(stage, worker, "nap", 30, str(tmp_path / "late"), soft_timeout=0.3)
    found = await outcome(stage, name)

    assert found.error is not None
    assert found.error.type == "SoftTimeLimitExceeded"
    assert "in nap" in found.error.traceback


async def test_a_task_past_its_memory_limit_dies_alone(stage: Stage) -> None:
    worker = await start(stage, slots=2)
    name = await assign(stage, worker, "fill", 900, memory_limit=300 * 1024 * 1024)
    kind, message = await failure(stage, name)

    assert kind == "TaskDied"
    assert "its memory limit was 314572800 bytes" in message
    assert await result(stage, await assign(stage, worker, "fill", 10, memory_limit=300 * 1024 * 1024))


async def test_a_process_that_ends_by_itself_fails_its_task_alone(stage: Stage) -> None:
    worker = await start(stage, slots=1)
    kind, message = await failure(stage, await assign(stage, worker, "die", 7))

    assert (kind, message) == ("TaskDied", "its process exited with code 7")
    await result(stage, await assign(stage, worker, "where"))


# --- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", PLAIN)
async def test_a_running_task_whose_assignment_goes_is_ended_and_its_slot_is_free(
    stage: Stage, pool: PoolKind, tmp_path: Path
) -> None:
    worker = await start(stage, pool, slots=1)
    mark = tmp_path / "cancelled"
    name = await assign(stage, worker, "nap", 30, str(mark))
    await begun(mark)
    await stage.zk.delete(layout.assignment_path(worker.name, name))
    after = await assign(stage, worker, "where")
    await result(stage, after)

    assert await stage.names(layout.STATUS) == [after]
    if pool is PoolKind.PROCESS:
        await until(lambda: not is_alive(mark.read_text()), "the process to be gone", 40.0)


async def test_a_coroutine_whose_assignment_goes_is_cancelled(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage, slots=1)
    name = await assign(stage, worker, "nap_async", 30, str(tmp_path / "first"))
    await begun(tmp_path / "first")
    await stage.zk.delete(layout.assignment_path(worker.name, name))
    await result(stage, await assign(stage, worker, "nap_async", 0, str(tmp_path / "second")))

    assert (tmp_path / "first.cancelled").exists()


# --- its session and its end -----------------------------------------------------------------------------------------


async def test_what_can_be_stopped_is_stopped_before_another_worker_may_have_it(
    namespace: str, stage: Stage, tmp_path: Path
) -> None:
    async with Proxy(namespace) as proxy:
        worker = await start(stage, hosts=proxy.hosts)
        in_process, coroutine = tmp_path / "process", tmp_path / "coroutine"
        await assign(stage, worker, "nap", 30, str(in_process))
        await assign(stage, worker, "nap_async", 30, str(coroutine))
        await begun(in_process)
        await begun(coroutine)
        pid = in_process.read_text()
        session = worker._session
        assert session is not None
        proxy.refuse()
        await until(lambda: worker.session.clock() >= worker.session.deadline, "the deadline", 40.0)
        began = time.monotonic()
        await until((tmp_path / "coroutine.cancelled").exists, "the coroutine to be cancelled", 40.0)
        await until(lambda: not is_alive(pid), "the process to be gone", 40.0)
        assert time.monotonic() - began < 20.0  # the nap takes 30 s
        proxy.refuse(refusing=False)
        await stage.stop(worker)


async def test_a_worker_that_has_drained_leaves_no_process_behind(stage: Stage, tmp_path: Path) -> None:
    worker = await start(stage)
    pid = await result(stage, await assign(stage, worker, "where"))
    name = await assign(stage, worker, "nap", 0.5, str(tmp_path / "last"))
    await begun(tmp_path / "last")
    await stage.stop(worker)

    assert decode_result(await outcome(stage, name)) == "last"
    await until(lambda: not is_alive(pid), "the process to be gone", 40.0)
