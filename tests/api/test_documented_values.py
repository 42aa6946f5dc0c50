"""What arguments and results become on their way, line by line of the documentation in `herdmaster.core.values`."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections import OrderedDict, namedtuple

import msgspec
import pytest

from tests.api.tasks import App

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plainest of named tuples


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Picture:
    name: str
    sizes: tuple[int, ...]


class Structure(msgspec.Struct):
    a: int
    b: str | None = None


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "arrives_as"),
    [
        (None, None),
        (10**60, 10**60),
        (0.1, 0.1),
        ("ä\x00😀", "ä\x00😀"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({7}, [7]),
        (frozenset({"x"}), ["x"]),
        (Point(1, 2), [1, 2]),
        (b"\x00\xff", "AP8="),
        (bytearray(b"ab"), "YWI="),
        (datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC), "2024-02-29T12:30:00Z"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.timedelta(minutes=90), "PT5400S"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Colour.RED, "red"),
        (Picture("a.png", (1, 2)), {"name": "a.png", "sizes": [1, 2]}),
        (Structure(1), {"a": 1, "b": None}),
        (Text("text"), "text"),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "a", Colour.RED: "b"}, {"1": "a", "red": "b"}),
    ],
)
def test_a_value_arrives_as_documented(app: App, value: object, arrives_as: object) -> None:
    assert app.echo.submit(value).result(10) == arrives_as
