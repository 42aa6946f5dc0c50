"""An app for workers that tests start."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from herdmaster import Herd, current_task

herd = Herd()


@herd.task
def add(x: int, y: int) -> int:
    return x + y


@herd.task
def fail(text: str) -> None:
    raise LookupError(text)


@herd.task
def echo(*args: object, **kwargs: object) -> list[object]:
    return [list(args), kwargs]


@herd.task
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@herd.task
def wait_for(sign: str, answer: str) -> str:
    """Leaves a sign that it has begun, and goes on when the answer is there."""
    Path(sign).touch()
    while not Path(answer).exists():
        time.sleep(0.02)
    return "went on"


@herd.task(pool="process")
def wait_in_process(sign: str, answer: str) -> int:
    """As `wait_for`; the attempt."""
    wait_for(sign, answer)
    return current_task().attempt


@herd.task(pool="process")
def log_in_process(text: str) -> None:
    log = logging.getLogger("shop")
    log.debug("too fine")
    try:
        fail(text)
    except LookupError:
        log.exception("failed")


@herd.raw_handler
def take_raw(name: str, data: bytes) -> None:
    if data == b"bad":
        raise LookupError("bad data")
    print(f"{name} has {data!r}\n", end="", flush=True)  # noqa: T201 - a worker's output is looked at
