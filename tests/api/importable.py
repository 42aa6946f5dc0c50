"""Functions that no app registers; the workers of these tests may import them."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
import uuid

gates: dict[str, threading.Event] = {}
reached: dict[str, threading.Event] = {}


@dataclasses.dataclass
class Box:
    width: int
    path: pathlib.Path


def power(base: int, exponent: int = 2) -> int:
    return int(base**exponent)


def widen(box: Box, by: int) -> Box:
    return Box(box.width + by, box.path / str(by))


def refuse(value: object) -> object:
    if value in ("a", "two", "x"):
        raise ValueError(f"no text: {value}")
    return value


def wait(gate: str) -> str:
    """Runs until the test opens the gate; the workers of these tests are in the tests' process."""
    reached[gate].set()
    if not gates[gate].wait(30):
        raise AssertionError(f"the gate {gate} was not opened")
    return gate


class Broken(Exception):
    """No built-in exception."""


def break_down() -> None:
    raise Broken("down")


def new_gate() -> str:
    name = uuid.uuid4().hex
    gates[name] = threading.Event()
    reached[name] = threading.Event()
    return name
