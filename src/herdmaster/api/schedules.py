"""`Herd.schedules`: the schedules that are stored, and those that the app declares."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from herdmaster.api.checks import check_instant
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.questions import ask_and_wait, ask_and_wait_async
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.schedules import ScheduleSeen, list_schedules
from herdmaster.operations import schedule_plan, schedules
from herdmaster.operations.schedule_plan import SchedulePlan
from herdmaster.zookeeper.client import Client

T = TypeVar("T")

_ABOUT: Final = "the schedules"


class Schedules:
    """The schedules in the namespace of a Herd. Every method has a twin for event loops, with `_async` at its end.

    All raise TimeoutError if there is no answer from ZooKeeper in `timeout` seconds (then a change may have been made
    or not), HerdError for a schedule that does not exist or cannot be used, and RuntimeError inside a running event
    loop.
    """

    def __init__(self, core: HerdCore, find_app: Callable[[], str | None], *, timeout: float = 10.0) -> None:
        """`find_app` returns the `module:attribute` of the Herd, if a module holds it."""
        self._core = core
        self._find_app = find_app
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Schedules of {self._core.hosts}>"

    def with_timeout(self, timeout: float) -> Schedules:
        """Return the same with another time to wait for each answer, in seconds; it is 10 s otherwise."""
        return Schedules(self._core, self._find_app, timeout=timeout)

    # --- what the app declares ---------------------------------------------------------------------------------------

    def apply(self, app: str | None = None, *, prune: bool = False, dry_run: bool = False) -> SchedulePlan:
        """Store the schedules that this Herd declares, and return what was done. As `herd schedules apply`.

        `app` is the name of the app, `module:attribute`, where this Herd does not stand at the top level of a module.
        `prune` removes the schedules of the app that are not declared. `dry_run` does nothing.

        Raises ConfigurationError for a name that belongs to another app.
        """
        return self._ask(self._apply(app, prune=prune, dry_run=dry_run))

    async def apply_async(self, app: str | None = None, *, prune: bool = False, dry_run: bool = False) -> SchedulePlan:
        """As `apply`, for event loops."""
        return await self._ask_async(self._apply(app, prune=prune, dry_run=dry_run))

    def _apply(self, app: str | None, *, prune: bool, dry_run: bool) -> _Question[SchedulePlan]:
        app = app or self._find_app()
        if app is None:
            raise ConfigurationError("no module holds this Herd at its top level: give apply(app='module:attribute')")
        wanted = self._core.registry.declarations.schedules(app)
        act = schedule_plan.plan_schedules if dry_run else schedule_plan.apply_schedules
        return partial(act, app=app, wanted=wanted, prune=prune)

    # --- what is stored ----------------------------------------------------------------------------------------------

    def list(self) -> Sequence[ScheduleSeen]:
        """Return all schedules, by name."""
        return self._ask(list_schedules)

    async def list_async(self) -> Sequence[ScheduleSeen]:
        """As `list`, for event loops."""
        return await self._ask_async(list_schedules)

    def pause(self, name: str) -> None:
        """Let a schedule make no tasks until it is resumed."""
        self._ask(partial(schedules.pause_schedule, name=name))

    async def pause_async(self, name: str) -> None:
        """As `pause`, for event loops."""
        await self._ask_async(partial(schedules.pause_schedule, name=name))

    def resume(self, name: str, *, catch_up: bool = False) -> None:
        """Let a schedule make tasks again. The ticks of the pause are left out, or with `catch_up` treated as missed
        ones."""
        self._ask(partial(schedules.resume_schedule, name=name, catch_up=catch_up))

    async def resume_async(self, name: str, *, catch_up: bool = False) -> None:
        """As `resume`, for event loops."""
        await self._ask_async(partial(schedules.resume_schedule, name=name, catch_up=catch_up))

    def run(self, name: str) -> str:
        """Make a task of a schedule now, and return its name. Raises also SubmissionUnknown."""
        return self._ask(self._run(name))

    async def run_async(self, name: str) -> str:
        """As `run`, for event loops."""
        return await self._ask_async(self._run(name))

    def _run(self, name: str) -> _Question[str]:
        return partial(schedules.run_schedule, name=name, ulid=self._core.new_ulid(), now_ms=_now_ms())

    def backfill(self, name: str, first: datetime, last: datetime) -> Sequence[str]:
        """Make a task for each tick of a schedule from `first` to `last`, also for ticks that had one, and return their
        names. Raises also ConfigurationError for times without a zone and for more than 1,000 ticks, and
        SubmissionUnknown."""
        return self._ask(self._backfill(name, first, last))

    async def backfill_async(self, name: str, first: datetime, last: datetime) -> Sequence[str]:
        """As `backfill`, for event loops."""
        return await self._ask_async(self._backfill(name, first, last))

    def _backfill(self, name: str, first: datetime, last: datetime) -> _Question[Sequence[str]]:
        first_ms, last_ms = check_instant("first", first), check_instant("last", last)
        return partial(
            schedules.backfill_schedule,
            name=name,
            first_ms=first_ms,
            last_ms=last_ms,
            ulid=self._core.new_ulid(),
            now_ms=_now_ms(),
        )

    def remove(self, name: str) -> bool:
        """Delete a schedule. Its tasks go on. Return whether there was one."""
        return self._ask(partial(schedules.remove_schedule, name=name))

    async def remove_async(self, name: str) -> bool:
        """As `remove`, for event loops."""
        return await self._ask_async(partial(schedules.remove_schedule, name=name))

    # --- questions ---------------------------------------------------------------------------------------------------

    def _ask(self, question: _Question[T]) -> T:
        refuse_in_loop("a method of herd.schedules", "await herd.schedules.METHOD_async(...)")
        return ask_and_wait(self._core.started(), question, _ABOUT, self._timeout)

    async def _ask_async(self, question: _Question[T]) -> T:
        return await ask_and_wait_async(self._core.started(), question, _ABOUT, self._timeout)


_Question = Callable[[Client], Awaitable[T]]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
