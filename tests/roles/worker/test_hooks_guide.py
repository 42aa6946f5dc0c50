"""Each row of the table of failures in the guide to hooks is a test."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.options import PoolKind
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.worker.error_calls import ErrorCalls
from tests.docs.links import REPOSITORY
from tests.roles import app
from tests.roles.stage import TIMEOUT, Stage, StagedWorker, call_payload, new_call_name, new_raw_name, until
from tests.roles.worker.failing import FUNCTIONS, Told, assign, error_of

pytestmark = pytest.mark.long

HEAD = "| it failed because | `on_error` gets | where | `on_final_failure` |"
BY_MASTER = "called by `herd master --app`"
CALLS_THREAD = "herdmaster-on-error"


class Row(NamedTuple):
    """A row of the table."""

    cause: str
    error: str
    where: str
    final: str


def rows() -> Iterator[Row]:
    lines = (REPOSITORY / "docs" / "guides" / "hooks.md").read_text().splitlines()
    for line in lines[lines.index(HEAD) + 2 :]:
        if not line.startswith("|"):
            return
        yield Row(*(cell.strip() for cell in line.strip("|").split("|")))


class Scene(NamedTuple):
    """Where a task fails: on a worker whose hooks are `told`, or at a master whose hooks are `told_by_master`."""

    stage: Stage
    worker: StagedWorker
    told: Told
    told_by_master: Told
    folder: Path

    async def put(self, name: str, payload: bytes, worker: str | None = None) -> list[str]:
        """Put a task into an inbox."""
        await self.stage.put(layout.assignment_path(worker or self.worker.name, name), data=payload)
        return [name]

    async def master(self, settings: MasterSettings | None = None) -> None:
        """Start a master that calls hooks."""
        await self.stage.master(settings, task_ended=ErrorCalls(self.told_by_master.hooks).call_final)

    async def run(self, function: str, *args: object, **options: object) -> list[str]:
        await self.stage.play_primary()
        return [await assign(self.stage, self.worker, function, *args, **options)]  # type: ignore[arg-type]  # of any kind


def divide(zero: int, attempt: int = 1) -> bytes:
    return encode_call(Call(1, "m:divide", *encode_arguments((zero,), {}), attempt=attempt))


async def raised(scene: Scene) -> list[str]:
    last = await scene.put(new_call_name(), divide(0, attempt=2))  # of 2
    soft = await scene.run("spin_without_clearing_up", soft_timeout=0.2)
    return [*last, *soft, *await scene.run("return_object")]


async def misfit(scene: Scene) -> list[str]:
    return await scene.run("typed", "no number")


async def late(scene: Scene) -> list[str]:
    threads = [*await scene.run("spin_for_ever", timeout=0.3), *await scene.run("spin_and_return", timeout=0.3)]
    coroutine = await scene.run("sleep_and_return", timeout=0.3)
    return [*threads, *coroutine, *await scene.run("nap", 60, str(scene.folder / "nap"), timeout=0.5)]


async def died(scene: Scene) -> list[str]:
    filled = await scene.run("fill", 900, memory_limit=300 * 1024 * 1024)
    return [*filled, *await scene.run("die", 7), *await scene.run("cancel_itself")]


async def large(scene: Scene) -> list[str]:
    return await scene.run("large")


async def impossible(scene: Scene) -> list[str]:
    lacking = [*await scene.run("absent"), *await scene.run("large", "one too many")]
    misplaced = await scene.run("large", pool=PoolKind.ASYNCIO)
    return [*lacking, *misplaced, *await scene.put(new_call_name(), b"garbage")]


async def expired(scene: Scene) -> list[str]:
    return [*await scene.run("large", expires=1), *await scene.run("where", expires=1)]


async def raw(scene: Scene) -> list[str]:
    await scene.stage.play_primary()
    return await scene.put(new_raw_name(), b"raw")


async def tried_again(scene: Scene) -> list[str]:
    (name,) = await scene.run("divide", 0)

    async def is_delayed() -> bool:
        return any(name in entry for entry in await scene.stage.names(layout.DELAYED))

    await until(is_delayed, "it to be delayed")
    return [name]


async def in_a_chunk(scene: Scene) -> list[str]:
    await scene.stage.play_primary()
    no_kwargs = encode_arguments((), {})[1]
    call = Call(1, "m:divide", msgspec.Raw(b"[[0],[1]]"), no_kwargs, chunk=True, attempt=2)
    (name,) = await scene.put(new_call_name(), encode_call(call))
    await scene.stage.until_exists(layout.status_path(name))
    return [name]


async def cancelled(scene: Scene) -> list[str]:
    await scene.master()
    name = new_call_name("unserved")
    await scene.stage.put(layout.task_path(name), data=divide(1))
    await scene.stage.put(layout.cancel_path(name))
    return [name]


async def expired_in_the_backlog(scene: Scene) -> list[str]:
    await scene.master()
    name = f"{new_call_name('unserved')}.c"
    call = Call(1, "m:divide", *encode_arguments((1,), {}), expires=1)
    await scene.stage.put(layout.task_path(name), data=encode_call(call))
    return [name]


async def buried(scene: Scene) -> list[str]:
    payload = call_payload("m:divide", 1, deliveries=1, started="worker-lost")
    names = await scene.put(new_call_name(), payload, "worker-lost")
    await scene.master(MasterSettings(session_timeout=TIMEOUT, max_deliveries=1))
    return names


async def immovable(scene: Scene) -> list[str]:
    await scene.master()
    name = new_call_name(big=True)
    await scene.stage.put(layout.task_path(name), data=b"x" * 700_000)
    return [name]


SCENARIOS: dict[str, Callable[[Scene], Awaitable[list[str]]]] = {
    "its code raised, let the soft time limit through, or returned what JSON cannot carry": raised,
    "an argument does not fit its type": misfit,
    "it exceeded its `timeout`, in any pool": late,
    "its process died or ran out of memory, or its coroutine was cancelled": died,
    "its result is too large": large,
    "no worker has its function, or one with its parameters; its payload or its options cannot work": impossible,
    "it had expired when its turn came at a worker": expired,
    "the handler of raw tasks raised": raw,
    "any of the above, and another attempt follows": tried_again,
    "some items of a chunk failed, and others did not": in_a_chunk,
    "it was cancelled": cancelled,
    "it expired in the backlog": expired_in_the_backlog,
    "workers were lost with it too often, and the primary buried it": buried,
    "its payload is too large, or cannot be read, and the primary refused it": immovable,
}
GOES_ON = (tried_again, in_a_chunk)
"""Scenarios after which there is no outcome with an error."""


def test_each_scenario_is_a_row_of_the_table() -> None:
    assert sorted(row.cause for row in rows()) == sorted(SCENARIOS)


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: re.sub(r"\W+", "-", row.cause)[:40])
async def test_the_hooks_are_called_as_the_table_says(row: Row, stage: Stage, tmp_path: Path) -> None:
    def fail(_name: str, _payload: bytes) -> None:
        raise ValueError("raw")

    told, told_by_master, scenario = Told(), Told(), SCENARIOS[row.cause]
    worker = await stage.worker(FUNCTIONS, app=app.APP, hooks=told.hooks, slots=16, raw=fail)
    names = await scenario(Scene(stage, worker, told, told_by_master, tmp_path))
    submitted = {name: await error_of(stage, name) for name in names if scenario not in GOES_ON}
    await stage.stop(worker)  # it waits for the calls of hooks

    for name in names:
        errors, final = told.errors_of(name), told.final_of(name)
        assert len(errors) == (0 if row.error == "not called" else 1)
        assert len(final) == (1 if row.final == "called" else 0)
        if row.final == BY_MASTER:
            await until(partial(told_by_master.has_final, name), "a call by the master")
        final += told_by_master.final_of(name)
        assert len(final) == (0 if row.final == "not called" else 1)
        for call in (*errors, *final):
            kind, text = submitted.get(name, call[2:4])
            assert (call.kind, call.text) == (kind, text or call.text)  # the outcome of a raw task has no message
        for error in errors:
            assert row.error.startswith("what it raised") or f"`{error.kind}`" in row.error
            assert (error.thread == CALLS_THREAD) == (row.where == "on a thread of the worker")
