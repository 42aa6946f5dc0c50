"""Schedules that an operator adds, changes, runs and removes; each request is carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.layout import NEVER, UNPLANNED, TickName
from herdmaster.core.payload import decode_call
from herdmaster.core.schedule_decisions import NextTick
from herdmaster.core.schedule_moves import tick as tick_move
from herdmaster.core.schedules import Missed, Schedule, Tick, decode_tick, encode_schedule, encode_tick, scheduled_task
from herdmaster.core.timetable import Every
from herdmaster.errors import ConfigurationError, HerdError
from herdmaster.inspection.schedules import LastTask, ScheduleState, find_schedule, list_schedules, read_schedules
from herdmaster.operations import schedules
from herdmaster.operations.committing import commit
from herdmaster.operations.schedule_plan import ScheduleChange, SchedulePlan, apply_schedules, plan_schedules
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.proxy import Proxy, multi_with
from tests.roles.stage import call_payload

pytestmark = pytest.mark.long

NAME = "nightly"
ULID = "01arz3ndektsv4rrffq69g5fav"
HOUR = 3_600_000
START = 1_764_356_400_000
PLAIN = Schedule(id="0a1b2c3d", timetable=Every(HOUR), payload=msgspec.Raw(call_payload("m:f")))


def changed(**changes: object) -> Callable[[Schedule], Schedule]:
    return lambda schedule: msgspec.structs.replace(schedule, **changes)


async def ticks(client: Client) -> dict[TickName, Tick]:
    found: dict[TickName, Tick] = {}
    for name in await client.children(layout.TICKS):
        tick = layout.parse_tick_name(name)
        assert tick is not None
        found[tick] = decode_tick((await client.get(layout.tick_path(tick)))[0])
    return found


async def move_tick(client: Client, due_ms: int, tick: Tick) -> None:
    """Put the tick where a primary would."""
    (present,) = await ticks(client)
    following = TickName(due_ms, present.id, present.schedule)
    transaction = client.transaction().delete(layout.tick_path(present))
    await transaction.create(layout.tick_path(following), encode_tick(tick)).commit()


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        await make_folders(client)
        yield client


async def test_a_schedule_is_stored_with_a_tick_that_the_primary_is_to_plan(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    assert await ticks(zk) == {TickName(UNPLANNED, "0a1b2c3d", NAME): Tick()}
    seen = await find_schedule(zk, NAME)
    assert seen is not None
    assert (seen.state, seen.schedule, seen.tick, seen.last) == (ScheduleState.ACTIVE, PLAIN, Tick(), None)
    assert seen.next_ms is not None
    assert seen.next_ms % HOUR == 0
    with pytest.raises(schedules.ScheduleExists, match="there is a schedule 'nightly' already"):
        await schedules.add_schedule(zk, NAME, msgspec.structs.replace(PLAIN, id="00000000"))


async def test_an_edit_of_the_times_finds_the_next_one_anew_and_any_other_keeps_it(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    done = Tick(due_ms=START, last_ms=START - HOUR, runs=3, skips={"late": 1})
    await move_tick(zk, START, done)
    await schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL))
    assert await ticks(zk) == {TickName(START, "0a1b2c3d", NAME): done}
    await schedules.edit_schedule(zk, NAME, changed(timetable=Every(2 * HOUR)))
    unplanned = msgspec.structs.replace(done, due_ms=None)
    assert await ticks(zk) == {TickName(UNPLANNED, "0a1b2c3d", NAME): unplanned}
    (stored,) = await read_schedules(zk)
    assert stored.schedule == changed(missed=Missed.ALL, timetable=Every(2 * HOUR))(PLAIN)


async def test_an_edit_before_the_first_tick_is_planned_leaves_no_time_out(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    (before,) = await read_schedules(zk)
    await schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL))
    assert await ticks(zk) == {TickName(UNPLANNED, "0a1b2c3d", NAME): Tick(since_ms=before.created_ms)}


@pytest.mark.parametrize("catch_up", [False, True])
async def test_a_pause_ends_with_the_next_time_or_with_those_that_were_missed(zk: Client, catch_up: bool) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    await move_tick(zk, START, Tick(due_ms=START, runs=3))
    await schedules.pause_schedule(zk, NAME)
    assert await ticks(zk) == {TickName(NEVER, "0a1b2c3d", NAME): Tick(due_ms=START, runs=3)}
    seen = await find_schedule(zk, NAME)
    assert seen is not None
    assert seen.state is ScheduleState.PAUSED
    await schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL))
    await schedules.resume_schedule(zk, NAME, catch_up=catch_up)
    due = START if catch_up else None
    assert await ticks(zk) == {TickName(due or UNPLANNED, "0a1b2c3d", NAME): Tick(due_ms=due, runs=3)}


async def test_a_schedule_that_has_ended_stays_so_until_its_times_change(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, msgspec.structs.replace(PLAIN, max_runs=1))
    await move_tick(zk, NEVER, Tick(runs=1))
    seen = await find_schedule(zk, NAME)
    assert seen is not None
    assert (seen.state, seen.next_ms) == (ScheduleState.ENDED, None)
    await schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL))
    assert [tick.due_ms for tick in await ticks(zk)] == [NEVER]
    await schedules.edit_schedule(zk, NAME, changed(max_runs=2))
    assert [tick.due_ms for tick in await ticks(zk)] == [UNPLANNED]


async def test_a_removed_schedule_leaves_nothing(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    assert await schedules.remove_schedule(zk, NAME)
    assert await zk.children(layout.TICKS) == await zk.children(layout.SCHEDULES) == ()
    assert not await schedules.remove_schedule(zk, NAME)
    for act in (schedules.pause_schedule, schedules.resume_schedule):
        with pytest.raises(schedules.NoSuchSchedule, match="there is no schedule 'nightly'"):
            await act(zk, NAME)


async def test_a_removal_that_another_session_repeats_is_told_as_done(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    removed = set[str]()
    assert await schedules.remove_schedule(zk, NAME, removed=removed)
    assert await schedules.remove_schedule(zk, NAME, removed=removed)
    assert not await schedules.remove_schedule(zk, NAME)


async def test_a_tick_under_way_is_refused_after_an_edit_a_run_and_a_removal(zk: Client) -> None:
    async def is_refused() -> bool:
        return await commit(zk, [stale]) is False

    await schedules.add_schedule(zk, NAME, PLAIN)
    await move_tick(zk, START, Tick(due_ms=START))
    for act in (
        lambda: schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL)),
        lambda: schedules.edit_schedule(zk, NAME, changed(queue="slow", payload=msgspec.Raw(call_payload("m:f", 1)))),
        lambda: schedules.run_schedule(zk, NAME, ULID, START),
        lambda: _remade(zk),
    ):
        (stored,) = await read_schedules(zk)
        assert stored.tick_name is not None
        following = NextTick(TickName(START + HOUR, "0a1b2c3d", NAME), Tick(due_ms=START + HOUR))
        stale = tick_move(
            stored.tick_name, stored.version, [scheduled_task(NAME, PLAIN, START, None, START)], following
        )
        await act()
        assert await is_refused()
    assert len(await zk.children(layout.TASKS)) == 1


async def _remade(client: Client) -> None:
    await schedules.remove_schedule(client, NAME)
    await schedules.add_schedule(client, NAME, msgspec.structs.replace(PLAIN, id="ffffffff"))
    await schedules.edit_schedule(client, NAME, changed(missed=Missed.ALL))
    await schedules.edit_schedule(client, NAME, changed(missed=Missed.SKIP))
    await move_tick(client, START, Tick(due_ms=START))


async def test_a_schedule_runs_by_hand_also_while_it_is_paused(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, msgspec.structs.replace(PLAIN, paused=True))
    task = await schedules.run_schedule(zk, NAME, ULID, START)
    assert task == f"task-{ULID}.default"
    scheduled = decode_call((await zk.get(layout.task_path(task)))[0] or b"").scheduled
    assert scheduled is not None
    assert (scheduled.schedule, scheduled.due) == (NAME, START)
    assert await ticks(zk) == {TickName(NEVER, "0a1b2c3d", NAME): Tick(by_hand=(ULID,))}


async def test_past_times_are_made_up_for_once_per_request(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    first, last = START, START + 500 * HOUR
    made = await schedules.backfill_schedule(zk, NAME, first, last, ulid=ULID, now_ms=START)
    again = await schedules.backfill_schedule(zk, NAME, first, last, ulid=ULID, now_ms=START)
    assert again == made
    assert len(set(made)) == 501
    assert set(await zk.children(layout.TASKS)) == set(made)
    (tick,) = (await ticks(zk)).values()
    assert [note.partition(".")[0] for note in tick.by_hand] == [ULID]  # however many parts there were
    with pytest.raises(ConfigurationError, match="more than 1000 times"):
        await schedules.backfill_schedule(zk, NAME, first, first + 1000 * HOUR, ulid=ULID, now_ms=START)


Act = Callable[[Client], Awaitable[object]]
ACTS: dict[str, Act] = {
    "add": lambda client: schedules.add_schedule(client, "other", PLAIN),
    "edit": lambda client: schedules.edit_schedule(client, NAME, changed(missed=Missed.ALL)),
    "pause": lambda client: schedules.pause_schedule(client, NAME),
    "remove": lambda client: schedules.remove_schedule(client, NAME),
    "run": lambda client: schedules.run_schedule(client, NAME, ULID, START),
    "backfill": lambda client: schedules.backfill_schedule(
        client, NAME, START, START + 2 * HOUR, ulid=ULID, now_ms=START
    ),
    "apply": lambda client: apply_schedules(client, "shop", {"other": PLAIN}),
}


@pytest.mark.parametrize("lose", ["request", "reply"])
@pytest.mark.parametrize("act", ACTS)
async def test_what_is_asked_is_done_once_when_an_answer_is_lost(
    namespace: str, zk: Client, act: str, lose: str
) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    async with Proxy(namespace) as proxy:
        match = multi_with("/schedules/")
        lost = proxy.lose_request(match) if lose == "request" else proxy.lose_reply(match)
        async with Client(proxy.hosts, session_timeout=4.0, connect_timeout=15.0) as client:
            await ACTS[act](client)
        assert lost.happened.is_set()
    versions = {each.name: each.version for each in await read_schedules(zk)}
    changes = {"edit": 1, "pause": 1, "run": 1, "backfill": 1}
    expected = {NAME: changes.get(act, 0)} if act != "remove" else {}
    assert versions == expected | ({"other": 0} if act in {"add", "apply"} else {})
    assert len(await ticks(zk)) == len(versions)
    assert len(await zk.children(layout.TASKS)) == {"run": 1, "backfill": 3}.get(act, 0)


async def test_concurrent_changes_are_all_kept(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    await asyncio.gather(
        schedules.edit_schedule(zk, NAME, changed(priority=7)),
        schedules.edit_schedule(zk, NAME, changed(missed=Missed.ALL)),
        schedules.edit_schedule(zk, NAME, changed(jitter_ms=5)),
        *(schedules.run_schedule(zk, NAME, f"{ULID[:-1]}{number}", START) for number in range(4)),
    )
    (stored,) = await read_schedules(zk)
    assert stored.schedule == changed(priority=7, missed=Missed.ALL, jitter_ms=5)(PLAIN)
    assert len(await zk.children(layout.TASKS)) == 4
    assert len(await ticks(zk)) == 1


# --- apply -----------------------------------------------------------------------------------------------------------


async def test_what_an_app_declares_is_created_changed_and_removed(zk: Client) -> None:
    wanted = {"a": PLAIN, "b": PLAIN, "c": PLAIN}
    assert await plan_schedules(zk, "shop", wanted) == SchedulePlan(create=("a", "b", "c"))
    assert await list_schedules(zk) == []
    assert await apply_schedules(zk, "shop", wanted) == SchedulePlan(create=("a", "b", "c"))
    assert await apply_schedules(zk, "shop", wanted) == SchedulePlan(unchanged=("a", "b", "c"))
    await schedules.pause_schedule(zk, "b")
    await schedules.add_schedule(zk, "hand", PLAIN)
    await apply_schedules(zk, "other", {"d": PLAIN})
    later = {"a": PLAIN, "b": changed(priority=7)(PLAIN)}
    plan = SchedulePlan(change=(ScheduleChange("b", ("priority",)),), remove=("c",), unchanged=("a",))
    assert await apply_schedules(zk, "shop", later, prune=True) == plan
    found = {each.name: each.schedule for each in await list_schedules(zk)}
    assert found.keys() == {"a", "b", "d", "hand"}
    assert found["b"] == changed(priority=7, paused=True, app="shop")(PLAIN)


async def test_the_name_of_another_is_refused_and_nothing_is_done(zk: Client) -> None:
    await schedules.add_schedule(zk, "hand", PLAIN)
    await apply_schedules(zk, "other", {"d": PLAIN})
    with pytest.raises(ConfigurationError, match=r"'d' \(of other\), 'hand' \(added by hand\)"):
        await apply_schedules(zk, "shop", {"a": PLAIN, "d": PLAIN, "hand": PLAIN})
    assert [each.name for each in await list_schedules(zk)] == ["d", "hand"]


async def test_many_schedules_are_applied_at_once(zk: Client) -> None:
    wanted = {f"s{number}": PLAIN for number in range(450)}
    await apply_schedules(zk, "shop", wanted)
    assert len(await list_schedules(zk)) == 450
    assert await apply_schedules(zk, "shop", {}, prune=True) == SchedulePlan(remove=tuple(sorted(wanted)))
    assert await zk.children(layout.TICKS) == ()


# --- what cannot be used ---------------------------------------------------------------------------------------------


async def test_what_cannot_be_read_is_shown_as_broken_and_can_be_removed_and_applied(zk: Client) -> None:
    await apply_schedules(zk, "shop", {"a": PLAIN, "b": PLAIN, "c": PLAIN})
    await zk.set("/schedules/a", b"?")
    for name in await zk.children(layout.TICKS):
        if name.endswith("-b"):
            await zk.delete(f"{layout.TICKS}/{name}")
    broken = [each for each in await list_schedules(zk) if each.state is ScheduleState.BROKEN]
    assert [each.name for each in broken] == ["a", "b"]
    assert "is not JSON" in (broken[0].problem or "")
    assert "it has no tick" in (broken[1].problem or "")
    with pytest.raises(HerdError, match="cannot be used"):
        await schedules.pause_schedule(zk, "a")
    await schedules.resume_schedule(zk, "b")
    await apply_schedules(zk, "shop", {"a": PLAIN, "b": PLAIN})
    assert {each.name: each.state for each in await list_schedules(zk)} == dict.fromkeys("abc", ScheduleState.ACTIVE)
    await zk.set("/schedules/a", b"?")
    assert await schedules.remove_schedule(zk, "a")
    assert len(await ticks(zk)) == 2


async def test_a_zone_that_is_not_known_here_makes_a_schedule_broken(zk: Client) -> None:
    data = encode_schedule(PLAIN).replace(b'"type":"every"', b'"type":"cron","expression":"0 0 * * *","timezone":"X/Y"')
    await schedules.add_schedule(zk, NAME, PLAIN)
    await zk.set(layout.schedule_path(NAME), data)
    seen = await find_schedule(zk, NAME)
    assert seen is not None
    assert (seen.state, "X/Y" in (seen.problem or "")) == (ScheduleState.BROKEN, True)
    with pytest.raises(ConfigurationError, match="X/Y"):
        await schedules.backfill_schedule(zk, NAME, START, START + HOUR, ulid=ULID, now_ms=START)


async def test_a_listing_tells_what_became_of_the_last_task(zk: Client) -> None:
    await schedules.add_schedule(zk, NAME, PLAIN)
    task = await schedules.run_schedule(zk, NAME, ULID, START)
    await move_tick(zk, START, Tick(due_ms=START, task=task))

    async def last() -> LastTask | None:
        seen = await find_schedule(zk, NAME)
        assert seen is not None
        return seen.last

    assert await last() is LastTask.UNENDED
    await zk.delete(layout.task_path(task))
    assert await last() is LastTask.GONE
    await zk.create(layout.status_path(task), b'{"herd":1,"state":"done"}')
    assert await last() is LastTask.DONE
    await zk.create(layout.dead_path(task))
    assert await last() is LastTask.DEAD


@pytest.mark.parametrize(
    "act",
    [
        lambda client: schedules.add_schedule(client, NAME, PLAIN),
        lambda client: schedules.pause_schedule(client, NAME),
        lambda client: schedules.remove_schedule(client, NAME),
        lambda client: schedules.run_schedule(client, NAME, ULID, 1),
    ],
    ids=["add", "pause", "remove", "run"],
)
async def test_a_request_without_a_certain_answer_names_its_schedule(
    act: Callable[[Any], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "_MAX_TRIES", 0)
    with pytest.raises(
        HerdError, match=f"^{NAME}: no certain answer after 0 tries; `herd schedules show {NAME}` tells"
    ):
        await act(None)
