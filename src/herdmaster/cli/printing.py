"""Lines for people. What others wrote (an error's text, a note, a name) must not steer the terminal that shows it."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from herdmaster.inspection.reading import Unreadable

_steering: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;]*m)"  # our own, from click.style; in a text of others it does no harm
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # controls, and what turns text around
)


def plain(text: str) -> str:
    """The text with what would move a cursor, set a title or turn its direction written as an escape, `\\x1b`."""
    return _steering.sub(lambda match: match["colour"] or ascii(match[0])[1:-1], text)


def say_left_out(unreadable: Unreadable) -> None:
    """Print to stderr what a listing left out, if anything."""
    if unreadable:
        say(f"{unreadable}", err=True)


def say(text: str, *, err: bool = False, file: IO[Any] | None = None) -> None:  # Any is click's own
    """Prints it, without colours where stdout is no terminal."""
    click.echo(plain(text), err=err, file=file)
