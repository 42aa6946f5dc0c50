from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.pools.output import MAX_LINE, LineReader, Output, Turns
from tests.pools.conditions import until


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


class Printer:
    """A pipe that is printed into, and its `Output`."""

    def __init__(self, turns: Turns) -> None:
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.lines: list[str] = []
        self.settled = 0
        self.output = Output(os.fdopen(reader, "rb", buffering=0), turns, self.lines.append, self._settle)

    def _settle(self) -> None:
        self.settled += 1

    def fill(self) -> int:
        """So that it holds as much as a pipe does, in the shortest lines."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(self.writer, b"x\n" * 100)
        return count // 2

    def close(self) -> None:
        self.output.close()
        os.close(self.writer)


async def test_a_turn_of_the_loop_takes_a_little_of_what_is_printed_of_each_process() -> None:
    turns = Turns(asyncio.get_running_loop(), lambda: True)
    printers = [Printer(turns) for _ in range(3)]
    counts = [printer.fill() for printer in printers]
    seen, most = 0, 0
    async with asyncio.timeout(20):
        while seen < sum(counts):
            await asyncio.sleep(0)
            now = sum(len(printer.lines) for printer in printers)
            seen, most = now, max(most, now - seen)
    for printer in printers:
        printer.close()

    assert [len(printer.lines) for printer in printers] == counts
    assert min(counts) >= 30_000
    assert most <= 3 * 1024, "2 KiB of each"


async def test_once_the_time_of_a_turn_is_used_up_the_others_wait_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    turns = Turns(asyncio.get_running_loop(), lambda: True)
    assert turns.take()
    now = 0.004
    assert turns.take()
    now = 0.006
    assert not turns.take()
    await asyncio.sleep(0)
    assert turns.take()


async def test_while_there_is_no_room_for_lines_none_is_read() -> None:
    has_room = False
    asked = 0

    def look() -> bool:
        nonlocal asked
        asked += 1
        return has_room

    printer = Printer(Turns(asyncio.get_running_loop(), look))
    count = printer.fill()
    await until(lambda: asked == 3)
    assert printer.lines == []
    has_room = True
    await until(lambda: len(printer.lines) == count)
    printer.close()


async def test_what_stood_in_the_pipe_when_it_was_measured_is_told_to_be_read() -> None:
    printer = Printer(Turns(asyncio.get_running_loop(), lambda: True))
    assert not printer.output.measure()
    count = printer.fill()
    assert printer.output.measure()
    await until(lambda: printer.settled)
    assert len(printer.lines) == count
    printer.fill()
    assert printer.output.measure()
    printer.output.read_owed()
    assert len(printer.lines) == 2 * count
    printer.close()
