"""An app that declares schedules."""

from __future__ import annotations

from datetime import timedelta

from herdmaster import Cron, Herd

herd = Herd()


@herd.task(schedule=Cron("30 2 * * *", timezone="Europe/Berlin"))
def nightly() -> None: ...


@herd.task
def warm(region: str) -> str:
    return region


herd.schedule("warm-eu", warm, every=timedelta(seconds=1), args=("eu",), overlap="allow")
