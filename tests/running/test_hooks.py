"""What a task knows and says of itself, and what is called around it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.chunk import join_items, split_results
from herdmaster.core.options import Overrides, PoolKind, RunOptions
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, decode_result
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.progress import TaskProgress, decode_progress
from herdmaster.errors import ConfigurationError, NoCurrentTask
from herdmaster.running.current import CurrentTask, current_task
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Function, Registration
from tests.roles import app
from tests.roles.stage import Stage, StagedWorker, new_call_name, until

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
async def _primary(stage: Stage) -> None:
    await stage.play_primary()


async def assign(stage: Stage, worker: StagedWorker, function: str, *args: object, **options: object) -> str:
    name = new_call_name("default")
    wanted = Overrides(**options) if options else None  # type: ignore[arg-type]
    data = encode_call(Call(1, f"m:{function}", *encode_arguments(args, {}), options=wanted))
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    return name


async def assign_items(stage: Stage, worker: StagedWorker, function: str, *items: object, attempt: int = 1) -> str:
    name = new_call_name()
    args = join_items(encode_arguments((item,), {})[0] for item in items)
    data = encode_call(Call(1, f"m:{function}", args, encode_arguments((), {})[1], chunk=True, attempt=attempt))
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    return name


async def outcome(stage: Stage, name: str) -> Outcome:
    await until(lambda: stage.exists(layout.status_path(name)), f"the outcome of {name}", 40.0)
    return decode_outcome(name, await stage.data(layout.status_path(name)))


# --- what a task knows of itself -------------------------------------------------------------------------------------


async def test_a_task_knows_its_name_attempt_queue_and_deadline(stage: Stage) -> None:
    seen: list[CurrentTask] = []

    async def look_async() -> None:
        seen.append(current_task())

    def look() -> None:
        seen.append(current_task())

    worker = await stage.worker({"m:look": look, "m:look_async": look_async})
    for function in ("look", "look_async"):
        began = datetime.now(UTC)
        name = await assign(stage, worker, function, max_attempts=3, timeout=100.0)
        await outcome(stage, name)
        found = seen.pop()

        assert (found.name, found.attempt, found.max_attempts, found.queue) == (name, 1, 3, "default")
        assert found.deadline is not None
        assert 99 < (found.deadline - began).total_seconds() < 130


def test_outside_of_a_task_there_is_none() -> None:
    with pytest.raises(NoCurrentTask, match="no task runs here"):
        current_task()


async def test_progress_takes_numbers(stage: Stage) -> None:
    worker = await stage.worker({"m:f": lambda: current_task().progress("half")})  # type: ignore[arg-type]
    found = await outcome(stage, await assign(stage, worker, "f"))

    assert found.error is not None
    assert found.error.type == "ConfigurationError"


# --- progress --------------------------------------------------------------------------------------------------------


async def shown(stage: Stage, worker: StagedWorker) -> dict[str, TaskProgress]:
    path = layout.progress_path(worker.name)
    if not await stage.exists(path):
        return {}
    return {each.task: each for each in decode_progress(await stage.data(path)).tasks}


@pytest.mark.parametrize("pool", [PoolKind.THREAD, PoolKind.PROCESS])
async def test_progress_is_shown_within_three_seconds_and_written_every_two_at_most(
    stage: Stage, pool: PoolKind
) -> None:
    worker = await stage.worker(app.functions(pool), app=app.APP, session_timeout=8.0)
    await outcome(stage, await assign(stage, worker, "where"))  # a process is there
    began = time.monotonic()
    name = await assign(stage, worker, "count", 1000, 6.0)

    async def is_whole() -> bool:
        found = await shown(stage, worker)
        return name in found and found[name].done == 1000

    await until(is_whole, "its progress", 40.0)
    took = time.monotonic() - began
    found = (await shown(stage, worker))[name]
    assert (found.call, found.attempt, found.total, found.note) == ("m:count", 1, 1000.0, "item 1000")
    assert abs(found.since / 1000 - time.time()) < 60
    stat = await stage.zk.exists(layout.progress_path(worker.name))
    assert stat is not None
    assert stat.version <= 1 + took / 2
    assert stat.ephemeral_owner == worker.session.session_id

    await outcome(stage, name)

    async def is_empty() -> bool:
        return not await shown(stage, worker)

    await until(is_empty, "it to be taken away", 40.0)


async def test_what_runs_long_is_shown_without_having_said_anything_and_short_tasks_are_not(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: 1}, raw=gate)
    for _ in range(5):
        await outcome(stage, await assign(stage, worker, "f"))
    assert not await stage.exists(layout.progress_path(worker.name))
    await stage.put(layout.assignment_path(worker.name, name := "task-long"))

    async def is_shown() -> bool:
        return name in await shown(stage, worker)

    await until(is_shown, "it to be shown", 40.0)
    assert list(await shown(stage, worker)) == [name]


# --- hooks -----------------------------------------------------------------------------------------------------------


async def test_hooks_are_called_around_each_task(stage: Stage) -> None:
    seen: list[tuple[str, str, object]] = []
    hooks = Hooks(
        before_task=lambda task: seen.append(("before", task.name, current_task().name)),
        after_task=lambda task, result: seen.append(("after", task.name, result)),
        on_error=lambda task, error: seen.append(("error", task.name, type(error))),
    )

    async def later() -> int:
        await asyncio.sleep(0)
        return 2

    def double(number: int) -> int:
        return 2 * number

    functions: dict[str, Function] = {"m:one": lambda: 1, "m:later": later, "m:fail": lambda: 1 / 0, "m:double": double}
    worker = await stage.worker(functions, hooks=hooks)
    names = {function: await assign(stage, worker, function) for function in ("one", "later", "fail")}
    for name in names.values():
        await outcome(stage, name)
    wrong = await assign(stage, worker, "double", "no number")
    await outcome(stage, wrong)

    told = {name: [(kind, what) for kind, of, what in seen if of == name] for name in (*names.values(), wrong)}
    assert told[names["one"]] == [("before", names["one"]), ("after", 1)]
    assert told[names["later"]] == [("before", names["later"]), ("after", 2)]
    assert told[names["fail"]] == [("before", names["fail"]), ("error", ZeroDivisionError)]
    assert [kind for kind, _ in told[wrong]] == ["before", "error"]


async def test_a_hook_that_fails_is_logged_and_changes_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_args: object) -> None:
        raise SystemExit

    worker = await stage.worker({"m:one": lambda: 1}, hooks=Hooks(before_task=fail, after_task=fail))
    found = await outcome(stage, await assign(stage, worker, "one"))

    assert decode_result(found) == 1
    failed = [record.getMessage() for record in caplog.records if record.exc_info]
    caplog.clear()  # they are meant to be there
    assert [text.rpartition(": ")[2] for text in failed] == ["before_task failed", "after_task failed"]


# --- chunks ----------------------------------------------------------------------------------------------------------


def _reciprocal(value: int) -> float:
    if value > 9:
        raise ConfigurationError("the task's own")
    return 1 / value


@pytest.mark.parametrize("attempts", [1, 2])
async def test_each_item_of_a_chunk_ends_alone(stage: Stage, attempts: int) -> None:
    worker = await stage.worker({"m:f": Registration(_reciprocal, RunOptions(max_attempts=attempts))})
    found = await outcome(stage, await assign_items(stage, worker, "f", 2, 0, "x", 10, 4, attempt=attempts))

    assert found.state is OutcomeState.DONE
    assert found.result is not None
    items = split_results(found.result, 5)
    kinds = [item.error.type if item.error is not None else bytes(item.result) for item in items]
    assert kinds == [b"0.5", "ZeroDivisionError", "WrongArguments", "ConfigurationError", b"0.25"]


async def test_a_chunk_is_tried_again_whole_while_an_item_may_be(stage: Stage) -> None:
    worker = await stage.worker({"m:f": Registration(_reciprocal, RunOptions(max_attempts=2, backoff=100.0))})
    name = await assign_items(stage, worker, "f", 2, 0)

    async def is_delayed() -> bool:
        return any(found.endswith(name) for found in await stage.names(layout.DELAYED))

    await until(is_delayed, "it to be delayed")


async def test_the_progress_of_a_chunk_is_told_by_itself(stage: Stage, tmp_path: Path) -> None:
    gate = stage.gate()

    def wait(value: int) -> int:
        if value == 3:
            gate("item", b"")
        return value

    worker = await stage.worker({"m:f": wait})
    name = await assign_items(stage, worker, "f", 1, 2, 3, 4)

    async def is_shown() -> bool:
        found = (await shown(stage, worker)).get(name)
        return found is not None and (found.done, found.total) == (2, 4)

    await until(is_shown, "its progress", 40.0)
