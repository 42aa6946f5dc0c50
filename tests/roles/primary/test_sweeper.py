"""Sweeps: what has outlived its time goes, and what has not stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.names import flow_name
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.outcome_sweep import OutcomeSweep
from herdmaster.roles.primary.stand_in import StandIn, Standing
from herdmaster.roles.primary.sweeper import Ages, Sweeper
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import OPEN_ACL, Acl, CreateMode, Id, Permission
from tests.proxy import Proxy, multi_with
from tests.roles.stage import TIMEOUT, Stage, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long

SHORT = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=0.5, dead=0.5, journal=0.5))
LONG = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=0.5, dead=3600.0, journal=3600.0))


def test_rounds_are_a_tenth_of_the_shortest_age_but_neither_too_often_nor_too_seldom() -> None:
    assert Ages(outcome=100.0).interval == 10.0
    assert Ages(outcome=0.1).interval == 0.2
    assert Ages().interval == 60.0


async def test_statuses_past_their_time_to_live_expire_and_younger_ones_stay(stage: Stage) -> None:
    await stage.master(SHORT)
    old = [new_raw_name() for _ in range(450)]  # more than one batch
    await stage.put(*map(layout.status_path, old))
    await stage.until_empty(layout.STATUS)

    settings = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=3600.0, dead=0.5, journal=0.5))
    await stage.close()
    await stage.master(settings)
    await stage.put(layout.status_path(new_raw_name()), layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.DEAD)
    assert len(await stage.names(layout.STATUS)) == 1


async def test_a_status_below_which_others_have_put_something_expires_with_it(stage: Stage) -> None:
    """A Java worker whose connection broke repeats its status at the wrong path."""
    name, other = new_raw_name(), new_raw_name()
    await stage.put(layout.status_path(name), layout.status_path(other), data=b"done")
    await stage.put(f"{layout.status_path(name)}/status/status", f"{layout.STATUS}/null", data=b"done")
    await stage.master(LONG)
    await until(lambda: _is_left(stage, ["null"]), "the statuses to expire")


async def _is_left(stage: Stage, names: list[str]) -> bool:
    return await stage.names(layout.STATUS) == names


@pytest.mark.parametrize("new_name", [new_call_name, lambda: flow_name(new_raw_name().removeprefix("task-"))])
async def test_a_kept_outcome_that_an_older_client_marked_as_read_stays_for_its_time_to_live(
    stage: Stage, new_name: Callable[[], str]
) -> None:
    kept, other, short = (new_name() for _ in range(3))
    for name, ttl, keep in ((kept, 600.0, True), (other, 600.0, False), (short, 1.0, True)):
        await stage.put(
            layout.status_path(name), data=encode_outcome(name, Outcome(OutcomeState.DONE, ttl=ttl, keep=keep))
        )
        await stage.put(layout.waiters_path(name), data=layout.WAS_READ)
    await stage.master(LONG)

    await stage.until_empty(layout.WAITERS)
    await until(lambda: _is_left(stage, [kept]), "the others to go")


async def test_an_age_is_that_of_the_znode_not_of_the_name(stage: Stage) -> None:
    """A name that left and came back is as young as its new znode."""
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=2.0, dead=2.0, journal=2.0)))
    name = new_raw_name()
    path = layout.status_path(name)
    await stage.put(path)
    first = await stage.zk.exists(path)
    await asyncio.sleep(1.2)  # rounds have seen it
    with suppress(errors.NoNode):  # on a busy machine it may be old enough by now
        await stage.zk.delete(path)
    await stage.put(path)
    second = await stage.zk.exists(path)
    assert first is not None
    assert second is not None
    await stage.until_gone(path)
    now = await stage.zk.set("/workers", b"")

    assert now.mtime - second.ctime >= 2000 - 300


async def test_dead_tasks_past_their_time_go(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.put(layout.dead_path(new_call_name()), layout.dead_path(new_raw_name()))

    await stage.until_empty(layout.DEAD)


async def test_names_that_are_no_tasks_are_left_alone(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.put("/status/garbage", "/dead/garbage", "/clients/garbage", layout.status_path(new_raw_name()))

    async def only_garbage() -> bool:
        return await stage.names(layout.STATUS) == ["garbage"]

    await until(only_garbage, "the others to go")
    assert await stage.names(layout.DEAD) == await stage.names(layout.CLIENTS) == ["garbage"]


async def test_a_journal_goes_a_while_after_its_last_session_went(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.put("/clients/client-gone")
    await stage.zk.create("/clients/client-here")
    await stage.zk.create("/clients/client-here/alive-0000000000000001", mode=CreateMode.EPHEMERAL)
    await stage.master(SHORT)
    await stage.until_gone("/clients/client-gone")
    assert await stage.names(layout.CLIENTS) == ["client-here"]

    await stage.zk.delete("/clients/client-here/alive-0000000000000001")
    await stage.until_gone("/clients/client-here")


async def test_a_journal_that_shows_a_sign_of_life_begins_its_time_anew(stage: Stage) -> None:
    await stage.put("/clients/client-c")
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(journal=1.5)))
    for _ in range(4):
        await asyncio.sleep(0.5)
        await stage.zk.set("/clients/client-c", b"")

    assert await stage.exists("/clients/client-c")
    await stage.until_gone("/clients/client-c")


async def test_a_client_whose_journal_was_swept_goes_on_under_another(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()
    (journal,) = await stage.names(layout.CLIENTS)
    for alive in await stage.names(layout.client_path(journal)):
        await stage.zk.delete(f"{layout.client_path(journal)}/{alive}")
    await stage.until_gone(layout.client_path(journal))

    await client.put_raw().outcome()
    assert await stage.names(layout.CLIENTS) not in ([], [journal])


@pytest.mark.parametrize("primary", [b"1a2b3c4d", b"\xff"])
async def test_under_a_reference_primary_the_oldest_of_our_masters_sweeps(stage: Stage, primary: bytes) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, primary, mode=CreateMode.EPHEMERAL)
    await stage.put(layout.MASTERS + "/master-old")  # neither alive nor ours, so it keeps no master from sweeping
    oldest = await stage.master(LONG, is_primary=False)
    await stage.until_exists(layout.MASTERS)
    await until(lambda: _count(stage, 2), "the first master's record")
    younger = await stage.master(SHORT, is_primary=False)
    await until(lambda: _count(stage, 3), "the second master's record")
    await stage.put(layout.status_path(new_raw_name()), layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.STATUS)
    assert await stage.names(layout.DEAD) != []  # the younger one, which would take it away, does not sweep

    await stage.stop(oldest)
    await stage.until_empty(layout.DEAD)
    assert not younger.is_primary


async def _count(stage: Stage, count: int) -> bool:
    return len(await stage.names(layout.MASTERS)) == count


async def test_a_backup_of_a_primary_of_ours_does_not_sweep(stage: Stage) -> None:
    primary = await stage.master(LONG)
    await stage.master(SHORT, is_primary=False)
    await stage.put(layout.dead_path(new_raw_name()))
    await asyncio.sleep(1.2)
    assert await stage.names(layout.DEAD) != []

    await stage.stop(primary)
    await stage.until_empty(layout.DEAD)


async def test_who_sweeps_no_longer_does_not_look_again_and_again_for_what_was_about_to_go(stage: Stage) -> None:
    class Looking(StandIn):
        looks = 0

        async def look(self) -> Standing:
            self.looks += 1
            return Standing.PRIMARY if self.looks == 1 else Standing.BACKUP

    await make_folders(stage.zk)
    record = layout.master_record_path("master-0123456789abcdef")
    await stage.put(record)
    name = new_call_name()
    outcome = Outcome(OutcomeState.DONE, encode_result(1), ttl=3.0)
    await stage.zk.create(layout.status_path(name), encode_outcome(name, outcome))
    stand_in = Looking(stage.zk, record)
    clock = ServerClock(stage.zk, record, b"", System().unix_ms)
    ages = Ages(outcome=20.0, dead=20.0, journal=20.0)
    sweeper = asyncio.ensure_future(Sweeper(stage.zk, stand_in, clock, ages).run())
    try:
        async with asyncio.timeout(30):
            while stand_in.looks < 2:
                await asyncio.sleep(0.02)
        before, began = stand_in.looks, stage.zk.clock()
        await asyncio.sleep(1.5)
        assert stand_in.looks - before <= 1 + (stage.zk.clock() - began) / ages.interval
    finally:
        sweeper.cancel()


async def test_a_round_that_is_refused_something_is_told_and_followed_by_the_next(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master(SHORT)
    name = new_raw_name()
    no_delete = (Acl(int(Permission.ALL & ~Permission.DELETE), Id("world", "anyone")),)
    await stage.zk.create(layout.status_path(name), b"done", acl=no_delete)
    await stage.zk.create(layout.status_path(name) + "/child")  # which may not be deleted
    await stage.put(layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.DEAD)
    await until(lambda: any(name in message for message in caplog.messages), "the word")

    await stage.zk.set_acl(layout.status_path(name), OPEN_ACL)
    await stage.until_empty(layout.STATUS)


async def test_what_is_hidden_or_cannot_be_deleted_keeps_nothing_else_from_being_swept(stage: Stage) -> None:
    """As ZooKeeper has it from 3.9.2 on, also the times of a znode that may not be read are hidden."""
    await make_folders(stage.zk)
    hidden = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)
    folders = (layout.STATUS, layout.DEAD, layout.KEYS, layout.WAITERS)
    kept = {folder: [new_raw_name(), new_call_name()] for folder in folders}
    kept[layout.KEYS] = [f"{hash_key(name)}-{name}" for name in kept[layout.KEYS]]
    for folder, names in kept.items():
        for name in names:
            await stage.zk.create(f"{folder}/{name}", acl=hidden)
            await stage.zk.create(f"{folder}/{name}/child")
    await stage.zk.create("/clients/client-hidden", acl=hidden)
    await stage.put("/clients/client-gone", layout.hold_path(hash_key("z"), new_call_name()))
    await stage.put(*(path(new_call_name()) for path in (layout.status_path, layout.dead_path, layout.waiters_path)))
    await stage.master(SHORT)
    await stage.until_gone("/clients/client-gone")

    async def only_these() -> bool:
        return {folder: sorted(await stage.names(folder)) for folder in kept} == {
            folder: sorted(names) for folder, names in kept.items()
        }

    await until(only_these, "the others to go")
    for path in ("/clients/client-hidden", *(f"{folder}/{name}" for folder, names in kept.items() for name in names)):
        with suppress(errors.NoNode):  # an older server shows the age of the journal, so it was swept
            await stage.zk.set_acl(path, OPEN_ACL)  # the fixture deletes all


async def test_an_outcome_that_cannot_be_deleted_waits_for_the_next_round(stage: Stage) -> None:
    await make_folders(stage.zk)
    name = new_raw_name()
    await stage.put(layout.status_path(name))
    stat = await stage.zk.exists(layout.status_path(name))
    assert stat is not None
    await stage.zk.set_acl(layout.STATUS, (Acl(int(Permission.ALL & ~Permission.DELETE), Id("world", "anyone")),))
    sweep = OutcomeSweep(stage.zk, 10.0)
    ends: list[float | None] = []
    for milliseconds in (9_999, 10_000):
        await sweep.sweep(stat.ctime + milliseconds)
        ends.append(sweep.next_end)
    assert ends == [stat.ctime + 10_000, None]
    await stage.zk.set_acl(layout.STATUS, OPEN_ACL)
    await sweep.sweep(stat.ctime + 10_000)
    assert await stage.names(layout.STATUS) == []


# --- outcomes with a time of their own, and keys ---------------------------------------------------------------------

KEY = hash_key("k")


def outcome(name: str, *, ttl: float | None = None, key: str | None = None) -> bytes:
    return encode_outcome(name, Outcome(OutcomeState.DONE, ttl=ttl, key=key))


async def test_an_outcome_is_kept_as_long_as_it_says(stage: Stage) -> None:
    shorter, longer, unsaid = (new_call_name() for _ in range(3))
    ages = Ages(outcome=3.0, dead=3600.0, journal=3600.0)
    await stage.put(layout.status_path(shorter), data=outcome(shorter, ttl=0.5))
    await stage.put(layout.status_path(longer), data=outcome(longer, ttl=3600.0))
    await stage.put(layout.status_path(unsaid), data=outcome(unsaid))
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=ages))
    await stage.until_gone(layout.status_path(shorter))
    assert await stage.exists(layout.status_path(unsaid))

    await stage.until_gone(layout.status_path(unsaid))
    assert await stage.names(layout.STATUS) == [longer]


async def test_many_large_outcomes_are_read_a_few_at_a_time(stage: Stage) -> None:
    names = [new_call_name() for _ in range(12)]
    for name in names:
        data = encode_outcome(name, Outcome(OutcomeState.DONE, encode_result("x" * 400_000), ttl=0.5))
        await stage.put(layout.status_path(name), data=data)
    await stage.master(LONG)

    await stage.until_empty(layout.STATUS)


@pytest.mark.parametrize("data", [b"", b"garbage", b"[" * 100_000, b'{"herd":1,"state":"done","ttl":"x"}', b"\xff"])
async def test_an_outcome_that_cannot_be_read_is_kept_as_long_as_others(stage: Stage, data: bytes) -> None:
    await stage.put(layout.status_path(new_call_name()), data=data)
    await stage.master(LONG)

    await stage.until_empty(layout.STATUS)


async def test_a_key_goes_with_its_outcome_and_not_before(stage: Stage) -> None:
    name = new_call_name()
    await stage.put(layout.key_path(KEY), layout.hold_path(KEY, name), data=name.encode())
    await stage.put(layout.status_path(name), data=outcome(name, key=KEY, ttl=3.5))
    await stage.master(LONG)
    await asyncio.sleep(2.0)
    assert await stage.exists(layout.key_path(KEY))

    await stage.until_gone(layout.status_path(name))
    assert await stage.names(layout.KEYS) == []


async def test_an_outcome_whose_key_went_or_belongs_to_another_goes_without_it(stage: Stage) -> None:
    without, others, hostile = (new_call_name() for _ in range(3))
    holder = new_call_name()
    await stage.put(layout.key_path(KEY), data=holder.encode())
    await stage.put(layout.delayed_path(10**12 * 9, holder))
    await stage.put(layout.status_path(without), data=outcome(without, key=hash_key("gone")))
    await stage.put(layout.status_path(others), data=outcome(others, key=KEY))
    await stage.put(layout.status_path(hostile), data=outcome(hostile, key="../../tasks"))
    await stage.master(LONG)
    await stage.until_empty(layout.STATUS)

    assert await stage.data(layout.key_path(KEY)) == holder.encode()


async def test_a_key_that_goes_while_its_outcome_expires_does_not_keep_the_outcome(
    namespace: str, stage: Stage
) -> None:
    name = new_call_name()
    await stage.put(layout.key_path(KEY), layout.hold_path(KEY, name), data=name.encode())
    await stage.put(layout.status_path(name), data=outcome(name, key=KEY, ttl=0.2))
    async with Proxy(namespace) as proxy:
        held = proxy.hold_request(multi_with(layout.key_path(KEY)))
        await stage.master(LONG, hosts=proxy.hosts)
        await held.happened.wait()
        await stage.zk.delete(layout.hold_path(KEY, name))
        await stage.zk.delete(layout.key_path(KEY))
        held.go_on.set()
        await stage.until_empty(layout.STATUS)
        await stage.close()


async def test_a_key_whose_task_is_nowhere_is_swept_and_any_other_stays(stage: Stage) -> None:
    await make_folders(stage.zk)
    held = [new_call_name() for _ in range(4)]
    await stage.put(
        layout.task_path(held[0]),
        layout.delayed_path(10**12 * 9, held[1]),
        layout.assignment_path("worker-w", held[2]),
        layout.status_path(held[3]),
    )
    keys = [hash_key(str(number)) for number in range(4)]
    for key, name in zip(keys, held, strict=True):
        await stage.put(layout.key_path(key), data=name.encode())
    stale = new_call_name()
    await stage.put(layout.key_path(hash_key("stale")), data=stale.encode())
    await stage.put(layout.key_path(hash_key("bad")), data=b"\xff garbage")
    await stage.put("/keys/no-hash")
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(dead=0.5), orphan_inbox_seconds=3600.0))
    await stage.until_gone(layout.key_path(hash_key("stale")))
    await stage.until_gone(layout.key_path(hash_key("bad")))
    await stage.until_gone(layout.hold_path(hash_key("stale"), stale))

    assert await stage.names(layout.KEYS) == sorted([*keys, "no-hash"])


async def test_a_stale_key_that_is_given_to_another_task_between_two_rounds_stays(stage: Stage) -> None:
    await make_folders(stage.zk)
    path, sweep = layout.key_path(KEY), KeySweep(stage.zk)
    await stage.put(path, data=new_call_name().encode())
    await sweep.sweep()
    await stage.zk.delete(path)
    await stage.put(path, data=new_call_name().encode())  # as stale as the first, but another
    await sweep.sweep()
    assert await stage.exists(path)

    await sweep.sweep()
    assert not await stage.exists(path)
