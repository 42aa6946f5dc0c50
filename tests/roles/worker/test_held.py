from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from herdmaster.core import transitions
from herdmaster.core.transitions import Move
from herdmaster.roles.worker.held import Held, HeldTasks, IllegalStep, State
from herdmaster.roles.worker.next_move import Again
from herdmaster.running.delivery import Delivered

NAMES = ("task-1", "task-2", "task-3")
AGAIN = Again(b"again", 1.0)
STEPS: dict[str, frozenset[State]] = {
    "read": frozenset({State.WAITING}),
    "start": frozenset({State.WAITING}),
    "wait": frozenset({State.READING, State.IN_POOL, State.AWAITING_RETRY}),
    "go_back": frozenset({State.WAITING, State.IN_POOL}),
    "finish": frozenset(State) - {State.GONE},
}
"""The states that allow a step, beside `await_retry`, which also needs a retry to wait for."""


def move_of(name: str) -> Move:
    return transitions.complete("worker-w", name, b"done")


def call_step(tasks: HeldTasks, step: str, held: Held) -> None:
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: tasks.read(held),
        "start": lambda: tasks.start(held),
        "wait": lambda: tasks.wait(held),
        "go_back": lambda: tasks.go_back(held, AGAIN),
        "finish": lambda: tasks.finish(held, move_of(held.task.name)),
        "await_retry": lambda: tasks.await_retry(held),
    }
    calls[step]()


class HeldTasksMachine(RuleBasedStateMachine):
    """Compare the owner with a plain model: a state for each task, and the names with a request under way."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = HeldTasks()
        self.known: list[Held] = []
        self.states: dict[str, State] = {}
        self.unsent: set[str] = set()
        self.requests: set[str] = set()
        self.number = 0

    def may(self, held: Held, step: str) -> bool:
        """Say by the model whether a step is allowed."""
        if step == "await_retry":
            return held.state is State.COMMITTING and held.again is not None
        if step == "finish" and held.state is State.COMMITTING and held.task.name in self.requests:
            return False
        return held.state in STEPS[step]

    @rule(name=st.sampled_from(NAMES))
    def add(self, name: str) -> None:
        self.number += 1
        task = Delivered(name, b"", self.number)
        if name in self.states:
            with pytest.raises(IllegalStep):
                self.tasks.add(task, 0.0)
            return
        self.known.append(self.tasks.add(task, float(self.number)))
        self.states[name] = State.WAITING

    @precondition(lambda self: self.known)
    @rule(data=st.data(), step=st.sampled_from([*STEPS, "await_retry"]))
    def take_step(self, data: st.DataObject, step: str) -> None:
        held = data.draw(st.sampled_from(self.known))
        name, before = held.task.name, (held.state, held.again, held.move)
        if not self.may(held, step):
            with pytest.raises(IllegalStep, match=step):
                call_step(self.tasks, step, held)
            assert (held.state, held.again, held.move) == before
            return
        call_step(self.tasks, step, held)
        self.unsent.discard(name)
        after = {
            "read": State.READING,
            "start": State.IN_POOL,
            "wait": State.WAITING,
            "go_back": State.GOING_BACK,
            "finish": State.COMMITTING,
            "await_retry": State.AWAITING_RETRY,
        }
        self.states[name] = after[step]
        if step == "finish":
            self.unsent.add(name)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        held = self.tasks.get(name)
        assert self.tasks.remove(name) is held
        assert held is None or held.state is State.GONE
        self.states.pop(name, None)
        self.unsent.discard(name)

    @rule(denied=st.sets(st.sampled_from(NAMES)))
    def commit(self, denied: set[str]) -> None:
        expected = self.unsent - self.requests - denied
        moves = self.tasks.begin_commits(lambda name: name not in denied)

        assert sorted(move.task for move in moves) == sorted(expected)
        self.unsent -= expected
        self.requests |= expected

    @rule(name=st.sampled_from(NAMES))
    def begin_request(self, name: str) -> None:
        self.tasks.begin_request(name)
        self.requests.add(name)

    @rule(name=st.sampled_from(NAMES))
    def end_request(self, name: str) -> None:
        assert self.tasks.end_request(name) is self.tasks.get(name)
        self.requests.discard(name)
        if self.states.get(name) is State.COMMITTING:
            self.unsent.add(name)

    @invariant()
    def answers_agree_with_the_states(self) -> None:
        def names(state: State) -> set[str]:
            return {name for name, each in self.states.items() if each is state}

        tasks = self.tasks
        assert {held.task.name: held.state for held in tasks} == self.states
        assert len(tasks) == len(self.states)
        assert {held.task.name for held in tasks.waiting} == names(State.WAITING)
        assert {held.task.name for held in tasks.going_back} == names(State.GOING_BACK)
        assert tasks.in_pool == len(names(State.IN_POOL))
        assert set(tasks.requests) == self.requests
        assert tasks._unsent.keys() == self.unsent
        unrun = (State.WAITING, State.READING, State.IN_POOL, State.AWAITING_RETRY)
        assert tasks.unrun() == [held for held in tasks if self.states[held.task.name] in unrun]
        for held in self.known:
            assert (tasks.get(held.task.name) is held) == (held.state is not State.GONE)


HeldTasksMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_every_answer_follows_from_the_states = HeldTasksMachine.TestCase


def test_a_retry_in_place_waits_here_and_is_marked_anew() -> None:
    tasks = HeldTasks()
    held = tasks.add(Delivered("task-1", b"", 1), 0.0)
    held.marked = True
    tasks.start(held)
    tasks.go_back(held, AGAIN)
    tasks.finish(held, move_of("task-1"))
    tasks.await_retry(held)

    assert (held.state, held.again, held.move, held.marked) == (State.AWAITING_RETRY, None, None, False)


def test_a_delivery_under_the_name_of_an_earlier_one_waits_for_its_request() -> None:
    tasks = HeldTasks()
    held = tasks.add(Delivered("task-1", b"", 1), 0.0)
    tasks.finish(held, move_of("task-1"))
    assert len(tasks.begin_commits(lambda _name: True)) == 1
    tasks.remove("task-1")
    later = tasks.add(Delivered("task-1", b"", 2), 0.0)
    tasks.finish(later, move_of("task-1"))

    assert tasks.begin_commits(lambda _name: True) == []
    assert tasks.end_request("task-1") is later
    assert tasks.begin_commits(lambda _name: True) == [later.move]


def test_a_move_is_sent_again_after_a_request_that_has_not_ended_its_task() -> None:
    tasks = HeldTasks()
    held = tasks.add(Delivered("task-1", b"", 1), 0.0)
    tasks.finish(held, move_of("task-1"))
    assert tasks.begin_commits(lambda _name: True) == [held.move]
    assert tasks.begin_commits(lambda _name: True) == []
    tasks.end_request("task-1")

    assert tasks.begin_commits(lambda _name: True) == [held.move]
