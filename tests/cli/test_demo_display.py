"""What the demo shows while it runs: on a terminal, on a narrow one, and on none."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import termios
from pathlib import Path

import pytest

from herdmaster.cli.demo.display import Display, describe_progress
from herdmaster.inspection.overview import MasterSeen, Overview, TaskCounts, WorkerSeen
from tests.cli.processes import HERD, REPOSITORY

CLEAR = "\r\x1b[K"
LIVE = re.compile(r"\d of [\d,]+  ")


def overview(primary: int | None = 4194303, backups: int = 1, workers: int = 2) -> Overview:
    return Overview(
        primary=None if primary is None else MasterSeen("m", 0, "host", primary),
        backups=(MasterSeen("b", 0),) * backups,
        workers=(WorkerSeen("w", 0, "ready", 0),) * workers,
        tasks=TaskCounts(),
        clients=1,
    )


def test_eighty_columns_show_all_of_seven_digit_processes_and_five_digit_counts() -> None:
    line = describe_progress(12345, 99999, 12345.6, overview(), 79)
    assert line == "[#..........] 12,345 of 99,999  primary 4194303  1 backup   2 workers  12,346/s"
    assert len(line) == 79


def test_each_part_keeps_its_place_while_its_value_changes() -> None:
    lines = [
        describe_progress(0, 10000, 0.0, None, 79),
        describe_progress(7, 10000, 3.0, overview(primary=None, backups=0, workers=0), 79),
        describe_progress(9999, 10000, 12345.0, overview(workers=1), 79),
    ]
    assert {len(line) for line in lines} == {79}
    assert [line.index(" of ") for line in lines] == [20] * 3
    assert "no primary       0 backups  0 workers" in lines[1]
    assert "primary 4194303  1 backup   1 worker " in lines[2]


def test_a_narrow_terminal_goes_without_the_bar_and_then_without_the_rate() -> None:
    told = "12,345 of 99,999  primary 4194303  1 backup   2 workers  12,346/s"
    assert describe_progress(12345, 99999, 12345.6, overview(), 66) == told
    assert describe_progress(12345, 99999, 12345.6, overview(), 56) == told[:56]


def test_a_stream_that_is_no_terminal_gets_no_control_characters() -> None:
    stream = io.StringIO()
    display = Display(stream)
    display.begin(10)
    display.advance(3)
    display.refresh(overview())
    display.say("killed", "!")
    display.end()
    assert stream.getvalue() == "   0.0 s ! killed\n"


def run_on_terminal(columns: int, *arguments: str) -> tuple[int, str]:
    """The exit code of `herd`, and all that it wrote on a terminal of so many columns as stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    process = subprocess.Popen(
        [*HERD, *arguments],
        cwd=REPOSITORY,
        env={**kept, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        with contextlib.suppress(OSError):  # what Linux says when the other side is closed
            while chunk := os.read(ours, 65536):
                written += chunk
        return process.wait(20), written.decode()
    finally:
        os.close(ours)
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_terminal_lives_while_the_primary_and_a_worker_are_killed(namespace: str, tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number:03}.txt").write_text("so many words " * (300 + number))
    code, written = run_on_terminal(72, "demo", f"--zookeeper={namespace}", f"--folder={tmp_path}", "--repeat=12")
    assert code == 0, written
    before, after_primary, after_worker = re.split("SIGKILL", written)
    shown = [
        [piece for piece in re.split(f"{re.escape(CLEAR)}|\r\n", part) if LIVE.search(piece)]
        for part in (before, after_primary, after_worker)
    ]
    assert max(len(line) for lines in shown for line in lines) == 71
    assert any("1 backup   2 workers" in line for line in shown[0])
    assert any("0 backups  2 workers" in line for line in shown[1])
    assert any("0 backups  1 worker " in line for line in shown[2])
    assert all(line.startswith("[") and line.endswith("/s") for lines in shown for line in lines)
    assert "\x1b[31m" in written
    *_, last = written.removesuffix("\r\n").split("\r\n")
    assert last.endswith("stopping what was started")
