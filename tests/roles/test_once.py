"""`once` in the pools of a real worker: what can happen between the call and the save. The test plays the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.options import PoolKind
from herdmaster.core.outcome import Outcome as Ended
from herdmaster.core.outcome import OutcomeState, encode_outcome
from herdmaster.core.payload import decode_call
from tests.proxy import Fault, Proxy, multi_with
from tests.roles import app
from tests.roles.stage import REFERENCE, Stage, StagedWorker, until
from tests.roles.test_running import assign, outcome, result, start

pytestmark = pytest.mark.long

POOLS = list(PoolKind)
FUNCTION = {PoolKind.THREAD: "", PoolKind.PROCESS: "", PoolKind.ASYNCIO: "_async"}


async def buy(
    stage: Stage, worker: StagedWorker, pool: PoolKind, folder: Path, then: str = "", **options: float
) -> str:
    return await assign(stage, worker, f"buy{FUNCTION[pool]}", folder, then, **options)


async def start_pool(stage: Stage, pool: PoolKind, hosts: str = "") -> StagedWorker:
    return await start(stage, PoolKind.THREAD if pool is PoolKind.ASYNCIO else pool, hosts=hosts)


async def there(folder: Path, name: str) -> None:
    await until((folder / name).exists, f"{name} to be there", 40.0)


def orders(folder: Path) -> int:
    return (folder / "orders").stat().st_size


def saves_of(worker: StagedWorker) -> Fault:
    """Match the transactions that write an assignment of the worker and do nothing else to it."""
    assignments = layout.inbox_path(worker.name)
    match = multi_with(assignments)
    return Fault(lambda opcode, body: match(opcode, body) and b'"saved"' in body)


@asynccontextmanager
async def worker_with_held_saves(
    stage: Stage, namespace: str, pool: PoolKind
) -> AsyncIterator[tuple[StagedWorker, Fault]]:
    """Yield a worker, and what happens to its saves: the proxy holds them until they may go on."""
    async with Proxy(namespace) as proxy:
        worker = await start_pool(stage, pool, proxy.hosts)
        fault = saves_of(worker)
        proxy.held_requests.append(fault)
        yield worker, fault
        await stage.stop(worker)


@pytest.mark.parametrize("pool", POOLS)
async def test_another_worker_finds_what_was_saved(stage: Stage, tmp_path: Path, pool: PoolKind) -> None:
    await stage.play_primary()
    first = await start_pool(stage, pool)
    name = await buy(stage, first, pool, tmp_path, "wait")
    await there(tmp_path, "bought")
    data = await stage.data(layout.assignment_path(first.name, name))
    assert decode_call(data).saved is not None, "it is saved before the code goes on"

    await stage.abandon(first)
    second = await start_pool(stage, pool)
    await stage.put(layout.assignment_path(second.name, name), data=data)
    (tmp_path / "go").touch()
    assert await result(stage, name) == [1, 1]
    assert orders(tmp_path) == 1


@pytest.mark.parametrize("pool", POOLS)
async def test_the_next_attempt_finds_what_was_saved(stage: Stage, tmp_path: Path, pool: PoolKind) -> None:
    await stage.play_primary(REFERENCE)  # so that the worker itself tries again
    worker = await start_pool(stage, pool)
    name = await buy(stage, worker, pool, tmp_path, "fail", max_attempts=2, backoff=0)
    assert await result(stage, name) == [1, 2]
    assert orders(tmp_path) == 1


@pytest.mark.parametrize("is_reply", [True, False], ids=["reply", "request"])
@pytest.mark.parametrize("pool", POOLS)
async def test_a_save_is_sent_again_when_the_connection_is_back(
    stage: Stage, namespace: str, tmp_path: Path, pool: PoolKind, is_reply: bool
) -> None:
    async with Proxy(namespace) as proxy:
        worker = await start_pool(stage, pool, proxy.hosts)
        fault = saves_of(worker)
        (proxy.lost_replies if is_reply else proxy.lost_requests).append(fault)
        name = await buy(stage, worker, pool, tmp_path)
        assert await result(stage, name) == [1, 1]
        assert fault.happened.is_set()
        assert orders(tmp_path) == 1
        await stage.stop(worker)


@pytest.mark.parametrize("pool", [PoolKind.THREAD, PoolKind.ASYNCIO])
async def test_code_does_not_go_on_when_its_task_was_cancelled_before_the_save(
    stage: Stage, namespace: str, tmp_path: Path, pool: PoolKind
) -> None:
    async with worker_with_held_saves(stage, namespace, pool) as (worker, fault):
        name = await buy(stage, worker, pool, tmp_path)
        await until(fault.happened.is_set, "the save to be sent")
        status = encode_outcome(name, Ended(OutcomeState.CANCELLED))
        transaction = stage.zk.transaction().delete(layout.assignment_path(worker.name, name))
        await transaction.create(layout.status_path(name), status).commit()
        fault.go_on.set()
        await there(tmp_path, "refused")
        assert not (tmp_path / "bought").exists()


@pytest.mark.parametrize("pool", [PoolKind.THREAD, PoolKind.ASYNCIO])
async def test_code_does_not_go_on_when_the_session_ends_before_the_save(
    stage: Stage, namespace: str, tmp_path: Path, pool: PoolKind
) -> None:
    async with worker_with_held_saves(stage, namespace, pool) as (worker, fault):
        before = worker.name
        name = await buy(stage, worker, pool, tmp_path)
        await until(fault.happened.is_set, "the save to be sent")
        await stage.expire(worker)
        fault.go_on.set()
        await until(lambda: _is_written(tmp_path / "refused"), "the refusal")
        if pool is PoolKind.THREAD:  # a coroutine is cancelled where it waits
            assert "session of its worker is over" in (tmp_path / "refused").read_text()
        await stage.until_registered(worker, unlike=before)
        assert not (tmp_path / "bought").exists()
        assert decode_call(await stage.data(layout.assignment_path(before, name))).saved is None, "the fence"


@pytest.mark.parametrize("pool", POOLS)
async def test_code_that_a_soft_limit_interrupts_while_it_saves_waits_for_the_same_save(
    stage: Stage, namespace: str, tmp_path: Path, pool: PoolKind
) -> None:
    async with worker_with_held_saves(stage, namespace, pool) as (worker, fault):
        name = await assign(
            stage, worker, f"buy_impatiently{FUNCTION[pool]}", tmp_path, soft_timeout=0.6
        )  # from when it is given to its child process
        await there(tmp_path, "impatient")
        fault.go_on.set()
        assert await result(stage, name) == ["again", 1]
        assert orders(tmp_path) == 1


@pytest.mark.parametrize("pool", POOLS)
async def test_a_hard_limit_ends_code_that_waits_for_its_save(
    stage: Stage, namespace: str, tmp_path: Path, pool: PoolKind
) -> None:
    async with worker_with_held_saves(stage, namespace, pool) as (worker, fault):
        name = await buy(stage, worker, pool, tmp_path, timeout=0.6)
        await until(fault.happened.is_set, "the save to be sent")
        await until(lambda: not _running(worker), "the code to be given up")
        fault.go_on.set()
        found = await outcome(stage, name)
        assert found.error is not None
        assert found.error.type == "TimeLimitExceeded"
        assert not (tmp_path / "bought").exists()


def _is_written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _running(worker: StagedWorker) -> bool:
    assert worker._session is not None
    return bool(worker._session.running)


async def test_what_was_saved_goes_back_with_a_task_that_is_handed_back(stage: Stage, tmp_path: Path) -> None:
    await stage.play_primary()
    worker = await stage.worker({"m:buy": app.buy}, drain_timeout=0.2)
    name = await buy(stage, worker, PoolKind.THREAD, tmp_path, "wait")
    await there(tmp_path, "bought")
    await stage.stop(worker)
    saved = decode_call(await stage.data(layout.task_path(name))).saved
    (tmp_path / "go").touch()
    assert saved is not None
    assert bytes(saved["buy"]) == b"1"
