"""Errors of commands: one line on stderr, and an exit code of docs/reference.md."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import IO, Any, Final

import click

from herdmaster.cli.printing import say_lines
from herdmaster.cli.streams import discard_output, flush_output, is_from_output
from herdmaster.errors import HerdError

INTERRUPTED: Final = 128 + signal.SIGINT
_PIPE_CLOSED: Final = 128 + signal.SIGPIPE


class Failed(click.ClickException):
    """A command that was used correctly and could not be carried out: exit code 1."""

    def __init__(self, message: str, command: str | None = None) -> None:
        """`command` is the one that fails, as it was typed; without it, the command that runs."""
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self.command = command or (context.command_path if context is not None else "herd")

    def show(self, file: IO[Any] | None = None) -> None:  # Any is click's own
        say_lines(f"{self.command}: {self.message}", file=file or sys.stderr)


class Refused(Failed):
    """A command that was used incorrectly: exit code 2."""

    exit_code = 2


@contextlib.contextmanager
def errors_in_one_line(ctx: click.Context) -> Iterator[None]:
    """Turn an expected error into one line and an exit code. Any other error is a bug and keeps its traceback."""
    try:
        yield
        flush_output()
    except click.UsageError as error:
        command = (error.ctx or ctx).command_path
        message = error.format_message()
        stop = "" if message.endswith(("?", "?)", ".")) else "."
        raise Refused(f"{message}{stop} See `{command} --help`.", command) from None
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    except click.Abort as error:  # of a question that was not answered
        if isinstance(error.__context__, KeyboardInterrupt):
            ctx.exit(INTERRUPTED)
        raise
    except HerdError as error:
        # A caller's mistake is also a ValueError or a TypeError.
        kind = Refused if isinstance(error, (ValueError, TypeError)) else Failed
        raise kind(str(error), _command_of(ctx)) from None
    except OSError as error:
        if not is_from_output(error):
            raise
        discard_output()
        if isinstance(error, BrokenPipeError):
            ctx.exit(_PIPE_CLOSED)
        raise Failed(f"the output cannot be written: {error.strerror}", _command_of(ctx)) from None


def _command_of(ctx: click.Context) -> str:
    return ctx.command_path if ctx.invoked_subcommand is None else f"{ctx.command_path} {ctx.invoked_subcommand}"
