"""Makes the stored schedules of an app what the app declares: a plan of differences, and its execution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from herdmaster.core.operations import Move
from herdmaster.core.schedules import Schedule, is_same
from herdmaster.errors import ConfigurationError, HerdError
from herdmaster.inspection.schedules import StoredSchedule, read_schedules
from herdmaster.operations.committing import commit
from herdmaster.operations.schedules import by_name, creation, removal, replacement
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES, MAX_BATCH_MOVES
from herdmaster.zookeeper.client import Client

_MAX_TRIES: Final = 20


class ScheduleChange(msgspec.Struct, frozen=True):
    """A schedule that differs from the stored one in these fields."""

    name: str
    fields: tuple[str, ...]


class SchedulePlan(msgspec.Struct, frozen=True):
    """What is to be done so that the stored schedules of an app are the declared ones. Names in order."""

    create: tuple[str, ...] = ()
    change: tuple[ScheduleChange, ...] = ()
    remove: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.create or self.change or self.remove)


async def plan_schedules(
    client: Client, app: str, wanted: Mapping[str, Schedule], *, prune: bool = False
) -> SchedulePlan:
    """Return the plan for an app. With `prune` its schedules that are not wanted are removed. `wanted` are the declared
    schedules; their `app`, `id` and `paused` are not compared.

    Raises ConfigurationError if a name belongs to another app, or to a schedule that was added by hand; and the errors
    of ZooKeeper.
    """
    return plan_from(app, wanted, by_name(await read_schedules(client)), prune=prune)


async def apply_schedules(
    client: Client, app: str, wanted: Mapping[str, Schedule], *, prune: bool = False
) -> SchedulePlan:
    """Carry out the plan for an app, in one transaction where it fits, and return it. What another program does
    meanwhile is planned anew. Raises as `plan_schedules` and `add_schedule`."""
    first: SchedulePlan | None = None
    for _ in range(_MAX_TRIES):
        stored = by_name(await read_schedules(client))
        plan = plan_from(app, wanted, stored, prune=prune)
        first = first or plan
        if plan.is_empty:
            return first
        for batch in _batches(
            list(_moves(app, wanted, stored, plan)), len(client.hosts.chroot.prefix), client.acl_size
        ):
            if not await commit(client, batch):
                break  # the others are planned anew as well
        else:
            return first
    raise HerdError(f"the schedules of {app} changed meanwhile in each of {_MAX_TRIES} tries: apply them again")


def plan_from(
    app: str, wanted: Mapping[str, Schedule], stored: Mapping[str, StoredSchedule], *, prune: bool
) -> SchedulePlan:
    """Return the plan for an app, given all stored schedules. Raises ConfigurationError as `plan_schedules`."""
    create, change, unchanged, foreign = [], [], [], []
    for name in sorted(wanted):
        known = stored.get(name)
        if known is None:
            create.append(name)
            continue
        if known.schedule is not None and known.schedule.app != app:
            foreign.append(f"{name!r} ({_owner(known.schedule)})")
            continue
        fields = _differences(known, msgspec.structs.replace(wanted[name], app=app))
        if fields:
            change.append(ScheduleChange(name, fields))
        else:
            unchanged.append(name)
    if foreign:
        raise ConfigurationError(
            f"these schedules are not of {app}: {', '.join(foreign)}. Choose other names, or remove those schedules"
        )
    remove = [
        name
        for name, each in sorted(stored.items())
        if prune and name not in wanted and each.schedule is not None and each.schedule.app == app
    ]
    return SchedulePlan(tuple(create), tuple(change), tuple(remove), tuple(unchanged))


def _owner(schedule: Schedule) -> str:
    return "added by hand" if schedule.app is None else f"of {schedule.app}"


def _differences(known: StoredSchedule, wanted: Schedule) -> tuple[str, ...]:
    if known.schedule is None or known.tick is None:
        return (f"broken: {known.problem}",)
    if is_same(known.schedule, wanted):
        return ()
    return tuple(
        name
        for name in Schedule.__struct_fields__
        if name not in {"id", "paused"} and getattr(known.schedule, name) != getattr(wanted, name)
    )


def _moves(
    app: str, wanted: Mapping[str, Schedule], stored: Mapping[str, StoredSchedule], plan: SchedulePlan
) -> Iterator[Move]:
    for name in plan.create:
        yield creation(name, msgspec.structs.replace(wanted[name], app=app))
    for change in plan.change:
        known = stored[change.name]
        schedule = msgspec.structs.replace(wanted[change.name], app=app)
        if known.schedule is not None:
            schedule = msgspec.structs.replace(schedule, id=known.schedule.id, paused=known.schedule.paused)
        elif known.tick_name is not None:
            schedule = msgspec.structs.replace(schedule, id=known.tick_name.id)
        yield replacement(known, schedule)
    for name in plan.remove:
        yield removal(stored[name])


def _batches(moves: list[Move], namespace: int, acl: int) -> Iterator[list[Move]]:
    """Yield the moves in as few transactions as possible."""
    batch: list[Move] = []
    size = 0
    for move in moves:
        cost = move.size(namespace, acl)
        if batch and (size + cost > MAX_BATCH_BYTES or len(batch) >= MAX_BATCH_MOVES):
            yield batch
            batch, size = [], 0
        batch.append(move)
        size += cost
    if batch:
        yield batch
