from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.pools.messages import (
    CannotStart,
    FrameReader,
    FromChild,
    HandlerFailed,
    Note,
    Ready,
    Reply,
    Request,
    SoftlyTimedOut,
    Start,
    ToChild,
    encode_frame,
    from_child_decoder,
    to_child_decoder,
)

ANSWERS: list[FromChild] = [
    Ready(),
    CannotStart("no such module"),
    Note(7, b"half"),
    Reply(7, b""),
    SoftlyTimedOut(8),
    HandlerFailed(9, "why"),
]
COMMANDS: list[ToChild] = [Start(["/a", ""], "m:f", "x", 20, "mark"), Request(1, b"\x00" * 70_000, 0.5, None)]


@given(st.lists(st.integers(1, 40), max_size=50))
def test_messages_come_whole_however_they_are_cut(cuts: list[int]) -> None:
    data = b"".join(map(encode_frame, ANSWERS))
    reader = FrameReader()
    received: list[FromChild] = []
    for cut in [*cuts, len(data)]:
        received += map(from_child_decoder.decode, reader.feed(data[:cut]))
        data = data[cut:]

    assert received == ANSWERS


def test_what_goes_to_a_process_comes_back_equal() -> None:
    frames = FrameReader().feed(b"".join(map(encode_frame, COMMANDS)))
    assert [to_child_decoder.decode(frame) for frame in frames] == COMMANDS
