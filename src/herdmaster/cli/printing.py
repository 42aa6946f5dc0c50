"""Output for people. Text from outside (errors, notes, names) must not control the terminal that shows it."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from herdmaster.inspection.reading import Unreadable

_steering: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;]*m)"  # from click.style; harmless in text from outside
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # controls, changes of direction
)


def plain(text: str) -> str:
    """Return the text with an escape, such as `\\x1b`, for each character that would control the terminal."""
    return _steering.sub(lambda match: match["colour"] or ascii(match[0])[1:-1], text)


def say_left_out(unreadable: Unreadable) -> None:
    """Print to stderr what a listing left out, if anything."""
    if unreadable:
        say(f"{unreadable}", err=True)


def log_of(host: str, pid: int) -> str:
    """Return where a process runs, and where its log is: on its stderr, which systemd keeps by process id."""
    return f"process {pid} on {host}; its log is its stderr, under systemd `journalctl _PID={pid}` there"


def say(text: str, *, err: bool = False, file: IO[Any] | None = None) -> None:  # Any is click's own
    """Print the text; without colours if the stream is not a terminal."""
    click.echo(plain(text), err=err, file=file)
