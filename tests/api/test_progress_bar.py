"""The bar of `map(progress=True)`: on terminals only, and never in the way."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.api.map import Results
from herdmaster.api.progress_bar import ProgressBar, progress_text, total_of
from tests.api.tasks import App


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stands still until it is told how late it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (250, 1000, 10.0, "[#######.......................] 250 of 1,000, 25/s, 0:30 left"),
        (1000, 1000, 10.0, "[##############################] 1,000 of 1,000, 100/s, in 0:10"),
        (1, 100_000, 2.0, "[..............................] 1 of 100,000, 0.5/s, 55:33:18 left"),
        (0, 10, 0.0, "[..............................] 0 of 10, 0/s, ? left"),
        (12_345, None, 60.0, "12,345 done, 206/s, 1:00"),
    ],
)
def test_it_says_how_far_how_fast_and_how_long(done: int, total: int | None, seconds: float, text: str) -> None:
    assert progress_text(done, total, seconds, 100) == text


@given(st.integers(0, 10**9), st.none() | st.integers(0, 10**9), st.floats(0, 10**6), st.integers(1, 200))
def test_it_always_fits_the_line(done: int, total: int | None, seconds: float, width: int) -> None:
    text = progress_text(done, total, seconds, width)

    assert len(text) <= width
    assert "\n" not in text


def test_it_is_drawn_ten_times_a_second_at_most() -> None:
    terminal, clock = Terminal(), Clock()
    bar = ProgressBar(1000, stream=terminal, clock=clock)
    bar.start()
    for _ in range(500):
        clock.now += 0.001
        bar.advance()

    assert 4 <= terminal.getvalue().count("\r") <= 5
    bar.close()
    assert "500 of 1,000" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize(("stream", "is_shown"), [(io.StringIO(), True), (Terminal(), False)])
def test_nothing_is_written_to_what_is_no_terminal_or_unless_it_is_wanted(stream: io.StringIO, is_shown: bool) -> None:
    bar = ProgressBar(10, stream=stream, is_shown=is_shown)
    bar.start()
    for _ in range(10):
        bar.advance()
    bar.close()

    assert stream.getvalue() == ""


def test_nothing_is_written_before_there_is_anything_to_show() -> None:
    terminal = Terminal()
    bar = ProgressBar(10, stream=terminal)
    bar.start()
    bar.close()
    bar.close()

    assert terminal.getvalue() == ""


def test_a_terminal_that_is_gone_does_no_harm() -> None:
    terminal, clock = Terminal(), Clock()
    bar = ProgressBar(10, stream=terminal, clock=clock)
    bar.start()
    terminal.close()
    clock.now += 1
    bar.advance()
    bar.close()


def test_the_total_is_that_of_the_shortest_if_all_can_say_it() -> None:
    assert total_of([[1, 2], range(5)]) == 2
    assert total_of([[1, 2], iter([])]) is None


def test_map_shows_a_bar_on_stderr_if_that_is_a_terminal(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    assert list(app.echo.map(range(50), progress=True, chunksize=7)) == list(range(50))
    assert "50 of 50" in terminal.getvalue().rpartition("\r")[2]
    assert terminal.getvalue().endswith("\n")


async def test_map_shows_it_in_a_loop_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    assert [each async for each in app.echo.map(iter(range(5)), progress=True)] == list(range(5))
    assert "5 done" in terminal.getvalue()


def test_map_shows_nothing_unless_it_is_asked_to(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    assert list(app.echo.map(range(5))) == list(range(5))
    assert terminal.getvalue() == ""


def test_an_interruption_leaves_a_clean_line(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def interrupted(results: Results[object]) -> None:
        for number in results:
            if number == 3:
                raise KeyboardInterrupt

    results = app.echo.map(range(10), progress=True)
    with pytest.raises(KeyboardInterrupt):
        interrupted(results)
    del results

    assert terminal.getvalue().endswith("\n")


PROGRAM = """\
import sys
from herdmaster import Herd
from tests.api import tasks

with Herd(sys.argv[1]) as herd:
    print(sum(herd.task(tasks.echo).map(range(100), chunksize=10, progress=True)))
"""


@pytest.mark.long
def test_it_is_seen_on_a_real_terminal_and_not_in_a_pipe(served: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "COLUMNS": "80"}
    command = [sys.executable, str(program), served]
    piped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=True)
    assert (piped.stdout, piped.stderr) == ("4950\n", "")

    ours, theirs = pty.openpty()
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, timeout=50, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert ended.stdout == b"4950\n"
    assert re.search(r"\r\[#{20,}\] 100 of 100, [0-9,]+/s, in 0:0\d *\r\n$", shown)
