"""`herd dead`: list dead tasks, replay them, purge them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.acting import Line, act_on_all
from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, json_option
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.task_options import Choice, Selection, confirm, filter_options, select
from herdmaster.cli.tasks import limit_option, list_tasks, show

if TYPE_CHECKING:
    from herdmaster.errors import HerdError
    from herdmaster.zookeeper.client import Client

_DEAD: Final = ("dead",)


@click.group(cls=ListingGroup)
def dead() -> None:
    """List, replay and purge dead tasks. Without a command: list.

    A task is dead when the last of several attempts failed, or when too many workers were lost with it. Masters sweep
    dead tasks after 30 days.
    """


@dead.command("list")
@filter_options()
@limit_option
@json_option
@session_options(positional=True)
def list_(**options: Any) -> None:  # as `list_tasks`
    """List dead tasks, oldest first."""
    list_tasks(_DEAD, **options)


dead.add_command(show)


def _selection(command: C) -> C:
    everything = click.option("--all", "everything", is_flag=True, help="All dead tasks that the filters leave.")
    return click.argument("task", nargs=-1)(everything(filter_options()(command)))


@dead.command
@_selection
@click.option("--without-key", is_flag=True, help="Do not take the task's uniqueness key again, even if it is free.")
@json_option
@session_options()
def replay(
    *,
    task: tuple[str, ...],
    everything: bool,
    choice: Choice,
    without_key: bool,
    as_json: bool,
    session: Session,
) -> None:
    """Run dead tasks again, under new names, which are printed. Their attempts are counted from 1 again.

    A task that had a uniqueness key takes it again. If another task holds the key by now, the dead task stays dead and
    the exit code is 1: release the key first, or give --without-key. A signed task is verified and signed anew, with
    the keys of the file that HERD_SIGNING_KEYS_FILE names.
    """
    from herdmaster.api.signing_keys import Signing
    from herdmaster.core.names import UlidFactory, renewed_name
    from herdmaster.operations import actions

    selection = select(task, choice, _DEAD, everything=everything)
    ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
    keyring = Signing().find_keyring()
    held = 0

    async def act(client: Client, name: str) -> Line:
        nonlocal held
        new = renewed_name(name, ulids.new())
        try:
            is_replayed = await actions.replay(client, name, new, with_key=not without_key, keyring=keyring)
        except actions.KeyHeld as error:
            held += 1
            return Line(f"{name}: stays dead, because {error.holder} holds its key", {"holder": error.holder})
        return Line(f"{name}: runs again as {new}", {"new": new}) if is_replayed else _not_dead(name)

    _for_each(selection, session, act, as_json=as_json)
    if held:
        raise Failed("give --without-key to run a task beside the one that holds its key, or see `herd keys release`")


@dead.command
@_selection
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@session_options()
def purge(
    *, task: tuple[str, ...], everything: bool, choice: Choice, yes: bool, as_json: bool, session: Session
) -> None:
    """Delete dead tasks for good. Asks on a terminal if they are not named one by one."""
    from herdmaster.operations import actions

    async def act(client: Client, name: str) -> Line:
        return Line(f"{name}: purged", {"purged": True}) if await actions.purge(client, name) else _not_dead(name)

    _for_each(
        select(task, choice, _DEAD, everything=everything),
        session,
        act,
        as_json=as_json,
        question=None if task or yes else "Delete {} for good? They cannot be replayed afterwards",
    )


def _not_dead(name: str) -> Line:
    return Line(f"{name}: is not dead", {"error": "is not dead"}, is_bad=True)


def _for_each(
    selection: Selection,
    session: Session,
    act: Callable[[Client, str], Awaitable[Line]],
    *,
    as_json: bool,
    question: str | None = None,
) -> None:
    """Print what became of each task. Raises Failed for failures, and for named tasks that are not dead."""
    from herdmaster.operations.many import for_each
    from herdmaster.zookeeper.errors import ServerError

    names = selection.names(session)
    if not names:
        click.echo("no dead tasks", err=True)
        return
    if question is not None:
        count = "1 dead task" if len(names) == 1 else f"{len(names)} dead tasks"
        confirm(question.format(count), is_confirmed=False, otherwise=f"nothing was deleted of {count}")
    failures = not_dead = 0

    def results(client: Client, names: list[str]) -> AsyncIterator[tuple[str, Line | HerdError]]:
        return for_each(names, lambda name: act(client, name))

    def line_of(name: str, result: Line | HerdError) -> Line:
        nonlocal failures, not_dead
        if isinstance(result, Line):
            not_dead += result.is_bad
            return result
        failures += 1  # the other tasks still have their turn
        text = f"{name}: stays dead: {result}" if isinstance(result, ServerError) else f"{result}"
        return Line(text, {"error": str(result)}, is_bad=True)

    act_on_all(session, names, results, line_of, as_json=as_json)
    if failures:
        raise Failed(f"{failures} of the tasks failed: see above")
    if not_dead and selection.tasks:
        raise Failed("not all of these tasks are dead: `herd tasks show TASK` says where a task is")
