"""Delayed tasks: each runs once, after its time and not before, whatever dies meanwhile and whatever clocks say."""

from __future__ import annotations

import time

import pytest

from herdmaster.core import layout
from herdmaster.core.names import UlidFactory, call_name
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.model import Acl, CreateMode, Id, Permission
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.stage import (
    LONGEST,
    TIMEOUT,
    Ran,
    Stage,
    StagedMaster,
    call_payload,
    new_call_name,
    new_raw_name,
    until,
)

pytestmark = pytest.mark.long

_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, lambda count: b"\x00" * count)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def expiring_call(function: str, expires: int) -> tuple[str, bytes]:
    payload = encode_call(Call(1, function, *encode_arguments((), {}), expires=expires))
    return call_name(_ulids.new(), conditional=True), payload


async def test_a_delayed_task_runs_once_after_its_time_and_not_before(stage: Stage) -> None:
    await stage.master()
    times: list[int] = []
    await stage.worker({"m:f": lambda: times.append(now_ms())})
    client = await stage.client()
    due = now_ms() + 1500
    await client.put(NewTask(new_call_name(), call_payload("m:f"), due_ms=due)).outcome()
    await stage.until_empty()

    assert len(times) == 1
    assert times[0] >= due


async def test_tasks_run_in_the_order_in_which_they_are_due(stage: Stage) -> None:
    await stage.master()
    ran: list[int] = []
    await stage.worker({"m:f": ran.append}, slots=1)
    client = await stage.client()
    soon = now_ms() + 800  # tasks that are promoted together run in the order of their names
    tasks = [client.put(NewTask(new_call_name(), call_payload("m:f", n), due_ms=soon + n * 600)) for n in (3, 1, 2, 0)]
    for task in tasks:
        await task.outcome()

    assert ran == [0, 1, 2, 3]


async def test_many_that_are_overdue_at_a_takeover_all_run_once(stage: Stage) -> None:
    ran = Ran()
    await stage.worker(raw=ran, slots=8, session_timeout=LONGEST)  # a task runs again when a session lapses
    names = [new_raw_name() for _ in range(1500)]
    await stage.put(*(layout.delayed_path(now_ms() - number, name) for number, name in enumerate(names)))
    await stage.master(MasterSettings(session_timeout=LONGEST))
    await until(lambda: len(ran.names) >= len(names), "all to run", 45.0)
    await stage.until_empty(layout.DELAYED, layout.TASKS)

    assert sorted(ran.names) == sorted(names)


async def test_the_death_of_the_primary_before_it_is_due_changes_nothing(stage: Stage) -> None:
    primary = await stage.master()
    await stage.master(is_primary=False)
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    due = now_ms() + 2500
    submitted = client.put(NewTask(new_raw_name(), b"", due_ms=due))
    await submitted.accepted
    await stage.abandon(primary)
    await submitted.outcome(30.0)

    assert now_ms() >= due
    assert ran.names == [submitted.name]


async def test_the_death_of_the_primary_in_the_middle_of_a_promotion_loses_and_doubles_nothing(
    namespace: str, stage: Stage
) -> None:
    ran = Ran()
    await stage.worker(raw=ran)
    names = [new_raw_name() for _ in range(50)]
    await stage.put(*(layout.delayed_path(now_ms(), name) for name in names))
    async with Proxy(namespace) as proxy:
        fault = proxy.lose_reply(multi_with(layout.DELAYED))
        primary = await stage.master(hosts=proxy.hosts)
        await fault.happened.wait()
        await stage.abandon(primary)
    await stage.master()
    for name in names:
        await stage.until_exists(layout.status_path(name))

    assert sorted(ran.names) == sorted(names)
    assert await stage.names(layout.TASKS) == await stage.names(layout.DELAYED) == []


@pytest.mark.parametrize("loses", ["request", "reply"])
async def test_a_lost_promotion_is_not_guessed_at(namespace: str, stage: Stage, loses: str) -> None:
    ran = Ran()
    await stage.worker(raw=ran)
    name = new_raw_name()
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        match = multi_with(layout.DELAYED)
        fault = proxy.lose_request(match) if loses == "request" else proxy.lose_reply(match)
        await stage.put(layout.delayed_path(now_ms(), name))
        await fault.happened.wait()
        await stage.until_exists(layout.status_path(name))
        await stage.close()

    assert ran.names == [name]
    assert await stage.leftovers() == [layout.status_path(name)]


# --- clocks ----------------------------------------------------------------------------------------------------------


class JumpingMaster(StagedMaster):
    """Its machine's clocks go by hand."""

    def __init__(self, hosts: str, *, unix_offset_ms: int = 0) -> None:
        self.unix_offset_ms = unix_offset_ms
        self.clock_offset = 0.0
        system = System(clock=lambda: boot_clock() + self.clock_offset, unix_ms=lambda: now_ms() + self.unix_offset_ms)
        super().__init__(hosts, MasterSettings(session_timeout=TIMEOUT), system)


@pytest.mark.parametrize("offset", [3_600_000, -3_600_000])
async def test_a_wrong_clock_of_the_primary_fires_nothing_early_and_nothing_late(stage: Stage, offset: int) -> None:
    master = JumpingMaster(stage.hosts, unix_offset_ms=offset)
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    soon, later = (client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + after)) for after in (1500, 600_000))
    due = now_ms() + 1000
    await soon.outcome(30.0)
    assert now_ms() >= due

    master.unix_offset_ms += 86_400_000
    await client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 500)).outcome(30.0)
    assert later.name not in ran.names
    assert [name.partition("-")[2] for name in await stage.names(layout.DELAYED)] == [later.name]


async def test_a_jump_of_the_monotonic_clock_which_ends_the_session_fires_nothing_early(stage: Stage) -> None:
    master = JumpingMaster(stage.hosts)
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    later = client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 600_000))
    await client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 500)).outcome(30.0)
    master.clock_offset += 86_400.0
    await client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 500)).outcome(60.0)

    assert later.name not in ran.names


# --- what cannot be promoted -----------------------------------------------------------------------------------------


async def test_what_is_too_large_to_be_moved_is_refused(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(layout.delayed_path(0, name), data=b"x" * 600_000)
    await stage.master()
    await stage.until_exists(layout.status_path(name))

    assert await stage.data(layout.status_path(name)) == b"failed: PayloadTooLarge"
    assert await stage.leftovers() == [layout.status_path(name)]


async def test_what_may_not_be_read_is_refused_and_holds_nothing_up(stage: Stage) -> None:
    await make_folders(stage.zk)
    name = new_raw_name()
    unreadable = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)
    await stage.zk.create(layout.delayed_path(0, name), b"", acl=unreadable)
    await stage.put(layout.delayed_path(1, new_raw_name()))
    await stage.master()
    await stage.until_empty(layout.DELAYED)

    assert (await stage.data(layout.status_path(name))).startswith(
        b"failed: BadPayload: its payload cannot be read: NoAuth on "
    )
    assert len(await stage.names(layout.TASKS)) == 1


async def test_what_cannot_be_deleted_is_set_aside_and_holds_nothing_up(stage: Stage) -> None:
    stuck, free = new_raw_name(), new_raw_name()
    await stage.put(layout.delayed_path(0, stuck) + "/child")
    await stage.put(*(layout.delayed_path(1, name) for name in (free, new_raw_name())))
    await stage.master()
    await until(lambda: _count_in(stage, layout.TASKS, 2), "the others to be promoted")

    assert await stage.names(layout.DELAYED) == [layout.delayed_name(0, stuck)]


async def _count_in(stage: Stage, folder: str, count: int) -> bool:
    return len(await stage.names(folder)) == count


async def test_names_outside_of_the_grammar_are_left_alone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.put("/delayed/garbage", "/delayed/0000000000001-garbage", layout.delayed_path(0, new_raw_name()))
    await stage.master()
    await stage.until_exists(layout.TASKS)
    await until(lambda: _has_left(stage), "the good one to be promoted")

    told = [message for message in caplog.messages if "garbage" in message]
    assert len(told) == 2


async def _has_left(stage: Stage) -> bool:
    return await stage.names(layout.DELAYED) == ["0000000000001-garbage", "garbage"]


async def test_a_delayed_task_that_waits_already_is_dropped(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put(layout.task_path(name), data=b"waiting")
    await stage.put(layout.delayed_path(0, name), data=b"delayed")
    await stage.master()
    await stage.until_empty(layout.DELAYED)

    assert await stage.leftovers() == [layout.task_path(name)]
    assert await stage.data(layout.task_path(name)) == b"waiting"


async def test_an_expired_one_that_has_a_status_already_is_dropped(stage: Stage) -> None:
    name, payload = expiring_call("m:f", 1)
    await stage.put(layout.delayed_path(0, name), data=payload)
    await stage.put(layout.status_path(name), data=b"status")
    await stage.master()
    await stage.until_empty(layout.DELAYED)

    assert await stage.leftovers() == [layout.status_path(name)]
    assert await stage.data(layout.status_path(name)) == b"status"


async def test_a_delayed_task_whose_time_is_over_when_it_is_due_ends_as_expired(stage: Stage) -> None:
    await stage.master()
    called: list[str] = []
    await stage.worker({"m:f": lambda: called.append("f")})
    client = await stage.client()
    over, valid = expiring_call("m:f", now_ms() + 200), expiring_call("m:f", now_ms() + 600_000)
    expired = client.put(NewTask(*over, due_ms=now_ms() + 1000))
    assert (await expired.outcome()).state is OutcomeState.EXPIRED
    await client.put(NewTask(*valid, due_ms=now_ms() + 1000)).outcome()

    assert called == ["f"]


# --- under a primary of the reference ------------------------------------------------------------------------------


async def test_under_a_reference_primary_the_oldest_of_our_masters_promotes(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, b"1a2b3c4d", mode=CreateMode.EPHEMERAL)
    oldest = await stage.master(is_primary=False)
    await until(lambda: _count_in(stage, layout.MASTERS, 1), "the first master's record")
    await stage.master(is_primary=False)
    await until(lambda: _count_in(stage, layout.MASTERS, 2), "the second master's record")
    await stage.put(layout.delayed_path(now_ms(), new_raw_name()))
    await stage.until_empty(layout.DELAYED)
    assert len(await stage.names(layout.TASKS)) == 1  # and none of our masters assigns it

    await stage.stop(oldest)
    await stage.put(layout.delayed_path(now_ms(), new_raw_name()))
    await stage.until_empty(layout.DELAYED)


async def test_who_stands_in_becomes_primary_when_the_other_goes(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, b"1a2b3c4d", mode=CreateMode.EPHEMERAL)
    master = await stage.master(is_primary=False)
    await stage.put(layout.delayed_path(now_ms(), new_raw_name()))
    await stage.until_empty(layout.DELAYED)
    await stage.zk.delete(layout.MASTER)
    await until(lambda: master.is_primary, "it to be primary")
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    await client.put(NewTask(new_raw_name(), b"", due_ms=now_ms() + 300)).outcome()

    await until(lambda: len(ran.names) == 2, "both to run")


async def test_a_backup_of_a_primary_of_ours_promotes_nothing(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        await stage.master()
        fault = proxy.lose_request(request_of(OpCode.MULTI))
        await stage.master(hosts=proxy.hosts, is_primary=False)
        await stage.put(*(layout.delayed_path(now_ms() + 100 * number, new_raw_name()) for number in range(10)))
        await stage.until_empty(layout.DELAYED)
        await stage.close()

    assert not fault.happened.is_set()


@pytest.mark.fallback("TRY_LATER_SECONDS")  # then it looks again for the other copy
async def test_who_stands_in_drops_nothing_that_waits_as_well_and_promotes_it_when_the_other_copy_has_gone(
    stage: Stage,
) -> None:
    """The primary of the reference may be about to delete the other copy, which it saw assigned when it took over."""
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, b"1a2b3c4d", mode=CreateMode.EPHEMERAL)
    name, other = new_raw_name(), new_raw_name()
    await stage.put(layout.task_path(name), data=b"waiting")
    await stage.put(layout.delayed_path(0, name), data=b"delayed")
    await stage.master(is_primary=False)
    await stage.put(layout.delayed_path(1, other))
    await stage.until_exists(layout.task_path(other))  # so it has looked at both

    assert await stage.exists(layout.delayed_path(0, name))
    await stage.zk.delete(layout.task_path(name))
    await stage.until_empty(layout.DELAYED)
    assert await stage.data(layout.task_path(name)) == b"delayed"
