from __future__ import annotations

import asyncio
from typing import cast

import pytest

from herdmaster.roles.worker.fence import Fence
from herdmaster.zookeeper.client import Client


class Session:
    """What a fence sees of a client: its clock is the loop's."""

    def __init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.deadline = self.clock()


class Setting:
    def __init__(self) -> None:
        self.session = Session()
        self.stopped: list[float] = []
        self.is_wanted = True
        self.fence = Fence(cast("Client", self.session), self._stop)

    def _stop(self) -> None:
        self.stopped.append(self.session.clock() - self.session.deadline)

    def raise_in(self, seconds: float) -> None:
        self.session.deadline = self.session.clock() + seconds
        self.fence.raise_at_deadline(lambda: self.is_wanted)

    async def pass_deadline(self) -> None:
        while self.session.clock() < self.session.deadline + 0.02:
            await asyncio.sleep(0.005)


@pytest.fixture
async def setting() -> Setting:
    return Setting()


async def test_everything_is_stopped_at_the_deadline_and_not_before(setting: Setting) -> None:
    setting.raise_in(0.1)
    assert not setting.stopped
    await setting.pass_deadline()

    assert len(setting.stopped) == 1


async def test_a_deadline_that_is_over_stops_at_once(setting: Setting) -> None:
    setting.raise_in(-1.0)

    assert len(setting.stopped) == 1


async def test_a_deadline_that_moves_is_waited_for(setting: Setting) -> None:
    setting.raise_in(0.1)
    setting.session.deadline += 0.05
    await setting.pass_deadline()

    assert [late >= 0 for late in setting.stopped] == [True]


async def test_nothing_is_stopped_once_the_connection_is_back(setting: Setting) -> None:
    setting.raise_in(0.1)
    setting.is_wanted = False
    await setting.pass_deadline()

    assert not setting.stopped


async def test_a_second_interruption_takes_the_place_of_the_first(setting: Setting) -> None:
    setting.raise_in(0.1)
    setting.raise_in(0.12)
    await setting.pass_deadline()

    assert len(setting.stopped) == 1


async def test_a_fence_that_is_cancelled_stops_nothing(setting: Setting) -> None:
    setting.raise_in(0.1)
    setting.fence.cancel()
    await setting.pass_deadline()

    assert not setting.stopped
