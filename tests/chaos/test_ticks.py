"""The judge of schedules finds what must not be in a log of transactions."""

from __future__ import annotations

import pytest

from chaos.ticks import Made, TickJudge
from chaos.transactions import Change, Kind, Transaction
from herdmaster.core.names import call_name, derived_ulid

DUE = 1_764_000_000_000
CREATED, DELETED = Kind.CREATED, Kind.DELETED


def task(due: int, *parts: str) -> str:
    return call_name(derived_ulid(due, *parts))


def tick(due: int) -> str:
    return f"/herd/ticks/{due:013d}-0a1b2c3d-nightly"


def transaction(at: int, *changes: tuple[Kind, str]) -> Transaction:
    return Transaction(1, 7, at, tuple(Change(kind, path) for kind, path in changes))


def fire(due: int, *, at: int | None = None, name: str | None = None) -> Transaction:
    made = f"/herd/tasks/{name or task(due)}"
    changes = (DELETED, tick(due)), (CREATED, made), (CREATED, tick(due + 1000))
    return transaction(due if at is None else at, *changes)


CREATION = transaction(DUE - 5, (CREATED, "/herd/schedules/nightly"), (CREATED, tick(0)))
PLAN = transaction(DUE - 4, (DELETED, tick(0)), (CREATED, tick(DUE)))


def judged(*transactions: Transaction) -> TickJudge:
    judge = TickJudge("/herd")
    judge.read((CREATION, PLAN, *transactions))
    return judge


def test_a_log_in_which_all_is_well() -> None:
    removal = transaction(DUE + 2000, (DELETED, tick(DUE + 2000)), (DELETED, "/herd/schedules/nightly"))
    judge = judged(fire(DUE, at=DUE + 3), fire(DUE + 1000), removal)
    assert judge.faults == []
    assert judge.made == {"nightly": [Made(DUE, DUE + 3, task(DUE)), Made(DUE + 1000, DUE + 1000, task(DUE + 1000))]}


@pytest.mark.parametrize(
    ("transactions", "fault"),
    [
        ([fire(DUE), fire(DUE)], "was not the tick"),
        ([fire(DUE), fire(DUE + 1000, name=task(DUE, "again"))], "made two tasks"),
        ([fire(DUE, at=DUE - 1)], "early"),
        ([transaction(DUE, (CREATED, tick(DUE + 1)))], "two ticks"),
        ([transaction(DUE, (DELETED, tick(DUE)), (CREATED, f"/herd/tasks/{task(DUE)}"))], "has lost its tick"),
        ([transaction(DUE, (CREATED, "/herd/ticks/x"))], "is no tick"),
        ([fire(DUE, name="task-raw")], "no time in its name"),
    ],
)
def test_what_must_not_be_is_found(transactions: list[Transaction], fault: str) -> None:
    assert any(fault in each for each in judged(*transactions).faults)
