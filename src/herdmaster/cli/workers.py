"""`herd workers`: the workers that are alive, and what they run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from herdmaster.cli.options import json_option
from herdmaster.cli.printing import say
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.tasks import age, how_far

if TYPE_CHECKING:
    from herdmaster.core.progress import WorkerProgress
    from herdmaster.inspection.overview import WorkerSeen
    from herdmaster.zookeeper.client import Client


@click.command
@json_option
@session_options(positional=True)
def workers(*, as_json: bool, session: Session) -> None:
    """List the workers that are alive, and what each runs."""
    import msgspec

    from herdmaster.inspection.overview import OverviewReader

    async def work(client: Client) -> list[tuple[WorkerSeen, WorkerProgress]]:
        observer = OverviewReader(client)
        seen = (await observer.look()).workers
        return list(zip(seen, await observer.progress_of([worker.name for worker in seen]), strict=True))

    found = session.run(work)
    for worker, progress in found:
        if as_json:
            click.echo(msgspec.json.encode({**msgspec.to_builtins(worker), "running": msgspec.to_builtins(progress)}))
        else:
            _print(worker, progress)
    if not found and not as_json:
        click.echo("no worker is alive: `herd worker` starts one", err=True)


def _print(worker: WorkerSeen, progress: WorkerProgress) -> None:
    now = time.time_ns() // 1_000_000
    place = f"{worker.host} pid {worker.pid}" if worker.host else "(reference worker)"
    slots = f"  {worker.slots} slots" if worker.slots else ""
    queues = f"  queues {', '.join(worker.queues)}" if worker.queues else ""
    name = click.style(worker.name, bold=True)
    app = f"  app {worker.app}" if worker.app is not None else ""
    serves = queues if worker.calls or not worker.host else f"{queues}  raw tasks only"
    say(f"{name}  {place}{app}{slots}{serves}  {worker.state}  {worker.assigned} assigned  up {age(worker.since, now)}")
    for task in progress.tasks:
        how = how_far(task.done, task.total, task.note, task.waits_for)
        attempt = f"  attempt {task.attempt}" if task.attempt > 1 else ""
        say(f"  {task.task}  {task.call or 'raw'}  for {age(task.since, now)}{attempt}  {how}".rstrip())
    if progress.stalled:
        say(
            "  "
            + click.style("stalled: every slot has a task that waits for other tasks, and these have no slot", fg="red")
        )
    if progress.running > len(progress.tasks):
        click.echo(f"  and {progress.running - len(progress.tasks)} more")
