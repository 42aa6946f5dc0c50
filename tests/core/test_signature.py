"""What a function's hints make of arguments and results, and what they refuse."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import typing
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.hints import Misfit
from herdmaster.core.signature import Signature
from herdmaster.core.values import from_json, to_json
from herdmaster.errors import WrongArguments

if TYPE_CHECKING:
    from nowhere import Absent  # type: ignore[import-not-found]  # as where only type checkers have it


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Picture:
    name: str
    sizes: tuple[int, ...] = ()
    folder: pathlib.Path | None = None
    note: object = None


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


class Pair(NamedTuple):
    a: int
    b: str


class Entry(TypedDict):
    name: str


class Unknown:
    """Nothing that msgspec knows."""


def of(hint: object) -> Signature:
    """Of a function that takes and gives a value of that hint."""

    def function(value: object) -> object:
        return value

    function.__annotations__ = {"value": hint, "return": hint}
    return Signature("shop:f", function)


def through_json(value: object) -> object:
    return from_json(to_json(value, "it"))


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 10**40),
        (float, 1.5),
        (str, "a"),
        (bool, True),
        (None, None),
        (bytes, b"\x00\xff"),
        (dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (dt.date, dt.date(2026, 1, 2)),
        (dt.timedelta, dt.timedelta(minutes=90)),
        (uuid.UUID, uuid.UUID(int=7)),
        (decimal.Decimal, decimal.Decimal("1.10")),
        (pathlib.Path, pathlib.Path("a/b.png")),
        (pathlib.PurePosixPath | None, pathlib.PurePosixPath("/a")),
        (Colour, Colour.RED),
        (Picture, Picture("a.png", (1, 2), pathlib.Path("x"), [1])),
        (Point, Point(1, 2.5)),
        (Pair, Pair(1, "b")),
        (Entry, {"name": "a"}),
        (tuple[int, str], (1, "a")),
        (tuple[Point, ...], (Point(1), Point(2))),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"x"})),
        (list[dict[str, Picture]], [{"a": Picture("a")}]),
        (dict[int, uuid.UUID], {1: uuid.UUID(int=1)}),
        (Literal["a", "b"], "b"),
        (Annotated[int, msgspec.Meta(ge=1)], 5),
        (Picture | int | None, Picture("a")),
        (Sequence[pathlib.Path], [pathlib.Path("a")]),
    ],
    ids=str,
)
def test_a_hinted_value_comes_back_as_it_went(hint: object, value: object) -> None:
    signature = of(hint)

    signature.check_arguments((value,), {})
    signature.check_arguments((), {"value": value})
    (arrived,), _ = signature.convert_arguments([through_json(value)], {})
    assert arrived == value
    assert type(arrived) is type(value)
    _, named = signature.convert_arguments([], {"value": through_json(value)})
    assert named == {"value": value}
    assert signature.convert_result(through_json(value)) == value


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "1"),
        (int, 1.5),
        (int, True),
        (int, None),
        (str, b"text"),
        (str, 1),
        (bytes, "AP8="),
        (dt.date, "2026-01-02"),
        (uuid.UUID, str(uuid.UUID(int=7))),
        (Colour, "blue"),
        (Picture, Picture(1)),  # type: ignore[arg-type]  # what is refused
        (Picture, {"sizes": [1]}),
        (Point, [1]),
        (list[int], [1, "2"]),
        (tuple[int, str], (1, "a", "b")),
        (dict[str, int], {"a": None}),
        (Annotated[int, msgspec.Meta(ge=1)], 0),
        (pathlib.Path, 1),
        (Iterable[int], 1),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused_and_named(hint: object, value: object) -> None:
    with pytest.raises(
        WrongArguments, match=r"^shop:f takes `value: .*, and what it was given does not fit: (Expected|Invalid|Object)"
    ):
        of(hint).check_arguments((value,), {})


@pytest.mark.parametrize(
    ("hint", "plain", "says"),
    [
        (int, "1", "Expected `int`, got `str`"),
        (Point, {"x": 1, "y": "2"}, r"got `str` - at `\$\.y`"),
        (dt.date, "yesterday", "Invalid"),
        (bytes, "?", "Invalid base64"),
    ],
)
def test_what_arrives_and_does_not_fit_is_refused_too(hint: object, plain: object, says: str) -> None:
    with pytest.raises(WrongArguments, match=says):
        of(hint).convert_arguments([plain], {})
    with pytest.raises(Misfit, match=says):
        of(hint).convert_result(plain)


@pytest.mark.parametrize(
    ("hint", "value", "arrives"),
    [
        (float, 1, 1.0),
        (list[int], (1, 2), [1, 2]),
        (typing.Iterable[int], (1, 2), [1, 2]),
        (typing.Hashable, "text", "text"),
        (tuple[int, int], [1, 2], (1, 2)),
        (set[str], ["a"], {"a"}),
        (Colour, "red", Colour.RED),
        (Picture, {"name": "a"}, Picture("a")),
        (pathlib.Path, "a", pathlib.Path("a")),
        (str, pathlib.Path("a"), "a"),
    ],
    ids=str,
)
def test_what_comes_out_right_on_the_other_side_is_taken(hint: object, value: object, arrives: object) -> None:
    of(hint).check_arguments((value,), {})
    (arrived,), _ = of(hint).convert_arguments([through_json(value)], {})
    assert arrived == arrives
    assert type(arrived) is type(arrives)


@pytest.mark.parametrize(
    "hint",
    [
        object, Any, Unknown, "Absent", "not python at all", 5, Callable[[int], int], list[Unknown], complex,
        str | pathlib.Path, Picture | Point, dict[pathlib.Path, int], type, msgspec.Raw,
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("value", [1, "a", [1], {"a": 1}, None], ids=str)
def test_a_hint_that_nothing_can_be_held_against_is_no_hint(hint: object, value: object) -> None:
    signature = of(hint)

    signature.check_arguments((value,), {})
    assert signature.convert_arguments([value], {}) == ([value], {})
    assert signature.convert_result(value) == value


def test_one_hint_that_cannot_be_resolved_leaves_the_others() -> None:
    def function(first: Absent, second: Point) -> Absent:
        return first

    signature = Signature("shop:f", function)

    assert signature.convert_arguments([{"a": 1}, {"x": 1}], {}) == ([{"a": 1}, Point(1)], {})
    with pytest.raises(WrongArguments, match=r"`second: tests\.core\.test_signature\.Point`"):
        signature.check_arguments(({}, 5), {})
    assert signature.convert_result({"x": 1}) == {"x": 1}


def test_nothing_is_resolved_before_the_first_call() -> None:
    class Watched:
        @property
        def __annotations__(self) -> dict[str, object]:  # type: ignore[override]  # the point of it
            raise AssertionError("read")

        def __call__(self) -> None: ...

    Signature("shop:f", Watched())


def full(a: int, /, b: int, *rest: Point, c: int = 1, d: str, **more: Point) -> None: ...


def plain(a: int, b: int = 2, *, c: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "misses `a`"),
        ((), {"b": 1}, "misses `a`"),
        ((1, 2, 3), {}, "takes 2 positional arguments, and was given 3"),
        ((1,), {"a": 1}, "was given two values for `a`"),
        ((1,), {"d": 1}, r"takes no argument `d`; it takes `a: int`, `b: int`, `c: int`"),
    ],
)
def test_missing_and_unexpected_arguments_are_named(
    args: tuple[object, ...], kwargs: dict[str, object], says: str
) -> None:
    with pytest.raises(WrongArguments, match=f"^shop:plain {says}"):
        Signature("shop:plain", plain).check_arguments(args, kwargs)
    with pytest.raises(WrongArguments, match=f"^shop:plain {says}"):
        Signature("shop:plain", plain).check_names(args, kwargs)
    with pytest.raises(TypeError):
        plain(*args, **kwargs)  # type: ignore[arg-type]  # Python says the same


def test_arguments_of_every_kind_find_their_hints() -> None:
    signature = Signature("shop:full", full)
    point = {"x": 1}

    found = signature.convert_arguments([1, 2, point, point], {"c": 4, "d": "d", "e": point})
    assert found == ([1, 2, Point(1), Point(1)], {"c": 4, "d": "d", "e": Point(1)})
    signature.check_arguments((1, 2, Point(1)), {"d": "d", "a": Point(1)})  # `a` by name is one more of `more`
    with pytest.raises(WrongArguments, match="misses `d`"):
        signature.check_arguments((1, 2), {})
    with pytest.raises(WrongArguments, match=r"takes `rest: tests\.core\.test_signature\.Point`"):
        signature.check_arguments((1, 2, 3), {"d": "d"})
    with pytest.raises(WrongArguments, match=r"takes `more: tests\.core\.test_signature\.Point`"):
        signature.check_arguments((1, 2), {"d": "d", "e": 1})


names = st.sampled_from("abcdef")


@given(st.integers(0, 4), st.dictionaries(names, st.just(1), max_size=4))
def test_what_python_would_take_is_taken_and_nothing_else(count: int, kwargs: dict[str, int]) -> None:
    def takes(a: int, /, b: int, c: int = 0, *, d: int, e: int = 0) -> None: ...

    def takes_all(a: int, b: int = 0, /, *rest: int, c: int, **more: int) -> None: ...

    for function in (takes, takes_all, plain):
        args = (1,) * count
        try:
            function(*args, **kwargs)
        except TypeError:
            with pytest.raises(WrongArguments):
                Signature("m:f", function).check_arguments(args, kwargs)
        else:
            Signature("m:f", function).check_arguments(args, kwargs)


def test_none_is_taken_where_it_is_the_default() -> None:
    def function(x: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - what old code has

    Signature("m:f", function).check_arguments((None,), {})


def transparent(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def adding(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(Unknown(), *args, **kwargs)

    return wrapper


def test_hints_are_seen_through_a_decorator() -> None:
    def function(point: Point) -> Point:
        return point

    signature = Signature("m:f", transparent(function))

    assert signature.convert_arguments([{"x": 1}], {}) == ([Point(1)], {})
    assert signature.convert_result({"x": 1}) == Point(1)
    with pytest.raises(WrongArguments, match=r"`point: tests\.core\.test_signature\.Point`"):
        signature.check_arguments((1,), {})


def test_a_decorator_may_add_arguments_of_its_own() -> None:
    def function(session: Unknown, number: int) -> int:
        return number

    signature = Signature("m:f", adding(function))

    signature.check_arguments((5,), {})
    signature.check_arguments((), {"number": 5})
    assert signature.convert_arguments([5], {}) == ([5], {})


def test_a_function_without_a_signature_takes_anything() -> None:
    signature = Signature("builtins:max", max)

    signature.check_arguments((1, 2, 3), {"key": "a"})
    assert signature.convert_arguments([1], {"a": 2}) == ([1], {"a": 2})


def test_only_classes_of_the_users_own_run_code() -> None:
    assert of(Picture).result_runs_code
    assert of(list[Pair]).result_runs_code
    assert of(Colour | None).result_runs_code
    assert not of(dict[str, list[dt.datetime]]).result_runs_code
    assert not of(Unknown).result_runs_code


def test_a_class_whose_own_code_raises_is_a_misfit() -> None:
    @dataclasses.dataclass
    class Strict:
        x: int

        def __post_init__(self) -> None:
            raise LookupError("of its own")

    with pytest.raises(WrongArguments, match="LookupError: of its own"):
        of(Strict).convert_arguments([{"x": 1}], {})
