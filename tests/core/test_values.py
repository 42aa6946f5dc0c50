"""What JSON makes of Python's values: nothing changes without being listed."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import uuid

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.values import from_json, to_json
from herdmaster.errors import NotSerializable

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@pytest.mark.long
@given(json_values)
def test_plain_values_come_back_unchanged(value: object) -> None:
    found = from_json(to_json(value, "it"))
    assert found == value
    assert repr(found) == repr(value)  # 1 and 1.0 and True differ, and so do 0.0 and -0.0


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Number(int):
    pass


class Fraction(float):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass
class Holder:
    held: dict[object, object]


class Pair(msgspec.Struct):
    a: int
    b: int


Named = collections.namedtuple("Named", "a b")  # noqa: PYI024 - what users have


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset({1}), [1]),
        (Named(1, 2), [1, 2]),
        (b"ab", "YWI="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b"ab"), "YWI="),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05Z"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(days=1), "P1D"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Text("a"), "a"),
        (Number(3), 3),
        (Fraction(1.5), 1.5),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Point(1), {"x": 1, "y": None}),
        (Pair(1, 2), {"a": 1, "b": 2}),
        ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
    ],
    ids=lambda value: type(value).__name__,  # repr has addresses, which differ between pytest's processes
)
def test_a_listed_value_changes_as_listed(value: object, arrives: object) -> None:
    assert from_json(to_json(value, "it")) == arrives


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [None, {"a": (1, -math.inf)}],
        Fraction("nan"),
        Point(1, math.nan),
        "\ud800",
        {"\ud800": 1},
        {(1, 2): 3},
        {None: 1},
        object(),
        len,
        1j,
        ValueError("x"),
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(NotSerializable, match=r"^it cannot be written as JSON"):
        to_json(value, "it")


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b"},
        {dt.date(2026, 1, 2): 1, "2026-01-02": 2},
        [({"a": {Level.LOW: 1, "1": 2}},)],
        collections.OrderedDict([("1.5", 1), (1.5, 2)]),
        Holder({1: 1, "1": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_that_become_the_same_text_are_refused(value: object) -> None:
    with pytest.raises(NotSerializable, match=r"keys of a dict become text, and two of this one are both '(1|2)"):
        to_json(value, "it")


def test_keys_that_stay_apart_are_taken() -> None:
    assert from_json(to_json([{1: {"1": "{"}}, Holder({1: 1, 2: 2}), {Level.LOW: [1]}], "it")) == [
        {"1": {"1": "{"}},
        {"held": {"1": 1, "2": 2}},
        {"1": [1]},
    ]


@pytest.mark.parametrize(
    ("value", "arrives"), [(numpy.float64(1.5), 1.5), (numpy.str_("a"), "a"), ([numpy.float64(2)], [2.0])]
)
def test_numpys_own_floats_and_texts_are_those_of_python(value: object, arrives: object) -> None:
    assert from_json(to_json(value, "it")) == arrives


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (numpy.int64(1), r"objects of type numpy\.int64 have no form in JSON: give value\.item\(\), or use a codec"),
        (numpy.float32(1), r"give value\.item\(\)"),
        (
            numpy.zeros(2),
            r"numpy\.ndarray have no form in JSON: give value\.tolist\(\), or use a codec, as in Herd\(codec=",
        ),
        ({"deep": [numpy.bool_(1)]}, r"numpy\.bool have no form in JSON"),
        (object(), r"objects of type object have no form in JSON: give it as what has one, or use a codec"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_says_what_to_give_instead(value: object, instead: str) -> None:
    with pytest.raises(NotSerializable, match=instead):
        to_json(value, "it")


def test_none_beside_numbers_is_no_nan() -> None:
    assert to_json([None, 1.5, "null"], "it") == b'[null,1.5,"null"]'


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(NotSerializable, match="contains itself"):
        to_json(loop, "it")


def test_a_value_whose_own_code_fails_is_refused() -> None:
    broken = Point(1)
    del broken.x
    assert from_json(to_json(broken, "it")) == {"y": None}  # an absent field is left out

    class Odd(enum.Enum):
        A = object()

    with pytest.raises(NotSerializable, match="it cannot"):
        to_json(Odd.A, "it")
