"""`herd keys`: show which task holds which uniqueness key, and release keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ShowingGroup
from herdmaster.cli.options import C, json_option
from herdmaster.cli.printing import say, say_json, say_left_out
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.operations.keys import KeySeen, Released
    from herdmaster.zookeeper.client import Client


@click.group(cls=ShowingGroup)
def keys() -> None:
    """Show and release the keys of unique tasks. Without a command: show.

    KEY is the text of `key=`, or its hash as `herd keys show` prints it.
    """


def _common(command: C) -> C:
    return click.option(
        "--call", metavar="MODULE:FUNCTION", help="Only keys of this function.  [default: of any, and global keys]"
    )(session_options()(command))


@keys.command
@click.argument("key", required=False)
@json_option
@_common
def show(*, key: str | None, call: str | None, as_json: bool, session: Session) -> None:
    """Show the keys that are held, or only KEY, and their tasks. Exits with 1 if KEY is free.

    Keys of tasks that an older version submitted are shown by their hash.
    """
    import msgspec

    async def work(client: Client) -> list[KeySeen]:
        return await _find(client, key, call)

    found = session.run(work)
    now = time.time_ns() // 1_000_000
    if found and not as_json:
        say(click.style(f"{'AGE':>5}  {'KEY':<34}  {'CALL':<30}  TASK", bold=True))
    for seen in found:
        say_json(msgspec.json.encode(seen)) if as_json else say(_row(seen, now))
    if not found and key is not None:
        raise Failed(f"no task holds {_described(key, call)}")
    if not found and not as_json:
        click.echo("no task holds a key", err=True)


@keys.command
@click.argument("key")
@_common
def release(*, key: str, call: str | None, session: Session) -> None:
    """Take KEY from the task that holds it. The next submission with KEY makes a new task.

    The holder goes on, or keeps its outcome, without the key. Exits with 1 if no task holds it.
    """
    from herdmaster.operations import keys as held_keys

    async def work(client: Client) -> Released | None:
        found = await _find(client, key, call)
        if len(found) > 1:
            calls = ", ".join(sorted(_scope(seen) for seen in found))
            raise click.UsageError(f"{len(found)} tasks hold a key {key!r}: choose one with --call, of {calls}")
        return await held_keys.release(client, found[0].hash) if found else None

    released = session.run(work)
    if released is None:
        raise Failed(f"no task holds {_described(key, call)}: `herd keys show` lists those that are held")
    state = "exists no more" if released.state is None else f"is {released.state.value}"
    say(f"released: {released.task}, which {state}, held it")


async def _find(client: Client, key: str | None, call: str | None) -> list[KeySeen]:
    """Return the keys that are held and fit, oldest first. Raises Failed if there are none, as far as this session may
    look."""
    from herdmaster.cli.call_options import check_call
    from herdmaster.inspection.reading import Unreadable
    from herdmaster.operations.keys import find_key, list_keys

    if call is not None:
        check_call(call)
        if key is not None:
            seen = await find_key(client, key, call)
            if seen is not None:
                return [seen]
    unreadable = Unreadable()
    every = [seen async for seen in list_keys(client, unreadable)]
    wanted = [seen for seen in every if (key is None or seen.is_named(key)) and (call is None or seen.call == call)]
    if unreadable and not wanted:
        described = "a key" if key is None else _described(key, call)
        raise Failed(f"whether a task holds {described} is unknown: {unreadable}")
    say_left_out(unreadable)
    return sorted(wanted, key=lambda seen: (seen.since, seen.hash))


def _row(seen: KeySeen, now: int) -> str:
    from herdmaster.cli.tasks import age

    key = f"({seen.hash})" if seen.key is None else " ".join(seen.key.split())
    return f"{age(seen.since, now):>5}  {key:<34}  {_scope(seen):<30}  {seen.task}"


def _scope(seen: KeySeen) -> str:
    if seen.call is None:
        return "(older version)"
    return seen.call if seen.scope == "call" else f"{seen.call} (global)"


def _described(key: str, call: str | None) -> str:
    return f"the key {key!r}" + (f" of {call}" if call is not None else "")
