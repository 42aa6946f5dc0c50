"""`herd status`: masters, workers, and the number of tasks in each state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from herdmaster.cli.help import Command
from herdmaster.cli.printing import say, say_json, say_left_out
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.inspection.overview import MasterSeen, Overview, WorkerSeen
    from herdmaster.zookeeper.client import Client


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@session_options(positional=True)
def status(*, as_json: bool, session: Session) -> None:
    """Show masters, workers and the number of tasks.

    Shows the primary, its backups, the workers, how many tasks are in each state, and paused queues. Changes nothing.
    """
    import msgspec

    from herdmaster.inspection.overview import OverviewReader
    from herdmaster.inspection.reading import Unreadable
    from herdmaster.inspection.why_waiting import paused_queues

    unreadable = Unreadable()
    session = session._replace(given_hosts=session.find_hosts())

    async def work(client: Client) -> tuple[Overview, list[str]]:
        return await OverviewReader(client, unreadable).look(), await paused_queues(client)

    overview, paused = session.run(work)
    say_left_out(unreadable)
    if as_json:
        found = {"zookeeper": session.given_hosts, **msgspec.to_builtins(overview), "paused": paused}
        say_json(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for line in describe(overview, paused):
            say(line)


def describe(overview: Overview, paused: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of the table. `paused` has the names of paused queues."""
    yield _line("primary", _master(overview.primary) if overview.primary else _no_primary(overview))
    for backup in overview.backups:
        yield _line("backup", _master(backup))
    for worker in overview.workers:
        yield _line("worker", _worker(worker))
    if not overview.workers:
        yield _line("worker", click.style("none", fg="yellow"))
    tasks = overview.tasks
    counts = [f"{tasks.backlog} in the backlog", f"{tasks.assigned} assigned", f"{tasks.ended} ended and not collected"]
    if tasks.recovering:
        counts.append(f"{tasks.recovering} of lost workers")
    if tasks.delayed:
        counts.append(f"{tasks.delayed} delayed")
    if tasks.dead:
        counts.append(click.style(f"{tasks.dead} dead", fg="red"))
    yield _line("tasks", ", ".join(counts))
    if paused:
        yield _line("paused", click.style(", ".join(paused), fg="yellow") + "  (`herd queues resume QUEUE`)")


def _line(what: str, text: str) -> str:
    return f"{what:<8}  {text}"


def _no_primary(overview: Overview) -> str:
    none = click.style("none", fg="yellow")
    return f"{none}  (Curator masters have left /master: delete it)" if overview.master_is_left else none


def _master(master: MasterSeen) -> str:
    if master.host is None:
        return f"{master.name}  (a {master.program} reference master)  since {_time(master.since)}"
    return f"{master.name}  {master.host} pid {master.pid}  since {_time(master.since)}"


def _worker(worker: WorkerSeen) -> str:
    place = f"  {worker.host} pid {worker.pid}" if worker.host else ""
    slots = f"  {worker.slots} slots  queues {', '.join(worker.queues)}" if worker.slots else ""
    return f"{worker.name}{place}{slots}  {worker.state}  {worker.assigned} assigned  since {_time(worker.since)}"


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
