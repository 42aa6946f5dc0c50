"""A file into which many processes write what they do, a line each, in the order in which it happens."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

BEGAN, ENDED, CANCELLED, KILLED = "began", "ended", "cancelled", "killed"


class Line(NamedTuple):
    """`pid` did `what` about `number`. `time` in unix seconds."""

    what: str
    number: int
    pid: int
    time: float


def write(diary: Path, what: str, number: int, pid: int | None = None) -> None:
    with diary.open("a") as file:  # so short a line is one write, and those of several processes do not mix
        file.write(f"{what} {number} {os.getpid() if pid is None else pid} {time.time()}\n")


def read(diary: Path, *kinds: str) -> list[Line]:
    """All lines, or those of these kinds."""
    if not diary.exists():
        return []
    fields = [line.split() for line in diary.read_text().rpartition("\n")[0].splitlines()]
    lines = [Line(what, int(number), int(pid), float(when)) for what, number, pid, when in fields]
    return [line for line in lines if not kinds or line.what in kinds]


def most_at_once(diary: Path) -> int:
    """How many ran at a time, at most; a process that was killed runs nothing from then on."""
    running: set[tuple[int, int]] = set()
    most = 0
    for line in read(diary):
        if line.what == BEGAN:
            running.add((line.number, line.pid))
        elif line.what == KILLED:
            running = {each for each in running if each[1] != line.pid}
        else:
            running.discard((line.number, line.pid))
        most = max(most, len(running))
    return most
