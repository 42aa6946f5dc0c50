"""Compares the schedules that an app declares with those that are stored, or stores them, once in a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, NoReturn

import msgspec

from herdmaster.api import Herd
from herdmaster.api.direction import Target
from herdmaster.api.internals import core_of
from herdmaster.api.schedule_options import is_over
from herdmaster.cli.named_app import full_name
from herdmaster.core.printable import printable
from herdmaster.core.schedules import Schedule
from herdmaster.core.timetable import Times
from herdmaster.errors import HerdError
from herdmaster.inspection.schedules import StoredSchedule, read_schedules
from herdmaster.operations.schedule_plan import SchedulePlan, apply_schedules, plan_from
from herdmaster.operations.schedules import by_name
from herdmaster.roles.shared.role import Role
from herdmaster.zookeeper.client import Client

_POLL_SECONDS: Final = 0.2
_CONNECT_SECONDS: Final = 10.0

_log = logging.getLogger("herdmaster")


class DeclaredSchedules:
    """The schedules of the app that a process runs."""

    def __init__(self, spec: str, herd: Herd) -> None:
        self._app = full_name(spec, herd)
        self._declarations = core_of(herd).registry.declarations

    async def compare(self, role: Role, target: Target) -> NoReturn:
        """When the role is ready, warn once if what is stored differs. Return never."""
        await self._do(role, target, self._warn)
        await asyncio.Event().wait()
        raise AssertionError

    async def store(self, role: Role, target: Target) -> NoReturn:
        """When the role is ready, store them. Return never."""
        await self._do(role, target, self._apply)
        await asyncio.Event().wait()
        raise AssertionError

    async def _do(
        self, role: Role, target: Target, act: Callable[[Client, Mapping[str, Schedule]], Awaitable[None]]
    ) -> None:
        while role.not_ready() is not None:  # noqa: ASYNC110 - a role announces nothing
            await asyncio.sleep(_POLL_SECONDS)
        try:
            # On a thread: code of the app may make the times.
            wanted = await asyncio.to_thread(self._declarations.schedules, self._app)
            async with Client(target.hosts, connect_timeout=_CONNECT_SECONDS, security=target.security) as client:
                await act(client, wanted)
        except HerdError as error:
            _log.warning("%s", printable(str(error)))
        except Exception as error:  # noqa: BLE001 - from the app's code: the process runs tasks all the same
            _log.warning(
                "the schedules of %s cannot be read: %s", self._app, printable(f"{type(error).__name__}: {error}")
            )

    async def _apply(self, client: Client, wanted: Mapping[str, Schedule]) -> None:
        plan = await apply_schedules(client, self._app, wanted, prune=True)
        if summary := _summary(plan, ("created", "changed", "removed")):
            _log.info("schedules of %s: %s", self._app, summary)

    async def _warn(self, client: Client, wanted: Mapping[str, Schedule]) -> None:
        stored = by_name(await read_schedules(client))
        comparable = {name: _with_times_of(stored.get(name), schedule) for name, schedule in wanted.items()}
        plan = plan_from(self._app, comparable, stored, prune=True)
        if not plan.is_empty:
            _log.warning(
                "the stored schedules of %s differ from what it declares: %s; `herd schedules apply --app %s` stores "
                "them", self._app, _summary(plan, ("not stored", "different", "no longer declared")), self._app,
            )  # fmt: skip


def compare_schedules(
    spec: str | None, herd: Herd | None, role: Role, target: Target
) -> list[Coroutine[object, object, None]]:
    """Return what is to run beside the worker of an app; nothing without an app."""
    return [] if spec is None or herd is None else [DeclaredSchedules(spec, herd).compare(role, target)]


def _with_times_of(known: StoredSchedule | None, schedule: Schedule) -> Schedule:
    """Return a schedule with the stored times, if both have listed times: a function may list others each time. But not
    where the stored times have passed, and others come."""
    stored = None if known is None else known.schedule
    if stored is None or not (isinstance(stored.timetable, Times) and isinstance(schedule.timetable, Times)):
        return schedule
    if is_over(stored) and not is_over(schedule):
        return schedule
    return msgspec.structs.replace(schedule, timetable=stored.timetable)


def _summary(plan: SchedulePlan, words: tuple[str, str, str]) -> str:
    changes = tuple(f"{change.name} ({', '.join(change.fields)})" for change in plan.change)
    parts = zip((*words, "unchanged"), (plan.create, changes, plan.remove, plan.unchanged), strict=True)
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
