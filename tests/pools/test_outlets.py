"""Standard streams whose readers stand still."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from herdmaster.pools import outlets
from herdmaster.pools.outlets import Outlet, OutletFile

LINE = b"a line of text\n"


class Pipe:
    def __init__(self, most: int = 100_000) -> None:
        self.reader, self.writer = os.pipe()
        self.outlet = Outlet("stderr", self.writer, most)

    def read(self) -> bytes:
        """What has come since the last time; waits until all is written."""
        os.set_blocking(self.reader, False)
        data = b""
        while True:
            is_over = not self.outlet._size
            read = b""
            with contextlib.suppress(BlockingIOError):
                read = os.read(self.reader, 65536)
            data += read
            if is_over and not read:
                return data
            if not read:
                time.sleep(0.001)


MakePipe = Callable[..., Pipe]


@pytest.fixture
def make_pipe() -> Iterator[MakePipe]:
    made: list[Pipe] = []

    def make(most: int = 100_000) -> Pipe:
        made.append(Pipe(most))
        return made[-1]

    yield make
    for pipe in made:
        pipe.read()
        os.close(pipe.reader)
        os.close(pipe.writer)


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def fill(pipe: Pipe) -> int:
    """More than the pipe and its outlet hold, from the main thread. The number of lines."""
    count, size = 0, -1
    os.set_blocking(pipe.writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe.writer, LINE)
            count += 1
    os.set_blocking(pipe.writer, True)
    while pipe.outlet._size != size or size <= pipe.outlet._most // 2:
        size = pipe.outlet._size
        for _ in range(2 * pipe.outlet._most // len(LINE)):
            pipe.outlet.put(LINE)
            count += 1
        time.sleep(0.02)
    return count


def test_all_that_is_put_is_written_in_order(make_pipe: MakePipe) -> None:
    pipe = make_pipe()
    lines = [b"%d\n" % number for number in range(1000)] + [b"x" * 20_000 + b"\n"]
    for line in lines:
        pipe.outlet.put(line)
    assert pipe.read() == b"".join(lines)


def test_a_reader_that_stands_still_holds_up_nothing_and_what_is_dropped_is_counted(
    make_pipe: MakePipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = make_pipe()
    began = time.monotonic()
    count = fill(pipe)
    assert time.monotonic() - began < 20
    assert pipe.outlet._size <= 100_000

    read = pipe.read()
    assert read == LINE * (len(read) // len(LINE))
    dropped = count - len(read) // len(LINE)
    assert dropped > 0
    told = re.compile(r"(\d+) lines to stderr were dropped: its reader did not keep up")
    until(lambda: sum(int(found[1]) for found in map(told.fullmatch, caplog.messages) if found) == dropped)
    pipe.outlet.put(b"afterwards\n")
    assert pipe.read() == b"afterwards\n"


def test_who_waits_for_room_loses_nothing_to_a_slow_reader(
    make_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = make_pipe(10_000)
    monkeypatch.setattr(outlets, "_outlets", {"stderr": pipe.outlet})
    lines = [b"%d\n" % number for number in range(20_000)]
    expected = b"".join(lines)

    def print_all() -> None:
        for line in lines:
            outlets.wait_for_room()
            pipe.outlet.put(line)

    thread = threading.Thread(target=print_all)
    thread.start()
    data = b""
    while len(data) < len(expected) and select.select([pipe.reader], [], [], 20)[0]:
        data += os.read(pipe.reader, 4096)
    thread.join()
    assert data == expected


@pytest.mark.long
@pytest.mark.fallback("STALL_SECONDS")  # then nothing waits for the reader any more
def test_no_thread_waits_for_a_reader_that_stands_still(make_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipe(10_000)
    monkeypatch.setattr(outlets, "_outlets", {"stderr": pipe.outlet})
    fill(pipe)
    assert not outlets.have_room()
    thread = threading.Thread(target=outlets.wait_for_room)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert pipe.outlet.is_stalled
    assert outlets.have_room(), "what could wait is to be dropped rather"


def test_a_log_line_of_one_thread_does_not_hold_up_those_of_another(make_pipe: MakePipe) -> None:
    """Both hold the handler's lock while they write."""
    pipe = make_pipe(10_000)
    stream = io.TextIOWrapper(io.BufferedWriter(OutletFile(pipe.outlet, pipe.writer)), "utf-8", line_buffering=True)
    handler = logging.StreamHandler(stream)
    fill(pipe)
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "x" * 5000, (), None)
    threads = [threading.Thread(target=handler.handle, args=(record,)) for _ in range(5)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    handler.handle(record)
    assert time.monotonic() - began < 20, "as long as a reader that stands still is waited for"
    for thread in threads:
        thread.join()
    pipe.read()


def test_the_end_waits_for_what_is_written_but_not_for_ever(make_pipe: MakePipe) -> None:
    pipe = make_pipe()
    pipe.outlet.put(LINE)
    pipe.outlet.flush(20)
    assert os.read(pipe.reader, 100) == LINE
    fill(pipe)
    began = time.monotonic()
    pipe.outlet.flush(0.05)
    assert 0.05 <= time.monotonic() - began < 20


def test_a_reader_that_is_gone_and_a_descriptor_that_does_not_block_are_borne(make_pipe: MakePipe) -> None:
    gone, shared = make_pipe(), make_pipe()
    os.close(gone.reader)
    gone.outlet.put(LINE)
    until(lambda: not gone.outlet._size)
    gone.reader = os.open(os.devnull, os.O_RDONLY)

    os.set_blocking(shared.writer, False)
    for _ in range(10_000):
        shared.outlet.put(b"1234567\n")
    assert shared.read() == b"1234567\n" * 10_000


def test_a_descriptor_that_does_not_block_is_waited_for_without_trying_again_and_again(
    make_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []
    poll = select.poll

    def counted() -> select.poll:
        waits.append(None)
        return poll()

    monkeypatch.setattr(select, "poll", counted)
    pipe = make_pipe()
    os.set_blocking(pipe.writer, False)
    for _ in range(6000):  # more than the pipe holds
        pipe.outlet.put(LINE)
    until(lambda: waits)
    time.sleep(0.05)

    assert len(waits) == 1


def test_a_forked_child_writes_for_itself(make_pipe: MakePipe) -> None:
    pipe = make_pipe()
    with pipe.outlet._changed:  # as another thread may hold it at this moment
        child = os.fork()
        if not child:
            pipe.outlet.put(b"from the child\n")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(pipe.reader, 100) == b"from the child\n"


def test_an_outlet_is_a_file_to_python(make_pipe: MakePipe) -> None:
    pipe = make_pipe()
    stream = io.TextIOWrapper(io.BufferedWriter(OutletFile(pipe.outlet, pipe.writer)), "utf-8", line_buffering=True)
    print("käse", file=stream)
    assert pipe.read() == "käse\n".encode()
    assert (stream.fileno(), stream.isatty(), stream.name) == (pipe.writer, False, "<stderr>")
    stream.close()
    pipe.outlet.put(b"open all the same\n")
    assert pipe.read() == b"open all the same\n"


def test_what_goes_through_the_standard_streams_never_blocks_once_they_are_free(
    make_pipe: MakePipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "_outlets", {})
    monkeypatch.setattr("atexit.register", lambda _function: None)
    reader, writer = os.pipe()
    # The test's own descriptor: the stream's is closed as code of a task may do it.
    stream = io.TextIOWrapper(os.fdopen(os.dup(writer), "wb"), "utf-8", write_through=True)
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", stream)
    outlets.free_standard_streams(lambda line: line.startswith("INFO"))
    assert list(outlets._outlets) == ["stderr"]
    own = outlets.own_stderr()
    assert own is not None

    logging.StreamHandler().handle(logging.LogRecord("shop", 20, __file__, 1, "to sys.stderr", (), None))
    print("our own", file=own)
    print("INFO", "a\x1b[2J\rINFO b\r\nc INFO\x9b", file=sys.stderr)  # noqa: T201 - as a task does
    print("INFO our own \x1b[31mred", file=own)
    stream.close()
    print("our own, later", file=own)
    outlets.flush_standard_streams()
    assert os.read(reader, 1000).decode().splitlines() == [
        "to sys.stderr",
        "our own",
        "> INFO a\\x1b[2J",
        "> INFO b",
        "c INFO\\x9b",
        "INFO our own \x1b[31mred",
        "our own, later",
    ]
    for _ in range(20_000):
        print("x" * 500, file=own)
    assert not outlets.have_room()
    os.close(reader)
    until(lambda: not outlets._outlets["stderr"]._size)
    os.close(writer)


def test_a_reader_that_takes_a_part_has_not_stalled_before_but_may_stall_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments: list[float | None] = []
    outlet = object.__new__(Outlet)
    outlet._descriptor, outlet._writing_since = 9, 0.0
    stalls = [outlet.is_stalled]

    def write(_descriptor: int, data: memoryview) -> int:
        moments.append(outlet._writing_since)
        return min(len(data), 3)

    monkeypatch.setattr(os, "write", write)
    outlet._write(b"1234567")
    monkeypatch.undo()

    assert moments[0] == 0.0
    assert len(moments) == 3
    assert all(moment is not None and moment > 0.0 for moment in moments[1:])
    stalls.append(outlet.is_stalled)
    outlet._writing_since = time.monotonic() - 2 * outlets.STALL_SECONDS
    stalls.append(outlet.is_stalled)
    assert stalls == [True, False, True]
