"""The app whose task is traced: a module of its own, because workers find functions by their modules."""

from __future__ import annotations

from herdmaster import Herd

herd = Herd()


@herd.task
def area(width: int, height: int) -> int:
    return width * height
