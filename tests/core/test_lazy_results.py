"""The results of an `each` as a sequence that reads each one when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from herdmaster.core.codec import is_lazy, read_arguments
from herdmaster.core.inputs import Input, Spooled, StepResult
from herdmaster.core.lazy_results import LazyResults
from herdmaster.core.payload import Call
from herdmaster.core.signature import Signature
from herdmaster.errors import BadPayload, WrongArguments
from tests.core.test_codec import CODECS, PICKLES


def results(*given: object) -> LazyResults:
    found = [None if each is None else StepResult(msgspec.json.encode(each)) for each in given]
    return LazyResults(found, lambda result: msgspec.json.decode(result.data))


def test_it_is_a_sequence() -> None:
    three = results(1, None, 3)
    assert isinstance(three, Sequence)
    assert (len(three), list(three), three[0], three[-1], three[1:]) == (3, [1, None, 3], 1, 3, [None, 3])
    assert three == [1, None, 3] == three == results(1, None, 3)
    assert three != [1, None]
    assert three != (1, None, 3)
    assert (3 in three, three.index(3), list(reversed(three)), repr(three)) == (True, 2, [3, None, 1], "<3 results>")
    with pytest.raises(IndexError):
        three[3]


def test_only_what_is_read_is_decoded() -> None:
    read: list[bytes] = []
    lazy = LazyResults([StepResult(b"1"), StepResult(b"2")], lambda result: read.append(result.data))
    assert read == []
    lazy[1]
    assert read == [b"2"]


def one(_given: Sequence[Decimal], /) -> None: ...
def two(a: Iterable[Decimal], *, more: Collection[int]) -> None: ...
def three(_a: list[int], _b: Sequence[int] | None, *_rest: Sequence[int], **_more: Any) -> None: ...


def test_hints_say_which_arguments_are_lazy() -> None:
    def lazy(function: Any, *at: str | int) -> bool:
        return is_lazy(True, at, Signature("m:f", function))

    assert lazy(one, "args", 0)
    assert lazy(two, "args", 0)
    assert lazy(two, "kwargs", "a")
    assert lazy(two, "kwargs", "more")
    assert not any(lazy(three, "args", position) for position in range(4))
    assert not lazy(three, "kwargs", "x")
    assert not lazy(one, "args", 0, 1)
    assert not is_lazy(False, ("args", 0), Signature("m:f", one))
    assert not is_lazy(True, ("args", 0), None)


def read(*given: StepResult | None, codec: str | None = None) -> Any:
    args = b"[null]" if codec is None else msgspec.json.encode([PICKLES.encode(((None,), {}))])
    inputs = (Input(("args", 0), "4", given, is_list=True),)
    call = Call(1, "m:one", msgspec.Raw(args), msgspec.Raw(b"{}"), codec=codec, inputs=inputs)
    return read_arguments(call, Signature("m:one", one), CODECS)[0][0]


def test_elements_are_converted_by_the_hint_when_they_are_read() -> None:
    found = read(StepResult(b'"1.5"'), None, StepResult(b'"x"'))
    assert isinstance(found, LazyResults)
    assert found[:2] == [Decimal("1.5"), None]
    with pytest.raises(WrongArguments, match=r"m:one takes `_given: .*`, and what it was given does not fit"):
        found[2]


def test_elements_that_a_codec_wrote_are_what_it_reads() -> None:
    element = StepResult(msgspec.json.encode(PICKLES.encode(2j)), "pickle")
    assert read(element) == [2j]
    assert read(element, codec="pickle") == [2j]


def test_results_in_a_file_are_read_only_where_files_can_be() -> None:
    inputs = (Input(("args", 0), "4", (), is_list=True, spooled=Spooled("/x", 1, 0, 1)),)
    call = Call(1, "m:one", msgspec.Raw(b"[null]"), msgspec.Raw(b"{}"), inputs=inputs)
    with pytest.raises(BadPayload, match="the results of step 4 are in a file"):
        read_arguments(call, Signature("m:one", one), CODECS)
