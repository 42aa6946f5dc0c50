"""Frames come out of a stream however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.wire.framing import MAX_FRAME, Framer, frame

bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=10)


def feed_all(framer: Framer, pieces: list[bytes]) -> list[bytes]:
    return [body for piece in pieces for body in framer.feed(piece)]


@given(bodies, st.data())
def test_the_frames_are_the_same_wherever_the_stream_is_cut(bodies: list[bytes], draw: st.DataObject) -> None:
    stream = b"".join(map(frame, bodies))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    framer = Framer(100)
    assert feed_all(framer, pieces) == bodies
    assert framer.pending == 0


def test_a_stream_may_arrive_byte_by_byte() -> None:
    bodies = [b"a", b"bc" * 200, b"d"]
    stream = b"".join(map(frame, bodies))
    framer = Framer(1000)
    assert feed_all(framer, [stream[index : index + 1] for index in range(len(stream))]) == bodies


def test_every_two_pieces_of_three_frames_give_three_frames() -> None:
    bodies = [b"abc", b"d", b"efghij"]
    stream = b"".join(map(frame, bodies))
    for cut in range(len(stream) + 1):
        assert feed_all(Framer(10), [stream[:cut], stream[cut:]]) == bodies


def test_what_is_not_complete_stays_pending() -> None:
    framer = Framer(100)
    assert framer.feed(frame(b"whole") + frame(b"half")[:6]) == [b"whole"]
    assert framer.pending == 6
    assert framer.feed(b"lf") == [b"half"]


def test_a_frame_may_be_as_long_as_the_limit() -> None:
    body = bytes(MAX_FRAME)
    assert Framer(MAX_FRAME).feed(frame(body)) == [body]


@pytest.mark.parametrize("length", [0, -1, -(2**31), MAX_FRAME + 1, 2**31 - 1])
def test_a_length_outside_the_limits_is_an_error_before_its_bytes_arrive(length: int) -> None:
    with pytest.raises(WireError, match=str(length)):
        Framer(MAX_FRAME).feed(length.to_bytes(4, signed=True))


def test_frames_before_a_bad_length_are_not_lost() -> None:
    framer = Framer(100)
    assert framer.feed(frame(b"good") + b"\xff\xff\xff\xff") == [b"good"]
    for more in (b"", b"anything", frame(b"never")):
        with pytest.raises(WireError):
            framer.feed(more)


def test_a_long_frame_in_many_pieces_is_not_copied_for_each() -> None:
    class Counting(bytearray):
        copies = 0

        def __bytes__(self) -> bytes:
            Counting.copies += 1
            return bytes(memoryview(self))

    framer = Framer(10_000_000)
    framer._buffer = Counting()
    stream = frame(bytes(1_000_000))
    frames = feed_all(framer, [stream[start : start + 1000] for start in range(0, len(stream), 1000)])
    assert list(map(len, frames)) == [1_000_000]
    assert Counting.copies == 1
