"""An app with a task for each feature. Tasks write into a diary what they do, so that it is known who ran what when."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

from herdmaster import Herd, current_task
from herdmaster.running.current import CurrentTask
from tests.kills.diary import BEGAN, CANCELLED, ENDED, write

herd = Herd()

_hooks = Path(os.environ.get("HOOKS_DIARY", os.devnull))


@herd.task
def work(diary: Path, number: int, seconds: float) -> int:
    write(diary, BEGAN, number)
    time.sleep(seconds)
    write(diary, ENDED, number)
    return number


@herd.task
async def wait(diary: Path, number: int, seconds: float) -> int:
    write(diary, BEGAN, number)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        write(diary, CANCELLED, number)
        raise
    write(diary, ENDED, number)
    return number


@herd.task(pool="process")
def spawn(diary: Path, number: int, end: Path) -> int:
    """Start another process, which only the pool can end, and go on until there is such a file."""
    child = subprocess.Popen(["sleep", "600"])
    write(diary, BEGAN, number)
    write(diary, BEGAN, number, child.pid)
    while not end.exists():
        time.sleep(0.02)
    child.kill()
    child.wait()
    write(diary, ENDED, number)
    return number


@herd.task(pool="process")
def square(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * number


@herd.task
def attempt_of(number: int, seconds: float) -> list[int]:
    time.sleep(seconds)
    return [number, current_task().attempt]


@herd.task(max_attempts=2, backoff=0)
def fragile(diary: Path, number: int, mended: Path) -> int:
    if not mended.exists():
        raise LookupError(f"number {number}")
    write(diary, ENDED, number)
    return number


@herd.task(max_deliveries=1)
def poison(diary: Path) -> None:
    write(diary, BEGAN, 0)
    os.kill(os.getpid(), signal.SIGKILL)


@herd.task(keep_outcome=600)
def keep(diary: Path, number: int, seconds: float) -> int:
    return work(diary, number, seconds)


@herd.task
def climb(top: Path) -> str:
    """Goes on until there is such a file."""
    step = 0
    while not top.exists():
        step += 1
        current_task().progress(step, None, "climbing")
        time.sleep(0.05)
    return "at the top"


def halve(number: int, seconds: float) -> float:
    """No task: for workers that may import this module."""
    time.sleep(seconds)
    return number / 2


@herd.on_worker_start
def started() -> None:
    write(_hooks, "start", 0)


@herd.on_worker_stop
def stopped() -> None:
    write(_hooks, "stop", 0)


@herd.before_task
def before(task: CurrentTask) -> None:
    write(_hooks, f"before-{task.name}", task.attempt)


@herd.after_task
def after(task: CurrentTask, _result: object) -> None:
    write(_hooks, f"after-{task.name}", task.attempt)


@herd.on_error
def failed(task: CurrentTask, _error: BaseException) -> None:
    write(_hooks, f"error-{task.name}", task.attempt)
