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
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match=r"loop-of-a-test was not done with it within 0\.01 s"):
        background.run(wait(), 0.01)
    background.run(ended.wait())  # returns


def test_a_timeout_that_the_coroutine_raises_is_its_own(background: BackgroundLoop) -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        background.run(fail())
