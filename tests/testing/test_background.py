"""The event loop on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from herdmaster.testing.background import BackgroundLoop


@pytest.fixture
def background() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop("loop-of-a-test")
    yield loop
    loop.close()


def test_what_takes_too_long_is_cancelled_and_told(background: BackgroundLoop) -> None:
    has_begun, ended = False, asyncio.Event()

    async def wait() -> None:
        nonlocal has_begun
        has_begun = True
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    patience = 0.01
    while not has_begun:  # on a busy machine it may be cancelled before it begins
        patience *= 2
        with pytest.raises(TimeoutError, match=f"loop-of-a-test was not done with it within {patience:g} s"):
            background.run(wait(), patience)
    background.run(ended.wait())  # returns


def test_a_timeout_that_the_coroutine_raises_is_its_own(background: BackgroundLoop) -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        background.run(fail())
