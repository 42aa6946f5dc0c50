"""What follows from each answer to the move of a held task, answer by answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from herdmaster.core import layout, transitions
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.transitions import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.errors import HerdError
from herdmaster.roles.worker.commits import Commits
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.next_move import Again
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from tests.roles.primary.scripted import ScriptedClient

pytestmark = pytest.mark.fallback("_SET_ASIDE_SECONDS", "_TRY_LATER_SECONDS")  # the clock is the test's

TASK, W = "task-a", "worker-w"
PAYLOAD = encode_call(Call(1, "m:f", *encode_arguments((), {})))
END = AttemptEnd(TASK, "m:f", "default", EndState.DONE, 1)
COMPLETE = transitions.complete(W, TASK, b"done")
RETRY = transitions.retry_now(W, TASK, PAYLOAD)
IN_PLACE = transitions.retry_in_place(W, TASK, PAYLOAD)
REFUSED = transitions.complete(W, TASK, b"refused")
NO_NODE, NODE_EXISTS, NO_AUTH = errors.NoNode("x"), errors.NodeExists("x"), errors.NoAuth("x")


class Inbox:
    """All of it has been read, unless a test says otherwise."""

    def __init__(self) -> None:
        self.unread: set[str] = set()
        self.forgotten: list[str] = []

    def is_read(self, name: str) -> bool:
        return name not in self.unread

    def forget(self, name: str) -> None:
        self.forgotten.append(name)


class Timers:
    """Timers that `pass_time` lets ring."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[..., None], tuple[object, ...]]] = []

    def call_later(self, seconds: float, action: Callable[..., None], *args: object) -> None:
        self.waiting.append((seconds, action, args))

    def pass_time(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, action, args in waiting:
            action(*args)


class Moves:
    def refuse(self, _task: Delivered, error: HerdError) -> Move:
        assert "start" in str(error)
        return REFUSED


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.tasks = HeldTasks()
        self.inbox, self.timers = Inbox(), Timers()
        self.let_go: list[str] = []
        self.turns = 0
        self.made_items: list[Held] = []
        self.reported: list[AttemptEnd] = []
        parts: Any = (self.client, W, self.tasks, self.inbox)
        more: Any = {"moves": Moves(), "timers": self.timers, "items_made": self.made_items.append}
        self.commits = Commits(*parts, **more, let_go=self._let_go, turn=self._turn, report=self.reported.append)

    def _let_go(self, name: str) -> None:
        self.let_go.append(name)
        self.tasks.remove(name)

    def _turn(self) -> None:
        self.turns += 1
        self.commits.send()

    def hold(self) -> Held:
        return self.tasks.add(Delivered(TASK, PAYLOAD, 1, end=END), 0.0)

    def finish(self, move: Move) -> Held:
        """Hold a task that ends with this move, and send the move."""
        held = self.hold()
        self.tasks.finish(held, move)
        self.commits.send()
        assert self.client.pending() == ["commit"]
        return held

    def refuse(self, move: Move, kind: type[Operation], error: errors.ServerError) -> None:
        indices = [index for index, each in enumerate(move.operations) if isinstance(each, kind)]
        self.client.refuse(indices[-1], error)


@pytest.mark.parametrize(
    "move",
    [
        COMPLETE,
        RETRY,
        transitions.complete(W, TASK, None),
        transitions.bury(W, TASK, PAYLOAD, b"failed"),
        transitions.retry_later(W, TASK, 1, PAYLOAD),
    ],
    ids=lambda move: str(move.transition),
)
def test_a_committed_end_is_reported_and_its_task_let_go(move: Move) -> None:
    rig = Rig()
    rig.finish(move)
    rig.client.answer("commit")

    assert rig.reported == [END]
    assert rig.let_go == rig.inbox.forgotten == [TASK]
    assert rig.turns == 1
    assert rig.client.pending() == []


def test_what_is_handed_back_is_no_end() -> None:
    rig = Rig()
    rig.finish(transitions.hand_back(W, TASK, PAYLOAD))
    rig.client.answer("commit")

    assert rig.reported == []
    assert rig.let_go == [TASK]


def test_an_end_is_reported_also_if_its_event_came_before_the_reply() -> None:
    rig = Rig()
    rig.finish(COMPLETE)
    rig.tasks.remove(TASK)
    rig.client.answer("commit")

    assert rig.reported == [END]
    assert rig.let_go == []


def test_what_has_an_unknown_fate_is_sent_again_when_it_has_been_read_again() -> None:
    rig = Rig()
    rig.finish(COMPLETE)
    rig.inbox.unread.add(TASK)
    rig.client.answer("commit", None, errors.ConnectionLoss())
    assert (rig.reported, rig.let_go, rig.turns, rig.client.pending()) == ([], [], 1, [])

    rig.inbox.unread.clear()
    rig.commits.send()
    assert rig.client.pending() == ["commit"]
    rig.client.answer("commit")
    assert rig.reported == [END]


@pytest.mark.parametrize(
    ("kind", "error", "seconds"),
    [(CreateNode, NODE_EXISTS, 1.0), (CreateNode, NO_NODE, 1.0), (CreateNode, NO_AUTH, 5.0)],
    ids=["another copy is about to go", "the folder is missing", "nothing explains it"],
)
def test_a_refused_move_is_sent_again_after_its_time(
    kind: type[Operation], error: errors.ServerError, seconds: float
) -> None:
    rig = Rig()
    held = rig.finish(RETRY)
    rig.refuse(RETRY, kind, error)

    assert rig.commits.is_folder_missing == (error is NO_NODE)
    assert [timer[0] for timer in rig.timers.waiting] == [seconds]
    assert held.state is State.COMMITTING
    assert rig.client.pending() == []  # also not in the turn that follows
    rig.timers.pass_time()
    assert rig.client.pending() == ["commit"]
    rig.client.answer("commit")
    assert rig.reported == [END]


def test_a_task_that_ended_elsewhere_is_dropped_and_its_end_here_is_not_reported() -> None:
    rig = Rig()
    rig.finish(COMPLETE)
    rig.refuse(COMPLETE, CreateNode, NODE_EXISTS)
    assert rig.client.answer("commit") == (
        ("check", layout.status_path(TASK)),
        ("delete", layout.assignment_path(W, TASK)),
    )

    assert rig.reported == []
    assert rig.let_go == [TASK]


def test_a_task_that_another_role_has_is_let_go() -> None:
    rig = Rig()
    rig.finish(COMPLETE)
    rig.refuse(COMPLETE, DeleteNode, NO_NODE)

    assert (rig.let_go, rig.reported, rig.timers.waiting) == ([TASK], [], [])


# --- starts and retries ----------------------------------------------------------------------------------------------


def test_the_start_of_a_suspect_is_marked_once_and_it_still_waits() -> None:
    rig = Rig()
    held = rig.hold()
    rig.commits.mark_start(held)
    assert TASK in rig.tasks.requests
    assert rig.client.answer("commit") == (("set", layout.assignment_path(W, TASK)),)

    assert held.marked
    assert held.state is State.WAITING
    assert TASK not in rig.tasks.requests
    assert rig.turns == 1


def test_a_suspect_whose_start_cannot_be_marked_ends_without_being_run() -> None:
    rig = Rig()
    held = rig.hold()
    rig.commits.mark_start(held)
    rig.refuse(transitions.mark_start(W, TASK, b""), SetNode, NO_AUTH)

    assert not held.marked
    assert held.move is REFUSED
    assert rig.client.pending() == ["commit"]


def retrying(rig: Rig) -> Held:
    held = rig.hold()
    again = encode_call(Call(1, "m:f", *encode_arguments((), {}), attempt=2))
    rig.tasks.go_back(held, Again(again, 3.0))
    rig.tasks.finish(held, IN_PLACE)
    rig.commits.send()
    rig.client.answer("commit")
    return held


def test_a_retry_in_place_waits_for_its_time_with_its_new_payload() -> None:
    rig = Rig()
    held = retrying(rig)

    assert rig.reported == [END]
    assert (rig.let_go, rig.inbox.forgotten) == ([], [])
    assert held in rig.tasks.unrun()
    assert held not in rig.tasks.waiting
    assert held.task.call is not None
    assert held.task.attempt == 2
    assert b'"attempt":2' in held.task.payload
    assert [timer[0] for timer in rig.timers.waiting] == [3.0]
    turns = rig.turns
    rig.timers.pass_time()
    assert held in rig.tasks.waiting
    assert rig.turns == turns + 1


def test_a_retry_that_is_handed_back_before_its_time_stays_handed_back() -> None:
    rig = Rig()
    held = retrying(rig)
    rig.tasks.finish(held, transitions.hand_back(W, TASK, PAYLOAD))
    rig.timers.pass_time()

    assert held.state is State.COMMITTING


def test_a_check_that_fails_is_decided_again() -> None:
    """The status that showed that the task had ended was collected meanwhile."""
    rig = Rig()
    drop = transitions.drop_assignment_because_status(W, TASK)
    rig.finish(drop)
    rig.refuse(drop, CheckNode, NO_NODE)

    assert rig.client.answer("commit") == (("delete", layout.assignment_path(W, TASK)),)
