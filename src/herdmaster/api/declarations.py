"""The schedules that an app declares. They are stored by `herd schedules apply`, and not before."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.definition import ModuleRun
from herdmaster.api.options import OnFull, TaskOptions, refuse_children
from herdmaster.api.order import order_call
from herdmaster.api.schedule_options import CheckedSchedule, checked
from herdmaster.core.names import check_schedule_name
from herdmaster.core.schedules import Schedule, encode_schedule
from herdmaster.core.signing import Keyring
from herdmaster.errors import ConfigurationError

_ULID: Final = "0" * 26
"""Takes the place of the unique part of the tasks' names, which differs from tick to tick."""


class Declaration(msgspec.Struct, frozen=True):
    """A schedule as code declares it: its tasks, and when there are some."""

    payload: msgspec.Raw
    queue: str
    priority: int
    expires_ms: int | None
    timing: CheckedSchedule

    def schedule(self, app: str | None) -> Schedule:
        """Return the schedule to store, with a new id. Raises as `CheckedSchedule.read`."""
        timing = self.timing
        return Schedule(
            id=secrets.token_hex(4),
            timetable=timing.read(),
            payload=self.payload,
            queue=self.queue,
            priority=self.priority,
            expires_ms=self.expires_ms,
            missed=timing.missed,
            grace_ms=timing.grace_ms,
            overlap=timing.overlap,
            jitter_ms=timing.jitter_ms,
            starts_ms=timing.starts_ms,
            ends_ms=timing.ends_ms,
            max_runs=timing.max_runs,
            app=app,
        )


def declare(
    callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions, timing: CheckedSchedule
) -> Declaration:
    """Return the declaration of a schedule. Raises ConfigurationError for options of the task that a schedule cannot
    have, and as `order_call` for the arguments."""
    refuse_times(options)
    refuse_children(options, "a schedule")
    bare = msgspec.structs.replace(options, expires=None)
    task = order_call(_ULID, callee, args, kwargs, bare).new_task
    payload = msgspec.Raw(task.data)
    declaration = Declaration(payload, options.queue, options.priority, options.expires, timing)
    if not callable(timing.timetable):
        encode_schedule(declaration.schedule(None))  # raises for one that is too large
    return declaration


def refuse_times(options: TaskOptions) -> None:
    """Raise ConfigurationError for options that a task of a schedule cannot have."""
    if options.delay is not None or options.due_at is not None:
        raise ConfigurationError("the schedule says when its tasks are due: leave delay= and at= out")
    if options.expires_at is not None:
        raise ConfigurationError("all tasks of the schedule would expire at one time: give expires= a duration")
    if options.max_backlog is not None or options.on_full is not OnFull.ERROR:
        raise ConfigurationError("max_backlog= is for submissions: overlap= limits the tasks of a schedule")


def signed(name: str, schedule: Schedule, keyring: Keyring | None) -> Schedule:
    """Return the schedule of that name with a signature for its tasks, if there are keys."""
    if keyring is None:
        return schedule
    payload = keyring.sign_scheduled(name, schedule.queue, bytes(schedule.payload))
    return msgspec.structs.replace(schedule, payload=msgspec.Raw(payload))


class Declarations:
    """The schedules of one app, by name. `find_keyring` returns the keys that sign their tasks."""

    def __init__(self, find_keyring: Callable[[], Keyring | None]) -> None:
        self._find_keyring = find_keyring
        self._all: dict[str, Declaration] = {}
        self._runs: dict[str, ModuleRun] = {}

    def add(self, name: str, declaration: Declaration) -> None:
        """Raises InvalidName, ConfigurationError if another schedule has the name; a later run of the module that
        declared it replaces it."""
        check_schedule_name(name)
        run = ModuleRun.here()
        known = self._all.get(name)
        if known is not None and known != declaration and not run.repeats(self._runs[name]):
            raise ConfigurationError(f"two different schedules are named {name!r}: give each a name of its own")
        self._all[name] = declaration
        self._runs[name] = run

    def schedules(self, app: str | None) -> Mapping[str, Schedule]:
        """Return the schedules to store. Raises as `checked`, and what a function for times raises."""
        keyring = self._find_keyring()
        schedules = {name: checked(name, each.schedule(app)) for name, each in self._all.items()}
        return MappingProxyType({name: signed(name, each, keyring) for name, each in schedules.items()})
