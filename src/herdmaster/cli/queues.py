"""`herd queues`: list, pause, limit and purge queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, Duration, json_option
from herdmaster.cli.printing import say, say_json, say_left_out
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from herdmaster.core.queues import QueueSettings
    from herdmaster.inspection.queues import QueueSeen
    from herdmaster.zookeeper.client import Client


@click.group(cls=ListingGroup)
def queues() -> None:
    """List, pause, limit and purge queues. Without a command: list."""


@queues.command("list")
@json_option
@session_options(positional=True)
def list_(*, as_json: bool, session: Session) -> None:
    """List the queues that have tasks, workers or limits."""
    import msgspec

    from herdmaster.inspection.queues import look_at_queues
    from herdmaster.inspection.reading import Unreadable

    unreadable = Unreadable()
    found = session.run(lambda client: look_at_queues(client, unreadable))
    say_left_out(unreadable)
    for queue in found:
        say_json(msgspec.json.encode(queue)) if as_json else say(_row(queue))
    if not found and not as_json and not unreadable:
        click.echo("no queue has tasks, workers or limits", err=True)


def _row(queue: QueueSeen) -> str:
    limits = describe(queue.settings)
    workers = "1 worker" if queue.workers == 1 else f"{queue.workers} workers"
    if queue.workers == 0 and queue.pending:
        workers = click.style("no worker", fg="yellow")
    counts = f"{queue.pending} pending  {queue.delayed} delayed  {queue.assigned} assigned"
    return f"{click.style(f'{queue.name:<16}', bold=True)}  {counts}  {workers}  {limits}".rstrip()


def describe(settings: QueueSettings) -> str:
    """Return the settings as the master's log has them, in colour."""
    from herdmaster.core.queues import describe_queue

    return describe_queue(settings).replace("paused", click.style("paused", fg="yellow"))


def _change(queue: str, session: Session, changes: Mapping[str, bool | float | None], *, as_json: bool) -> None:
    """Set the fields of the queue's settings that `changes` names. Warn of a queue that seems to be misspelt."""
    import msgspec

    from herdmaster.core.names import check_queue
    from herdmaster.inspection.queues import look_at_queues
    from herdmaster.inspection.reading import Unreadable
    from herdmaster.operations.actions import change_queue

    check_queue(queue)

    async def work(client: Client) -> tuple[QueueSettings, list[QueueSeen]]:
        settings = await change_queue(client, queue, lambda old: msgspec.structs.replace(old, **changes))
        return settings, await look_at_queues(client, Unreadable())

    settings, seen = session.run(work)
    if as_json:
        say_json(msgspec.json.encode({"queue": queue, **msgspec.to_builtins(settings)}))
    else:
        click.echo(f"{queue}: {describe(settings) or 'no limits'}")
    used = [each.name for each in seen if each.workers or each.pending or each.delayed or each.assigned]
    if queue not in used:
        there = f"; there are {', '.join(used)}" if used else ""
        click.echo(f"no worker serves queue {queue}, and no task is in it{there}", err=True)


def _common(command: C) -> C:
    return click.argument("queue")(json_option(session_options()(command)))


@queues.command
@_common
def pause(*, queue: str, as_json: bool, session: Session) -> None:
    """Assign no tasks of QUEUE until it is resumed. Tasks that are assigned already go on."""
    _change(queue, session, {"paused": True}, as_json=as_json)


@queues.command
@_common
def resume(*, queue: str, as_json: bool, session: Session) -> None:
    """Assign tasks of QUEUE again."""
    _change(queue, session, {"paused": False}, as_json=as_json)


@queues.command
@click.option("--max-running", type=click.IntRange(0), metavar="N", help="Tasks that run at a time; 0: no limit.")
@click.option("--rate", type=click.FloatRange(0), metavar="N", help="Tasks started per second; 0: no limit.")
@_common
def limit(*, queue: str, max_running: int | None, rate: float | None, as_json: bool, session: Session) -> None:
    """Limit how many tasks of QUEUE run, or start per second. Limits hold over all workers."""
    if max_running is None and rate is None:
        raise click.UsageError("give --max-running, --rate, or both")
    changes: dict[str, bool | float | None] = {}
    if max_running is not None:
        changes["max_running"] = max_running or None
    if rate is not None:
        changes["rate"] = rate or None
    _change(queue, session, changes, as_json=as_json)


@queues.command
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    default=30.0,
    show_default="30s",
    help="Wait for the primary for at most this time without an answer.",
)
@_common
def purge(*, queue: str, yes: bool, timeout: float, as_json: bool, session: Session) -> None:
    """Cancel all waiting and delayed tasks of QUEUE. Shows how many, and asks on a terminal.

    Tasks that are with workers go on; one that is assigned while this runs is cancelled too. To keep workers from it,
    pause the queue first. Run it again after an interruption. Exits with 1 unless all have ended.
    """
    from herdmaster.cli.task_options import confirm
    from herdmaster.cli.tasks import cancel_all
    from herdmaster.core.names import check_queue
    from herdmaster.inspection.task_seen import TaskState
    from herdmaster.inspection.tasks import Inspector

    check_queue(queue)
    states = frozenset({TaskState.PENDING, TaskState.DELAYED})
    names = session.run(lambda client: Inspector(client).names(states, queue))
    if not names:
        click.echo(f"no task waits in queue {queue}", err=True)
        return
    count = "1 task" if len(names) == 1 else f"{len(names)} tasks"
    confirm(f"Cancel {count} in queue {queue}?", is_confirmed=yes, otherwise=f"none of {count} was cancelled")
    cancel_all(names, timeout, session, as_json=as_json, are_seen=True)
