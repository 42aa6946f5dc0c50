"""Exceptions of registered classes as data, and back."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import traceback
from collections.abc import Callable

import msgspec
import pytest

from herdmaster.core.failure import ErrorInfo, error_info, rebuild_exception
from herdmaster.core.kept import MAX_KEPT
from herdmaster.errors import TaskFailed


class Declined(Exception):
    """Its `__init__` takes other arguments than it hands on, and so many do."""

    amount: decimal.Decimal

    def __init__(self, order: int, *, reason: str, amount: decimal.Decimal) -> None:
        super().__init__(f"order {order}: {reason}")
        self.order = order
        self.reason = reason
        self.amount = amount
        self.seen = {"at": datetime.date(2030, 1, 2), "tries": [1, 2]}
        self.connection = object()


@dataclasses.dataclass
class Expired(Exception):
    order: int
    until: datetime.date


class Missing(OSError):
    pass


class Strict(LookupError):
    def __new__(cls, one: str, two: str) -> Strict:  # noqa: PYI034 - a class of the user's
        return super().__new__(cls, one + two)

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


class Hostile(Exception):
    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]  # as hostile as it can be
        raise SystemExit


KNOWN: dict[str, type[Exception]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (Declined, Expired, Missing, Strict, Hostile)
}


def there_and_back(error: Exception) -> Exception:
    data = msgspec.json.encode(error_info(error, KNOWN))
    assert len(data) < MAX_KEPT + 32 * 1024
    return rebuild_exception(msgspec.json.decode(data, type=ErrorInfo), KNOWN)


def test_a_registered_exception_comes_back_as_itself() -> None:
    found = there_and_back(Declined(7, reason="no money", amount=decimal.Decimal("9.50")))

    assert type(found) is Declined
    assert str(found) == "order 7: no money"
    assert found.args == ("order 7: no money",)
    assert (found.order, found.reason, found.amount) == (7, "no money", decimal.Decimal("9.50"))
    assert found.seen == {"at": "2030-01-02", "tries": [1, 2]}
    assert not hasattr(found, "connection")
    assert isinstance(found.__cause__, TaskFailed)
    assert found.__cause__.type == "tests.core.test_kept.Declined"


@pytest.mark.parametrize(
    "error",
    [
        Expired(7, datetime.date(2030, 1, 2)),
        Missing(2, "No such file", "shop.db"),
        Declined(1, reason="", amount=decimal.Decimal(1)),
    ],
)
def test_it_is_equal_in_text_and_attributes(error: Exception) -> None:
    found = there_and_back(error)

    assert type(found) is type(error)
    if isinstance(error, Expired):
        assert found == error
    else:
        assert str(found) == str(error)
    if isinstance(error, OSError):
        assert isinstance(found, OSError)
        assert (found.errno, found.strerror) == (2, "No such file")


def test_notes_come_along() -> None:
    error = Expired(7, datetime.date(2030, 1, 2))
    error.add_note("while it was shipped")

    assert "while it was shipped" in traceback.format_exception_only(there_and_back(error))[-1]


def test_a_class_that_is_registered_on_one_side_only_comes_back_as_far_as_it_can() -> None:
    error = Declined(7, reason="no money", amount=decimal.Decimal("9.50"))

    by_message = rebuild_exception(error_info(error), KNOWN)
    assert (type(by_message), str(by_message)) == (Declined, "order 7: no money")
    assert type(rebuild_exception(error_info(error, KNOWN))) is TaskFailed


def test_a_subclass_of_a_registered_class_is_another_class() -> None:
    class Other(Declined):
        pass

    assert type(there_and_back(Other(7, reason="", amount=decimal.Decimal(1)))) is TaskFailed


def test_what_is_too_large_is_left_out_and_the_rest_is_kept() -> None:
    error = Declined(7, reason="x" * 2 * MAX_KEPT, amount=decimal.Decimal("9.50"))
    found = there_and_back(error)

    assert isinstance(found, Declined)
    assert (found.order, found.amount, "reason" in vars(found)) == (7, decimal.Decimal("9.50"), False)


@pytest.mark.parametrize("make", [lambda: Strict("a", "b"), Hostile])
def test_a_class_that_cannot_be_rebuilt_comes_back_as_task_failed(make: Callable[[], Exception]) -> None:
    kinds = {Strict: TaskFailed, Hostile: Hostile}
    error = make()

    assert type(there_and_back(error)) is kinds[type(error)]


def test_data_chooses_among_registered_classes_alone() -> None:
    kept = b'{"type":"subprocess.Popen","message":"x","kept":{"args":[["true"]],"attributes":{}}}'
    assert type(rebuild_exception(msgspec.json.decode(kept, type=ErrorInfo), KNOWN)) is TaskFailed
