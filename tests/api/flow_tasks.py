"""What the flows of these tests are made of."""

from __future__ import annotations

from herdmaster import Herd


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


FUNCTIONS = (fetch, measure, merge, notify, parse, store, total)


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
