"""Coroutines that wait in other event loops are woken, and one that was cancelled meanwhile harms no other."""

from __future__ import annotations

import asyncio

from herdmaster.api.wakeups import Wakeups


async def test_a_waiter_that_was_cancelled_keeps_no_other_one_waiting() -> None:
    loop = asyncio.get_running_loop()
    wakeups = Wakeups(loop)
    cancelled, other = loop.create_future(), loop.create_future()
    for waiter in (cancelled, other):
        wakeups.wake_soon(waiter)
    cancelled.cancel()
    async with asyncio.timeout(5):
        await other
