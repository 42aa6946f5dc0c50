"""Tasks with type hints, which the workers of these tests run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import threading
import uuid
from collections.abc import Callable

import msgspec

from herdmaster import Herd

made_on: list[str] = []
"""The threads on which pictures were made."""


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Picture:
    name: str
    sizes: tuple[int, ...]
    colours: frozenset[Colour] = frozenset()
    taken: dt.datetime | None = None
    path: pathlib.Path | None = None

    def __post_init__(self) -> None:
        made_on.append(threading.current_thread().name)


class Point(msgspec.Struct, frozen=True):
    x: int
    y: decimal.Decimal = decimal.Decimal("0.5")


arrived: list[object] = []
"""What the functions were called with; the workers of these tests are in the tests' process."""


def enlarge(picture: Picture, by: int = 2) -> Picture:
    arrived.append(picture)
    return dataclasses.replace(picture, sizes=tuple(by * size for size in picture.sizes))


def move(*points: Point, by: Point, **more: Point) -> dict[str, list[Point]]:
    arrived.extend((*points, by, *more.values()))
    return {"all": [*points, by, *more.values()]}


def invert(data: bytes) -> bytes:
    arrived.append(data)
    return bytes(255 - byte for byte in data)


def pick(when: dt.date, ident: uuid.UUID, where: pathlib.Path) -> tuple[dt.date, uuid.UUID, pathlib.Path]:
    arrived.extend((when, ident, where))
    return when, ident, where


def untyped(value):  # type: ignore[no-untyped-def]  # as users write it
    arrived.append(value)
    return value


def lying(value: object) -> int:
    """Its hint says another type than it gives."""
    return value  # type: ignore[return-value]  # the point of it


def apply(function: Callable[[int], int], value: int) -> int:
    return function(value)


FUNCTIONS = (enlarge, move, invert, pick, untyped, lying, apply)


class TypedApp:
    def __init__(self, herd: Herd) -> None:
        self.herd = herd
        self.enlarge = herd.task(enlarge)
        self.move = herd.task(move)
        self.invert = herd.task(invert)
        self.pick = herd.task(pick)
        self.untyped = herd.task(untyped)
        self.lying = herd.task(lying)
        self.apply = herd.task(apply)
