"""When a master that stands in looks for overdue tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from herdmaster.roles.primary import overdue
from herdmaster.roles.primary.overdue import Overdue, Patience
from herdmaster.zookeeper import errors
from tests.roles.module_asyncio import replace_asyncio


@pytest.mark.parametrize(
    ("patience", "interval"),
    [(Patience(), 15.0), (Patience(task=8.0), 2.0), (Patience(inbox=20.0), 5.0), (Patience(task=2.0), 0.5)],
)
async def test_it_looks_after_each_interval_and_sooner_where_something_was_overdue(
    patience: Patience, interval: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = errors.NoAuth("not allowed")
    rounds: Iterator[bool | Exception] = iter(
        (False, True, errors.ConnectionLoss(), refused, refused, errors.SessionExpired("over"))
    )
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    class Scripted(Overdue):
        async def _round(self) -> bool:
            found = next(rounds)
            if isinstance(found, Exception):
                raise found
            return found

    replace_asyncio(monkeypatch, overdue, sleep=sleep)
    none: Any = None
    with pytest.raises(errors.SessionExpired):
        await Scripted(none, none, none, patience).run()

    assert slept == [interval, interval, min(interval, 1.0), interval, interval, interval]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "could not look for overdue tasks" in told[0]
