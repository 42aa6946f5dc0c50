"""`herd queues`: how full each queue is, and what may leave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import (
    C,
    connect_timeout_option,
    hosts_argument,
    json_option,
    log_options,
    zookeeper_option,
)
from herdmaster.cli.printing import say_left_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from herdmaster.core.queues import QueueSettings
    from herdmaster.inspection.queues import QueueSeen
    from herdmaster.zookeeper.client import Client


@click.group(cls=ListingGroup)
def queues() -> None:
    """List queues, pause them, limit them. Without a command: list."""


@queues.command("list")
@hosts_argument
@json_option
@connect_timeout_option(10)
@log_options("warning")
def list_(*, hosts: str | None, as_json: bool, connect_timeout: float, log_level: str, log_format: str) -> None:
    """List the queues that have tasks, workers or limits."""
    import msgspec

    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.session import in_session
    from herdmaster.inspection.queues import look_at_queues
    from herdmaster.inspection.reading import Unreadable

    configure_logs(log_level, log_format)
    unreadable = Unreadable()
    found = in_session(hosts, connect_timeout, lambda client: look_at_queues(client, unreadable))
    for queue in found:
        click.echo(msgspec.json.encode(queue) if as_json else _row(queue))
    if not found and not as_json:
        click.echo("no queue has tasks, workers or limits", err=True)
    say_left_out(unreadable)


def _row(queue: QueueSeen) -> str:
    limits = describe(queue.settings)
    workers = "1 worker" if queue.workers == 1 else f"{queue.workers} workers"
    if queue.workers == 0 and queue.pending:
        workers = click.style("no worker", fg="yellow")
    counts = f"{queue.pending} pending  {queue.delayed} delayed  {queue.assigned} assigned"
    return f"{click.style(f'{queue.name:<16}', bold=True)}  {counts}  {workers}  {limits}".rstrip()


def describe(settings: QueueSettings) -> str:
    """As the master's log has it, in colour."""
    from herdmaster.core.queues import describe_queue

    return describe_queue(settings).replace("paused", click.style("paused", fg="yellow"))


def _change(
    queue: str,
    logs: tuple[str, str],
    hosts: str | None,
    connect_timeout: float,
    changes: Mapping[str, bool | float | None],
) -> None:
    """Sets the fields of the queue's settings that `changes` names."""
    import msgspec

    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.session import in_session
    from herdmaster.core.names import check_queue
    from herdmaster.operations.actions import change_queue

    configure_logs(*logs)
    check_queue(queue)

    async def work(client: Client) -> QueueSettings:
        return await change_queue(client, queue, lambda old: msgspec.structs.replace(old, **changes))

    settings = in_session(hosts, connect_timeout, work)
    click.echo(f"{queue}: {describe(settings) or 'no limits'}")


def _common(command: C) -> C:
    return click.argument("queue")(zookeeper_option(connect_timeout_option(10)(log_options("warning")(command))))


@queues.command
@_common
def pause(*, queue: str, hosts: str | None, connect_timeout: float, log_level: str, log_format: str) -> None:
    """Assign nothing of QUEUE until it is resumed. What is assigned goes on."""
    _change(queue, (log_level, log_format), hosts, connect_timeout, {"paused": True})


@queues.command
@_common
def resume(*, queue: str, hosts: str | None, connect_timeout: float, log_level: str, log_format: str) -> None:
    """Assign tasks of QUEUE again."""
    _change(queue, (log_level, log_format), hosts, connect_timeout, {"paused": False})


@queues.command
@_common
@click.option("--max-running", type=click.IntRange(0), metavar="N", help="Over all workers; 0 takes the limit away.")
@click.option(
    "--rate", type=click.FloatRange(0), metavar="N", help="Tasks started per second, over all workers; 0: no limit."
)
def limit(
    *,
    queue: str,
    max_running: int | None,
    rate: float | None,
    hosts: str | None,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Limit how many tasks of QUEUE run at a time, or are started per second."""
    if max_running is None and rate is None:
        raise click.UsageError("say --max-running, --rate, or both")
    changes: dict[str, bool | float | None] = {}
    if max_running is not None:
        changes["max_running"] = max_running or None
    if rate is not None:
        changes["rate"] = rate or None
    _change(queue, (log_level, log_format), hosts, connect_timeout, changes)
