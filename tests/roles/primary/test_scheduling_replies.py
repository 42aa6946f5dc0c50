"""Schedules, reply by reply: what a tick costs, and what becomes of one whose schedule is gone or that cannot be
read."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.layout import TickName, tick_name
from herdmaster.core.schedules import Overlap, Schedule, Tick, encode_schedule, encode_tick
from herdmaster.core.timetable import Every
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS
from herdmaster.roles.primary.scheduling import Scheduling, _Known
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.recipes.children import Complete, Interrupted, Listed
from tests.roles.primary.scripted import FakeServerClock, ScriptedClient
from tests.roles.stage import call_payload

pytestmark = pytest.mark.fallback("SET_ASIDE_SECONDS", "TRY_LATER_SECONDS")  # the clock is the test's

DUE = 1_700_000_000_000
TICK = tick_name(TickName(DUE, "0a1b2c3d", "nightly"))
GONE = errors.NoNode("it is not there")


class Rig:
    """One tick that is due, of a schedule that nothing is known about."""

    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.server_clock = FakeServerClock()
        self.server_clock.time = DUE
        clock: Any = self.server_clock
        client: Any = self.client
        pictures: Any = None
        report = PrimaryLog(System(), lambda _end: None)
        self.part = Scheduling(client, clock, pictures, report, lambda: None)
        self.part.ticks.add(TICK)
        self.part.ticks.complete()

    def step(self) -> list[str]:
        self.part.step()
        return self.client.pending()

    def find_alone(self) -> None:
        """Read the tick, of which there is no schedule."""
        assert self.step() == ["read"]
        assert self.client.answer_read(GONE, encode_tick(Tick()))[1] == f"{layout.TICKS}/{TICK}"

    def find_alone_twice(self) -> None:
        self.find_alone()
        self.client.now += SET_ASIDE_SECONDS
        self.find_alone()


async def test_a_tick_after_the_first_costs_one_transaction_and_no_read() -> None:
    rig, minute, payload = Rig(), 60_000, msgspec.Raw(call_payload("m:f"))
    schedule = Schedule(id="0a1b2c3d", timetable=Every(minute, DUE), payload=payload, overlap=Overlap.ALLOW)
    assert rig.step() == ["read"]
    rig.client.answer_read(encode_schedule(schedule), encode_tick(Tick(due_ms=DUE)))
    for number in range(1, 4):
        await asyncio.sleep(0)  # moves are gathered for one turn of the loop
        assert rig.client.pending() == ["commit"]
        (_, _), (_, consumed), (_, task), (_, following) = rig.client.answer("commit")
        assert task.startswith(f"{layout.TASKS}/")
        assert following == layout.tick_path(TickName(DUE + number * minute, "0a1b2c3d", "nightly"))
        rig.part.ticks.remove(layout.name_of(consumed))
        rig.part.ticks.add(layout.name_of(following))
        rig.server_clock.time = DUE + number * minute
        assert rig.step() == []


async def test_after_an_interruption_a_tick_is_read_although_it_was_made_here() -> None:
    rig = Rig()
    payload = msgspec.Raw(call_payload("m:f"))
    schedule = Schedule(id="0a1b2c3d", timetable=Every(60_000, DUE), payload=payload, overlap=Overlap.ALLOW)
    assert rig.step() == ["read"]
    rig.client.answer_read(encode_schedule(schedule), encode_tick(Tick(due_ms=DUE)))
    await asyncio.sleep(0)
    following = layout.name_of(rig.client.answer("commit")[-1][1])
    for change in (Interrupted(), Listed(layout.TICKS, (following,)), Complete(layout.TICKS)):
        rig.part._handle_change(change)
    rig.server_clock.time = DUE + 60_000
    assert rig.step() == ["read"]


def test_what_is_known_of_schedules_is_bounded_by_how_many_ticks_there_are() -> None:
    rig, payload = Rig(), msgspec.Raw(call_payload("m:f"))
    known = _Known(0, Schedule(id="0a1b2c3d", timetable=Every(60_000), payload=payload))
    rig.part._schedules.update({f"removed-{number}": known for number in range(300)})
    rig.part._data.update({f"gone-{number}": Tick() for number in range(300)})
    assert rig.step() == ["read"]
    assert (rig.part._schedules, rig.part._data) == ({}, {})


async def test_nothing_stays_of_a_tick_whose_fate_is_unknown() -> None:
    rig = Rig()
    payload = msgspec.Raw(call_payload("m:f"))
    schedule = Schedule(id="0a1b2c3d", timetable=Every(60_000, DUE), payload=payload, overlap=Overlap.ALLOW)
    assert rig.step() == ["read"]
    rig.client.answer_read(encode_schedule(schedule), encode_tick(Tick(due_ms=DUE)))
    await asyncio.sleep(0)
    rig.client.answer("commit", None, errors.ConnectionLoss())
    assert rig.part._decided == {}


def test_a_tick_is_deleted_when_it_was_found_without_its_schedule_twice() -> None:
    rig = Rig()
    rig.find_alone()
    assert rig.step() == []
    assert rig.part.next_wakeup() == SET_ASIDE_SECONDS

    rig.client.now += SET_ASIDE_SECONDS
    rig.find_alone()
    assert rig.client.answer("delete") == f"{layout.TICKS}/{TICK}"
    assert rig.part.ticks.under_way == 0
    rig.part.ticks.remove(TICK)
    assert rig.step() == []


@pytest.mark.parametrize(
    ("error", "seconds"), [(errors.NoAuth("not allowed"), SET_ASIDE_SECONDS), (errors.ConnectionLoss(), 0.0)]
)
def test_a_tick_that_could_not_be_deleted_is_deleted_when_it_is_found_alone_twice_more(
    error: Exception, seconds: float
) -> None:
    rig = Rig()
    rig.find_alone_twice()
    rig.client.answer("delete", error=error)
    assert rig.part.ticks.under_way == 0

    rig.client.now += seconds
    rig.find_alone()
    assert rig.client.pending() == []


def test_a_tick_that_is_gone_when_it_is_deleted_is_asked_for_in_a_new_listing() -> None:
    rig = Rig()
    rig.find_alone_twice()
    rig.client.answer("delete", error=errors.NoNode("gone"))

    assert rig.part.ticks.under_way == 0
    assert rig.client.pending() == ["children"]
    rig.client.calls.clear()
    rig.client.now += SET_ASIDE_SECONDS / 2
    assert rig.step() == []


def test_a_tick_that_cannot_be_read_is_read_again_later() -> None:
    rig = Rig()
    assert rig.step() == ["read"]
    rig.client.answer_read(errors.NoAuth("not allowed"), encode_tick(Tick()))
    assert rig.step() == []

    rig.client.now += SET_ASIDE_SECONDS
    assert rig.step() == ["read"]
