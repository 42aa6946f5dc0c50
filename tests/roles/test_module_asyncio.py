"""What the tests of roles replace is replaced for themselves only."""

from __future__ import annotations

import asyncio
import threading

import pytest

from herdmaster.roles.worker import progress_writer
from tests.roles.module_asyncio import replace_asyncio


def test_the_roles_of_other_threads_sleep_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_seconds: float) -> None:
        raise asyncio.CancelledError

    replace_asyncio(monkeypatch, progress_writer, sleep=sleep)
    replaced = vars(progress_writer)["asyncio"]
    slept: list[bool] = []

    def run() -> None:
        asyncio.run(replaced.sleep(0))
        slept.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert slept == [True]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(replaced.sleep(0))
