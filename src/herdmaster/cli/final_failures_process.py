"""The process that a master starts to call `on_final_failure`: reads ends of tasks from its standard input.

Each line is an `AttemptEnd` as JSON. The process ends at the end of its input. It outlasts the signals that stop its
master, which closes the input.
"""

from __future__ import annotations

import logging
import os
import threading
from contextvars import Context
from pathlib import Path
from typing import IO, Final

import click
import msgspec

from herdmaster.api.internals import core_of
from herdmaster.cli.failures import errors_in_one_line
from herdmaster.cli.logs import configure_role_logs, finish_role_logs, restore_role_logs
from herdmaster.cli.named_app import load_named_app
from herdmaster.cli.options import app_option, import_option, log_options
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.pools import signals
from herdmaster.roles.worker.error_calls import MOST_THREADS, EndedTask, final_error
from herdmaster.running.current import running_now
from herdmaster.running.hooks import Hooks, call_on_final_failure

COMMAND: Final = "herd master --app"

_log = logging.getLogger("herdmaster.master")


class Calls:
    """The calls of the hooks, on a few threads. Each thread reads an end only when it is free to call the hooks, so the
    master sees how many wait."""

    def __init__(self, hooks: Hooks, lines: IO[bytes]) -> None:
        self._hooks = hooks
        self._lines = lines
        self._lock = threading.Lock()

    def run(self) -> None:
        """Return at the end of the input, when all calls have ended."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(MOST_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while line := self._next():
            Context().run(self._call, msgspec.json.decode(line, type=AttemptEnd))

    def _next(self) -> bytes:
        with self._lock:
            return self._lines.readline()

    def _call(self, end: AttemptEnd) -> None:
        error = final_error(end)
        if error is not None:
            task = EndedTask(end)
            running_now.set(task)
            call_on_final_failure(self._hooks, task, error)


def _take_input() -> IO[bytes]:
    """Return what comes on the standard input, and leave an empty one to programs that the hooks start."""
    lines = os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return lines


@click.command
@app_option("", required=True)
@import_option
@log_options("info")
@click.pass_context
def main(ctx: click.Context, *, app: str, imports: tuple[str, ...], log_level: str, log_format: str) -> None:
    """Call the hooks of an app."""
    signals.outlast()
    lines = _take_input()
    with errors_in_one_line(ctx):
        configure_role_logs(log_level, log_format)
        hooks = core_of(load_named_app(app, imports)).registry.hooks
        restore_role_logs()
        if hooks.on_final_failure is None:
            _log.warning("app %s has no on_final_failure hook, so --app has no effect", app)
        Calls(hooks, lines).run()
        finish_role_logs()


if __name__ == "__main__":
    main(prog_name=COMMAND)
