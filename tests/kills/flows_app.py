"""Steps that write into a diary what they do. As a program it submits a large flow: `HOSTS DIARY`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from herdmaster import Herd
from tests.kills.diary import BEGAN, ENDED, write

STEPS = 600
SIZE = 4_000

herd = Herd()


@herd.task
def count_to(most: int) -> list[int]:
    return list(range(most))


@herd.task
def part(number: int, diary: Path, seconds: float) -> int:
    write(diary, BEGAN, number)
    time.sleep(seconds)
    write(diary, ENDED, number)
    return number


@herd.task(pool="process")
def large_part(number: int, diary: Path, _filling: str) -> int:
    write(diary, BEGAN, number)
    return number


@herd.task(pool="process")
def count_in_process(values: Sequence[int], diary: Path, number: int) -> list[int]:
    write(diary, BEGAN, number)
    return [len(values), sum(values)]


@herd.task
def total(values: list[int], diary: Path, number: int) -> int:
    write(diary, BEGAN, number)
    return sum(values)


@herd.task
def fill(diary: Path, number: int, filling: str) -> int:
    write(diary, BEGAN, number)
    return len(filling)


def submit(hosts: str, diary: Path) -> None:
    """Submit a flow that needs many transactions."""
    with Herd(hosts, session_timeout=1.5) as mine:
        task = mine.task(fill.function)
        with mine.flow("large") as flow:
            for number in range(STEPS):
                flow.add(task.step(diary, number, "x" * SIZE))
        sys.stdout.write(f"{flow.submit().name}\n")


if __name__ == "__main__":
    submit(sys.argv[1], Path(sys.argv[2]))
