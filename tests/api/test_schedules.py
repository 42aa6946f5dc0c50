"""`Herd.schedules`: what programs do to the schedules that are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from herdmaster import ConfigurationError, Cron, Herd, HerdError, ScheduleState
from herdmaster.api.schedule_options import edited, read_times
from herdmaster.core.schedules import Missed, Overlap, Schedule
from herdmaster.core.timetable import Every, Times
from herdmaster.errors import InvalidName
from tests.api import tasks
from tests.roles.stage import call_payload

NIGHTLY = Schedule(
    id="0a1b2c3d", timetable=Cron("30 2 * * *", "Europe/Berlin"), payload=msgspec.Raw(call_payload("m:f")), max_runs=9
)
ANCHORED = msgspec.structs.replace(NIGHTLY, timetable=Every(300_000, 60_000))
FULL = msgspec.structs.replace(
    NIGHTLY, starts_ms=1, ends_ms=2, jitter_ms=3, grace_ms=4, missed=Missed.ALL, overlap=Overlap.WAIT
)
CLEARED = ("timezone", "starts", "ends", "max_runs", "jitter", "missed", "grace", "overlap")
DEFAULTS = {
    "timetable": Cron("30 2 * * *"), "starts_ms": None, "ends_ms": None, "max_runs": None, "jitter_ms": 0,
    "missed": Missed.LATEST, "grace_ms": None, "overlap": Overlap.SKIP,
}  # fmt: skip


@pytest.fixture
def herd(namespace: str) -> Iterator[Herd]:
    with Herd(namespace) as herd:
        yield herd


@pytest.mark.long
def test_a_program_adds_edits_previews_and_shows_a_schedule(herd: Herd) -> None:
    thumbnails = herd.task(tasks.echo_all).options(queue="slow")
    herd.schedules.add("thumbs", thumbnails, ("a.png",), cron="30 2 1 7 *", timezone="Europe/Berlin", jitter=30)
    seen = herd.schedules.show("thumbs")
    assert seen.schedule is not None
    assert (seen.state, seen.schedule.queue, seen.schedule.app) == (ScheduleState.ACTIVE, "slow", None)
    first, second = herd.schedules.preview("thumbs", 2)
    assert (first.local[4:], second.utc[4:]) == ("-07-01 02:30:00 CEST", "-07-01 00:30:00 UTC")
    assert herd.schedules.edit("thumbs", missed="all").missed is Missed.ALL
    changed = herd.schedules.edit("thumbs", ("b.png",), queue="fast", priority=7, key="thumbs", jitter=None)
    assert (changed.queue, changed.priority, changed.jitter_ms, changed.missed) == ("fast", 7, 0, Missed.ALL)
    assert (changed.call.args, changed.has_key) == (msgspec.Raw(b'["b.png"]'), True)
    assert herd.schedules.show("thumbs").schedule == changed
    with pytest.raises(HerdError, match="there is a schedule 'thumbs' already"):
        herd.schedules.add("thumbs", thumbnails, ("b.png",), every=60)
    with pytest.raises(ConfigurationError, match="'past' is never due: its times have passed"):
        herd.schedules.add("past", thumbnails, times=[datetime(2020, 1, 1, tzinfo=UTC)])


@pytest.mark.long
def test_an_event_loop_adds_edits_previews_and_shows_a_schedule(herd: Herd) -> None:
    async def use() -> None:
        await herd.schedules.add_async("warm", "shop:warm", every=60)
        await herd.schedules.edit_async("warm", every=timedelta(minutes=5))
        assert (await herd.schedules.edit_async("warm", kwargs={"region": "eu"}, queue="slow")).queue == "slow"
        assert len(await herd.schedules.preview_async("warm")) == 10
        seen = await herd.schedules.show_async("warm")
        assert seen.schedule is not None
        assert seen.schedule.timetable == Every(300_000)
        with pytest.raises(HerdError, match="there is no schedule 'cold'"):
            await herd.schedules.show_async("cold")

    asyncio.run(use())


def test_an_edit_that_cannot_work_is_refused_before_zookeeper_is_asked() -> None:
    def fail() -> list[datetime]:
        raise ZeroDivisionError

    schedules = Herd("localhost:1").schedules
    options: dict[str, Any] = {"retries": 5}
    with pytest.raises(TypeError, match="retries= is no option of a schedule"):
        schedules.edit("x", **options)
    with pytest.raises(ZeroDivisionError):
        schedules.edit("x", times=fail)
    with pytest.raises(InvalidName, match="Bad Queue"):
        schedules.edit("x", queue="Bad Queue")
    with pytest.raises(ConfigurationError, match="has no time zone"):
        schedules.edit("x", times=[datetime(2030, 1, 1)])  # noqa: DTZ001 - what is refused
    with pytest.raises(ConfigurationError, match="is before first="):
        schedules.backfill("x", datetime(2030, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("schedule", "options", "expected"),
    [
        (NIGHTLY, {"cron": "0 3 * * *"}, {"timetable": Cron("0 3 * * *", "Europe/Berlin")}),
        (NIGHTLY, {"timezone": "UTC"}, {"timetable": Cron("30 2 * * *", "UTC")}),
        (NIGHTLY, {"timezone": None}, {"timetable": Cron("30 2 * * *", "UTC")}),
        (NIGHTLY, {"anchor": None}, {}),
        (ANCHORED, {"anchor": None}, {"timetable": Every(300_000)}),
        (ANCHORED, {"timezone": None}, {}),
        (FULL, dict.fromkeys(CLEARED), DEFAULTS),
        (NIGHTLY, {"every": 60}, {"timetable": Every(60_000)}),
        (NIGHTLY, {"max_runs": None, "jitter": 5}, {"max_runs": None, "jitter_ms": 5_000}),
        (ANCHORED, {"every": 600}, {"timetable": Every(600_000, 60_000)}),
        (ANCHORED, {"anchor": datetime(1970, 1, 1, tzinfo=UTC)}, {"timetable": Every(300_000)}),
        (ANCHORED, {"cron": "@daily"}, {"timetable": Cron("@daily")}),
        (NIGHTLY, {"times": lambda: [datetime(2030, 1, 1, tzinfo=UTC)]}, {"timetable": Times((1_893_456_000_000,))}),
    ],
)
def test_an_edit_changes_what_is_given_and_nothing_else(
    schedule: Schedule, options: dict[str, object], expected: dict[str, object]
) -> None:
    assert edited(schedule, read_times(options)) == msgspec.structs.replace(schedule, **expected)


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (ANCHORED, {"timezone": "Europe/Berlin"}, "timezone= belongs to cron=, which this schedule does not have"),
        (NIGHTLY, {"anchor": datetime(2030, 1, 1, tzinfo=UTC)}, "anchor= belongs to every=, which this schedule"),
    ],
)
def test_an_edit_of_an_option_of_another_timetable_names_the_option(
    schedule: Schedule, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        edited(schedule, options)
