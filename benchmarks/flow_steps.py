"""The steps that the benchmark of flows runs."""

from __future__ import annotations

from herdmaster import Herd

herd = Herd()


@herd.task
def add_one(number: int) -> int:
    return number + 1


@herd.task
def numbers(count: int) -> list[int]:
    return list(range(count))


@herd.task
def total(found: list[int]) -> int:
    return sum(found)
