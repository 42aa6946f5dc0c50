"""What a future makes of an outcome whose reading runs code of the user's."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import msgspec
import pytest

from herdmaster.api.future import Future
from herdmaster.api.results import Reader, resolve_with_outcome
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.core.signature import Signature
from herdmaster.errors import BadOutcome
from tests.api.test_map_feeding import Keeper


@dataclass
class Strict:
    size: int

    def __post_init__(self) -> None:
        if self.size == 3:
            sys.exit("no three")
        if self.size == 4:
            raise KeyboardInterrupt


def make(size: int) -> Strict:
    return Strict(size)


def read(size: int) -> Future[object]:
    outcome = Outcome(OutcomeState.DONE, msgspec.Raw(f'{{"size":{size}}}'.encode()))
    future: Future[object] = Future("task-read", Keeper())
    reader = Reader(Signature("shop:make", make), {})
    assert reader.runs_code(outcome)
    resolve_with_outcome(future, outcome, reader)
    return future


def test_a_result_is_what_its_hint_says() -> None:
    assert read(2).result(0) == Strict(2)


@pytest.mark.parametrize(("size", "raised"), [(3, "SystemExit: no three"), (4, "KeyboardInterrupt: ")])
def test_code_that_exits_leaves_no_future_unresolved(size: int, raised: str) -> None:
    error = read(size).exception(0)
    assert isinstance(error, BadOutcome)
    assert str(error) == f"the code that reads this result raised {raised}"
    assert isinstance(error.__cause__, SystemExit | KeyboardInterrupt)
