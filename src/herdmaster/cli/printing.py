"""Output for people. Text from outside (errors, notes, names) must not control the terminal that shows it."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from herdmaster.inspection.reading import Unreadable


def plain(text: str) -> str:
    """Return the text with an escape, such as `\\x1b`, for each character that would control the terminal.

    Colours stay, and end with their line.
    """
    from herdmaster.core.printable import escaped

    return escaped(text, keeps_colours=True)


def say_left_out(unreadable: Unreadable) -> None:
    """Print to stderr what a listing left out, if anything."""
    if unreadable:
        say(f"{unreadable}", err=True)


def log_of(host: str, pid: int) -> str:
    """Return where a process runs, and where its log is: on its stderr, which systemd keeps by process id."""
    return f"process {pid} on {host}; its log is its stderr, under systemd `journalctl _PID={pid}` there"


def say(text: str, *, err: bool = False) -> None:
    """Print the text as one line; without colours if the stream is not a terminal."""
    click.echo(plain(text.replace("\n", "\\n")), err=err)


def say_lines(text: str, *, err: bool = False, file: IO[Any] | None = None) -> None:  # Any is click's own
    """As `say`, for a text whose line ends are meant."""
    click.echo(plain(text), err=err, file=file)


def say_json(data: bytes) -> None:
    """Print JSON. What it holds from outside does not steer a terminal."""
    from herdmaster.core.printable import escaped_json

    click.echo(escaped_json(data))
