"""Delayed tasks, reply by reply: what counts is the time when the payload has come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.names import call_name
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.promotion import Promotion
from herdmaster.roles.shared.system import System
from tests.roles.primary.scripted import FakeServerClock, ScriptedClient

DUE = 1_700_000_000_000
TASK = call_name("01arz3ndektsv4rrffq69g5fav", "default", 5, conditional=True)


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.server_clock = FakeServerClock()
        client: Any = self.client
        clock: Any = self.server_clock
        self.part = Promotion(client, clock, PrimaryLog(System(), lambda _end: None), lambda: None)
        self.part.delayed.add(layout.name_of(layout.delayed_path(DUE, TASK)))
        self.part.delayed.complete()

    def read(self, now_ms: int) -> None:
        self.server_clock.time = now_ms
        self.part.step()

    async def answer(self, now_ms: int | None, *, expires: int | None = None) -> list[str]:
        """Return where the transaction that is sent then creates something."""
        self.server_clock.time = now_ms
        self.client.answer_read(encode_call(Call(1, "m:f", *encode_arguments((), {}), expires=expires)))
        await asyncio.sleep(0)  # moves are gathered for one turn of the loop
        found = [self.client.answer("commit") for name in self.client.pending() if name == "commit"]
        return [path.split("/")[1] for operations in found for verb, path in operations if verb == "create"]


@pytest.mark.parametrize("now_ms", [None, DUE - 1])
async def test_a_task_whose_time_has_not_come_by_the_clock_of_a_new_connection_is_looked_at_again(
    now_ms: int | None,
) -> None:
    rig = Rig()
    rig.read(DUE)
    assert await rig.answer(now_ms) == []
    rig.client.now += 1.0
    rig.read(DUE)
    assert await rig.answer(DUE) == ["tasks"]


@pytest.mark.parametrize(("expires", "place"), [(DUE, "status"), (DUE + 1, "tasks")])
async def test_a_task_expires_at_its_time(expires: int, place: str) -> None:
    rig = Rig()
    rig.read(DUE)
    assert await rig.answer(DUE, expires=expires) == [place]
