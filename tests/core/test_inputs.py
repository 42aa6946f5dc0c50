"""The results of parents in the arguments of a step: where they go, who decodes them, and which hints apply."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from herdmaster.core.codec import read_arguments, write_arguments
from herdmaster.core.inputs import At, Input, StepResult
from herdmaster.core.payload import Call
from herdmaster.core.signature import Signature
from herdmaster.errors import BadPayload, WrongArguments
from tests.core.test_codec import CODECS, PICKLES, Picture


def pay(
    price: Decimal, *more: Decimal, parts: list[Decimal] | None = None, options: dict[str, Any] | None = None
) -> None:
    """Takes what JSON changes, so that a test sees which values were converted."""


SIGNATURE = Signature("shop:pay", pay)


def plain(value: object) -> StepResult:
    return StepResult(msgspec.json.encode(value))


def pickled(value: object) -> StepResult:
    return StepResult(msgspec.json.encode(PICKLES.encode(value)), "pickle")  # bytes become base64


def one(at: At, result: StepResult | None) -> Input:
    return Input(at, "1", (result,))


def read(args: tuple[object, ...], kwargs: dict[str, object], *inputs: Input, codec: bool = False) -> Any:
    written = write_arguments(args, kwargs, None, PICKLES if codec else None)
    call = Call(1, "shop:pay", *written, codec="pickle" if codec else None, inputs=inputs)
    return read_arguments(call, SIGNATURE, CODECS)


def test_a_result_is_converted_by_the_hint_of_its_argument() -> None:
    found = read((None, None), {"options": {"deep": [0, None]}}, one(("args", 0), plain("1.5")),
                 one(("args", 1), plain("2")), one(("kwargs", "options", "deep", 1), plain({"a": 1})))  # fmt: skip
    assert found == ([Decimal("1.5"), Decimal(2)], {"options": {"deep": [0, {"a": 1}]}})


def test_a_result_that_does_not_fit_its_hint_is_refused_as_any_argument_is() -> None:
    with pytest.raises(WrongArguments, match=r"price: decimal\.Decimal"):
        read((None,), {}, one(("args", 0), plain([])))


def test_the_results_of_all_items_are_one_list() -> None:
    parts = Input(("kwargs", "parts"), "1", (plain("1"), plain("2")), is_list=True)
    assert read((Decimal(0),), {"parts": None}, parts)[1] == {"parts": [Decimal(1), Decimal(2)]}


def test_what_a_codec_has_read_is_not_converted() -> None:
    picture = Picture("a", 2j)
    args, kwargs = read((None,), {"parts": ["1"]}, one(("args", 0), pickled(picture)))
    assert args == [picture]
    assert kwargs == {"parts": [Decimal(1)]}, "the other arguments are"


def test_plain_results_among_the_arguments_of_a_codec_are_converted() -> None:
    inputs = (
        one(("args", 0), plain("1.5")),
        one(("args", 1), pickled(1j)),
        one(("kwargs", "options", 0, 1), plain("3")),
    )
    args, kwargs = read((None, None, "7"), {"options": ((1, None), 4)}, *inputs, codec=True)
    assert args == [Decimal("1.5"), 1j, "7"], "`7` is what the codec made of it"
    assert kwargs == {"options": ((1, "3"), 4)}


def test_a_missing_parent_is_none_whatever_the_hint_says() -> None:
    parts = Input(("kwargs", "parts"), "1", (None, plain("1"), None, plain("2"), None), is_list=True)
    args, kwargs = read((None,), {"parts": None}, one(("args", 0), None), parts)
    assert args == [None]
    assert kwargs == {"parts": [None, Decimal(1), None, Decimal(2), None]}

    deeper = msgspec.structs.replace(parts, at=("kwargs", "options", "x"))
    _, kwargs = read((Decimal(1),), {"options": {"x": None}}, deeper)
    assert kwargs == {"options": {"x": [None, "1", None, "2", None]}}


@pytest.mark.parametrize(
    "at", [(), ("args",), ("args", 5), ("args", "x"), ("args", 0, 0), ("other", 0), ("kwargs", "x", "y")]
)
def test_a_reference_without_a_place_is_refused(at: At) -> None:
    with pytest.raises(BadPayload, match="step 1 has no place"):
        read((None,), {}, one(at, plain(1)))


def test_a_result_that_cannot_be_read_names_its_step() -> None:
    with pytest.raises(BadPayload, match="the result of step 1 is not JSON"):
        read((None,), {}, one(("args", 0), StepResult(b"{")))
    with pytest.raises(BadPayload, match="step 1: the result is written with the codec 'other'"):
        read((None,), {}, one(("args", 0), StepResult(b'""', "other")))
    with pytest.raises(BadPayload, match="step 1: the codec pickle cannot read the result"):
        read((None,), {}, one(("args", 0), StepResult(b'"aaaa"', "pickle")))


def test_the_size_is_that_of_the_results() -> None:
    assert Input(("args", 0), "1", (None, plain("1"), plain([])), is_list=True).size == 5
