"""What goes wrong ends with one line on stderr, and a code: 1 it could not be done, 2 it was asked for wrongly."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import IO, Any, Final

import click

from herdmaster.cli.saying import say
from herdmaster.cli.streams import CANNOT_WRITE, discard_output, flush_output
from herdmaster.errors import HerdError

INTERRUPTED: Final = 128 + signal.SIGINT
_PIPE_CLOSED: Final = 128 + signal.SIGPIPE


class Failed(click.ClickException):
    """It was asked for rightly and could not be done."""

    def __init__(self, message: str, command: str = "herd") -> None:
        super().__init__(message)
        self.command = command

    def show(self, file: IO[Any] | None = None) -> None:  # Any is click's own
        say(f"{self.command}: {self.message}", file=file or sys.stderr)


class Refused(Failed):
    """It was asked for in a way that cannot work."""

    exit_code = 2


@contextlib.contextmanager
def errors_in_one_line(ctx: click.Context) -> Iterator[None]:
    """Turns what is expected to go wrong into one line and an exit code; anything else is a fault and keeps its
    traceback."""
    try:
        yield
        flush_output()
    except click.UsageError as error:
        command = (error.ctx or ctx).command_path
        message = error.format_message()
        stop = "" if message.endswith(("?", "?)", ".")) else "."
        raise Refused(f"{message}{stop} `{command} --help` says what there is.", command) from None
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    except BrokenPipeError:
        discard_output()
        ctx.exit(_PIPE_CLOSED)
    except HerdError as error:
        # In the tree of errors a caller's mistake is a ValueError or TypeError as well.
        kind = Refused if isinstance(error, (ValueError, TypeError)) else Failed
        raise kind(str(error), _command_of(ctx)) from None
    except OSError as error:
        if error.errno not in CANNOT_WRITE or error.filename is not None:
            raise
        discard_output()
        raise Failed(f"what it prints cannot be written: {error.strerror}", _command_of(ctx)) from None


def _command_of(ctx: click.Context) -> str:
    return ctx.command_path if ctx.invoked_subcommand is None else f"{ctx.command_path} {ctx.invoked_subcommand}"
