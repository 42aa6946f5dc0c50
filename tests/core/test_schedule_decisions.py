"""What is to be done about a tick, at each time and under each policy."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.keys import Unique, hash_key
from herdmaster.core.layout import NEVER
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.schedule_decisions import (
    MAX_BEHIND,
    CancelLast,
    Fire,
    Later,
    SkipTo,
    Sleep,
    TickDecision,
    Wait,
    decide,
    first_due,
    without_tasks,
)
from herdmaster.core.schedules import Missed, Overlap, Schedule, Skip, Tick, describe_skips, fire_time
from herdmaster.core.timetable import Cron, Every, Times, Timetable, TimetableError, next_due

PAYLOAD = msgspec.Raw(encode_call(Call(1, "m:f", *encode_arguments((), {}))))
KEYED = msgspec.Raw(
    encode_call(Call(1, "m:f", *encode_arguments((), {}), key=hash_key("k", "m:f"), unique=Unique("k")))
)
SECOND = 1000
MINUTE = 60 * SECOND
START = 1_764_355_200_000
DONE = "task-01arz3ndektsv4rrffq69g5fav.default"


def schedule(timetable: Timetable | None = None, **changes: object) -> Schedule:
    plain = Schedule(id="0a1b2c3d", timetable=timetable or Every(MINUTE), payload=PAYLOAD)
    return msgspec.structs.replace(plain, **changes)


def at(given: Schedule, now: int, tick: Tick | None = None, *, is_busy: bool = False) -> TickDecision:
    tick = tick or Tick(due_ms=START)
    return decide("s", given, tick, now_ms=now, created_ms=START - 5, is_busy=is_busy)


def dues(decision: TickDecision) -> list[int]:
    assert isinstance(decision, Fire)
    return [task.due_ms for task in decision.tasks]


def test_a_tick_that_is_due_makes_a_task_and_the_tick_of_the_next_time() -> None:
    found = at(schedule(), START + 7)
    assert isinstance(found, Fire)
    assert dues(found) == [START]
    assert found.late_ms == (7,)
    assert found.next.name.due_ms == START + MINUTE
    assert found.next.tick == Tick(
        due_ms=START + MINUTE, task=found.tasks[0].name, last_ms=START, made_ms=START + 7, late_ms=7, runs=1
    )


def test_a_task_knows_the_time_of_the_task_before_it() -> None:
    found = at(schedule(missed=Missed.ALL, overlap=Overlap.ALLOW), START + MINUTE, Tick(due_ms=START, last_ms=17))
    assert isinstance(found, Fire)
    scheduled = [decode_call(task.data).scheduled for task in found.tasks]
    assert [(each.due, each.previous) for each in scheduled if each] == [(START, 17), (START + MINUTE, START)]


def test_the_first_tick_is_the_first_time_after_the_schedule_was_made() -> None:
    found = at(schedule(), START + 3 * MINUTE, Tick())
    assert isinstance(found, SkipTo)
    assert found.next.tick == Tick(due_ms=START)
    assert found.skipped.counts == {}
    later = at(schedule(), START + 3 * MINUTE, Tick(since_ms=START + MINUTE, runs=4))
    assert isinstance(later, SkipTo)
    assert later.next.tick == Tick(due_ms=START + 2 * MINUTE, runs=4)


def test_a_time_that_had_its_task_is_never_planned_again() -> None:
    found = at(schedule(), START + MINUTE, Tick(since_ms=START - MINUTE, last_ms=START))
    assert isinstance(found, SkipTo)
    assert found.next.tick.due_ms == START + MINUTE


def test_the_latest_of_several_missed_times_has_the_task() -> None:
    found = at(schedule(), START + 10 * MINUTE + 5)
    assert isinstance(found, Fire)
    assert dues(found) == [START + 10 * MINUTE]
    assert found.skipped.counts == {Skip.MISSED: 10}
    assert found.next.tick.skips == {"missed": 10}
    assert found.next.tick.due_ms == START + 11 * MINUTE


def catch_up(given: Schedule, now: int) -> tuple[list[int], Tick]:
    """Decide until no time is due. Return the times that have a task, and the last tick."""
    tick, made = Tick(due_ms=START), list[int]()
    while tick.due_ms is not None and tick.due_ms <= now:
        found = at(given, now, tick)
        assert isinstance(found, Fire)
        assert sum(len(task.data) + len(task.name) for task in found.tasks) < 128 * 1024
        made += dues(found)
        tick = found.next.tick
    return made, tick


def test_each_missed_time_has_a_task_if_that_is_wanted_in_batches_that_fit_a_transaction() -> None:
    given = schedule(Every(SECOND), missed=Missed.ALL, overlap=Overlap.ALLOW)
    made, tick = catch_up(given, START + (MAX_BEHIND - 1) * SECOND)
    assert made == [START + number * SECOND for number in range(MAX_BEHIND)]
    assert (tick.runs, tick.behind, tick.skips) == (MAX_BEHIND, 0, {})


@pytest.mark.parametrize("overlap", [Overlap.ALLOW, Overlap.WAIT])
def test_a_long_downtime_is_made_up_for_by_a_thousand_tasks_and_the_latest(overlap: Overlap) -> None:
    given = schedule(Every(SECOND), missed=Missed.ALL, overlap=overlap)
    made, tick = catch_up(given, START + 5000 * SECOND)
    assert made == [*(START + number * SECOND for number in range(MAX_BEHIND)), START + 5000 * SECOND]
    assert (tick.runs, tick.behind, tick.skips) == (MAX_BEHIND + 1, 0, {"missed": 4000})


def test_a_late_time_is_skipped_after_the_grace() -> None:
    given = schedule(missed=Missed.ALL, overlap=Overlap.ALLOW, grace_ms=90 * SECOND)
    found = at(given, START + 3 * MINUTE)
    assert dues(found) == [START + 2 * MINUTE, START + 3 * MINUTE]
    assert isinstance(found, Fire)
    assert found.skipped.counts == {Skip.LATE: 2}
    alone = at(schedule(Times((START, START + 9 * MINUTE)), grace_ms=0), START + 1)
    assert isinstance(alone, SkipTo)
    assert alone.skipped.counts == {Skip.LATE: 1}
    assert alone.next.tick.due_ms == START + 9 * MINUTE


def test_a_time_that_is_late_by_no_more_than_the_grace_and_one_at_the_end_have_their_tasks() -> None:
    given = schedule(grace_ms=MINUTE // 2, ends_ms=START + MINUTE)
    assert dues(at(given, START + MINUTE // 2)) == [START]
    assert isinstance(at(given, START + MINUTE // 2 + 1), SkipTo)
    assert (first_due(given, START), first_due(given, START + MINUTE)) == (START + MINUTE, None)


def test_times_that_are_all_late_are_skipped_up_to_the_next() -> None:
    given = schedule(Times((START, START + 1, START + 9 * MINUTE)), missed=Missed.ALL, grace_ms=0)
    found = at(given, START + MINUTE)
    assert isinstance(found, SkipTo)
    assert found.skipped.counts == {Skip.LATE: 2}
    assert found.next.tick == Tick(due_ms=START + 9 * MINUTE, skips={"late": 2})


def test_a_large_task_has_a_transaction_of_its_own() -> None:
    large = msgspec.Raw(encode_call(Call(1, "m:f", *encode_arguments(("x" * 100_000,), {}))))
    given = schedule(Every(SECOND), payload=large, missed=Missed.ALL, overlap=Overlap.ALLOW)
    assert dues(at(given, START + 10 * SECOND)) == [START]


def test_a_missed_time_is_skipped_if_that_is_wanted() -> None:
    given = schedule(Every(60 * MINUTE), missed=Missed.SKIP)
    late = at(given, START + 2 * MINUTE)
    assert isinstance(late, SkipTo)
    assert late.skipped.counts == {Skip.LATE: 1}
    assert dues(at(given, START + 59 * SECOND)) == [START]
    assert dues(at(schedule(Every(SECOND), missed=Missed.SKIP), START + 60 * MINUTE)) == [START + 60 * MINUTE]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [(Overlap.SKIP, SkipTo), (Overlap.ALLOW, Fire), (Overlap.WAIT, Wait), (Overlap.CANCEL, CancelLast)],
)
def test_the_overlap_decides_while_the_last_task_has_not_ended(overlap: Overlap, expected: type[object]) -> None:
    tick = Tick(due_ms=START, task=DONE)
    assert isinstance(at(schedule(overlap=overlap), START, tick, is_busy=True), expected)
    assert isinstance(at(schedule(overlap=overlap), START, tick), Fire)


def test_times_that_overlap_are_skipped_together_and_counted() -> None:
    found = at(schedule(), START + 2 * MINUTE, Tick(due_ms=START, task=DONE, skips={"overlap": 2}), is_busy=True)
    assert isinstance(found, SkipTo)
    assert found.skipped.counts == {Skip.OVERLAP: 3}
    assert found.next.tick == Tick(due_ms=START + 3 * MINUTE, task=DONE, skips={"overlap": 5})


@pytest.mark.parametrize("changes", [{"overlap": Overlap.WAIT}, {"overlap": Overlap.ALLOW, "payload": KEYED}])
def test_missed_times_whose_tasks_may_not_overlap_have_them_one_by_one(changes: dict[str, object]) -> None:
    assert dues(at(msgspec.structs.replace(schedule(missed=Missed.ALL), **changes), START + 5 * MINUTE)) == [START]


def test_a_task_without_its_key_is_a_skip() -> None:
    given = schedule(payload=KEYED)
    tick = Tick(due_ms=START, runs=3)
    fire = at(given, START + MINUTE, tick)
    assert isinstance(fire, Fire)
    found = without_tasks("s", given, tick, fire, Skip.KEY)
    assert found.skipped.counts == {Skip.MISSED: 1, Skip.KEY: 1}
    assert found.next.tick == Tick(due_ms=START + 2 * MINUTE, runs=3, skips={"missed": 1, "key": 1})


def test_a_paused_schedule_sleeps() -> None:
    assert at(schedule(paused=True), START + MINUTE) == Sleep()


@pytest.mark.parametrize("changes", [{"ends_ms": START + MINUTE - 1}, {"max_runs": 1}, {"timetable": Times((START,))}])
def test_a_schedule_that_has_ended_keeps_a_tick_that_is_never_due(changes: dict[str, object]) -> None:
    found = at(msgspec.structs.replace(schedule(), **changes), START)
    assert isinstance(found, Fire)
    assert found.next.name.due_ms == NEVER
    assert found.next.tick.due_ms is None
    assert found.next.tick.runs == 1


def test_a_schedule_makes_no_more_tasks_than_it_may() -> None:
    given = schedule(missed=Missed.ALL, overlap=Overlap.ALLOW, max_runs=5)
    assert len(dues(at(given, START + 60 * MINUTE, Tick(due_ms=START, runs=2)))) == 3


def test_a_tick_waits_until_its_jitter_is_over() -> None:
    given = schedule(jitter_ms=30 * SECOND)
    moment = fire_time("s", given, START)
    assert at(given, moment - 1) == Later(moment)
    assert dues(at(given, moment)) == [START]


def test_the_first_tick_is_not_before_the_start_of_a_schedule() -> None:
    found = at(schedule(starts_ms=START + 2 * MINUTE), START, Tick())
    assert isinstance(found, SkipTo)
    assert found.next.tick.due_ms == START + 2 * MINUTE


def test_no_time_after_the_end_has_a_task() -> None:
    assert dues(at(schedule(ends_ms=START + 90 * SECOND), START + 60 * MINUTE)) == [START + MINUTE]


def test_a_timetable_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(TimetableError, match="Nowhere"):
        at(schedule(Cron("* * * * *", "Nowhere/At_All")), START)


@pytest.mark.parametrize(
    ("timetable", "later", "latest", "skipped"),
    [
        (Cron("* * * * * *"), 10**8, 10**8, "100000 missed"),
        (Cron("*/5 * * * *"), 30 * 24 * 60 * MINUTE + 7, 30 * 24 * 60 * MINUTE, "8640 missed"),
        (Cron("* * * * * *"), 101 * SECOND, 101 * SECOND, "101 missed"),
        (Cron("40 * * * *", "Europe/Berlin"), 365 * 24 * 60 * MINUTE, 365 * 24 * 60 * MINUTE, "8760 missed"),
        (Cron("* * * * * *"), 100 * SECOND, 100 * SECOND, "100 missed"),
        (Every(SECOND), 10**8, 10**8, "100000 missed"),
        (Times((*(START + number for number in range(150)), START + 10**9)), 10**8, 149, "149 missed"),
        (Times((*(START + number for number in range(150)), START + 10**9)), 2 * 10**9, 10**9, "150 missed"),
    ],
)
def test_the_latest_time_is_found_and_those_before_it_are_counted(
    timetable: Timetable, later: int, latest: int, skipped: str
) -> None:
    found = at(schedule(timetable), START + later)
    assert isinstance(found, Fire)
    assert dues(found) == [START + latest]
    assert describe_skips(found.next.tick) == skipped


def test_counts_add_up_by_reason() -> None:
    every_second = schedule(Cron("* * * * * *"))
    found = at(every_second, START + 10**6, Tick(due_ms=START, task=DONE, skips={"late": 2}), is_busy=True)
    assert isinstance(found, SkipTo)
    assert found.skipped.counts == {Skip.OVERLAP: 1001}
    assert found.next.tick.due_ms is not None
    later = at(every_second, found.next.tick.due_ms, found.next.tick, is_busy=True)
    assert isinstance(later, SkipTo)
    assert describe_skips(later.next.tick) == "2 late, 1002 overlap"


TIMETABLES = st.one_of(
    st.builds(Every, st.integers(1000, 10_000_000), st.integers(0, 10**12)),
    st.sampled_from([Cron("*/7 * * * *"), Cron("30 2 * * *", "Europe/Berlin"), Cron("0 9 1 * *"), Cron("* * * * * *")]),
    st.lists(st.integers(START - 10**6, START + 10**9), max_size=30).map(
        lambda times: Times(tuple(sorted(set(times))))
    ),
)


@given(TIMETABLES, st.integers(0, 10**8), st.sampled_from([0, 1, 30_000]), st.sampled_from(Missed))
def test_the_latest_time_is_found_however_long_ago_the_first_was(
    timetable: Timetable, later: int, jitter: int, missed: Missed
) -> None:
    given = schedule(timetable, jitter_ms=jitter, missed=missed, overlap=Overlap.CANCEL, grace_ms=10**12)
    first = first_due(given, START)
    if first is None:
        return
    now = fire_time("s", given, first) + later
    found = at(given, now, Tick(due_ms=first))
    (due,) = dues(found)
    assert isinstance(found, Fire)
    assert first <= due <= now
    if not jitter:
        following = next_due(timetable, due)
        assert following is None or following > now
    assert found.next.tick.due_ms is None or found.next.tick.due_ms > due


@given(st.integers(1000, 5000), st.integers(0, 60_000), st.lists(st.integers(0, 20_000), min_size=1, max_size=20))
def test_every_time_has_one_task_never_early_however_late_the_primary_looks(
    period: int, jitter: int, delays: list[int]
) -> None:
    given = schedule(Every(period), missed=Missed.ALL, overlap=Overlap.ALLOW, jitter_ms=jitter)
    tick = Tick(due_ms=first_due(given, START))
    now, made = START, list[int]()
    for delay in delays:
        now += delay
        while tick.due_ms is not None and fire_time("s", given, tick.due_ms) <= now:
            found = at(given, now, tick)
            assert isinstance(found, Fire)
            assert all(fire_time("s", given, due) <= now for due in dues(found))
            made += dues(found)
            tick = found.next.tick
    assert all(second - first == period for first, second in pairwise(made))
    assert made == sorted(set(made))
