"""Functions that run in the pools of a worker, also in its processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from herdmaster.core.added_steps import AddedStep
from herdmaster.core.flows import FlowStep, step_task
from herdmaster.core.options import PoolKind, RunOptions
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.errors import NotSaved, SoftTimeLimitExceeded
from herdmaster.running.added_steps import added_now
from herdmaster.running.current import current_task
from herdmaster.running.registration import Function, Registration

APP = "tests.roles.app:application"


def where() -> int:
    return os.getpid()


def nap(seconds: float, mark: Path) -> str:
    """Leaves a mark when it begins, and another if it was let end."""
    mark.write_text(str(os.getpid()))
    time.sleep(seconds)
    mark.with_suffix(".ended").write_text("")
    return mark.name


async def nap_async(seconds: float, mark: Path) -> str:
    mark.write_text("begun")  # noqa: ASYNC240 - a small file
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        mark.with_suffix(".cancelled").write_text("")
        raise
    return mark.name


def spin(seconds: float) -> str:
    """Says which limit it noticed."""
    limit = time.monotonic() + seconds
    try:
        while time.monotonic() < limit:
            pass
    except SoftTimeLimitExceeded:
        return "cleared up"
    return "in time"


async def spin_async(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "cleared up"
    return "in time"


def fill(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


def die(code: int) -> None:
    os._exit(code)


def speak(text: str) -> None:
    print(text)  # noqa: T201 - what is printed is looked for in the log
    print(f"{text}!", file=sys.stderr)  # noqa: T201 - as above


def count(total: int, seconds: float) -> str:
    for done in range(total):
        current_task().progress(done + 1, total, f"item {done + 1}")
    time.sleep(seconds)
    return current_task().name


def buy(folder: Path, then: str = "") -> list[object]:
    """Buy once. `then` says what the first run does afterwards: it fails, or waits for a file `go`."""
    with _marks(folder, then):
        number = current_task().once("buy", order, folder)
    while then == "wait" and not (folder / "go").exists():
        time.sleep(0.01)
    return [number, current_task().attempt]


async def buy_async(folder: Path, then: str = "") -> list[object]:
    """As `buy`."""
    with _marks(folder, then):
        number = await current_task().once_async("buy", order_later, folder)
    while then == "wait" and not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return [number, current_task().attempt]


@contextmanager
def _marks(folder: Path, then: str) -> Iterator[None]:
    """Leave a mark when the order is saved, or why it is not."""
    try:
        yield
    except NotSaved as error:
        (folder / "refused").write_text(str(error))
        raise
    except BaseException:
        (folder / "refused").write_text("ended")
        raise
    (folder / "bought").touch()
    if current_task().attempt == 1 and then == "fail":
        raise LookupError("it broke")


async def order_later(folder: Path) -> int:
    """As `order`."""
    await asyncio.sleep(0)
    return order(folder)


def order(folder: Path) -> int:
    """Return the number of the order, which counts the calls of this function."""
    with (folder / "orders").open("a") as orders:
        orders.write("x")
    return (folder / "orders").stat().st_size


def buy_impatiently(folder: Path) -> list[object]:
    """Buy again when the soft limit is reached."""
    try:
        number = current_task().once("buy", order, folder)
    except SoftTimeLimitExceeded:
        (folder / "impatient").touch()
        number = current_task().once("buy", order, folder)
        return ["again", number]
    return ["at once", number]


async def buy_impatiently_async(folder: Path) -> list[object]:
    """As `buy_impatiently`."""
    try:
        number = await current_task().once_async("buy", order_later, folder)
    except SoftTimeLimitExceeded:
        (folder / "impatient").touch()
        number = await current_task().once_async("buy", order_later, folder)
        return ["again", number]
    return ["at once", number]


def grow(numbers: list[int | None]) -> list[object]:
    """Add a step to the flow of this one. Return the sum, and which parents are missing."""
    added = added_now.get()
    step = added.new_id()
    task = step_task(1_700_000_000_000, added.flow.flow, step, "default", 5)
    call = Call(1, "m:where", *encode_arguments((), {}), flow=FlowStep(added.flow.flow, step, "where", task))
    added.add(AddedStep(step, task, encode_call(call)))
    return [sum(number or 0 for number in numbers), list(current_task().missing)]


def functions(pool: PoolKind = PoolKind.PROCESS) -> dict[str, Function | Registration]:
    plain: tuple[Function, ...] = (where, nap, spin, fill, die, speak, count, buy, buy_impatiently, grow)
    return {
        **{f"m:{each.__name__}": Registration(each, RunOptions(pool=pool)) for each in plain},
        "m:nap_async": nap_async,
        "m:spin_async": spin_async,
        "m:buy_async": buy_async,
        "m:buy_impatiently_async": buy_impatiently_async,
    }


class Application:
    """As much of a Herd as processes need."""

    @property
    def functions(self) -> dict[str, Function | Registration]:
        return functions()


application = Application()
