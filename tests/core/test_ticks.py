"""The picture of the ticks: what is due is given out once, and nothing due is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from herdmaster.core.layout import NEVER, TickName, tick_name
from herdmaster.core.ticks import Ticks

ID = "0a1b2c3d"


def tick(due_ms: int, schedule: str = "a") -> TickName:
    return TickName(due_ms, ID, schedule)


def told(*items: TickName) -> Ticks:
    ticks = Ticks()
    ticks.replace(map(tick_name, items))
    ticks.complete()
    return ticks


def test_ticks_are_taken_when_they_are_due_the_most_overdue_first() -> None:
    ticks = told(tick(30, "c"), tick(10), tick(20, "b"))
    assert [item for _, item in ticks.take_due(20, 10)] == [tick(10), tick(20, "b")]
    assert ticks.take_due(29, 10) == []
    assert ticks.next_due_ms() == 30
    assert [item for _, item in ticks.take_due(30, 1)] == [tick(30, "c")]


def test_nothing_is_taken_before_the_listing_is_complete() -> None:
    ticks = Ticks()
    ticks.replace([tick_name(tick(10))])
    assert (ticks.take_due(10, 1), ticks.next_due_ms()) == ([], None)
    ticks.complete()
    ((name, _),) = ticks.take_due(10, 1)
    ticks.finish(name)
    assert ticks.take_due(10, 1) == [(name, tick(10))]  # it is still there, so it is on offer again


def test_a_tick_that_is_never_due_is_known_and_not_taken() -> None:
    ticks = told(tick(NEVER), tick(10, "b"))
    ticks.add(tick_name(tick(NEVER, "c")))
    assert (len(ticks), ticks.active, ticks.next_due_ms()) == (3, 1, 10)
    ticks.remove(tick_name(tick(NEVER)))
    ticks.finish(tick_name(tick(NEVER, "c")))
    assert (len(ticks), ticks.active) == (2, 1)
    assert [item for _, item in ticks.take_due(NEVER, 10)] == [tick(10, "b")]


def test_a_tick_that_comes_back_under_its_name_is_not_postponed_any_more() -> None:
    ticks = told(tick(10))
    ((name, _),) = ticks.take_due(10, 1)
    ticks.postpone(name, 99.0)
    ticks.remove(name)
    ticks.add(name)
    assert ticks.take_due(10, 1) == [(name, tick(10))]
    ticks.release_postponed(100.0)  # the time of the first postponement changes nothing
    assert ticks.take_due(10, 1) == []


def test_names_of_no_tick_are_kept_apart() -> None:
    ticks = told()
    ticks.replace(["x", tick_name(tick(1))])
    ticks.add("y")
    ticks.remove("y")
    assert len(ticks) == 1
    assert ticks.take_foreign_names() == {"x", "y"}


def test_ticks_that_come_and_go_leave_nothing_behind() -> None:
    ticks = told()
    for number in range(10_000):
        ticks.add(tick_name(tick(number)))
        ticks.remove(tick_name(tick(number)))
    assert len(ticks._heap) < 200


class TicksMachine(RuleBasedStateMachine):
    """Against a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks = told()
        self.there: set[TickName] = set()
        self.taken: list[TickName] = []
        self.postponed: dict[TickName, float] = {}
        self.now = 0.0

    items = st.builds(TickName, st.sampled_from([*range(20), NEVER]), st.just(ID), st.sampled_from(["a", "b", "c"]))

    @rule(item=items)
    def add(self, item: TickName) -> None:
        self.ticks.add(tick_name(item))
        self.there.add(item)

    @rule(item=items)
    def remove(self, item: TickName) -> None:
        self.ticks.remove(tick_name(item))
        if item in self.there:
            self.postponed.pop(item, None)
        self.there.discard(item)

    @rule(items=st.sets(items))
    def replace(self, items: set[TickName]) -> None:
        self.ticks.interrupt()
        assert self.ticks.take_due(100, 10) == []
        self.ticks.replace(map(tick_name, items))
        self.ticks.complete()
        self.there = set(items)

    def offered(self) -> list[TickName]:
        return sorted(
            (
                each
                for each in self.there
                if each not in self.taken and each not in self.postponed and each.due_ms != NEVER
            ),
            key=lambda each: (each.due_ms, tick_name(each)),
        )

    @rule(now_ms=st.integers(0, 20), room=st.integers(0, 4))
    def take(self, now_ms: int, room: int) -> None:
        found = [item for _, item in self.ticks.take_due(now_ms, room)]
        assert found == [each for each in self.offered() if each.due_ms <= now_ms][:room]
        self.taken += found

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), how=st.sampled_from(["finished", "refuted", "postponed"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        item = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        name = tick_name(item)
        if how == "finished":
            self.ticks.finish(name)
        elif how == "postponed":
            self.ticks.postpone(name, self.now + 1)
            self.postponed[item] = self.now + 1
        elif not self.ticks.refute(name, self.now + 1):
            assert item in self.there
            self.postponed[item] = self.now + 1

    @rule()
    def release(self) -> None:
        self.now += 1
        self.ticks.release_postponed(self.now)
        self.postponed.clear()

    @invariant()
    def agrees(self) -> None:
        assert len(self.ticks) == len(self.there)
        assert all(tick_name(item) in self.ticks for item in self.there)
        assert self.ticks.active == sum(item.due_ms != NEVER for item in self.there)
        assert self.ticks.next_due_ms() == min((item.due_ms for item in self.offered()), default=None)


TestTicksMachine = pytest.mark.long(TicksMachine.TestCase)
TestTicksMachine.settings = settings(max_examples=100, stateful_step_count=30)
