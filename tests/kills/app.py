"""An app whose tasks take a while, fail for a while, or run in processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from herdmaster import Herd, current_task

herd = Herd()


@herd.task
def nap(seconds: float, number: int) -> int:
    time.sleep(seconds)
    return number


@herd.task(max_attempts=4, backoff=0.4)
def flaky(number: int) -> list[int]:
    """Fails until its third attempt."""
    time.sleep(0.05)
    if current_task().attempt < 3:
        raise ConnectionError("not yet")
    return [number, current_task().attempt]


@herd.task(max_attempts=2, backoff=0.1)
def hopeless(number: int) -> None:
    time.sleep(0.05)
    raise LookupError(f"number {number}")


@herd.task(pool="process")
def crunch(seconds: float, folder: Path) -> int:
    """Leaves a file of the process's id when it begins."""
    (folder / f"{os.getpid()}").write_text("")
    time.sleep(seconds)
    return os.getpid()


@herd.task
def end_worker(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(1)
