"""What a future makes of an outcome whose reading runs code of the user's."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import cast

import msgspec
import pytest

from herdmaster.api.future import Future
from herdmaster.api.results import Reader, resolve_with_outcome
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.core.signature import Signature
from herdmaster.errors import BadOutcome


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


class Resolved:
    """In place of a future."""

    value: object
    error: Exception | None

    def resolve(self, value: object, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


def read(size: int) -> Resolved:
    outcome = Outcome(OutcomeState.DONE, msgspec.Raw(f'{{"size":{size}}}'.encode()))
    resolved = Resolved()
    reader = Reader(Signature("shop:make", make), {})
    assert reader.runs_code(outcome)
    resolve_with_outcome(cast("Future[object]", resolved), outcome, reader)
    return resolved


def test_a_result_is_what_its_hint_says() -> None:
    assert (found := read(2)).error is None
    assert found.value == Strict(2)


@pytest.mark.parametrize(("size", "raised"), [(3, "SystemExit: no three"), (4, "KeyboardInterrupt: ")])
def test_code_that_exits_leaves_no_future_unresolved(size: int, raised: str) -> None:
    found = read(size)
    assert isinstance(found.error, BadOutcome)
    assert str(found.error) == f"the code that reads this result raised {raised}"
    assert isinstance(found.error.__cause__, SystemExit | KeyboardInterrupt)
