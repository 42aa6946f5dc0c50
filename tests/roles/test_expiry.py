"""Tasks whose time is over before they begin end as expired, by the servers' clock."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.core.names import call_name
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_attempt
from herdmaster.core.transitions import NewTask
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.model import Acl, Id, Permission
from tests.roles.primary.test_promotion import JumpingMaster, expiring_call, now_ms
from tests.roles.stage import Stage, until

pytestmark = pytest.mark.long

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


async def test_a_waiting_task_expires_in_time_without_any_worker(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    expires = now_ms() + 1000
    submitted = client.put(NewTask(*expiring_call("m:f", expires)))
    late = client.put(NewTask(*expiring_call("m:f", now_ms() + 600_000)))
    assert (await submitted.outcome()).state is OutcomeState.EXPIRED

    assert now_ms() >= expires
    await until(lambda: _only_leftover(stage, layout.task_path(late.name)), "only the later task to be left")


async def _only_leftover(stage: Stage, path: str) -> bool:
    return await stage.leftovers() == [path]


async def test_a_task_in_time_runs(stage: Stage) -> None:
    await stage.master()
    called: list[int] = []
    await stage.worker({"m:f": lambda: called.append(1)})
    client = await stage.client()
    await client.put(NewTask(*expiring_call("m:f", now_ms() + 600_000))).result()

    assert called == [1]


async def test_a_new_primary_knows_what_has_expired_meanwhile(stage: Stage) -> None:
    await make_folders(stage.zk)
    called: list[int] = []
    await stage.worker({"m:f": lambda: called.append(1)})
    expired = [expiring_call("m:f", now_ms() - 1000) for _ in range(120)]
    for name, payload in expired:
        await stage.put(layout.task_path(name), data=payload)
    await stage.master()
    await stage.until_empty(layout.TASKS)
    await until(lambda: _all_ended(stage, len(expired)), "all to end")

    assert called == []
    for name, _ in expired:
        outcome = decode_outcome(name, await stage.data(layout.status_path(name)))
        assert outcome.state is OutcomeState.EXPIRED


async def _all_ended(stage: Stage, count: int) -> bool:
    return len(await stage.names(layout.STATUS)) == count


@pytest.mark.parametrize("offset", [3_600_000, -3_600_000])
async def test_a_wrong_clock_of_the_primary_expires_nothing_early_and_nothing_late(stage: Stage, offset: int) -> None:
    master = JumpingMaster(stage.hosts, unix_offset_ms=offset)
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")
    client = await stage.client()
    expires = now_ms() + 1000
    soon = client.put(NewTask(*expiring_call("m:f", expires)))
    late = client.put(NewTask(*expiring_call("m:f", now_ms() + 600_000)))
    assert (await soon.outcome()).state is OutcomeState.EXPIRED

    assert now_ms() >= expires
    assert await stage.names(layout.TASKS) == [late.name]


async def test_what_the_task_wants_of_its_outcome_is_kept(stage: Stage) -> None:
    name, _ = expiring_call("m:f", 1)
    payload = encode_call(Call(1, "m:f", *encode_arguments((), {}), expires=1, key="0" * 32, ttl=77.0))
    await stage.put(layout.task_path(name), data=payload)
    await stage.master()
    await stage.until_exists(layout.status_path(name))
    outcome = decode_outcome(name, await stage.data(layout.status_path(name)))

    assert (outcome.state, outcome.key, outcome.ttl) == (OutcomeState.EXPIRED, "0" * 32, 77.0)


@pytest.mark.parametrize("data", [b"", b"garbage", b"[" * 100_000, b'{"herd":1,"expires":"soon"}', b"9" * 5000])
async def test_a_header_that_cannot_be_read_holds_nothing_up(stage: Stage, data: bytes) -> None:
    await stage.master()
    await stage.worker({"m:f": lambda: None})
    bad = call_name("01arz3ndektsv4rrffq69g5fav", conditional=True)
    await stage.put(layout.task_path(bad), data=data)
    client = await stage.client()
    await client.put(NewTask(*expiring_call("m:f", now_ms() + 600_000))).outcome()
    await stage.until_exists(layout.status_path(bad))

    assert decode_outcome(bad, await stage.data(layout.status_path(bad))).state is OutcomeState.FAILED


async def test_a_payload_that_may_not_be_read_is_refused(stage: Stage) -> None:
    await make_folders(stage.zk)
    bad = call_name("01arz3ndektsv4rrffq69g5fav", conditional=True)
    await stage.zk.create(layout.task_path(bad), b"", acl=NOT_READABLE)
    await stage.worker({"m:f": lambda: None})
    await stage.master()
    await stage.until_exists(layout.status_path(bad))

    assert decode_outcome(bad, await stage.data(layout.status_path(bad))).state is OutcomeState.FAILED


async def test_what_counts_is_the_header_at_the_time_when_it_would_expire(stage: Stage) -> None:
    """A name can leave and come back, for its next attempt, between two looks."""
    await stage.master()
    expires = now_ms() + 2500
    name, payload = expiring_call("m:f", expires)
    await stage.put(layout.task_path(name), data=payload)
    mark = expiring_call("m:f", expires + 1)
    await stage.put(layout.task_path(mark[0]), data=mark[1])
    await asyncio.sleep(0.5)  # by now both headers were read
    await stage.zk.set(layout.task_path(name), with_attempt(payload))
    await stage.until_exists(layout.status_path(mark[0]))
    await asyncio.sleep(0.3)

    assert await stage.names(layout.TASKS) == [name]
