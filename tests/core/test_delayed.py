from __future__ import annotations

import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from herdmaster.core.delayed import DelayedTasks
from herdmaster.core.layout import delayed_name
from herdmaster.core.names import call_name
from herdmaster.core.whereabouts import Delayed

A, B, C = "task-a", "task-b", "task-c"


def told(*items: tuple[int, str]) -> DelayedTasks:
    delayed = DelayedTasks()
    delayed.replace(delayed_name(due, task) for due, task in items)
    delayed.complete()
    return delayed


def test_the_most_overdue_come_first_and_what_is_not_due_stays() -> None:
    delayed = told((30, C), (10, A), (20, B))

    assert delayed.take_due(20, 10) == [Delayed(10, A), Delayed(20, B)]
    assert delayed.take_due(29, 10) == []
    assert delayed.next_due_ms() == 30
    assert delayed.take_due(30, 10) == [Delayed(30, C)]


def test_no_more_are_taken_than_there_is_room_for() -> None:
    delayed = told(*((number, f"task-{number}") for number in range(10)))

    assert [item.due_ms for item in delayed.take_due(100, 3)] == [0, 1, 2]
    assert [item.due_ms for item in delayed.take_due(100, 3)] == [3, 4, 5]


def test_nothing_is_due_while_the_picture_may_be_old() -> None:
    delayed = told((10, A))
    delayed.interrupt()
    assert delayed.take_due(10, 10) == []
    assert delayed.next_due_ms() is None

    delayed.replace([delayed_name(10, B)])
    assert delayed.take_due(10, 10) == []
    delayed.complete()
    assert delayed.take_due(10, 10) == [Delayed(10, B)]


def test_delayed_tasks_are_counted_by_queue() -> None:
    mail = [call_name(f"01jd00000000000000000000{n:02d}", "mail") for n in range(3)]
    delayed = told((10, A), (20, mail[0]), (30, mail[1]))
    delayed.add(delayed_name(40, mail[2]))
    delayed.add(delayed_name(41, mail[2]))  # another znode of the same task
    delayed.remove(delayed_name(30, mail[1]))
    assert delayed.count_by_queue() == {"default": 1, "mail": 2}

    delayed.remove(delayed_name(40, mail[2]))
    assert delayed.count_by_queue() == {"default": 1, "mail": 2}
    delayed.remove(delayed_name(41, mail[2]))
    delayed.replace([delayed_name(20, mail[0])])
    assert delayed.count_by_queue() == {"mail": 1}


def test_what_left_is_not_due_any_more() -> None:
    delayed = told((10, A), (20, B))
    delayed.remove(delayed_name(10, A))
    delayed.remove(delayed_name(99, B))  # never there

    assert delayed.take_due(100, 10) == [Delayed(20, B)]
    assert (delayed.due_ms_of(A), delayed.due_ms_of(B)) == (None, 20)


def test_what_is_still_there_after_its_transaction_is_on_offer_again() -> None:
    delayed = told((10, A), (20, B))
    taken = delayed.take_due(100, 10)
    delayed.remove(delayed_name(10, A))
    for item in taken:
        delayed.finish(item.task)

    assert delayed.take_due(100, 10) == [Delayed(20, B)]


def test_what_is_postponed_waits_until_then() -> None:
    delayed = told((10, A))
    (item,) = delayed.take_due(10, 1)
    delayed.postpone(item.task, 5.0)
    delayed.release_postponed(4.9)
    assert delayed.take_due(10, 1) == []
    assert (delayed.next_due_ms(), delayed.next_release()) == (None, 5.0)
    delayed.release_postponed(5.0)

    assert delayed.take_due(10, 1) == [item]
    assert delayed.next_release() is None


def test_a_picture_that_shows_what_is_not_there_is_told_and_does_not_spin() -> None:
    delayed = told((10, A), (20, B))
    shown, gone = delayed.take_due(100, 2)
    delayed.remove(delayed_name(20, B))

    assert delayed.refute(gone.task, until=30.0)
    assert not delayed.refute(shown.task, until=30.0)
    assert delayed.take_due(100, 2) == []
    assert delayed.next_release() == 30.0


def test_a_task_that_is_there_twice_is_taken_once_at_a_time() -> None:
    """No transition of ours makes that, and still neither of the two is left behind."""
    for due in ((10, 20), (20, 10)):
        delayed = told(*((each, A) for each in due))
        assert len(delayed) == 2
        assert delayed.take_due(100, 10) == [Delayed(10, A)]
        delayed.remove(delayed_name(10, A))
        assert delayed.due_ms_of(A) == 20
        assert delayed.take_due(100, 10) == []
        delayed.finish(A)
        assert delayed.take_due(100, 10) == [Delayed(20, A)]
        delayed.remove(delayed_name(20, A))
        assert (len(delayed), delayed.due_ms_of(A)) == (0, None)


def test_names_outside_of_the_grammar_are_told_once_and_left_alone() -> None:
    delayed = told()
    foreign = {"garbage", "123-task-a", "0000000000010-", "0000000000010-garbage", "", "\u0660" * 13 + "-task-a"}
    delayed.replace(foreign)
    delayed.add("other")
    delayed.remove("other")

    assert delayed.take_foreign_names() == foreign | {"other"}
    assert delayed.take_foreign_names() == set()
    assert len(delayed) == 0


def test_those_that_leave_undue_leave_no_memory() -> None:
    delayed = told()
    for number in range(10_000):
        delayed.add(delayed_name(10**12 + number, f"task-{number}"))
        delayed.remove(delayed_name(10**12 + number, f"task-{number}"))

    assert len(delayed._heap) < 200


def test_a_delayed_task_takes_less_than_400_bytes() -> None:
    delayed = told()
    count = 20_000
    delayed.replace(delayed_name(10**12 + number, f"task-{number:026d}.default") for number in range(count))
    (name, due), *_ = delayed._due.items()
    each = sys.getsizeof(name) + sys.getsizeof(due) + sys.getsizeof(delayed._heap[0])
    containers = sys.getsizeof(delayed._due) + sys.getsizeof(delayed._heap)

    assert each + containers / count < 400


class DelayedMachine(RuleBasedStateMachine):
    """Against a plain set: what is taken was there, was due, and is not taken twice; nothing due is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.delayed = DelayedTasks()
        self.there: set[Delayed] = set()
        self.taken: list[Delayed] = []
        self.postponed: set[str] = set()
        self.now = 0.0
        self.delayed.complete()

    items = st.builds(Delayed, st.integers(0, 20), st.sampled_from([A, B, C, "task-d"]))

    @rule(item=items)
    def add(self, item: Delayed) -> None:
        self.delayed.add(delayed_name(item.due_ms, item.task))
        self.there.add(item)

    @rule(item=items)
    def remove(self, item: Delayed) -> None:
        self.delayed.remove(delayed_name(item.due_ms, item.task))
        self.there.discard(item)

    @rule(items=st.sets(items))
    def replace(self, items: set[Delayed]) -> None:
        self.delayed.interrupt()
        assert self.delayed.take_due(100, 10) == []
        self.delayed.replace(delayed_name(item.due_ms, item.task) for item in items)
        self.delayed.complete()
        self.there = set(items)

    @rule(now_ms=st.integers(0, 20), room=st.integers(0, 4))
    def take(self, now_ms: int, room: int) -> None:
        found = self.delayed.take_due(now_ms, room)
        assert found == [each for each in self.offered() if each.due_ms <= now_ms][:room]
        self.taken += found

    def offered(self) -> list[Delayed]:
        """The first znode of each task that is neither taken nor postponed."""
        marked = {each.task for each in self.taken} | self.postponed
        firsts: dict[str, Delayed] = {}
        for item in sorted(self.there):
            if item.task not in marked:
                firsts.setdefault(item.task, item)
        return list(firsts.values())

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), how=st.sampled_from(["finished", "refuted", "postponed"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        item = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        if how == "finished":
            self.delayed.finish(item.task)
        elif how == "postponed":
            self.delayed.postpone(item.task, self.now + 1)
            self.postponed.add(item.task)
        elif not self.delayed.refute(item.task, self.now + 1):
            assert item in self.there
            self.postponed.add(item.task)

    @rule()
    def release(self) -> None:
        self.now += 1
        self.delayed.release_postponed(self.now)
        self.postponed.clear()

    @invariant()
    def agrees(self) -> None:
        assert len(self.delayed) == len(self.there)
        assert all(item in self.delayed for item in self.there)
        assert self.delayed.next_due_ms() == min((item.due_ms for item in self.offered()), default=None)
        for task in (A, B, C):
            found = self.delayed.due_ms_of(task)
            assert (found is None) == all(item.task != task for item in self.there)
            assert found is None or Delayed(found, task) in self.there


TestDelayedMachine = pytest.mark.long(DelayedMachine.TestCase)
TestDelayedMachine.settings = settings(max_examples=100, stateful_step_count=30)
