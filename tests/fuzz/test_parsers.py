"""Whatever bytes a parser gets, it raises only what it declares, and is done in a short time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS, Parser

SECONDS = 2.0
"""Of the processor, for one input of a megabyte. All take far less; what grows with the square takes far more."""
SIZE = 1_000_000
BOMBS = {
    "lists": b"[" * SIZE,
    "objects": b'{"a":' * (SIZE // 5),
    "closed lists": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "digits": b'{"herd":1,"slots":' + b"9" * SIZE + b"}",
    "a number": b"9" * SIZE,
    "an exponent": b'{"rate":1e' + b"9" * SIZE + b"}",
    "fields": b"{" + b",".join(b'"%d":1' % number for number in range(SIZE // 10)) + b"}",
    "one field": b'{"herd":1,' + b",".join([b'"counts":[]'] * (SIZE // 12)) + b"}",
    "text": b'{"herd":1,"call":"' + b"x" * SIZE + b'"}',
    "escapes": b'"' + b"\\u0041" * (SIZE // 6) + b'"',
    "name": b"task-" + b"0" * SIZE,
    "dots": b"." * SIZE,
    "dashes": b"1700000000000-" + b"-" * SIZE,
    "a vector": b"\x7f\xff\xff\xff" * (SIZE // 4),
    "small frames": b"\x00\x00\x00\x01a" * (SIZE // 5),
    "directives": b'a="b",' * (SIZE // 6),
    "quotes": b'a="' + b"\\" * SIZE,
    "commas": b"," * SIZE,
}

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**53, 2**63 - 1, 2**64, 10**30, 1e308, 1e-308])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.just("\ud800")


@st.composite
def changed(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    """An input of the corpus with some bytes replaced, removed, doubled, or taken from another one."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 8))
        piece = draw(
            st.binary(max_size=8)
            | numbers.map(lambda number: repr(number).encode())
            | st.just(bytes(data[start:end]) * 2)
            | st.sampled_from([b"null", b"[", b"{}", b'"', b"\xff", b"\xed\xa0\x80", b"1e400", b"9" * 40, b"-"])
        )
        data[start:end] = piece
    return bytes(data)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_the_corpus_is_read(parser: Parser) -> None:
    assert parser.try_on(parser.corpus[0])


@pytest.mark.long
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(parser: Parser, data: st.DataObject) -> None:
    parser.try_on(data.draw(changed(parser.corpus) | st.binary(max_size=200)))


def with_one_fault(data: bytes) -> Iterator[bytes]:
    """The input with each byte and each number replaced by what breaks careless code, and cut at each byte."""
    for position in range(len(data)):
        yield data[:position]
        for byte in (b"\xff", b"\xed\xa0\x80", b'"', b"\x00", b"\x7f", b""):
            yield data[:position] + byte + data[position + 1 :]
    for number in re.finditer(rb"-?[0-9]+(?:\.[0-9]+)?", data):
        for other in (b"-1", b"0", b"1e308", b"1e-308", b"9" * 19, b"9" * 40, b"9" * 5000, b"null", b"0.5", b"[]"):
            yield data[: number.start()] + other + data[number.end() :]


@pytest.mark.long
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_an_input_with_one_fault_is_read_or_refused(parser: Parser) -> None:
    for sample in parser.corpus:
        for data in with_one_fault(sample):
            try:
                parser.try_on(data)
            except Exception as error:
                error.add_note(repr(data))
                raise


@pytest.mark.long
@pytest.mark.parametrize("bomb", BOMBS)
def test_large_input_is_read_or_refused_in_a_short_time(bomb: str) -> None:
    for parser in PARSERS:
        for data in (BOMBS[bomb], *(each + BOMBS[bomb] for each in parser.corpus[:1])):
            begun = time.process_time()
            parser.try_on(data)
            assert time.process_time() - begun < SECONDS, parser.name
