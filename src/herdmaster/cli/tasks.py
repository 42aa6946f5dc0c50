"""`herd tasks`: which tasks there are, what one of them is, how it ended, and an end to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import (
    Duration,
    connect_timeout_option,
    hosts_argument,
    json_option,
    log_options,
    zookeeper_option,
)
from herdmaster.cli.printing import say, say_left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from herdmaster.core.failure import ErrorInfo
    from herdmaster.core.outcome import Outcome
    from herdmaster.core.payload import Call
    from herdmaster.inspection.tasks import TaskDetails, TaskSeen
    from herdmaster.zookeeper.client import Client

STATES: Final = (
    "delayed", "pending", "assigned", "running", "recovering", "done", "failed", "cancelled", "expired", "dead",
)  # fmt: skip
_COLOURS: Final = {"failed": "red", "dead": "red", "recovering": "yellow", "running": "green", "expired": "yellow"}
_MAX_SHOWN: Final = 2000


@click.group(cls=ListingGroup)
def tasks() -> None:
    """Look at tasks, wait for them, cancel them. Without a command: list.

    What is shown is left as it is: an outcome stays for the program that waits for it.
    """


# --- list ------------------------------------------------------------------------------------------------------------


@tasks.command("list")
@hosts_argument
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only these; may be given twice.")
@click.option("--queue", metavar="NAME", help="Only of this queue.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="Only those submitted so long ago, such as 5m.")
@click.option(
    "--limit", type=click.IntRange(0), default=1000, show_default=True, metavar="N", help="At most so many; 0: all."
)
@json_option
@connect_timeout_option(10)
@log_options("warning")
def list_(
    *,
    hosts: str | None,
    states: tuple[str, ...],
    queue: str | None,
    older_than: float | None,
    limit: int,
    as_json: bool,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """List tasks, oldest first."""
    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.session import in_session
    from herdmaster.inspection.reading import Unreadable
    from herdmaster.inspection.tasks import Inspector, TaskState

    configure_logs(log_level, log_format)
    unreadable = Unreadable()
    now = _now_ms()
    wanted = frozenset(map(TaskState, states)) or frozenset(TaskState)
    before = None if older_than is None else now - int(older_than * 1000)

    async def work(client: Client) -> None:
        count = 0
        async for seen in Inspector(client, unreadable).list_tasks(wanted, queue=queue, before_ms=before):
            if count == limit > 0:
                click.echo(f"there are more than {limit}: --limit 0 shows all", err=True)
                return
            if count == 0 and not as_json:
                click.echo(click.style(f"{'STATE':<10} {'AGE':>5}  {'TASK':<40}  WHERE", bold=True))
            count += 1
            click.echo(_as_json(seen)) if as_json else say(_row(seen, now))

    in_session(hosts, connect_timeout, work)
    say_left_out(unreadable)


def _row(seen: TaskSeen, now: int) -> str:
    state = click.style(f"{seen.state.value:<10}", fg=_COLOURS.get(seen.state.value))
    return f"{state} {age(seen.submitted, now):>5}  {seen.name:<40}  {_where(seen, now)}".rstrip()


def _where(seen: TaskSeen, now: int) -> str:
    if seen.due is not None:
        return f"due in {age(now, seen.due)}" if seen.due > now else "due"
    progress = seen.progress
    if progress is None:
        return seen.worker or ""
    return f"{seen.worker}  {how_far(progress.done, progress.total, progress.note, progress.waits_for)}".rstrip()


def how_far(done: float | None, total: float | None, note: str, waits_for: Sequence[str] = ()) -> str:
    """What a task says of its progress, as `37/100 resizing`, and which tasks it waits for."""
    from herdmaster.core.printable import printable

    count = "" if done is None else f"{done:g}" if total is None else f"{done:g}/{total:g}"
    waits = f"waits for {', '.join(waits_for)}" if waits_for else ""
    return " ".join(filter(None, (count, printable(note), waits)))


def age(since_ms: int | None, now_ms: int) -> str:
    """Short text for a span of time: `12s`, `5m`, `3h`, `2d`."""
    if since_ms is None:
        return "?"
    seconds = max(0, now_ms - since_ms) // 1000
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


# --- show and result -------------------------------------------------------------------------------------------------


@tasks.command
@click.argument("task")
@zookeeper_option
@json_option
@connect_timeout_option(10)
@log_options("warning")
def show(
    *, task: str, hosts: str | None, as_json: bool, connect_timeout: float, log_level: str, log_format: str
) -> None:
    """Show all that is known of one task."""
    details, hindrance = _find(task, hosts, connect_timeout, log_level, log_format)
    if as_json:
        click.echo(_as_json(details))
        return
    for name, text in _describe(details, hindrance):
        say(f"{click.style(f'{name:<10}', bold=True)}  {text}")


@tasks.command
@click.argument("task")
@zookeeper_option
@connect_timeout_option(10)
@log_options("warning")
def result(*, task: str, hosts: str | None, connect_timeout: float, log_level: str, log_format: str) -> None:
    """Print the result of a task that is done, as JSON. Exits with 1 if it is not, or failed."""
    details, hindrance = _find(task, hosts, connect_timeout, log_level, log_format)
    if details.outcome is None:
        state = f"{details.seen.state.value}; {hindrance}" if hindrance else details.seen.state.value
        raise Failed(details.fault or f"{task} has not ended: it is {state}", "herd tasks result")
    _print_outcome(task, details.outcome, "herd tasks result")


def _find(
    task: str, hosts: str | None, connect_timeout: float, log_level: str, log_format: str
) -> tuple[TaskDetails, str]:
    """The task, and what keeps it from running if something does."""
    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.session import in_session
    from herdmaster.cli.why_waiting import why_waiting
    from herdmaster.inspection.tasks import Inspector, TaskState

    configure_logs(log_level, log_format)
    check_task(task)

    async def work(client: Client) -> tuple[TaskDetails | None, str]:
        found = await Inspector(client).find(task)
        waits = found is not None and found.seen.state is TaskState.PENDING
        return found, await why_waiting(client, task) if waits else ""

    details, hindrance = in_session(hosts, connect_timeout, work)
    if details is None:
        raise Failed(f"{task} is nowhere: it never was, or it has ended and its outcome was collected", "herd tasks")
    return details, hindrance


def check_task(task: str) -> None:
    """Raises a usage error for what is no task's name."""
    from herdmaster.core.names import parse_task_name

    if parse_task_name(task) is None:
        raise click.BadParameter(f"{task!r} is no task's name, such as task-01h...default", param_hint="TASK")


def _print_outcome(task: str, outcome: Outcome, command: str) -> None:
    from herdmaster.core.outcome import OutcomeState

    if outcome.state is OutcomeState.DONE:
        click.echo(bytes(outcome.result) if outcome.result is not None else b"null")
        return
    raise Failed(f"{task} {_ending(outcome)}", command)


def _ending(outcome: Outcome) -> str:
    return outcome.state.value if outcome.error is None else _failure(outcome.error)


def _failure(error: ErrorInfo) -> str:
    message = f"{error.type}: {error.message}" if error.message else error.type
    return f"failed: {message}" + (f"\n\n{error.traceback.rstrip()}" if error.traceback else "")


def _describe(details: TaskDetails, hindrance: str) -> Iterator[tuple[str, str]]:
    seen, call, outcome = details.seen, details.call, details.outcome
    now = _now_ms()
    yield "task", seen.name
    yield "state", click.style(seen.state.value, fg=_COLOURS.get(seen.state.value))
    yield "queue", f"{seen.queue}, priority {seen.priority}"
    yield "submitted", f"{age(seen.submitted, now)} ago"
    where = _where(seen, now)
    if where:
        yield "where", where
    if hindrance:
        yield "waits", click.style(hindrance, fg="yellow")
    if call is not None:
        yield "call", call.call
        yield "arguments", _cut(f"{bytes(call.args).decode()} {bytes(call.kwargs).decode()}")
        if call.asked and outcome is None:
            yield "asked", _asked(call)
        alone = ", runs alone" if call.alone else ""
        yield "counts", f"attempt {call.attempt}, {call.deliveries} workers lost{alone}"
        if call.expires is not None:
            yield "expires", f"in {age(now, call.expires)}" if call.expires > now else "now"
    if details.raw is not None:
        yield "data", _cut(repr(details.raw))
    if outcome is not None and outcome.result is not None:
        yield "result", _cut(bytes(outcome.result).decode())
    if outcome is not None and outcome.error is not None:
        yield "error", _ending(outcome)
    elif outcome is None and call is not None and call.error is not None:
        yield "error", _failure(call.error)
    if details.fault is not None:
        yield "fault", details.fault


def _asked(call: Call) -> str:
    asked = ", ".join(dict.fromkeys(call.asked))
    module = call.call.partition(":")[0]
    return f"{asked}: without this function, or these parameters; `herd worker --import {module}` imports its module"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text)} characters; --json has all)"


def _as_json(found: TaskSeen | TaskDetails) -> bytes:
    import msgspec

    return msgspec.json.encode(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- wait and cancel -------------------------------------------------------------------------------------------------


@tasks.command
@click.argument("task", nargs=-1, required=True)
@zookeeper_option
@click.option("--timeout", type=Duration(), metavar="TIME", help="How long to wait at most, such as 5m.")
@connect_timeout_option(10)
@log_options("error")
def wait(
    *,
    task: tuple[str, ...],
    hosts: str | None,
    timeout: float | None,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Wait until the tasks have ended, and print how each did. Exits with 1 unless all are done."""
    import asyncio

    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.options import choose_hosts
    from herdmaster.cli.waiting import wait_for_all

    configure_logs(log_level, log_format)
    for name in task:
        check_task(name)
    is_done = True

    def tell(name: str, text: str, done: bool) -> None:
        nonlocal is_done
        is_done = is_done and done
        say(f"{name}: {text}")

    left = asyncio.run(wait_for_all(choose_hosts(hosts), task, timeout, connect_timeout, tell))
    for name in left:
        click.echo(f"{name} has not ended within {timeout:g} s; it goes on", err=True)
    if left or not is_done:
        click.get_current_context().exit(1)


@tasks.command
@click.argument("task", nargs=-1, required=True)
@zookeeper_option
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    default=5.0,
    show_default="5s",
    help="How long to wait for the primary.",
)
@connect_timeout_option(10)
@log_options("error")
def cancel(
    *,
    task: tuple[str, ...],
    hosts: str | None,
    timeout: float,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Cancel tasks, running ones too. Exits with 1 unless all ended as cancelled."""
    import asyncio

    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.session import in_session
    from herdmaster.operations import actions

    configure_logs(log_level, log_format)
    for name in task:
        check_task(name)

    async def work(client: Client) -> list[actions.CancelVerdict]:
        return list(await asyncio.gather(*(actions.cancel(client, name, timeout) for name in task)))

    verdicts = in_session(hosts, connect_timeout, work)
    for name, verdict in zip(task, verdicts, strict=True):
        click.echo(f"{name}: {verdict.value}")
    if any(verdict is not actions.CancelVerdict.CANCELLED for verdict in verdicts):
        click.get_current_context().exit(1)
