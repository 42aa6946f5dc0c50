"""The judge of flows finds what must not be in a log of transactions."""

from __future__ import annotations

import pytest

from chaos.flow_judge import FlowJudge
from chaos.transactions import Change, Kind, Transaction

CREATED, DELETED = Kind.CREATED, Kind.DELETED
FLOW = "/herd/flows/flow-1"
FIRST, SECOND = "task-a.f", "task-b.f"

Changes = tuple[tuple[Kind, str], ...]


def transaction(*changes: tuple[Kind, str], is_doubtful: bool = False) -> Transaction:
    found = tuple(Change(kind, f"/herd{path}" if path[0] == "/" else f"{FLOW}/{path}") for kind, path in changes)
    return Transaction(1, 7, 1000, found, is_doubtful=is_doubtful)


SUBMIT = transaction(
    (CREATED, "/flows/flow-1"),
    (CREATED, "steps"),
    (CREATED, "results"),
    (CREATED, "steps/1"),
    (CREATED, "steps/1/0"),
    (CREATED, "running"),
    (CREATED, f"/tasks/{FIRST}"),
    (CREATED, f"running/{FIRST}"),
)
COMPLETE = transaction((CREATED, "results/0"), (DELETED, "steps/1/0"), (DELETED, f"running/{FIRST}"))
START = transaction((CREATED, f"running/{SECOND}"), (CREATED, f"/tasks/{SECOND}"), (DELETED, "steps/1"))
COMPLETE_SECOND = transaction((CREATED, "results/1"), (DELETED, f"running/{SECOND}"))
END = transaction((DELETED, "running"))
REMOVAL = transaction((DELETED, "results/0"), (DELETED, "results/1"), (DELETED, "/flows/flow-1"))


def judged(*transactions: Transaction) -> FlowJudge:
    judge = FlowJudge("/herd")
    judge.read(transactions)
    return judge


def test_a_flow_whose_steps_run_once_is_right() -> None:
    judge = judged(SUBMIT, COMPLETE, START, COMPLETE_SECOND, END, REMOVAL)
    assert judge.faults == []
    assert (judge.ended, judge.running) == (1, [])


def test_a_flow_that_has_not_ended_is_told() -> None:
    judge = judged(SUBMIT, COMPLETE)
    assert judge.running == ["flow-1"]
    assert judge.take_faults() == ["flow-1 has not ended"]


def test_a_doubtful_transaction_is_not_read() -> None:
    again = transaction((CREATED, f"running/{FIRST}"), is_doubtful=True)
    assert judged(SUBMIT, again).faults == []


@pytest.mark.parametrize(
    ("transactions", "fault"),
    [
        ((SUBMIT, START), "1 started too early"),
        ((SUBMIT, transaction((DELETED, "steps/1/0"))), "no longer waits for 0, which is not done"),
        ((SUBMIT, COMPLETE, START, START), f"{SECOND} started twice"),
        ((SUBMIT, transaction((DELETED, f"running/{FIRST}"))), "1 steps ended with 0 results"),
        ((SUBMIT, transaction((CREATED, "results/0"))), "0 steps ended with 1 results"),
        ((SUBMIT, transaction((CREATED, f"running/{SECOND}"))), "and is no task"),
        ((SUBMIT, COMPLETE, END), "has ended without 1"),
        ((SUBMIT, transaction((CREATED, "failed/0"), (DELETED, f"running/{FIRST}"))), "step 0 failed"),
    ],
)
def test_what_must_not_be_is_found(transactions: tuple[Transaction, ...], fault: str) -> None:
    found = judged(*transactions).faults
    assert any(fault in each for each in found), found
