from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.pools.output import MAX_LINE, LineReader


@given(st.text(alphabet="ab\n", max_size=60), st.lists(st.integers(1, 9), max_size=20))
def test_lines_come_whole_however_they_are_cut(text: str, cuts: list[int]) -> None:
    reader = LineReader()
    lines: list[str] = []
    rest = text.encode()
    for cut in [*cuts, len(rest)]:
        lines += reader.feed(rest[:cut])
        rest = rest[cut:]
    lines += reader.flush()

    assert lines == text.removesuffix("\n").split("\n")[: None if text else 0]


def test_a_line_that_does_not_end_comes_in_pieces_and_is_not_kept() -> None:
    reader = LineReader()
    pieces = [line for _ in range(100) for line in reader.feed(b"x" * 1000)]

    assert {len(piece) for piece in pieces} == {MAX_LINE}
    assert sum(map(len, [*pieces, *reader.flush()])) == 100_000
    assert reader.flush() == []


def test_bytes_that_are_no_text_are_replaced_and_windows_line_ends_go() -> None:
    assert LineReader().feed(b"\xff\r\n\r\n") == ["\ufffd", ""]
