"""`herd dead`: the tasks that were given up on, and what is to become of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

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
from herdmaster.cli.tasks import check_task, list_, show

if TYPE_CHECKING:
    from herdmaster.zookeeper.client import Client


@click.group(cls=ListingGroup)
def dead() -> None:
    """Look at dead tasks, run them again, or take them away. Without a command: list.

    A task is dead when the last of several attempts failed, or when too many workers were lost with it. Masters sweep
    it after 30 days.
    """


@dead.command("list")
@hosts_argument
@click.option("--queue", metavar="NAME", help="Only of this queue.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="Only those submitted so long ago, such as 7d.")
@click.option(
    "--limit", type=click.IntRange(0), default=1000, show_default=True, metavar="N", help="At most so many; 0: all."
)
@json_option
@connect_timeout_option(10)
@log_options("warning")
@click.pass_context
def list_dead(ctx: click.Context, /, **options: object) -> None:
    """List dead tasks, oldest first."""
    ctx.invoke(list_, states=("dead",), **options)


dead.add_command(show)


@dead.command
@click.argument("task", nargs=-1)
@zookeeper_option
@click.option("--all", "everything", is_flag=True, help="All of them, or all of --queue.")
@click.option("--queue", metavar="NAME", help="With --all: only of this queue.")
@click.option("--without-key", is_flag=True, help="Leave its uniqueness key alone, also where it is free.")
@connect_timeout_option(10)
@log_options("warning")
def replay(
    *,
    task: tuple[str, ...],
    hosts: str | None,
    everything: bool,
    queue: str | None,
    without_key: bool,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run dead tasks again, under new names, which are printed. Their attempts are counted from 1 again.

    A task that had a uniqueness key takes it again. One whose key another task holds by now is left alone, and the exit
    code is 1: release that key first, or say --without-key.
    """
    from herdmaster.cli.logs import configure_logs
    from herdmaster.core.names import UlidFactory, renewed_name
    from herdmaster.operations import actions

    configure_logs(log_level, log_format)
    chosen = _Chosen(task, everything, queue)
    chosen.check()
    ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)

    held = 0

    async def act(client: Client, name: str) -> str | None:
        nonlocal held
        new = renewed_name(name, ulids.new())
        try:
            is_replayed = await actions.replay(client, name, new, with_key=not without_key)
        except actions.KeyHeld as error:
            held += 1
            return f"{name}: stays dead, because {error.holder} holds its key by now"
        return f"{name}: runs again as {new}" if is_replayed else None

    _for_each(chosen, hosts, connect_timeout, act)
    if held:
        raise Failed(
            "replay with --without-key what is to run beside the task that holds its key, or see `herd keys release`",
            "herd dead",
        )


@dead.command
@click.argument("task", nargs=-1)
@zookeeper_option
@click.option("--all", "everything", is_flag=True, help="All of them, or all of --queue.")
@click.option("--queue", metavar="NAME", help="With --all: only of this queue.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="With --all: only those submitted so long ago.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connect_timeout_option(10)
@log_options("warning")
def purge(
    *,
    task: tuple[str, ...],
    hosts: str | None,
    everything: bool,
    queue: str | None,
    older_than: float | None,
    yes: bool,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Take dead tasks away for good."""
    from herdmaster.cli.logs import configure_logs
    from herdmaster.operations import actions

    configure_logs(log_level, log_format)
    chosen = _Chosen(task, everything, queue, older_than)
    chosen.check()
    if everything and not yes:
        click.confirm("Take them all away? They cannot be replayed then", abort=True)

    async def act(client: Client, name: str) -> str | None:
        return f"{name}: purged" if await actions.purge(client, name) else None

    _for_each(chosen, hosts, connect_timeout, act)


class _Chosen(NamedTuple):
    """The tasks that are named, or all that fit."""

    tasks: tuple[str, ...]
    everything: bool
    queue: str | None
    older_than: float | None = None

    def check(self) -> None:
        """Raises usage errors."""
        if bool(self.tasks) is self.everything:
            raise click.UsageError("name the tasks, or say --all")
        if not self.everything and (self.queue is not None or self.older_than is not None):
            raise click.UsageError("--queue and --older-than go with --all")
        for name in self.tasks:
            check_task(name)

    async def names(self, client: Client) -> list[str]:
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


def _for_each(
    chosen: _Chosen, hosts: str | None, connect_timeout: float, act: Callable[[Client, str], Awaitable[str | None]]
) -> None:
    from herdmaster.cli.session import in_session
    from herdmaster.errors import HerdError
    from herdmaster.zookeeper.errors import ServerError

    failures = 0

    async def work(client: Client) -> int:
        nonlocal failures
        missed = 0
        names = await chosen.names(client)
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

    missed = in_session(hosts, connect_timeout, work)
    if failures:
        raise Failed(f"{failures} of them could not be dealt with: see above", "herd dead")
    if missed and not chosen.everything:
        raise Failed("some are not dead, or not any more: `herd tasks show TASK` tells where a task is", "herd dead")
