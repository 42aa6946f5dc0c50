"""Acts on many tasks: shows a bar on a terminal, and a line for each task elsewhere."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from herdmaster.cli.failures import INTERRUPTED
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.session import Session

if TYPE_CHECKING:
    from herdmaster.zookeeper.client import Client

T = TypeVar("T")

_MANY: Final = 20
"""More tasks than this have a bar."""


class Line(NamedTuple):
    """What became of one task, for people and as the fields of a JSON object. It `is_bad` if that was not wanted."""

    text: str
    fields: dict[str, Any]
    is_bad: bool = False


def act_on_all(
    session: Session,
    names: list[str],
    act: Callable[[Client, list[str]], AsyncIterator[tuple[str, T]]],
    line_of: Callable[[str, T], Line],
    *,
    as_json: bool = False,
) -> None:
    """Print a line for each result that `act` yields. Exits with 130 after Ctrl-C, and says how many are done.

    Where a bar is shown, lines that would go to the same terminal are left out, and bad ones follow after the bar.
    """
    has_bar = len(names) > _MANY and sys.stderr.isatty()
    is_quiet = has_bar and sys.stdout.isatty()
    held: list[str] = []
    done = 0

    async def work(client: Client) -> None:
        nonlocal done
        with click.progressbar(length=len(names), file=sys.stderr, hidden=not has_bar, show_pos=True) as bar:
            async for name, result in act(client, names):
                line = line_of(name, result)
                done += 1
                if line.is_bad and has_bar:
                    held.append(line.text)
                elif as_json or not is_quiet:
                    _print(name, line, as_json=as_json)
                bar.update(1)

    try:
        session.run(work)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {done} of {len(names)} are done; the same command does the rest", err=True)
        click.get_current_context().exit(INTERRUPTED)
    finally:
        for text in held:
            say(text, err=True)
    if is_quiet:
        click.echo(f"{done - len(held)} of {len(names)} are done", err=True)


def _print(name: str, line: Line, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        say_json(msgspec.json.encode({"task": name, **line.fields}))
    else:
        say(line.text, err=line.is_bad)
