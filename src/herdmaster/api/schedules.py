"""`Herd.schedules`: the schedules that are stored, and those that the app declares."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, ParamSpec, TypeVar, Unpack

from herdmaster.api.checks import check_count, check_instant
from herdmaster.api.declarations import Declaration, declare, signed
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.internals import core_of
from herdmaster.api.options import TaskOptions
from herdmaster.api.questions import ask_and_wait, ask_and_wait_async
from herdmaster.api.schedule_edits import (
    TASK_OPTIONS,
    ScheduleEditOptions,
    TaskEdit,
    check_task_changes,
    check_task_edit,
)
from herdmaster.api.schedule_options import ScheduleOptions, check_schedule, checked, edited, read_times
from herdmaster.api.task import Task
from herdmaster.core.names import check_schedule_name
from herdmaster.core.schedules import Schedule
from herdmaster.core.upcoming import UpcomingTick, upcoming
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.schedules import ScheduleSeen, find_schedule, list_schedules
from herdmaster.operations import schedule_plan, schedules
from herdmaster.operations.schedule_plan import SchedulePlan
from herdmaster.zookeeper.client import Client

P = ParamSpec("P")
R = TypeVar("R")
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

    def show(self, name: str) -> ScheduleSeen:
        """Return one schedule."""
        return self._ask(partial(_show, name=name))

    async def show_async(self, name: str) -> ScheduleSeen:
        """As `show`, for event loops."""
        return await self._ask_async(partial(_show, name=name))

    def preview(self, name: str, count: int = 10) -> Sequence[UpcomingTick]:
        """Return the next ticks of a schedule, without jitter, by the clock of this machine. Raises also
        ConfigurationError for a time zone that this machine does not know."""
        return self._ask(partial(_preview, name=name, count=check_count("count", count)))

    async def preview_async(self, name: str, count: int = 10) -> Sequence[UpcomingTick]:
        """As `preview`, for event loops."""
        return await self._ask_async(partial(_preview, name=name, count=check_count("count", count)))

    # --- changes by hand ---------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        task: Task[P, R] | str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Store a schedule that belongs to no app: `apply` neither changes nor removes it.

        Raises as `Herd.schedule`, ConfigurationError also for one that is never due, and HerdError if there is a
        schedule of this name.
        """
        self._ask(self._add(name, declaration_of(self._core, task, args, kwargs, options)))

    async def add_async(
        self,
        name: str,
        task: Task[P, R] | str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """As `add`, for event loops."""
        await self._ask_async(self._add(name, declaration_of(self._core, task, args, kwargs, options)))

    def _add(self, name: str, declaration: Declaration) -> _Question[None]:
        check_schedule_name(name)
        schedule = checked(name, declaration.schedule(None), must_come=True)
        schedule = signed(name, schedule, self._core.keyring)
        return partial(schedules.add_schedule, name=name, schedule=schedule)

    def edit(
        self,
        name: str,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[ScheduleEditOptions],
    ) -> Schedule:
        """Change when a schedule is due, its policies, the arguments or the options of its task, and return it. What is
        not given stays as it is; None takes an option back, so that its default applies again. `args` and `kwargs`
        together replace all arguments. A key stays as it is, also one that a function made of the old arguments. The
        next `apply` of the schedule's app undoes this.

        Raises as `Herd.schedule` for the options and the arguments.
        """
        timing, task = _split(options)
        edit = None
        if task or args is not None or kwargs is not None:
            stored = self._ask(partial(schedules.read_usable, name=name))
            edit = self._task_edit(stored, task, args, kwargs)
        return self._ask(_edit(name, timing, edit))

    async def edit_async(
        self,
        name: str,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[ScheduleEditOptions],
    ) -> Schedule:
        """As `edit`, for event loops."""
        timing, task = _split(options)
        edit = None
        if task or args is not None or kwargs is not None:
            stored = await self._ask_async(partial(schedules.read_usable, name=name))
            edit = self._task_edit(stored, task, args, kwargs)
        return await self._ask_async(_edit(name, timing, edit))

    def _task_edit(
        self,
        schedule: Schedule,
        given: Mapping[str, object],
        args: Sequence[object] | None,
        kwargs: Mapping[str, object] | None,
    ) -> TaskEdit:
        callee = self._core.registry.callee(schedule.call.call)
        return check_task_edit(callee, given, args, kwargs, keyring=self._core.keyring)

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
        names. Raises also ConfigurationError for times without a zone or in the wrong order and for more than 1,000
        ticks, and SubmissionUnknown."""
        return self._ask(self._backfill(name, first, last))

    async def backfill_async(self, name: str, first: datetime, last: datetime) -> Sequence[str]:
        """As `backfill`, for event loops."""
        return await self._ask_async(self._backfill(name, first, last))

    def _backfill(self, name: str, first: datetime, last: datetime) -> _Question[Sequence[str]]:
        first_ms, last_ms = check_instant("first", first), check_instant("last", last)
        if last_ms < first_ms:
            raise ConfigurationError(f"last={last!r} is before first={first!r}")
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
        return self._ask(partial(schedules.remove_schedule, name=name, removed=set()))

    async def remove_async(self, name: str) -> bool:
        """As `remove`, for event loops."""
        return await self._ask_async(partial(schedules.remove_schedule, name=name, removed=set()))

    # --- questions ---------------------------------------------------------------------------------------------------

    def _ask(self, question: _Question[T]) -> T:
        refuse_in_loop("a method of herd.schedules", "await herd.schedules.METHOD_async(...)")
        return ask_and_wait(self._core.started(), question, _ABOUT, self._timeout)

    async def _ask_async(self, question: _Question[T]) -> T:
        return await ask_and_wait_async(self._core.started(), question, _ABOUT, self._timeout)


_Question = Callable[[Client], Awaitable[T]]


def declaration_of(
    core: HerdCore,
    task: Task[P, R] | str,
    args: Sequence[object],
    kwargs: Mapping[str, object] | None,
    options: ScheduleOptions,
) -> Declaration:
    """Return the declaration of a schedule. Raises as `Herd.schedule`, but for the name."""
    timing = check_schedule(options)
    chosen = core_of(task).options if isinstance(task, Task) else TaskOptions()
    callee = core.registry.callee(task.call if isinstance(task, Task) else task)
    return declare(callee, args, kwargs or {}, chosen, timing)


def _split(options: ScheduleEditOptions) -> tuple[dict[str, object], dict[str, object]]:
    """Return the options of the schedule, and those of its task. Raises as `check_task_changes` for these."""
    task = {name: value for name, value in options.items() if name in TASK_OPTIONS}
    check_task_changes(task, TaskOptions())
    return {name: value for name, value in options.items() if name not in task}, task


def _edit(name: str, timing: Mapping[str, object], task: TaskEdit | None) -> _Question[Schedule]:
    given = read_times(timing)

    def change(schedule: Schedule) -> Schedule:
        changed = checked(name, edited(schedule, given)) if given else schedule
        return changed if task is None else task.applied(name, changed)

    return partial(schedules.edit_schedule, name=name, change=change)


async def _show(client: Client, name: str) -> ScheduleSeen:
    found = await find_schedule(client, name)
    if found is None:
        raise schedules.NoSuchSchedule(name)
    return found


async def _preview(client: Client, name: str, count: int) -> Sequence[UpcomingTick]:
    return upcoming(await schedules.read_usable(client, name), _now_ms(), count)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
