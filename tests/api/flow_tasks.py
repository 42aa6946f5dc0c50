"""What the flows of these tests are made of."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Sequence

from herdmaster import Herd

gates: dict[str, threading.Event] = {}
"""What `wait` waits for; the worker of these tests runs in the tests' process."""


def fetch(url: str) -> list[str]:
    return [f"{url}/{number}" for number in range(3)]


def measure(page: str, unit: str = "B") -> int:
    if "bad" in page:
        raise ValueError(page)
    return len(page) * (1000 if unit == "kB" else 1)


def merge(sizes: list[int], *, title: str = "all") -> str:
    return f"{title}: {sizes}"


async def notify(total: str | None, after: str = "") -> str:
    return f"{total}{after}"


def parse(pages: list[str], strict: bool = False) -> dict[str, int]:
    return {page: len(page) + strict for page in pages}


def store(found: dict[str, int]) -> int:
    return sum(found.values())


def total(numbers: list[int], extra: int = 0) -> int:
    return sum(numbers) + extra


@dataclasses.dataclass
class Point:
    x: int


def point(x: int) -> Point:
    return Point(x)


def shift(given: Point, by: int = 1) -> Point:
    return Point(given.x + by)


def fetch_none() -> list[str]:
    return []


def numbers(given: list[int]) -> list[int]:
    return given


def names(given: list[str]) -> list[str]:
    return given


def check_missing(given: list[int | None], expected: list[int | None]) -> None:
    if given != expected:
        raise ValueError(given)


def both(number: int) -> list[int]:
    return [number, number]


def wide(sizes: Sequence[int]) -> list[object]:
    return [type(sizes).__name__, len(sizes), sizes[-1], sizes[2:4], sum(sizes)]


async def wide_async(*, sizes: Iterable[int]) -> int:
    return sum(sizes)


def fail(text: str = "") -> int:
    raise ValueError(text)


def wait(gate: str) -> str:
    gates[gate].wait(30)
    return gate


def grow(count: int) -> int:
    """Add steps to the flow that runs this, or fail outside of a flow."""
    app = FlowApp(Herd("localhost:1"))
    parts = [app.total.step([number]) for number in range(count)]
    parts | app.total.step()
    app.fetch.step("x") | app.parse.step() | app.store.step()
    return count


class FlowApp:
    """The functions as tasks of a Herd."""

    def __init__(self, herd: Herd) -> None:
        self.herd = herd
        self.fetch = herd.task(fetch)
        self.measure = herd.task(measure)
        self.merge = herd.task(merge)
        self.notify = herd.task(notify)
        self.parse = herd.task(parse)
        self.store = herd.task(store)
        self.total = herd.task(total)
        self.point = herd.task(point)
        self.shift = herd.task(shift)
        self.fetch_none = herd.task(fetch_none)
        self.numbers = herd.task(numbers)
        self.both = herd.task(both)
        self.wide = herd.task(wide)
        self.wide_async = herd.task(wide_async)
        self.names = herd.task(names)
        self.check_missing = herd.task(check_missing)
        self.fail = herd.task(fail)
        self.wait = herd.task(wait)
        self.grow = herd.task(grow)
