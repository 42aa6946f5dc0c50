"""`herd tasks`: list tasks, show one, wait for tasks, cancel tasks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, Duration, json_option
from herdmaster.cli.printing import log_of, say, say_json, say_left_out
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.task_options import STATES, UNENDED, Choice, check_task, confirm, filter_options, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from herdmaster.core.failure import ErrorInfo
    from herdmaster.core.outcome import Outcome
    from herdmaster.core.payload import Call
    from herdmaster.errors import HerdError
    from herdmaster.inspection.task_seen import TaskSeen
    from herdmaster.inspection.tasks import TaskDetails
    from herdmaster.zookeeper.client import Client

_COLOURS: Final = {"failed": "red", "dead": "red", "recovering": "yellow", "running": "green", "expired": "yellow"}
_MAX_SHOWN: Final = 2000


@click.group(cls=ListingGroup)
def tasks() -> None:
    """List, show, await and cancel tasks. Without a command: list.

    An outcome that is shown stays for the program that waits for it.
    """


# --- list ------------------------------------------------------------------------------------------------------------


def limit_option(command: C) -> C:
    return click.option(
        "--limit", type=click.IntRange(0), default=1000, show_default=True, metavar="N", help="At most N tasks; 0: all."
    )(command)


@tasks.command("list")
@filter_options(*STATES)
@limit_option
@json_option
@session_options(positional=True)
def list_(**options: Any) -> None:  # as `list_tasks`
    """List tasks, oldest first. Each line has the call and the last error.

    An outcome does not say what was called. The calls of payloads above 4 KiB are shown with --call or --error only.
    """
    list_tasks((), **options)


def list_tasks(states: tuple[str, ...], *, choice: Choice, limit: int, as_json: bool, session: Session) -> None:
    """Print the tasks that are chosen; `states` stands for all states. A `limit` of 0 is none."""
    from herdmaster.inspection.reading import Unreadable
    from herdmaster.inspection.tasks import Inspector

    unreadable = Unreadable()
    now = _now_ms()
    states = choice.states or states

    async def work(client: Client) -> None:
        count = 0
        async for seen in Inspector(client, unreadable).list_tasks(choice.filter_of(states)):
            if count == limit > 0:
                click.echo(f"there are more than {limit} tasks: --limit 0 lists all", err=True)
                return
            if count == 0 and not as_json:
                say(click.style(f"{'STATE':<10} {'AGE':>5}  {'TASK':<40}  CALL AND WHERE", bold=True))
            count += 1
            say_json(_as_json(seen)) if as_json else say(_row(seen, now))
        if count == 0 and not as_json and not unreadable:
            click.echo(f"no {' or '.join([*states, 'tasks'])}".replace(" or tasks", " tasks"), err=True)

    session.run(work)
    say_left_out(unreadable)


def _row(seen: TaskSeen, now: int) -> str:
    state = click.style(f"{seen.state.value:<10}", fg=_COLOURS.get(seen.state.value))
    began = f"began {age(seen.began, now)} ago" if seen.began is not None else ""
    ended = f"ended {age(seen.ended, now)} ago" if seen.ended is not None else ""
    parts = (f"{seen.call or '':<20}", _where(seen, now), seen.error or "", began, ended)
    return f"{state} {age(seen.submitted, now):>5}  {seen.name:<40}  {'  '.join(filter(None, parts))}".rstrip()


def _where(seen: TaskSeen, now: int) -> str:
    if seen.due is not None:
        return f"due in {age(now, seen.due)}" if seen.due > now else "due"
    progress = seen.progress
    if progress is None:
        return seen.worker or ""
    return f"{seen.worker}  {how_far(progress.done, progress.total, progress.note, progress.waits_for)}".rstrip()


def how_far(done: float | None, total: float | None, note: str, waits_for: Sequence[str] = ()) -> str:
    """Return the progress that a task reports, as `37/100 resizing`, and the tasks that it waits for."""
    from herdmaster.core.printable import printable

    count = "" if done is None else f"{done:g}" if total is None else f"{done:g}/{total:g}"
    waits = f"waits for {', '.join(waits_for)}" if waits_for else ""
    return " ".join(filter(None, (count, printable(note), waits)))


def age(since_ms: int | None, now_ms: int) -> str:
    """Return a short text for the time between two instants: `12s`, `5m`, `3h`, `2d`."""
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
@json_option
@session_options()
def show(*, task: str, as_json: bool, session: Session) -> None:
    """Show everything that is known of one task."""
    details, reason = _find(task, session)
    if as_json:
        say_json(_as_json(details))
        return
    for name, text in _describe(details, reason):
        first, *more = text.split("\n")
        say(f"{click.style(f'{name:<10}', bold=True)}  {first}")
        for line in more:
            say(f"{'':<10}  {line}".rstrip())


@tasks.command
@click.argument("task")
@session_options()
def result(*, task: str, session: Session) -> None:
    """Print the result of a task that is done, as JSON. Exits with 1 if it is not done, or failed."""
    details, reason = _find(task, session)
    if details.outcome is None:
        state = f"{details.seen.state.value}; {reason}" if reason else details.seen.state.value
        raise Failed(details.fault or f"{task} has not ended: it is {state}")
    _print_outcome(task, details.outcome)


def _find(task: str, session: Session) -> tuple[TaskDetails, str]:
    """Return the task, and why it waits if something keeps it from running. Raises Failed if there is no such task."""
    import msgspec

    from herdmaster.inspection.processes import find_process
    from herdmaster.inspection.tasks import Inspector
    from herdmaster.inspection.why_waiting import why_waiting

    check_task(task)

    async def work(client: Client) -> tuple[TaskDetails | None, str]:
        found = await Inspector(client).find(task)
        if found is None:
            return None, ""
        seen = found.seen
        process = None if seen.worker is None else await find_process(client, seen.worker, task)
        return msgspec.structs.replace(found, process=process), await why_waiting(client, found)

    details, reason = session.run(work)
    if details is None:
        raise Failed(f"there is no {task}: it never existed, or it has ended and its outcome was collected")
    return details, reason


def _print_outcome(task: str, outcome: Outcome) -> None:
    from herdmaster.core.outcome import OutcomeState

    if outcome.state is OutcomeState.DONE:
        say_json(bytes(outcome.result) if outcome.result is not None else b"null")
        return
    raise Failed(f"{task} {_ending(outcome)}")


def _ending(outcome: Outcome) -> str:
    return outcome.state.value if outcome.error is None else _failure(outcome.error)


def _failure(error: ErrorInfo) -> str:
    message = f"{error.type}: {error.message}" if error.message else error.type
    return f"failed: {message}" + (f"\n\n{error.traceback.rstrip()}" if error.traceback else "")


def _describe(details: TaskDetails, reason: str) -> Iterator[tuple[str, str]]:
    seen, call, outcome = details.seen, details.call, details.outcome
    now = _now_ms()
    yield "task", seen.name
    yield "state", click.style(seen.state.value, fg=_COLOURS.get(seen.state.value))
    yield "queue", f"{seen.queue}, priority {seen.priority}"
    yield "submitted", f"{age(seen.submitted, now)} ago"
    where = _where(seen, now)
    if where:
        yield "where", where
    if details.process is not None:
        yield "process", log_of(details.process.host, details.process.pid)
    if reason:
        yield "waits", click.style(reason, fg="yellow")
    if call is not None:
        yield from _describe_call(call, now, has_ended=outcome is not None)
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


def _describe_call(call: Call, now: int, *, has_ended: bool) -> Iterator[tuple[str, str]]:
    yield "call", call.call
    yield "arguments", _cut(f"{bytes(call.args).decode()} {bytes(call.kwargs).decode()}")
    if call.flow is not None:
        yield "flow", f"{call.flow.flow}, step {call.flow.step} ({call.flow.name})"
    if call.asked and not has_ended:
        yield "asked", _asked(call)
    alone = ", runs alone" if call.alone else ""
    yield "counts", f"attempt {call.attempt}, {call.deliveries} workers lost{alone}"
    if call.expires is not None:
        yield "expires", f"in {age(now, call.expires)}" if call.expires > now else "now"


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
@click.option("--timeout", type=Duration(), metavar="TIME", help="Wait for at most this time, such as 5m.")
@json_option
@session_options(log_level="error")
def wait(*, task: tuple[str, ...], timeout: float | None, as_json: bool, session: Session) -> None:
    """Wait until the tasks have ended, and print how each one did. Exits with 1 unless all are done."""
    import asyncio

    import msgspec

    from herdmaster.cli.waiting import wait_for_all

    for name in task:
        check_task(name)
    all_done = True

    def report(name: str, state: str | None, text: str) -> None:
        nonlocal all_done
        all_done = all_done and state == "done"
        if as_json:
            say_json(msgspec.json.encode({"task": name, "state": state, "text": text}))
        else:
            say(f"{name}: {text}")

    left = asyncio.run(wait_for_all(session.find_target(), task, timeout, session.connect_timeout, report))
    for name in left:
        click.echo(f"{name} has not ended within {timeout:g} s and goes on", err=True)
    if left or not all_done:
        click.get_current_context().exit(1)


@tasks.command
@click.argument("task", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All tasks that have not ended and that the filters leave.")
@filter_options(*UNENDED)
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    default=5.0,
    show_default="5s",
    help="Wait for the primary for at most this time.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@session_options(log_level="error")
def cancel(
    *,
    task: tuple[str, ...],
    everything: bool,
    choice: Choice,
    timeout: float,
    yes: bool,
    as_json: bool,
    session: Session,
) -> None:
    """Cancel tasks, running ones as well. Exits with 1 unless all ended as cancelled.

    Asks on a terminal if they are not named one by one.
    """
    selection = select(task, choice, UNENDED, everything=everything)
    names = selection.names(session)
    if not names:
        click.echo("no tasks to cancel", err=True)
        return
    if not task:
        count = "1 task" if len(names) == 1 else f"{len(names)} tasks"
        confirm(f"Cancel {count}?", is_confirmed=yes, otherwise=f"none of {count} was cancelled")
    cancel_all(names, timeout, session, as_json=as_json, are_seen=not task)


def cancel_all(names: list[str], patience: float, session: Session, *, as_json: bool, are_seen: bool) -> None:
    """Cancel the tasks and print what became of each. Exits with 1 unless all ended as cancelled; a task that was
    chosen by a filter (`are_seen`) may have ended meanwhile."""
    from herdmaster.cli.acting import Line, act_on_all
    from herdmaster.operations.actions import CancelVerdict
    from herdmaster.operations.many import cancel_many

    over = {CancelVerdict.CANCELLED} | ({CancelVerdict.ENDED, CancelVerdict.COLLECTED} if are_seen else set())
    bad = 0

    def act(client: Client, names: list[str]) -> AsyncIterator[tuple[str, CancelVerdict | HerdError]]:
        return cancel_many(client, names, patience, are_seen=are_seen)

    def line_of(name: str, verdict: CancelVerdict | HerdError) -> Line:
        nonlocal bad
        bad += verdict not in over
        if isinstance(verdict, CancelVerdict):
            return Line(f"{name}: {verdict.value}", {"verdict": verdict.name.lower(), "text": verdict.value})
        return Line(f"{name} cannot be cancelled: {verdict}", {"error": str(verdict)}, is_bad=True)

    act_on_all(session, names, act, line_of, as_json=as_json)
    if bad:
        click.get_current_context().exit(1)
