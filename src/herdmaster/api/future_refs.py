"""How a runtime knows its futures: only as long as something refers to them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar, cast

from herdmaster.api.future import Future
from herdmaster.api.results import Reader

R = TypeVar("R")


class Line(weakref.ref["Future[object]"]):
    """From a task's name to the future that waits for it, and to what reads its result."""

    __slots__ = ("name", "reader")
    name: str
    reader: Reader | None


def line_to(future: Future[R], reader: Reader | None, drop: Callable[[Line], None]) -> Line:
    """`drop` is called when nothing refers to the future any more."""
    # The future gets whatever the task returned; that this is an R is the caller's claim.
    line = Line(cast("Future[object]", future), drop)
    line.name = future.name
    line.reader = reader
    return line
