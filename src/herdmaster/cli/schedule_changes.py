"""`herd schedules apply|add|edit|preview`: what schedules are to be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.call_options import CallCommand, call_options, check_call, make_request, read_arguments
from herdmaster.cli.help import Command
from herdmaster.cli.options import json_option
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.schedule_options import (
    changed_options,
    clear_option,
    given_options,
    schedule_options,
    when_options,
)
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.api.schedule_edits import TaskEdit
    from herdmaster.core.schedules import Schedule
    from herdmaster.operations.schedule_plan import SchedulePlan
    from herdmaster.zookeeper.client import Client

_CLOCK_SECONDS: Final = 5.0
"""The difference of clocks that is told."""

# --- apply -----------------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("--prune", is_flag=True, help="Remove the app's schedules that its code no longer declares.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@json_option
@session_options()
def apply(*, prune: bool, dry_run: bool, as_json: bool, session: Session) -> None:
    """Store the schedules that an app declares. Prints what changed.

    Needs --app. Each schedule remembers its app, so that --prune removes only those. Paused schedules stay paused.
    """
    from herdmaster.api.internals import core_of
    from herdmaster.api.schedule_options import NONE_LEFT, is_over
    from herdmaster.cli.named_app import full_name, load_named_app
    from herdmaster.operations.schedule_plan import apply_schedules, plan_schedules

    if session.app is None:
        raise click.UsageError("--app names the app whose schedules are applied: give it")
    herd = load_named_app(session.app)
    app = full_name(session.app, herd)
    wanted = core_of(herd).registry.declarations.schedules(app)

    async def work(client: Client) -> SchedulePlan:
        if dry_run:
            return await plan_schedules(client, app, wanted, prune=prune)
        plan = await apply_schedules(client, app, wanted, prune=prune)
        for name in _written(plan)[:1]:
            await _compare_clocks(client, name)
        return plan

    plan = session.run(work)
    _print_plan(plan, app, as_json=as_json, dry_run=dry_run)
    for name in _written(plan):
        if is_over(wanted[name]):
            click.echo(f"{name} is never due: {NONE_LEFT}", err=True)


def _written(plan: SchedulePlan) -> list[str]:
    """Return the schedules that are created or changed."""
    return [*plan.create, *(change.name for change in plan.change)]


async def _compare_clocks(client: Client, written: str) -> None:
    """Warn if the clock of this machine is not that of the servers. `written` is a schedule that was just stored."""
    from herdmaster.inspection.schedules import read_schedules

    stored = await read_schedules(client, [written])
    ahead = (_now_ms() - stored[0].created_ms) / 1000 if stored else 0.0
    if abs(ahead) > _CLOCK_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        click.echo(
            f"the clock of this machine is {abs(ahead):.0f} s {side} ZooKeeper's, which decides what is due: "
            "synchronize them by NTP",
            err=True,
        )


def _print_plan(plan: SchedulePlan, app: str, *, as_json: bool, dry_run: bool) -> None:
    import msgspec

    if as_json:
        say_json(msgspec.json.encode({"app": app, "applied": not dry_run, **msgspec.to_builtins(plan)}))
        return
    for name in plan.create:
        say(f"{click.style('create', fg='green')}     {name}")
    for change in plan.change:
        say(f"{click.style('change', fg='yellow')}     {change.name}: {', '.join(change.fields)}")
    for name in plan.remove:
        say(f"{click.style('remove', fg='red')}     {name}")
    for name in plan.unchanged:
        say(f"unchanged  {name}")
    if plan.is_empty and not plan.unchanged:
        click.echo(f"{app} declares no schedules", err=True)
    elif dry_run:
        click.echo("nothing was done: leave --dry-run out to apply this", err=True)


# --- add and edit ----------------------------------------------------------------------------------------------------


@click.command(cls=CallCommand)
@click.argument("name")
@click.argument("call", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="ARG...")
@schedule_options
@call_options
@json_option
@session_options()
def add(
    *,
    name: str,
    call: str,
    arguments: tuple[str, ...],
    unchecked: bool,
    as_json: bool,
    session: Session,
    **given: Any,  # what the options of a task and of a schedule are, as click converts them
) -> None:
    """Add a schedule by hand. Function, arguments and options are as for `herd submit`.

    Give one of --cron, --every and --time. The schedule belongs to no app: `apply` neither changes nor removes it.
    """
    from herdmaster.api.declarations import declare, signed
    from herdmaster.api.schedule_options import check_schedule, checked
    from herdmaster.core.names import check_schedule_name
    from herdmaster.operations.schedules import add_schedule

    check_schedule_name(name)
    check_call(call)
    timing = check_schedule(given_options(given))
    args, kwargs = read_arguments(arguments)
    request = make_request(call, given, session.app, unchecked=unchecked)
    declared = declare(request.callee, args, kwargs, request.options, timing)
    schedule = checked(name, declared.schedule(None), must_come=True)
    schedule = signed(name, schedule, request.keyring)

    async def work(client: Client) -> None:
        await add_schedule(client, name, schedule)
        await _compare_clocks(client, name)

    session.run(work)
    report(name, "added", as_json=as_json, added=True)


def report(name: str, done: str, *, as_json: bool, **fields: object) -> None:
    """Print what was done about a schedule: `done`, or as JSON the fields."""
    import msgspec

    if as_json:
        say_json(msgspec.json.encode({"schedule": name, **fields}))
    else:
        say(f"{name}: {done}")


@click.command(cls=CallCommand)
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="ARG...")
@schedule_options
@call_options
@clear_option
@json_option
@session_options()
def edit(
    *,
    name: str,
    arguments: tuple[str, ...],
    unchecked: bool,
    clear: tuple[str, ...],
    as_json: bool,
    session: Session,
    **given: Any,  # options as click converts them
) -> None:
    """Change NAME: when it is due, its policies, its task. Options that are not given stay as they are.

    ARG... replace all arguments. Options of the task and arguments are checked as by `add`. The next `apply` of the app
    that declares the schedule undoes this.
    """
    from herdmaster.api.schedule_options import checked, edited
    from herdmaster.operations.schedules import edit_schedule

    options = changed_options({**given, "arguments": arguments or None}, clear)
    if not options:
        raise click.UsageError("nothing to change: give at least one option, or arguments")
    task, timing = _split(options)
    edit = _task_edit(name, task, session, unchecked=unchecked) if task else None

    def change(schedule: Schedule) -> Schedule:
        changed = checked(name, edited(schedule, timing)) if timing else schedule
        return changed if edit is None else edit.applied(name, changed)

    session.run(lambda client: edit_schedule(client, name, change))
    changed = sorted(options)
    report(name, f"changed {', '.join(changed)}", as_json=as_json, changed=changed)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the task, with the arguments, and those of the schedule."""
    from herdmaster.api.schedule_edits import TASK_OPTIONS

    task = {name: value for name, value in options.items() if name in TASK_OPTIONS or name == "arguments"}
    return task, {name: value for name, value in options.items() if name not in task}


def _task_edit(name: str, given: dict[str, Any], session: Session, *, unchecked: bool) -> TaskEdit:
    """Return the change of the task, checked against its function unless it is `unchecked`. If the function says how a
    key is made of arguments, new arguments make a new key."""
    from herdmaster.api.schedule_edits import check_task_edit

    call = find_usable(name, session).call.call
    options = {option: value for option, value in given.items() if option != "arguments"}
    request = make_request(call, options, session.app, unchecked=unchecked)
    if "arguments" not in given:
        return check_task_edit(request.callee, options, base=request.registered, keyring=request.keyring)
    args, kwargs = read_arguments(given["arguments"] or ())
    key = request.registered.key
    if callable(key) and options.get("key") is None:
        options["key"] = key(*args, **kwargs)
    return check_task_edit(request.callee, options, args, kwargs, base=request.registered, keyring=request.keyring)


# --- preview ---------------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("name", required=False)
@when_options
@click.option(
    "--count", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="How many ticks."
)
@json_option
@session_options()
def preview(
    *, name: str | None, count: int, as_json: bool, session: Session, **given: Any
) -> None:  # as click converts
    """Show the next ticks of NAME, or of a timetable.

    --cron, --every or --time give a timetable in place of NAME. Times are in its zone and in UTC. With --app, NAME is a
    schedule that the app declares, and otherwise a stored one.
    """
    import msgspec

    from herdmaster.api.schedule_options import checked
    from herdmaster.core.upcoming import upcoming

    options = given_options(given)
    if (name is None) == (not options):
        raise click.UsageError("give the NAME of a schedule, or one of --cron, --every and --time")
    schedule = _of_options(options) if name is None else _named(name, session)
    if name is not None:
        checked(name, schedule)
    for each in upcoming(schedule, _now_ms(), count):
        if as_json:
            say_json(msgspec.json.encode(each))
        else:
            note = f"  {click.style(each.note, fg='yellow')}" if each.note else ""
            say(f"{each.local:<26}  {each.utc}{note}")


def _of_options(options: dict[str, Any]) -> Schedule:
    from herdmaster.api.callee import Callee
    from herdmaster.api.declarations import declare
    from herdmaster.api.options import TaskOptions
    from herdmaster.api.schedule_options import check_schedule

    return declare(Callee("preview:preview"), (), {}, TaskOptions(), check_schedule(options)).schedule(None)


def _named(name: str, session: Session) -> Schedule:
    """Return a schedule that the app declares, or without an app a stored one. Raises NoSuchSchedule."""
    from herdmaster.operations.schedules import NoSuchSchedule

    if session.app is None:
        return find_usable(name, session)
    from herdmaster.api.internals import core_of
    from herdmaster.cli.named_app import full_name, load_named_app

    herd = load_named_app(session.app)
    declared = core_of(herd).registry.declarations.schedules(full_name(session.app, herd))
    if name not in declared:
        raise NoSuchSchedule(name)
    return declared[name]


def find_usable(name: str, session: Session) -> Schedule:
    """Return a stored schedule. Raises as `read_usable`."""
    from herdmaster.operations.schedules import read_usable

    return session.run(lambda client: read_usable(client, name))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
