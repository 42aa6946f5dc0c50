"""What `@herd.task(schedule=...)` and `herd.schedule(...)` declare, and what they refuse."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from herdmaster import ConfigurationError, Cron, Herd, InvalidName, NotSerializable, PayloadTooLarge, WrongArguments
from herdmaster.api.internals import core_of
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.core.schedules import MAX_SCHEDULE, Missed, Overlap, Schedule, is_same
from herdmaster.core.timetable import Every, Times
from tests.api import tasks

FIVE = timedelta(minutes=5)


@pytest.fixture
def herd() -> Herd:
    return Herd("localhost:1")


def declared(herd: Herd, app: str | None = None) -> dict[str, Schedule]:
    return dict(core_of(herd).registry.declarations.schedules(app))


def test_a_task_with_a_schedule_declares_one_under_its_name(herd: Herd) -> None:
    @herd.task(schedule=Cron("30 2 * * *", timezone="Europe/Berlin"), queue="night", priority=7)
    def nightly() -> None: ...

    @herd.task(schedule=FIVE)
    async def often() -> None: ...

    found = declared(herd, "shop:herd")
    assert found["nightly"].timetable == Cron("30 2 * * *", "Europe/Berlin")
    assert (found["nightly"].queue, found["nightly"].priority) == ("night", 7)
    assert found["nightly"].call.call == nightly.call
    assert found["nightly"].app == "shop:herd"
    assert found["often"].timetable == Every(300_000)


def test_a_schedule_has_the_arguments_and_the_options_of_its_task(herd: Herd) -> None:
    echo = herd.task(tasks.echo_all)
    slow = echo.options(queue="slow", expires=timedelta(seconds=90), max_attempts=4, key="only-one")
    herd.schedule("thumbnails", slow, every=300, args=("a.png",), kwargs={"width": 10})
    found = declared(herd)["thumbnails"]
    call = found.call
    assert msgspec.json.decode(call.args) == ["a.png"]
    assert msgspec.json.decode(call.kwargs) == {"width": 10}
    assert (found.queue, found.expires_ms, call.expires) == ("slow", 90_000, None)
    assert call.options is not None
    assert call.options.max_attempts == 4
    assert found.has_key


def test_all_options_of_a_schedule_are_stored(herd: Herd) -> None:
    starts = datetime(2030, 1, 1, tzinfo=UTC)
    herd.schedule(
        "warm-cache",
        "shop:warm",
        every=FIVE,
        anchor=datetime(2020, 1, 1, 0, 1, tzinfo=UTC),
        starts=starts,
        ends=starts + timedelta(days=1),
        max_runs=9,
        jitter=30,
        missed="all",
        grace=timedelta(hours=1),
        overlap="wait",
    )
    found = declared(herd)["warm-cache"]
    starts_ms = int(starts.timestamp()) * 1000
    assert found.timetable == Every(300_000, 1_577_836_860_000)
    assert (found.starts_ms, found.ends_ms, found.max_runs) == (starts_ms, starts_ms + 86_400_000, 9)
    assert (found.jitter_ms, found.grace_ms) == (30_000, 3_600_000)
    assert (found.missed, found.overlap) == (Missed.ALL, Overlap.WAIT)


def test_listed_times_are_sorted_and_stay_the_same_when_they_pass(herd: Herd) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    herd.schedule("launch", "shop:launch", times=[soon + FIVE, past, soon, soon])
    first = round(soon.timestamp() * 1000)
    assert declared(herd)["launch"].timetable == Times((1_577_836_800_000, first, first + 300_000))


def test_a_function_for_times_is_called_when_the_schedules_are_read(herd: Herd) -> None:
    calls = []

    def tides() -> Iterator[datetime]:
        calls.append(time.time())
        begin = datetime.now(UTC) + timedelta(minutes=1)
        return (begin + FIVE * step for step in itertools.count())

    herd.schedule("tide", "shop:tide", times=tides)
    assert not calls
    timetable = declared(herd)["tide"].timetable
    assert isinstance(timetable, Times)
    assert len(timetable.unix_ms) == 5_000
    assert len(calls) == 1


def test_a_declaration_may_be_repeated(herd: Herd) -> None:
    for _ in range(2):
        herd.schedule("warm-cache", "shop:warm", every=300)
    assert list(declared(herd)) == ["warm-cache"]


def test_two_different_schedules_of_one_name_are_refused(herd: Herd) -> None:
    herd.schedule("warm-cache", "shop:warm", every=300, args=("eu",))
    with pytest.raises(ConfigurationError, match=r"two different schedules are named 'warm-cache'"):
        herd.schedule("warm-cache", "shop:warm", every=300, args=("us",))


def test_two_declarations_of_one_text_are_the_same_schedule() -> None:
    first, second = Herd("localhost:1"), Herd("localhost:1")
    for herd in (first, second):
        herd.schedule("x", herd.task(tasks.echo_all), cron="@daily", args=("a.png",))
    assert is_same(declared(first)["x"], declared(second)["x"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "needs one of cron=, every= and times=: none was given"),
        ({"cron": "@daily", "every": 5}, "cron= and every= were given"),
        ({"cron": "61 * * * *"}, "the field minute is wrong"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": 5}, "cron=5: it takes text"),
        ({"cron": "@daily", "timezone": 5}, "timezone=5: it takes text"),
        ({"every": 0.5}, "the shortest is 1 s"),
        ({"every": -5}, "every=-5: it takes seconds or a timedelta, above 0"),
        ({"every": 5, "timezone": "UTC"}, "timezone= belongs to cron="),
        ({"cron": "@daily", "anchor": datetime(2020, 1, 1, tzinfo=UTC)}, "anchor= belongs to every="),
        ({"every": 5, "anchor": datetime(2020, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - what is refused
        ({"every": 5, "starts": datetime(2020, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - what is refused
        ({"times": [datetime(2020, 1, 1)]}, "has no time zone"),  # noqa: DTZ001 - what is refused
        ({"times": 5}, "times=5: it takes datetimes"),
        ({"times": "2020-01-01"}, "times='2020-01-01': it takes datetimes"),
        ({"every": 5, "starts": datetime(2031, 1, 1, tzinfo=UTC), "ends": datetime(2030, 1, 1, tzinfo=UTC)}, "ends b"),
        ({"every": 5, "max_runs": 0}, "max_runs=0: it takes a whole number from 1"),
        ({"every": 5, "jitter": timedelta(days=2)}, "it takes at most a day"),
        ({"every": 5, "overlap": "queue"}, "overlap='queue': it takes 'skip' or 'allow' or 'wait' or 'cancel'"),
        ({"every": 5, "missed": "none"}, "missed='none': it takes 'latest' or 'all' or 'skip'"),
    ],
)
def test_options_that_cannot_work_are_refused_where_they_are_written(
    herd: Herd, options: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        herd.schedule("x", "shop:warm", **options)  # type: ignore[arg-type]  # what is refused
    assert says in str(caught.value)
    assert declared(herd) == {}


def test_an_unknown_option_is_refused_with_the_known_ones(herd: Herd) -> None:
    with pytest.raises(TypeError, match="interval= is no option of a schedule: the options are cron, timezone, every"):
        herd.schedule("x", "shop:warm", interval=5)  # type: ignore[call-arg]  # what is refused


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 101, "mit leerzeichen"])
def test_a_name_that_no_schedule_can_have_is_refused(herd: Herd, name: str) -> None:
    with pytest.raises(InvalidName):
        herd.schedule(name, "shop:warm", every=5)


def test_arguments_that_the_function_does_not_take_are_refused(herd: Herd) -> None:
    echo = herd.task(tasks.echo_all)
    with pytest.raises(WrongArguments):
        herd.schedule("x", herd.task(tasks.add), every=5, args=(1, 2, 3, 4, 5))
    with pytest.raises(NotSerializable):
        herd.schedule("x", echo, every=5, args=(object(),))
    with pytest.raises(WrongArguments):
        herd.task(schedule=FIVE)(tasks.echo)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": 5}, "leave delay= and at= out"),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, "leave delay= and at= out"),
        ({"expires": datetime(2030, 1, 1, tzinfo=UTC)}, "give expires= a duration"),
        ({"max_backlog": 5}, "max_backlog= is for submissions"),
    ],
)
def test_options_of_the_task_that_a_schedule_cannot_have_are_refused(
    herd: Herd, options: dict[str, object], says: str
) -> None:
    echo = herd.task(tasks.echo_all).options(**options)  # type: ignore[arg-type]  # options of every type
    with pytest.raises(ConfigurationError, match=says):
        herd.schedule("x", echo, every=5, args=("a.png",))


def test_a_decorator_takes_a_cron_expression_or_an_interval(herd: Herd) -> None:
    with pytest.raises(ConfigurationError, match=r"schedule='@daily': it takes Cron\("):
        herd.task(schedule="@daily")  # type: ignore[call-overload]  # what is refused
    with pytest.raises(ConfigurationError, match="the field hour is wrong"):
        herd.task(schedule=Cron("0 25 * * *"))


def test_a_zone_that_this_machine_lacks_is_no_fault_of_the_app(herd: Herd) -> None:
    herd.schedule("x", "shop:warm", cron="@daily", timezone="Mars/Olympus")
    with pytest.raises(ConfigurationError, match="schedule 'x': time zone 'Mars/Olympus' is not known"):
        herd.schedules.apply("shop:herd")


def test_a_schedule_that_no_znode_holds_or_that_cannot_work_is_refused_where_it_is_declared(herd: Herd) -> None:
    echo = herd.task(tasks.echo_all)
    for size in (MAX_SCHEDULE, MAX_PAYLOAD):
        with pytest.raises(PayloadTooLarge):
            herd.schedule("large", echo, every=300, args=("x" * size,))
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(ConfigurationError, match="ends before it starts"):
        herd.schedule("over", echo, every=300, starts=begin, ends=begin - FIVE)

    assert declared(herd) == {}
