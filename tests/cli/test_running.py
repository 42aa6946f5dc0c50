"""A role in a process: its end, and the signals that ask for it."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.cli.running import run_until_stopped


class Odd:
    kind = "odd"
    is_stopping = False

    async def run(self) -> None:
        raise asyncio.CancelledError

    def stop(self) -> None:
        pass


def test_a_role_that_ends_as_if_cancelled_is_no_success() -> None:
    with pytest.raises(asyncio.CancelledError):
        run_until_stopped(Odd())
