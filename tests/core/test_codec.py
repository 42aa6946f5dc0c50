"""Codecs: their bytes travel in the envelope, and only those that an app was given are ever asked."""

from __future__ import annotations

import dataclasses
import pickle

import msgspec
import pytest

from herdmaster.core.codec import Codec, read_arguments, read_item, read_result, write_arguments, write_result
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, encode_outcome
from herdmaster.core.payload import Call, decode_call, encode_call
from herdmaster.core.signature import Signature
from herdmaster.errors import BadOutcome, BadPayload, NotSerializable, WrongArguments

TASK = "task-01h00000000000000000000000.default"


@dataclasses.dataclass
class Picture:
    name: str
    data: complex = 1j  # JSON has no such thing


class Pickles:
    name = "pickle"

    def encode(self, value: object) -> bytes:
        return pickle.dumps(value)

    def decode(self, data: bytes) -> object:
        return pickle.loads(data)


PICKLES: Codec = Pickles()
CODECS = {"pickle": PICKLES}


def show(picture: Picture, *, size: int = 1) -> Picture:
    return picture


SIGNATURE = Signature("shop:show", show)


def sent(args: tuple[object, ...], kwargs: dict[str, object], codec: Codec | None = PICKLES) -> Call:
    """The call as a worker reads it."""
    written = write_arguments(args, kwargs, SIGNATURE, codec)
    name = None if codec is None else codec.name
    return decode_call(encode_call(Call(1, "shop:show", *written, codec=name)))


def answered(value: object, call: Call) -> Outcome:
    """The outcome as a client reads it."""
    result = write_result(value, call, CODECS)
    return decode_outcome(TASK, encode_outcome(TASK, Outcome(OutcomeState.DONE, result, codec=call.codec)))


def test_arguments_and_result_come_back_as_the_codec_makes_them() -> None:
    call = sent((Picture("a"),), {"size": 3})

    assert read_arguments(call, SIGNATURE, CODECS) == ([Picture("a")], {"size": 3})
    outcome = answered(Picture("b"), call)
    assert read_result(outcome, SIGNATURE, CODECS) == Picture("b")
    assert read_result(outcome, None, CODECS) == Picture("b")
    assert outcome.result is not None
    assert read_item(outcome.result, "pickle", SIGNATURE, CODECS) == Picture("b")


def test_without_a_codec_hints_say_it() -> None:
    def double(point: tuple[int, int]) -> tuple[int, int]:
        return point

    signature = Signature("m:f", double)
    call = Call(1, "m:f", *write_arguments(((1, 2),), {}, signature, None))

    assert read_arguments(call, signature, {}) == ([(1, 2)], {})
    assert read_arguments(call, None, {}) == ([[1, 2]], {})
    outcome = answered((1, 2), call)
    assert read_result(outcome, signature, {}) == (1, 2)
    assert read_result(outcome, None, {}) == [1, 2]
    assert outcome.result is not None
    assert read_item(outcome.result, None, signature, {}) == (1, 2)


def test_names_of_arguments_are_checked_under_a_codec_too_and_values_are_not() -> None:
    with pytest.raises(WrongArguments, match="takes no argument `width`"):
        sent((1,), {"width": 1})
    sent(("no picture",), {})


def test_what_json_cannot_carry_is_told_before_what_does_not_fit() -> None:
    with pytest.raises(NotSerializable, match="argument 1"):
        sent((object(),), {"size": "x"}, codec=None)
    with pytest.raises(WrongArguments, match="`size: int`"):
        sent(({"name": "a"},), {"size": "x"}, codec=None)


def test_what_a_codec_cannot_write_is_refused() -> None:
    with pytest.raises(NotSerializable, match="the arguments cannot be written by the codec pickle"):
        sent((lambda: None,), {})
    with pytest.raises(NotSerializable, match=r"the result \(a function\) cannot be written by the codec pickle"):
        write_result(lambda: None, sent((1,), {}), CODECS)


def test_a_codec_that_the_app_was_not_given_is_never_used() -> None:
    call = sent((Picture("a"),), {})

    with pytest.raises(BadPayload, match=r"the codec 'pickle', which this app was not given; it has none"):
        read_arguments(call, SIGNATURE, {})
    with pytest.raises(BadPayload, match="the codec 'pickle'"):
        write_result(1, call, {})
    with pytest.raises(BadOutcome, match="the codec 'pickle'"):
        read_result(answered(1, call), SIGNATURE, {})


@pytest.mark.parametrize(
    "args", [b"[]", b"[5]", b'["?"]', b'["AP8="]', b'["gAVLBS4="]'], ids=["none", "number", "text", "bytes", "five"]
)
def test_what_a_codec_cannot_read_is_refused(args: bytes) -> None:
    call = msgspec.structs.replace(sent((1,), {}), args=msgspec.Raw(args))

    with pytest.raises(BadPayload, match="the codec pickle cannot read the arguments"):
        read_arguments(call, SIGNATURE, CODECS)


def test_a_result_that_a_codec_cannot_read_is_refused() -> None:
    outcome = Outcome(OutcomeState.DONE, msgspec.Raw(b'"AP8="'), codec="pickle")

    with pytest.raises(BadOutcome, match="the codec pickle cannot read the result"):
        read_result(outcome, SIGNATURE, CODECS)
    with pytest.raises(BadOutcome, match="not JSON"):
        read_item(msgspec.Raw(b"["), None, SIGNATURE, CODECS)
