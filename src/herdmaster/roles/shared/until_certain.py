"""Repeats writes whose reply was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from herdmaster.zookeeper import errors

ResultT = TypeVar("ResultT")


async def until_certain(request: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Repeat a write until its reply comes, and return that reply.

    For writes that do no harm when they are applied twice. A repeated write may find that a lost one was applied: a
    create then raises NodeExists, a delete NoNode. Every error but ConnectionLoss is passed on.
    """
    while True:
        try:
            return await request()
        except errors.ConnectionLoss:
            continue
