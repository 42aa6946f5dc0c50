"""`herd schedules`: list, show and control schedules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, json_option
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.schedule_changes import add, apply, edit, find_usable, preview, report
from herdmaster.cli.schedule_options import Instant
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.task_options import confirm

if TYPE_CHECKING:
    from herdmaster.core.schedules import Schedule
    from herdmaster.inspection.schedules import ScheduleSeen
    from herdmaster.zookeeper.client import Client

_columns = "{} {:>6} {:>6} {:>6}  {:<9}  {:<20}  {}".format
_OVERDUE_MS: Final = 5000
"""How late a tick has to be before the list says so. Below that the clocks of the machines may differ."""
_COLOURS: Final = {"active": "green", "paused": "yellow", "broken": "red"}


@click.group(cls=ListingGroup)
def schedules() -> None:
    """List, apply and control schedules. Without a command: list."""


schedules.add_command(apply)
schedules.add_command(add)
schedules.add_command(edit)
schedules.add_command(preview)


# --- list and show ---------------------------------------------------------------------------------------------------


@schedules.command("list")
@json_option
@session_options(positional=True)
def list_(*, as_json: bool, session: Session) -> None:
    """List the schedules with their next and last ticks."""
    from herdmaster.inspection.schedules import list_schedules

    found = session.run(list_schedules)
    now = _now_ms()
    if found and not as_json:
        head = _columns("STATE  ", "NEXT", "LAST", "LATE", "ENDED", "NAME", "WHEN AND WHAT, LAST TASK")
        say(click.style(head, bold=True))
    for seen in found:
        say_json(_as_json(seen)) if as_json else say(_row(seen, now))
    if not found and not as_json:
        click.echo("no schedules", err=True)


def _row(seen: ScheduleSeen, now: int) -> str:
    from herdmaster.cli.tasks import age

    schedule, tick = seen.schedule, seen.tick
    skips = sum(tick.skips.values())
    rest = (
        *((describe(schedule), schedule.call.call) if schedule is not None else ()),
        tick.task,
        f"{skips} skipped" if skips else "",
        click.style(f"due {age(seen.next_ms, now)} ago", fg="yellow") if _is_overdue(seen, now) else "",
        click.style(seen.problem, fg="red") if seen.problem else "",
    )
    return _columns(
        click.style(f"{seen.state.value:<7}", fg=_COLOURS.get(seen.state.value)),
        "-" if seen.next_ms is None else age(now, seen.next_ms),
        "-" if tick.made_ms is None else age(tick.made_ms, now),
        "-" if tick.made_ms is None else _lateness(tick.late_ms),
        "-" if seen.last is None else seen.last.value,
        seen.name,
        "  ".join(filter(None, rest)),
    ).rstrip()


def _is_overdue(seen: ScheduleSeen, now: int) -> bool:
    return seen.next_ms is not None and now - seen.next_ms >= _OVERDUE_MS


def _lateness(milliseconds: int) -> str:
    from herdmaster.cli.tasks import age

    return f"{milliseconds}ms" if milliseconds < 1000 else age(0, milliseconds)


def describe(schedule: Schedule) -> str:
    """Return when a schedule is due, in a few words."""
    from herdmaster.core.timetable import Cron, Every

    match schedule.timetable:
        case Cron(expression, timezone):
            return f"{expression} ({timezone})"
        case Every(period_ms):
            return f"every {duration(period_ms)}"
    count = len(schedule.timetable.unix_ms)
    return "1 time" if count == 1 else f"{count} times"


def duration(milliseconds: int) -> str:
    """Return a duration as options take it: `90s`, `5m`, `2h`, `7d`."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds / 1000:g}s"


def _as_json(seen: ScheduleSeen) -> bytes:
    import msgspec

    return msgspec.json.encode(seen)


@schedules.command
@click.argument("name")
@json_option
@session_options()
def show(*, name: str, as_json: bool, session: Session) -> None:
    """Show everything that is known of one schedule."""
    from herdmaster.inspection.schedules import find_schedule
    from herdmaster.operations.schedules import NoSuchSchedule

    seen = session.run(lambda client: find_schedule(client, name))
    if seen is None:
        raise NoSuchSchedule(name)
    if as_json:
        say_json(_as_json(seen))
        return
    for field, text in _details(seen, _now_ms()):
        say(f"{click.style(f'{field:<9}', bold=True)}  {text}")


def _details(seen: ScheduleSeen, now: int) -> Iterator[tuple[str, str]]:
    from herdmaster.core.schedules import describe_skips

    yield "name", seen.name
    yield "state", seen.state.value if seen.problem is None else f"{seen.state.value}: {seen.problem}"
    schedule, tick = seen.schedule, seen.tick
    if schedule is not None:
        yield from _declared(schedule)
    if seen.next_ms is not None:
        yield "next", _moment(seen.next_ms, now)
    if tick.last_ms is not None and tick.made_ms is not None:
        late = f", {tick.late_ms} ms late" if tick.late_ms else ""
        yield "last", f"{_moment(tick.made_ms, now)}, for {_moment(tick.last_ms, now)}{late}"
    if tick.task is not None:
        yield "last task", f"{tick.task}{'' if seen.last is None else f': {seen.last.value}'}"
    yield "tasks", str(tick.runs)
    if tick.skips:
        yield "skipped", describe_skips(tick)


def _declared(schedule: Schedule) -> Iterator[tuple[str, str]]:
    call = schedule.call
    yield "when", describe(schedule)
    yield "what", f"{call.call}  {bytes(call.args).decode()} {bytes(call.kwargs).decode()}"
    yield "queue", f"{schedule.queue}, priority {schedule.priority}"
    yield "policy", f"missed {schedule.missed.value}, overlap {schedule.overlap.value}"
    durations = (("grace", schedule.grace_ms), ("jitter", schedule.jitter_ms or None), ("expires", schedule.expires_ms))
    for name, value in durations:
        if value is not None:
            yield name, duration(value)
    for name, value in (("starts", schedule.starts_ms), ("ends", schedule.ends_ms)):
        if value is not None:
            yield name, _moment(value, _now_ms())
    if schedule.max_runs is not None:
        yield "max runs", str(schedule.max_runs)
    yield "app", schedule.app or "added by hand"


def _moment(at_ms: int, now: int) -> str:
    from herdmaster.cli.tasks import age

    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    distance = f"in {age(now, at_ms)}" if at_ms > now else f"{age(at_ms, now)} ago"
    return f"{at:%Y-%m-%d %H:%M:%S %Z} ({distance})"


# --- control ---------------------------------------------------------------------------------------------------------


def _common(command: C) -> C:
    return click.argument("name")(json_option(session_options()(command)))


@schedules.command
@_common
def pause(*, name: str, as_json: bool, session: Session) -> None:
    """Make no tasks of NAME until it is resumed. Its tasks that exist go on."""
    from herdmaster.operations.schedules import pause_schedule

    session.run(lambda client: pause_schedule(client, name))
    report(name, "paused", as_json=as_json, paused=True)


@schedules.command
@click.option("--catch-up", is_flag=True, help="Treat the ticks of the pause as missed; without it they are left out.")
@_common
def resume(*, name: str, catch_up: bool, as_json: bool, session: Session) -> None:
    """Make tasks of NAME again."""
    from herdmaster.operations.schedules import resume_schedule

    session.run(lambda client: resume_schedule(client, name, catch_up=catch_up))
    report(name, "resumed", as_json=as_json, paused=False)


@schedules.command
@_common
def run(*, name: str, as_json: bool, session: Session) -> None:
    """Make a task of NAME now, whether or not it is paused. Print the name of the task."""
    from herdmaster.operations.schedules import run_schedule

    task = session.run(lambda client: run_schedule(client, name, _new_ulid(), _now_ms()))
    if as_json:
        report(name, "", as_json=True, tasks=[task])
    else:
        say(task)


@schedules.command
@click.option("--from", "first", type=Instant(), required=True, metavar="WHEN", help="The first tick; included.")
@click.option("--to", "last", type=Instant(), required=True, metavar="WHEN", help="The last tick; included.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_common
def backfill(*, name: str, first: datetime, last: datetime, yes: bool, as_json: bool, session: Session) -> None:
    """Make a task for each tick of NAME in a past time. Print the names of the tasks.

    Ticks that had a task have another one. Shows how many there are, and asks on a terminal.
    """
    from herdmaster.operations.schedules import backfill_schedule, backfill_times

    first_ms, last_ms = (round(each.timestamp() * 1000) for each in (first, last))
    if last_ms < first_ms:
        raise click.UsageError("--to is before --from")
    dues = backfill_times(find_usable(name, session), first_ms, last_ms)
    if not dues:
        click.echo(f"{name} has no tick in that time: `herd schedules preview {name}` shows the next ones", err=True)
        return
    count = "1 task" if len(dues) == 1 else f"{len(dues)} tasks"
    confirm(f"Make {count} of {name}?", is_confirmed=yes, otherwise=f"{count} would be made")
    request = _new_ulid()
    tasks = session.run(
        lambda client: backfill_schedule(client, name, first_ms, last_ms, ulid=request, now_ms=_now_ms())
    )
    if as_json:
        report(name, "", as_json=True, tasks=tasks)
        return
    for task in tasks:
        say(task)


@schedules.command
@click.argument("name", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@session_options()
def remove(*, name: tuple[str, ...], yes: bool, as_json: bool, session: Session) -> None:
    """Delete schedules. Their tasks that exist go on. Asks on a terminal. Exits with 1 if one does not exist."""
    from herdmaster.inspection.schedules import read_schedules
    from herdmaster.operations.schedules import remove_schedule

    async def look(client: Client) -> set[str]:
        return {stored.name for stored in await read_schedules(client, names)}

    async def work(client: Client) -> list[str]:
        return [each for each in names if each in there and await remove_schedule(client, each)]

    names = list(dict.fromkeys(name))
    there = session.run(look)
    if there:
        shown = next(iter(there)) if len(there) == 1 else f"{len(there)} schedules"
        confirm(f"Remove {shown}?", is_confirmed=yes, otherwise=f"{shown} would be removed")
    removed = session.run(work) if there else []
    for each in names:
        report(each, "removed" if each in removed else "does not exist", as_json=as_json, removed=each in removed)
    if len(removed) < len(names):
        click.get_current_context().exit(1)


def _new_ulid() -> str:
    import secrets

    from herdmaster.core.names import UlidFactory

    return UlidFactory(_now_ms, secrets.token_bytes).new()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
