"""`herd workers`: list the workers that are alive, drain them, stop them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.failures import INTERRUPTED, Failed
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, json_option
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.tasks import age, how_far

if TYPE_CHECKING:
    from herdmaster.core.members import WorkerRecord
    from herdmaster.core.progress import WorkerProgress
    from herdmaster.inspection.overview import WorkerSeen
    from herdmaster.operations.workers import DrainSeen
    from herdmaster.zookeeper.client import Client

_SHOWN: Final = 3
"""Running tasks that are shown of a worker that drains."""


@click.group(cls=ListingGroup)
def workers() -> None:
    """List, drain and stop workers. Without a command: list."""


# --- list ------------------------------------------------------------------------------------------------------------


@workers.command("list")
@json_option
@session_options(positional=True)
def list_(*, as_json: bool, session: Session) -> None:
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
            say_json(msgspec.json.encode({**msgspec.to_builtins(worker), "running": msgspec.to_builtins(progress)}))
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


# --- drain, resume and stop ------------------------------------------------------------------------------------------


def _common(command: C) -> C:
    wait = click.option("--wait", is_flag=True, help="Wait until it is done, and show how far it is.")
    return click.argument("worker", nargs=-1, required=True)(wait(json_option(session_options()(command))))


@workers.command
@_common
def drain(*, worker: tuple[str, ...], wait: bool, as_json: bool, session: Session) -> None:
    """Give WORKER no more tasks. It hands back those that have not begun, and ends those that run.

    The worker stays registered, first as `draining` and then as `drained`, until `herd workers resume` or `stop`.
    So no supervisor starts it again. It waits for its running tasks without a limit of time.
    """
    from herdmaster.core.members import DRAIN

    _ask(worker, DRAIN, session, wait=wait, as_json=as_json)


@workers.command
@_common
def stop(*, worker: tuple[str, ...], wait: bool, as_json: bool, session: Session) -> None:
    """Drain WORKER and end its process, as SIGTERM does. Tasks that outlast its --drain-timeout are handed back.

    The process ends with exit code 0: a supervisor that always restarts it starts a new worker.
    """
    from herdmaster.core.members import STOP

    _ask(worker, STOP, session, wait=wait, as_json=as_json)


@workers.command
@click.argument("worker", nargs=-1, required=True)
@json_option
@session_options()
def resume(*, worker: tuple[str, ...], as_json: bool, session: Session) -> None:
    """Give tasks again to a WORKER that was drained."""
    from herdmaster.core.members import NO_REQUEST

    _ask(worker, NO_REQUEST, session, wait=False, as_json=as_json)


def _ask(names: tuple[str, ...], request: str, session: Session, *, wait: bool, as_json: bool) -> None:
    """Write the request to each of the workers, then wait for all if asked to. Raises Failed if one of them refuses it,
    after the others had their turn."""
    import asyncio

    from herdmaster.errors import HerdError
    from herdmaster.operations.workers import ask_worker

    _check_names(names)
    asked: dict[str, WorkerRecord] = {}
    failures: list[str] = []

    async def work(client: Client) -> None:
        for name in dict.fromkeys(names):
            try:
                asked[name] = await ask_worker(client, name, request)
            except HerdError as error:
                failures.append(str(error))
            else:
                if not wait:
                    _say_asked(name, asked[name], as_json=as_json)
        if wait:
            ends = await asyncio.gather(*(_wait(client, name, asked[name], as_json=as_json) for name in asked))
            failures.extend(filter(None, ends))

    try:
        session.run(work)
    except KeyboardInterrupt:
        if asked:
            click.echo(f"the request stands: {', '.join(asked)} will {request or 'go on'} all the same", err=True)
        click.get_current_context().exit(INTERRUPTED)
    if failures:
        raise Failed("\n".join(failures))


def _check_names(names: tuple[str, ...]) -> None:
    from herdmaster.core.names import parse_worker_name

    for name in names:
        if parse_worker_name(name) is None:
            raise click.BadParameter(f"{name!r} is not the name of a worker, such as worker-01ab", param_hint="WORKER")


def _say_asked(name: str, record: WorkerRecord, *, as_json: bool) -> None:
    if as_json:
        _say_json(name, record.state)
        return
    texts = {"drain": "drains: see `herd workers`, or wait with --wait", "stop": "drains and stops"}
    say(f"{name} {texts.get(record.request or '', 'takes tasks again')}")


def _say_json(name: str, state: str) -> None:
    import msgspec

    say_json(msgspec.json.encode({"worker": name, "state": state}))


async def _wait(client: Client, name: str, record: WorkerRecord, *, as_json: bool) -> str | None:
    """Show how far the worker is until it has drained. Return what went wrong."""
    from herdmaster.operations.workers import find_successor, watch_drain

    shown = ""
    async for seen in watch_drain(client, name):
        text = _describe(seen)
        if text != shown and not seen.is_drained:
            shown = text
            say(f"{name}: {text}", err=True)
    if seen.state is None:
        successor = await find_successor(client, record)
        if successor is not None:
            return f"{name} lost its session before it was told; the same process is now {successor}: ask that one"
        if seen.left:
            return f"{name} is gone and left {seen.left} tasks, which the primary gives to other workers"
    if as_json:
        _say_json(name, seen.state or "gone")
    else:
        say(f"{name} has drained" + ("" if seen.state is not None else ", and is gone"))
    return None


def _describe(seen: DrainSeen) -> str:
    """Return how far the worker is, without times, so that the text changes only with the tasks."""
    tasks = "1 task is left" if seen.left == 1 else f"{seen.left} tasks are left"
    shown = [f"{each.task} ({each.call or 'raw'})" for each in seen.running[:_SHOWN]]
    more = len(seen.running) - len(shown)
    return f"{tasks}; running: {', '.join(shown)}{f' and {more} more' if more else ''}" if shown else tasks
