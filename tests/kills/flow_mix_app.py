"""Steps in every pool that write into a diary what they do. Some fail until they are mended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from herdmaster import Herd
from tests.kills.diary import BEGAN, ENDED, write

BAD: Final = 7
"""Numbers that this divides fail until the folder has a file `mended`."""
THREAD, COROUTINE, PROCESS, JOIN = 100_000, 200_000, 300_000, 1_000_000
"""What is added to the number of an element in the diary; the number of a join."""

herd = Herd()


def _end(folder: Path, number: int, base: int) -> int:
    if number % BAD == 0 and not (folder / "mended").exists():
        raise LookupError(f"number {number}")
    write(folder / "diary", ENDED, base + number)
    return number


@herd.task
def count_to(most: int) -> list[int]:
    return list(range(most))


@herd.task
def in_thread(number: int, folder: Path, seconds: float) -> int:
    write(folder / "diary", BEGAN, THREAD + number)
    time.sleep(seconds)
    return _end(folder, number, THREAD)


@herd.task
async def in_coroutine(number: int, folder: Path, seconds: float) -> int:
    write(folder / "diary", BEGAN, COROUTINE + number)
    await asyncio.sleep(seconds)
    return _end(folder, number, COROUTINE)


@herd.task(pool="process")
def in_process(number: int, folder: Path, seconds: float) -> int:
    write(folder / "diary", BEGAN, PROCESS + number)
    time.sleep(seconds)
    return _end(folder, number, PROCESS)


@herd.task
def join(threads: Sequence[int], coroutines: Sequence[int], processes: Sequence[int], folder: Path) -> list[int]:
    write(folder / "diary", BEGAN, JOIN)
    sums = [sum(threads), sum(coroutines), sum(processes)]
    (folder / "sums").write_text(str(sums))
    return sums


@herd.task
def sink(number: int, _filling: str) -> int:
    return number
