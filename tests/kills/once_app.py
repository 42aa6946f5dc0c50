"""An app whose tasks order once, in each pool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from herdmaster import Herd, NotSaved, current_task

herd = Herd()


def order(folder: Path) -> int:
    """Return the number of the order, which counts the calls of this function."""
    with (folder / "orders").open("a") as orders:
        orders.write("x")
    return (folder / "orders").stat().st_size


async def order_later(folder: Path) -> int:
    await asyncio.sleep(0)
    return order(folder)


def go_on(folder: Path, number: int) -> None:
    """Raise LookupError until the folder has a file `mended`, and then write the number."""
    if not (folder / "mended").exists():
        raise LookupError(f"order {number}")
    (folder / "number").write_text(str(number))


@herd.task(max_attempts=2, backoff=0)
def order_and_fail(folder: Path) -> int:
    number = current_task().once("order", order, folder)
    while not (folder / "go").exists():
        (folder / "waits").touch()
        time.sleep(0.02)
    go_on(folder, number)
    return number


@herd.task(max_attempts=2, backoff=0)
async def order_in_coroutine(folder: Path) -> int:
    number = await current_task().once_async("order", order_later, folder)
    while not (folder / "go").exists():
        (folder / "waits").touch()
        await asyncio.sleep(0.02)
    go_on(folder, number)
    return number


def stop_first(folder: Path, worker: int) -> int:
    """Order. The first call also stops its worker, as a machine that is suspended would be."""
    number = order(folder)
    if number == 1:
        (folder / "stopped").write_text(str(worker))
        os.kill(worker, signal.SIGSTOP)
        while not (folder / "go").exists():
            time.sleep(0.02)
    return number


def pay(folder: Path, worker: int) -> int:
    try:
        number = current_task().once("order", stop_first, folder, worker)
    except NotSaved as error:
        (folder / "refused").write_text(str(error))
        raise
    (folder / f"paid-{number}").touch()
    return number


@herd.task
def pay_and_stop(folder: Path, in_process: bool) -> int:
    return pay(folder, os.getppid() if in_process else os.getpid())
