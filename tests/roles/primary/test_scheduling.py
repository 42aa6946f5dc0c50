"""Schedules: each time has one task and none is early, while masters die and operators edit."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.keys import Unique, hash_key
from herdmaster.core.layout import TickName
from herdmaster.core.names import ulid_time_ms
from herdmaster.core.payload import Call, Scheduled, decode_call, encode_arguments, encode_call
from herdmaster.core.schedules import Missed, Overlap, Schedule, Tick, decode_tick, encode_schedule
from herdmaster.core.timetable import Every, Times
from herdmaster.inspection.schedules import ScheduleState, find_schedule, read_schedules
from herdmaster.operations.schedules import (
    add_schedule,
    edit_schedule,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
)
from herdmaster.roles.primary import scheduling
from herdmaster.roles.primary.cancellation import Pictures
from herdmaster.roles.primary.tick_reader import Read, TickRead, TickReader
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.running.current import current_task
from tests.proxy import Proxy, multi_with
from tests.roles.primary.test_promotion import JumpingMaster
from tests.roles.stage import PATIENCE, REFERENCE, Stage, call_payload, until

pytestmark = pytest.mark.long

NAME = "nightly"
ID = "0a1b2c3d"
ULID = "01arz3ndektsv4rrffq69g5fav"
SECOND = 1000
LATER = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def schedule(*after_ms: int, **changes: object) -> Schedule:
    """Due at times from now; every second without any."""
    now = now_ms()
    timetable = Times(tuple(now + each for each in after_ms)) if after_ms else Every(SECOND)
    plain = Schedule(id=ID, timetable=timetable, payload=msgspec.Raw(call_payload("m:f")), missed=Missed.ALL)
    return msgspec.structs.replace(plain, **changes)


async def made(stage: Stage) -> list[Scheduled]:
    """What waits in `/tasks`, in order of time."""
    found: list[Scheduled] = []
    for name in await stage.names(layout.TASKS):
        scheduled = decode_call(await stage.data(layout.task_path(name))).scheduled
        assert scheduled is not None
        found.append(scheduled)
    return sorted(found, key=lambda each: each.due)


async def dues(stage: Stage) -> list[int]:
    return [each.due for each in await made(stage)]


def times_of(given: Schedule) -> list[int]:
    assert isinstance(given.timetable, Times)
    return list(given.timetable.unix_ms)


async def until_made(stage: Stage, count: int, seconds: float = PATIENCE) -> None:
    async def is_made() -> bool:
        return len(await stage.names(layout.TASKS)) >= count

    await until(is_made, f"{count} tasks", seconds)


async def until_never_due(stage: Stage) -> Tick:
    """Return the tick of the schedule when it has ended."""
    never = f"{layout.NEVER}-"

    async def is_over() -> bool:
        return all(name.startswith(never) for name in await stage.names(layout.TICKS))

    await until(is_over, "the end of the schedule")
    (name,) = await stage.names(layout.TICKS)
    return decode_tick(await stage.data(f"{layout.TICKS}/{name}"))


async def test_each_time_has_one_task_after_its_time_and_not_before(stage: Stage) -> None:
    await stage.master()
    await stage.master(is_primary=False)
    given = schedule(300, 600, 601, 900, overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    tick = await until_never_due(stage)
    times = times_of(given)
    before = [None, *times[:-1]]
    assert await made(stage) == [Scheduled(NAME, due, previous) for due, previous in zip(times, before, strict=True)]
    for name in await stage.names(layout.TASKS):
        stat = await stage.zk.exists(layout.task_path(name))
        assert stat is not None
        assert stat.ctime >= (decode_call(await stage.data(layout.task_path(name))).scheduled or Scheduled("", 0)).due
    assert (tick.runs, tick.last_ms, tick.skips) == (4, times[-1], {})
    assert tick.made_ms is not None
    assert 0 <= tick.made_ms - times[-1] < 10_000


async def test_no_time_is_lost_or_doubled_when_the_primary_dies(stage: Stage) -> None:
    primary = await stage.master()
    await stage.master(is_primary=False)
    given = schedule(*range(300, 4000, 100), overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    await until_made(stage, 5)
    await stage.abandon(primary)
    tick = await until_never_due(stage)
    assert await dues(stage) == times_of(given)
    assert tick.runs == len(times_of(given))


@pytest.mark.parametrize("lose", ["request", "reply"])
async def test_a_tick_whose_answer_is_lost_takes_effect_once(namespace: str, stage: Stage, lose: str) -> None:
    async with Proxy(namespace) as proxy:
        await stage.master(hosts=proxy.hosts)
        match = multi_with(layout.TICKS + "/", "/tasks/")
        lost = proxy.lose_request(match) if lose == "request" else proxy.lose_reply(match)
        given = schedule(500, 800, 1100, overlap=Overlap.ALLOW)
        await add_schedule(stage.zk, NAME, given)
        tick = await until_never_due(stage)
        assert lost.happened.is_set()
        assert await dues(stage) == times_of(given)
        assert tick.runs == 3
        await stage.close()


async def test_connections_that_break_lose_and_double_nothing(stage: Stage) -> None:
    await stage.master()
    given = schedule(*range(300, 3000, 100), overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    for count in (3, 8, 12):
        await until_made(stage, count)
        stage.break_connections()
    await until_never_due(stage)
    assert await dues(stage) == times_of(given)


async def test_an_edit_holds_from_the_next_task_on(stage: Stage) -> None:
    await stage.master()
    given = schedule(300, 1500, overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    await until_made(stage, 1)
    await edit_schedule(stage.zk, NAME, lambda each: msgspec.structs.replace(each, queue="mail"))
    await until_never_due(stage)
    names = await stage.names(layout.TASKS)
    assert sorted(name.partition(".")[2] for name in names) == ["default", "mail"]


async def test_a_pause_makes_nothing_and_a_resumption_catches_up_if_that_is_wanted(stage: Stage) -> None:
    await make_folders(stage.zk)
    given = schedule(300, 400, LATER, overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    await pause_schedule(stage.zk, NAME)
    await add_schedule(stage.zk, "other", msgspec.structs.replace(given, id="ffffffff"))
    await pause_schedule(stage.zk, "other")
    await stage.master()
    await add_schedule(stage.zk, "third", schedule(600, 700, LATER, id="eeeeeeee", overlap=Overlap.ALLOW))
    await until_made(stage, 2)
    assert {each.schedule for each in await made(stage)} == {"third"}
    await resume_schedule(stage.zk, NAME, catch_up=True)
    await until_made(stage, 4)
    await resume_schedule(stage.zk, "other")

    async def is_planned() -> bool:
        seen = await find_schedule(stage.zk, "other")
        return seen is not None and seen.tick.due_ms == times_of(given)[-1]

    await until(is_planned, "the next time of the other")
    assert {each.schedule for each in await made(stage)} == {"third", NAME}


async def test_a_schedule_that_is_removed_and_one_that_runs_by_hand(stage: Stage) -> None:
    await stage.master()
    await add_schedule(stage.zk, NAME, schedule(LATER))
    task = await run_schedule(stage.zk, NAME, ULID, 17)
    assert await stage.names(layout.TASKS) == [task]
    assert await remove_schedule(stage.zk, NAME)
    await add_schedule(stage.zk, NAME, schedule(300, id="ffffffff"))
    await until_made(stage, 2)
    tick = await until_never_due(stage)
    assert (tick.runs, tick.by_hand) == (1, ())


async def test_a_task_sees_for_which_time_it_is_and_for_which_the_one_before_was(stage: Stage) -> None:
    seen: list[tuple[str | None, datetime | None, datetime | None]] = []

    def function() -> None:
        task = current_task()
        seen.append((task.schedule, task.scheduled_for, task.previous_scheduled_for))

    await stage.master()
    await stage.worker({"m:f": function})
    given = schedule(500, 1500)
    await add_schedule(stage.zk, NAME, given)
    await until(lambda: len(seen) == 2, "two runs")
    first, second = (datetime.fromtimestamp(due / 1000, UTC) for due in times_of(given))
    assert seen == [(NAME, first, None), (NAME, second, first)]


@pytest.mark.parametrize("offset", [LATER, -LATER])
async def test_a_wrong_clock_of_the_primary_makes_nothing_early_and_nothing_late(stage: Stage, offset: int) -> None:
    master = JumpingMaster(stage.hosts, unix_offset_ms=offset)
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")
    given = schedule(500, 900, LATER // 2, overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    await until_made(stage, 1)
    master.unix_offset_ms += 24 * LATER
    await until_made(stage, 2)
    assert await dues(stage) == times_of(given)[:2]
    for name in await stage.names(layout.TASKS):
        stat = await stage.zk.exists(layout.task_path(name))
        assert stat is not None
        assert 0 <= stat.ctime - (ulid_time_ms(name) or 0) < 5000


# --- overlap ---------------------------------------------------------------------------------------------------------


async def test_a_time_is_skipped_while_the_last_task_has_not_ended(stage: Stage) -> None:
    await stage.master()
    given = schedule(300, 600, 900)
    await add_schedule(stage.zk, NAME, given)
    tick = await until_never_due(stage)
    assert await dues(stage) == times_of(given)[:1]
    assert tick.skips == {"overlap": 2}


async def test_between_two_events_of_its_move_the_last_task_does_not_count_as_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_answer = False
    read, where_is = TickReader.read, Pictures.where_is

    def read_and_tell(self: TickReader, wanted: Sequence[tuple[str, TickName]], handle: Read) -> None:
        def handle_and_tell(name: str, present: TickName, answer: TickRead) -> None:
            nonlocal is_answer
            is_answer = True
            handle(name, present, answer)
            is_answer = False

        read(self, wanted, handle_and_tell)

    # As if every other look came when the task has left one folder, and has not been seen in the next.
    monkeypatch.setattr(TickReader, "read", read_and_tell)
    monkeypatch.setattr(Pictures, "where_is", lambda self, task: where_is(self, task) if is_answer else None)
    await stage.master()
    await add_schedule(stage.zk, NAME, schedule(300, 600, 900, overlap=Overlap.SKIP))
    tick = await until_never_due(stage)
    assert (tick.runs, tick.skips) == (1, {"overlap": 2})


async def test_a_time_waits_until_the_last_task_has_ended(stage: Stage) -> None:
    await stage.master()
    given = schedule(300, 400, 500, overlap=Overlap.WAIT)
    await add_schedule(stage.zk, NAME, given)
    for due in times_of(given):
        await until_made(stage, 1)
        assert await dues(stage) == [due]
        (task,) = await stage.names(layout.TASKS)
        await stage.zk.delete(layout.task_path(task))
    assert (await until_never_due(stage)).runs == 3


async def test_a_schedule_that_waits_hears_of_an_edit(stage: Stage) -> None:
    await stage.master()
    given = schedule(500, 800, overlap=Overlap.WAIT)
    await add_schedule(stage.zk, NAME, given)
    await until_made(stage, 1)
    await until(lambda: now_ms() > times_of(given)[1] + 300, "the second time")
    assert await dues(stage) == times_of(given)[:1]
    await edit_schedule(stage.zk, NAME, lambda each: msgspec.structs.replace(each, overlap=Overlap.ALLOW))
    await until_made(stage, 2)


async def test_the_last_task_is_cancelled_before_the_next_is_made(stage: Stage) -> None:
    await stage.master()
    given = schedule(300, 1000, overlap=Overlap.CANCEL)
    await add_schedule(stage.zk, NAME, given)
    await until_made(stage, 1)
    (first,) = await stage.names(layout.TASKS)
    await until_never_due(stage)
    assert await dues(stage) == times_of(given)[1:]
    assert json.loads(await stage.data(layout.status_path(first)))["state"] == "cancelled"
    await stage.until_empty(layout.CANCEL)


async def test_a_time_whose_key_is_taken_is_skipped(stage: Stage) -> None:
    await stage.master()
    key = hash_key("k", "m:f")
    payload = encode_call(Call(1, "m:f", *encode_arguments((), {}), key=key, unique=Unique("k")))
    await add_schedule(stage.zk, NAME, schedule(300, 600, payload=msgspec.Raw(payload), overlap=Overlap.ALLOW))
    tick = await until_never_due(stage)
    (task,) = await stage.names(layout.TASKS)
    assert await stage.names(layout.KEYS) == sorted([key, f"{key}-{task}"])
    assert (tick.runs, tick.skips) == (1, {"key": 1})


# --- what cannot be used ---------------------------------------------------------------------------------------------


async def test_a_schedule_that_cannot_be_read_is_told_once_and_the_others_go_on(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "SET_ASIDE_SECONDS", 0.05)
    await make_folders(stage.zk)
    for name, data in {
        "bad": b"?",
        "zone": encode_schedule(schedule()).replace(
            b'"type":"every"', b'"type":"cron","expression":"0 0 * * *","timezone":"X/Y"'
        ),
    }.items():
        await add_schedule(stage.zk, name, schedule(LATER, id="eeeeeeee"))
        await stage.zk.set(layout.schedule_path(name), data.replace(ID.encode(), b"eeeeeeee"))
    await stage.master()
    await add_schedule(stage.zk, NAME, schedule(300, 600, 900, overlap=Overlap.ALLOW))
    await until_made(stage, 3)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 2
    assert any(text.startswith("schedule bad makes no tasks: ") for text in told)
    assert any("X/Y" in text for text in told)
    seen = await find_schedule(stage.zk, "zone")
    assert seen is not None
    assert seen.state is ScheduleState.BROKEN
    assert "X/Y" in (seen.tick.problem or "")
    await edit_schedule(
        stage.zk, "zone", lambda each: msgspec.structs.replace(each, timetable=Times((now_ms() + 300,)))
    )
    await until_made(stage, 4)


async def test_a_tick_without_its_schedule_is_deleted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "SET_ASIDE_SECONDS", 0.05)
    await make_folders(stage.zk)
    await add_schedule(stage.zk, NAME, schedule(LATER))
    strays = [TickName(0, "ffffffff", NAME), TickName(1, ID, "gone")]
    await stage.put(*map(layout.tick_path, strays), data=b'{"herd":1}')
    await stage.master()

    async def is_clean() -> bool:
        return len(await stage.names(layout.TICKS)) == 1

    await until(is_clean, "the end of the strays")
    (stored,) = await read_schedules(stage.zk)
    assert stored.problem is None


# --- under a primary of the reference --------------------------------------------------------------------------------


async def test_under_a_reference_primary_a_master_that_stands_in_makes_the_tasks(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    await stage.master(is_primary=False)
    given = schedule(500, 800, overlap=Overlap.ALLOW)
    await add_schedule(stage.zk, NAME, given)
    await until_never_due(stage)
    assert await dues(stage) == times_of(given)
