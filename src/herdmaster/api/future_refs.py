"""Weak references to the futures of a process: the I/O thread knows a future only while something refers to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar, cast

from herdmaster.api.future import Future
from herdmaster.api.results import Reader

R = TypeVar("R")


class FutureRef(weakref.ref["Future[object]"]):
    """A reference to the future of a task, with the reader of its result."""

    __slots__ = ("name", "reader")
    name: str
    reader: Reader | None


def ref_to(future: Future[R], reader: Reader | None, drop: Callable[[FutureRef], None]) -> FutureRef:
    """Return a reference. `drop` is called with it when nothing refers to the future any more."""
    # The future gets what the task returned. The caller claims that this is an R.
    ref = FutureRef(cast("Future[object]", future), drop)
    ref.name = future.name
    ref.reader = reader
    return ref
