"""Pydantic's models as arguments and results, and dicts that stand for objects with fields."""

from __future__ import annotations

import dataclasses
import datetime
import subprocess
import sys
from typing import Any, TypedDict, cast

import msgspec
import pytest

from herdmaster.core.signature import Signature
from herdmaster.core.values import from_json, to_json
from herdmaster.errors import WrongArguments

pydantic: Any = pytest.importorskip("pydantic")

Line: Any = pydantic.create_model("Line", __module__="shop", item=(str, ...), count=(int, pydantic.Field(gt=0)))
Order: Any = pydantic.create_model(
    "Order",
    __module__="shop",
    __config__={"strict": True, "extra": "forbid"},
    number=(int, pydantic.Field(validation_alias="no", serialization_alias="order_no")),
    day=(datetime.date, ...),
    lines=(list[Line], []),
)
ORDER = Order(no=7, day=datetime.date(2030, 1, 2), lines=[Line(item="tea", count=2)])


class Options(TypedDict, total=False):
    colour: str
    sizes: list[int]


SIZE = cast("Options", {"size": 1})


class Size(msgspec.Struct, rename="camel", tag=True):
    line_width: int = 1


@dataclasses.dataclass
class Trip:
    start: datetime.date
    options: Options = dataclasses.field(default_factory=Options)


@dataclasses.dataclass
class LongTrip(Trip):
    days: int = 14


def signature(hint: object) -> Signature:
    def function(value):  # type: ignore[no-untyped-def]  # its annotations are set below
        return value

    function.__annotations__ = {"value": hint, "return": hint}
    return Signature("shop:f", function)


def arrives(hint: object, value: object) -> object:
    """As the function on the worker gets it."""
    found = signature(hint)
    found.check_arguments((value,), {})
    (converted,), _ = found.convert_arguments(from_json(to_json([value], "it")), {})  # type: ignore[arg-type]  # a list
    return converted


# --- Pydantic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Order, ORDER),
        (list[Order], [ORDER, ORDER]),
        (dict[str, Order], {"a": ORDER}),
        (Order | None, ORDER),
        (Order | None, None),
    ],
)
def test_a_model_arrives_as_itself(hint: object, value: object) -> None:
    assert arrives(hint, value) == value
    assert signature(hint).convert_result(from_json(to_json(value, "the result"))) == value
    assert signature(hint).result_runs_code


def test_a_dict_for_a_model_is_validated_by_names_and_by_aliases() -> None:
    for name in ("no", "number"):
        given = {name: 7, "day": "2030-01-02", "lines": [{"item": "tea", "count": 2}]}
        assert arrives(Order, given) == ORDER


def test_a_model_without_a_hint_is_a_dict() -> None:
    assert from_json(to_json(ORDER, "it")) == {
        "number": 7,
        "day": "2030-01-02",
        "lines": [{"item": "tea", "count": 2}],
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"no": 7, "day": "x"}, r"Input should be a valid date.* - at `\$\.day`"),
        (
            {"no": 7, "day": "2030-01-02", "lines": [{"item": "tea", "count": 0}]},
            r"than 0 - at `\$\.lines\[0\]\.c",
        ),
        ({"no": 7, "day": "2030-01-02", "colour": 1}, r"Extra inputs are not permitted - at `\$\.colour`"),
        (Line(item="tea", count=1), r"at `\$\.\w+`.* \(it is a shop\.Line\)$"),
        (5, r"Input should be an object"),
    ],
)
def test_what_a_model_does_not_take_is_refused_in_one_line(value: object, says: str) -> None:
    with pytest.raises(WrongArguments, match=r"shop:f takes `value: shop\.Order`") as refused:
        signature(Order).check_arguments((value,), {})

    assert "\n" not in str(refused.value)
    refused.match(says)


def test_no_library_is_loaded_that_the_program_has_not_loaded() -> None:
    program = (
        "import sys, herdmaster, herdmaster.api, herdmaster.roles.worker.worker\n"
        "herdmaster.Herd('localhost:1').task(lambda: 0) if 0 else None\n"
        "print([name for name in ('pydantic', 'numpy', 'gevent', 'cloudpickle') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout == "[]\n"


# --- dicts for objects -----------------------------------------------------------------------------------------------


def test_a_dict_for_an_object_arrives_as_that_object() -> None:
    given = {"start": "2030-01-02", "options": {"sizes": [1]}}
    with pytest.raises(WrongArguments, match="Expected `date`, got `str`"):
        arrives(Trip, given)  # text is no date here
    given["start"] = datetime.date(2030, 1, 2)  # type: ignore[assignment]  # any value
    assert arrives(Trip, given) == Trip(datetime.date(2030, 1, 2), {"sizes": [1]})
    assert arrives(Size, {"type": "Size", "lineWidth": 3}) == Size(3)


def test_an_object_of_a_subclass_arrives_as_the_hinted_class() -> None:
    assert arrives(Trip, LongTrip(datetime.date(2030, 1, 2))) == Trip(datetime.date(2030, 1, 2))


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (Options, {"colour": "red", "size": [1]}, r"there is no key 'size' in its type - at `\$`"),
        (list[Options], [{}, {"size": 1}], r"there is no key 'size' in its type - at `\$\[1\]`"),
        (dict[str, Options], {"a": {"size": 1}}, r"no key 'size' in its type - at `\$\.a`"),
        (
            Trip,
            {"start": datetime.date(2030, 1, 2), "strat": 1},
            r"tests\.core\.test_models\.Trip has no field 'strat', it has start, options - at `\$`",
        ),
        (Trip, Trip(datetime.date(2030, 1, 2), SIZE), r"there is no key 'size' in its type - at `\$\.options`"),
        (Size, {"type": "Size", "line_width": 1}, r"Size has no field 'line_width', it has type, lineWidth"),
        (Trip, {"options": {}}, r"takes `value: tests\.core\.test_models\.Trip`.* missing required field `start`"),
        (
            Trip,
            Size(),
            r"test_models\.Trip`.* missing required field `start` \(it is a \S*test_models\.Size\)$",
        ),
    ],
)
def test_a_key_that_no_field_has_is_refused(hint: object, value: object, says: str) -> None:
    with pytest.raises(WrongArguments, match=says):
        signature(hint).check_arguments((value,), {})


def test_a_worker_with_an_older_class_drops_what_it_does_not_know() -> None:
    found, _ = signature(Trip).convert_arguments([{"start": "2030-01-02", "guide": "Ann"}], {})
    assert found == [Trip(datetime.date(2030, 1, 2))]


def test_numbers_as_keys_arrive_as_the_hint_says() -> None:
    assert arrives(dict[int, str], {1: "a", 2: "b"}) == {1: "a", 2: "b"}
    assert arrives(object, {1: "a"}) == {"1": "a"}
