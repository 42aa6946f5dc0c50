"""Sweeps that race with collecting, waiting, replaying and submitting: what is new by then stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.primary.outcome_sweep import OutcomeSweep
from herdmaster.roles.primary.stand_in import StandIn
from herdmaster.roles.primary.sweeper import Ages, Sweeper
from herdmaster.roles.primary.waiter_sweep import WaiterSweep
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper.client import Client
from tests.roles.stage import Stage, new_call_name, new_raw_name

FAR = 10**14
"""In unix milliseconds: everything has outlived its time."""
KEY = hash_key("k")


class Racing:
    """A client; `first` happens once, just before its first call of that name about that path."""

    def __init__(self, client: Client, call: str, path: str, first: Callable[[], Awaitable[object]]) -> None:
        self._client = client
        self._call = call
        self._path = path
        self._first: Callable[[], Awaitable[object]] | None = first

    @property
    def has_raced(self) -> bool:
        return self._first is None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name != self._call:
            return found

        async def call(paths: Any, *rest: object) -> object:
            paths = paths if isinstance(paths, str) else list(paths)
            if self._first is not None and (paths == self._path or (paths is not str and self._path in paths)):
                first, self._first = self._first, None
                await first()
            return await found(paths, *rest)

        return call


@pytest.fixture
async def zk(stage: Stage) -> Client:
    await make_folders(stage.zk)
    return stage.zk


async def names(client: Client, folder: str) -> list[str]:
    return sorted(await client.children(folder))


def outcome(task: str, key: str | None = None) -> bytes:
    return encode_outcome(task, Outcome(OutcomeState.CANCELLED, key=key))


async def hold_key(client: Client, task: str) -> None:
    await client.create(layout.key_path(KEY), task.encode())
    await client.create(layout.hold_path(KEY, task))


async def test_an_outcome_that_is_collected_before_it_expires_and_its_key_go_to_others(zk: Client) -> None:
    task, other = new_call_name(), new_call_name()
    await zk.create(layout.status_path(task), outcome(task, KEY))
    await hold_key(zk, task)

    async def collect_and_submit() -> None:
        transaction = zk.transaction().delete(layout.status_path(task))
        await transaction.delete(layout.hold_path(KEY, task)).delete(layout.key_path(KEY)).commit()
        await hold_key(zk, other)

    racing: Any = Racing(zk, "multi_read", layout.hold_path(KEY, task), collect_and_submit)
    await OutcomeSweep(racing, 1.0).sweep(FAR)

    assert racing.has_raced
    assert await names(zk, layout.STATUS) == []
    assert await names(zk, layout.KEYS) == sorted([KEY, f"{KEY}-{other}"])


async def test_an_outcome_that_is_collected_while_it_is_read_again_disturbs_no_other(zk: Client) -> None:
    task, other = sorted((new_raw_name(), new_raw_name()))
    for name in (task, other):
        await zk.create(layout.status_path(name), b"done")
    sweep = OutcomeSweep(zk, 1.0)
    await sweep.sweep(0)
    racing: Any = Racing(zk, "exists", layout.status_path(task), lambda: zk.delete(layout.status_path(task)))
    sweep._client = racing
    await sweep.sweep(FAR)

    assert racing.has_raced
    assert await names(zk, layout.STATUS) == []


async def test_another_outcome_of_the_same_name_is_as_old_as_its_own_znode(zk: Client) -> None:
    """The one that a round has seen is collected, and the name comes back before the next round."""
    task = new_raw_name()
    await zk.create(layout.status_path(task), b"done")
    first = await zk.exists(layout.status_path(task))
    assert first is not None
    sweep = OutcomeSweep(zk, 1000.0)
    await sweep.sweep(first.ctime)
    await zk.delete(layout.status_path(task))
    second = first
    while second.ctime == first.ctime:
        await zk.create(layout.status_path(task), b"done")
        found = await zk.exists(layout.status_path(task))
        assert found is not None
        second = found
        if second.ctime == first.ctime:
            await zk.delete(layout.status_path(task))
    await sweep.sweep(first.ctime + 1_000_000)
    assert await names(zk, layout.STATUS) == [task]

    await sweep.sweep(second.ctime + 1_000_000)
    assert await names(zk, layout.STATUS) == []


async def test_a_key_that_is_released_while_its_outcome_expires_does_not_keep_the_outcome(zk: Client) -> None:
    task, other = new_call_name(), new_call_name()
    await zk.create(layout.status_path(task), outcome(task, KEY))
    await hold_key(zk, task)
    sweep = OutcomeSweep(zk, 1.0)
    held_keys = sweep._keys_held

    async def release_after(wanted: list[str]) -> Any:
        held = await held_keys(wanted)
        await zk.transaction().delete(layout.hold_path(KEY, task)).delete(layout.key_path(KEY)).commit()
        await hold_key(zk, other)
        return held

    sweep._keys_held = release_after  # type: ignore[method-assign, assignment]  # the release comes just before the transaction
    await sweep.sweep(FAR)

    assert await names(zk, layout.STATUS) == []
    assert await names(zk, layout.KEYS) == sorted([KEY, f"{KEY}-{other}"])


@pytest.mark.parametrize("how", ["waits", "has read"])
async def test_one_that_begins_to_wait_while_a_read_outcome_is_swept_keeps_its_registration(
    zk: Client, how: str
) -> None:
    task = new_raw_name()
    waiters = layout.waiters_path(task)
    await zk.create(layout.WAITERS) if await zk.exists(layout.WAITERS) is None else None
    await zk.create(waiters, layout.WAS_READ)

    async def change() -> None:
        if how == "waits":
            await zk.create(f"{waiters}/0000000000000001")
        else:
            await zk.set(waiters, layout.WAS_READ)

    async def take_away(_names: list[str]) -> None: ...

    racing: Any = Racing(zk, "delete", waiters, change)
    sweep = WaiterSweep(racing, take_away, 0.0)
    await sweep.sweep(FAR)
    assert racing.has_raced
    assert await names(zk, layout.WAITERS) == [task]


class ScriptedClock:
    """A clock of the servers that shows what it is told."""

    def __init__(self) -> None:
        self.now_ms = 0

    async def read(self) -> int:
        return self.now_ms


async def test_a_client_that_comes_back_while_its_journal_is_swept_keeps_it(zk: Client) -> None:
    path = layout.client_path("client-c")
    await zk.create(path)
    racing: Any = Racing(zk, "delete", path, lambda: zk.set(path, b""))
    clock: Any = ScriptedClock()
    sweeper = Sweeper(racing, StandIn(zk, layout.master_record_path("master-m")), clock, Ages())
    await sweeper._sweep_journals(0)
    clock.now_ms = FAR
    await sweeper._sweep_journals(FAR)
    assert racing.has_raced
    assert await names(zk, layout.CLIENTS) == ["client-c"]

    await sweeper._sweep_journals(FAR)  # its time began anew
    assert await names(zk, layout.CLIENTS) == ["client-c"]


async def test_a_dead_task_that_is_buried_anew_between_two_rounds_is_as_old_as_its_own_znode(zk: Client) -> None:
    task = new_call_name()
    path = layout.dead_path(task)
    await zk.create(path)
    record = layout.master_record_path("master-m")
    sweeper = Sweeper(zk, StandIn(zk, record), ServerClock(zk, record, b"", lambda: 0), Ages())
    await sweeper._sweep_dead(0)
    sweeper._died[task] = 0  # the one that was seen is long over
    await sweeper._sweep_dead(1)

    assert await names(zk, layout.DEAD) == [task]


async def test_a_stale_key_that_another_task_gets_while_it_is_swept_stays(zk: Client) -> None:
    gone, other = new_call_name(), new_call_name()
    await hold_key(zk, gone)
    sweep = KeySweep(zk)
    await sweep.sweep()
    find_stale = sweep._find_stale

    async def give_after(keys: Any) -> Any:
        stale = await find_stale(keys)
        await zk.transaction().delete(layout.hold_path(KEY, gone)).delete(layout.key_path(KEY)).commit()
        await hold_key(zk, other)
        return stale

    sweep._find_stale = give_after  # type: ignore[method-assign]  # just before the transaction
    await sweep.sweep()

    assert await names(zk, layout.KEYS) == sorted([KEY, f"{KEY}-{other}"])
