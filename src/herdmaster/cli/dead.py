"""`herd dead`: list dead tasks, replay them, purge them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import Duration, json_option
from herdmaster.cli.printing import say, say_left_out
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.tasks import check_task, filter_options, list_tasks, show

if TYPE_CHECKING:
    from herdmaster.zookeeper.client import Client


@click.group(cls=ListingGroup)
def dead() -> None:
    """List, replay and purge dead tasks. Without a command: list.

    A task is dead when the last of several attempts failed, or when too many workers were lost with it. Masters sweep
    dead tasks after 30 days.
    """


@dead.command("list")
@filter_options
@json_option
@session_options(positional=True)
def list_(**options: Any) -> None:  # as `list_tasks`
    """List dead tasks, oldest first."""
    list_tasks(("dead",), **options)


dead.add_command(show)


@dead.command
@click.argument("task", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead tasks, or all of --queue.")
@click.option("--queue", metavar="NAME", help="With --all: only tasks of this queue.")
@click.option("--without-key", is_flag=True, help="Do not take the task's uniqueness key again, even if it is free.")
@session_options()
def replay(*, task: tuple[str, ...], everything: bool, queue: str | None, without_key: bool, session: Session) -> None:
    """Run dead tasks again, under new names, which are printed. Their attempts are counted from 1 again.

    A task that had a uniqueness key takes it again. If another task holds the key by now, the dead task stays dead and
    the exit code is 1: release the key first, or give --without-key.
    """
    from herdmaster.core.names import UlidFactory, renewed_name
    from herdmaster.operations import actions

    selection = _select(task, everything, queue)
    ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
    held = 0

    async def act(client: Client, name: str) -> str | None:
        nonlocal held
        new = renewed_name(name, ulids.new())
        try:
            is_replayed = await actions.replay(client, name, new, with_key=not without_key)
        except actions.KeyHeld as error:
            held += 1
            return f"{name}: stays dead, because {error.holder} holds its key"
        return f"{name}: runs again as {new}" if is_replayed else None

    _for_each(selection, session, act)
    if held:
        raise Failed("give --without-key to run a task beside the one that holds its key, or see `herd keys release`")


@dead.command
@click.argument("task", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead tasks, or all of --queue.")
@click.option("--queue", metavar="NAME", help="With --all: only tasks of this queue.")
@click.option(
    "--older-than", type=Duration(), metavar="TIME", help="With --all: only tasks submitted before this time."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@session_options()
def purge(
    *,
    task: tuple[str, ...],
    everything: bool,
    queue: str | None,
    older_than: float | None,
    yes: bool,
    session: Session,
) -> None:
    """Delete dead tasks for good."""
    from herdmaster.operations import actions

    selection = _select(task, everything, queue, older_than)
    if everything and not yes:
        _confirm()

    async def act(client: Client, name: str) -> str | None:
        return f"{name}: purged" if await actions.purge(client, name) else None

    _for_each(selection, session, act)


def _confirm() -> None:
    """Raises Failed where there is no one to ask, Abort for a no."""
    try:
        click.confirm("Delete them all? They cannot be replayed afterwards", abort=True, err=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError):
            raise Failed("nothing was deleted: confirm with --yes") from None
        raise


class _Selection(NamedTuple):
    """The tasks that are named, or all dead tasks of a queue or of an age (in seconds)."""

    tasks: tuple[str, ...]
    everything: bool
    queue: str | None
    older_than: float | None = None

    async def names(self, client: Client) -> list[str]:
        """Return the names of the tasks."""
        from herdmaster.inspection.reading import Unreadable
        from herdmaster.inspection.tasks import Inspector, TaskState

        if not self.everything:
            return list(self.tasks)
        before = None if self.older_than is None else time.time_ns() // 1_000_000 - int(self.older_than * 1000)
        unreadable = Unreadable()
        dead_tasks = Inspector(client, unreadable).list_tasks(
            frozenset({TaskState.DEAD}), queue=self.queue, before_ms=before
        )
        names = [seen.name async for seen in dead_tasks]
        say_left_out(unreadable)
        return names


def _select(tasks: tuple[str, ...], everything: bool, queue: str | None, older_than: float | None = None) -> _Selection:
    """Raise a usage error if the options contradict each other, or one of the names is not a task's."""
    if bool(tasks) is everything:
        raise click.UsageError("name the tasks, or give --all")
    if not everything and (queue is not None or older_than is not None):
        raise click.UsageError("--queue and --older-than need --all")
    for name in tasks:
        check_task(name)
    return _Selection(tasks, everything, queue, older_than)


def _for_each(selection: _Selection, session: Session, act: Callable[[Client, str], Awaitable[str | None]]) -> None:
    """Print what `act` returns for each task; None means that the task is not dead. Raises Failed for failures."""
    from herdmaster.errors import HerdError
    from herdmaster.zookeeper.errors import ServerError

    failures = 0

    async def work(client: Client) -> int:
        nonlocal failures
        missed = 0
        names = await selection.names(client)
        for name in names:
            try:
                text = await act(client, name)
            except HerdError as error:  # the other tasks still have their turn
                failures += 1
                say(f"{name}: stays dead: {error}" if isinstance(error, ServerError) else f"{error}", err=True)
                continue
            missed += text is None
            click.echo(f"{name}: is not dead" if text is None else text, err=text is None)
        if not names:
            click.echo("no dead tasks", err=True)
        return missed

    missed = session.run(work)
    if failures:
        raise Failed(f"{failures} of the tasks failed: see above")
    if missed and not selection.everything:
        raise Failed("not all of these tasks are dead: `herd tasks show TASK` says where a task is")
