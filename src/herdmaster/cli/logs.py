"""Log lines on stderr, as text for people or as JSON for programs."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import threading
from datetime import UTC, datetime
from functools import partial
from typing import IO, Final

import click

from herdmaster.cli.printing import say
from herdmaster.core.printable import escaped, indented, printable
from herdmaster.pools import own_loggers
from herdmaster.pools.log_thread import Deferral
from herdmaster.pools.outlets import (
    FAREWELL_SECONDS,
    add_room,
    flush_standard_streams,
    free_standard_streams,
    own_stderr,
)
from herdmaster.running import log_fields
from herdmaster.running.log_fields import fields_of

_CONNECTING: Final = "herdmaster.connecting"
_LOGGERS: Final = (
    "asyncio",
    "herdmaster",
    *(f"herdmaster.{name}" for name in ("client", "master", "task", "worker", "zookeeper")),
)
"""The loggers that a process with a session uses on its main thread."""

_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}


_begins_like_text: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.|<\d+>").match
"""The begin of a line of text logs, or a priority for systemd such as `<3>`."""


class TextFormatter(logging.Formatter):
    """A formatter of lines such as `2026-03-01 12:00:00.123 INFO master: elected: ...`, in local time. With `task`, a
    message from inside a task begins with `[task-... shop:area, attempt 1]`.

    Messages and tracebacks hold text from outside. What would steer a terminal is escaped, and lines after the first
    are indented, so that none of them can be taken for a line of the log.
    """

    def __init__(self, *, colour: bool, task: bool = False) -> None:
        super().__init__()
        self._colour = colour
        self._task = task

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")[:23]
        level = record.levelname
        if self._colour:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{_PLAIN}"
        # Code that masters and workers share logs as `herdmaster`, and its lines begin with the kind of role.
        source = "" if record.name == "herdmaster" else f"{record.name.removeprefix('herdmaster.')}: "
        text = f"{source}{self._task_of(record)}{record.getMessage()}"
        exception = _exception_of(self, record)
        if exception:
            text = f"{text}\n{exception}"
        return f"{when} {level} {indented(escaped(text))}"

    def _task_of(self, record: logging.LogRecord) -> str:
        fields = fields_of(record) if self._task else {}
        if not fields or record.getMessage().startswith(str(fields["task"])):  # the line is about it, and names it
            return ""
        call = f" {printable(str(fields['call']))}" if fields["call"] else ""
        return f"[{fields['task']}{call}, attempt {fields['attempt']}] "


def looks_like_text(line: str) -> bool:
    """Return whether a printed line could be taken for one of the text log."""
    return _begins_like_text(line) is not None


def looks_like_json(line: str) -> bool:
    """Return whether a printed line could be taken for one of Herdmaster's in the JSON log, or has a priority for
    systemd. The app may print JSON lines of its own loggers."""
    if not line.lstrip().startswith("{"):
        return line.startswith("<") and looks_like_text(line)
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(read, dict) and str(read.get("logger", "")).startswith("herdmaster")


class JsonFormatter(logging.Formatter):
    """A formatter of one object per line: `time` (UTC), `level`, `logger`, `message`, `exception` if any, and `task`,
    `call`, `queue` and `attempt` inside a task."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        exception = _exception_of(self, record)
        if exception:
            line["exception"] = exception
        return json.dumps(line)


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    """Return the traceback. A record from a process of the pool has only its text."""
    return formatter.formatException(record.exc_info) if record.exc_info else record.exc_text


def configure_logs(level: str, style: str) -> None:
    """Send the logs of a command to stderr. Print connection problems at every level, without the time."""
    _configure(level, style)
    logger = logging.getLogger(_CONNECTING)
    context = click.get_current_context(silent=True)
    handler = _TellingHandler(_words_of(context) if context is not None else "herd")
    if style == "json":
        handler.setFormatter(JsonFormatter())
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(handler)

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True

    if context is not None:
        context.call_on_close(end)


def _words_of(context: click.Context) -> str:
    """Return the command as it was typed, also if it invokes another command."""
    while context.parent is not None and not isinstance(context.parent.command, click.Group):
        context = context.parent
    return context.command_path


class _TellingHandler(logging.Handler):
    """A handler that prints messages as output of the command, or by its formatter."""

    def __init__(self, command: str) -> None:
        super().__init__(logging.WARNING)
        self._command = command

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{self._command}: {record.getMessage()}" if self.formatter is None else self.format(record)
        with contextlib.suppress(OSError):  # a stderr that cannot be written must not end the session that logs
            say(text, err=True)


def _configure(level: str, style: str, *, task: bool = False) -> None:
    """Send all logs of this process to stderr, also the app's. The app may still configure logging differently."""
    handler = _make_handler(style, task=task)
    if handler is not None:
        logging.basicConfig(level=level.upper(), handlers=[handler])


def _make_handler(style: str, *, task: bool = False) -> logging.Handler | None:
    """Return a handler for stderr; None if stderr is closed."""
    stream = own_stderr()
    if stream is None:
        return None
    handler = logging.StreamHandler(stream)
    text = TextFormatter(colour=wants_colour(stream), task=task)
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    return handler


class RoleLogs:
    """The logs of a process that keeps a session.

    A reader of the output that stalls does not block the process. The app's configuration does not silence Herdmaster's
    lines, unless it names `herdmaster`: by default `logging.config.dictConfig` disables every logger that it does not
    name, and it may replace the handlers and the level of the root logger.
    """

    def __init__(self, level: str, style: str, *, task: bool = False) -> None:
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._style = style
        self._task = task
        self._deferral: Deferral | None = None

    def configure(self) -> None:
        import logging.config

        free_standard_streams(looks_like_json if self._style == "json" else looks_like_text)
        log_fields.install()
        deferral = self._deferral = Deferral(_is_main_thread)
        add_room(deferral.has_room)
        # Replaced by the same with a time limit: a handler that blocks holds its lock.
        atexit.unregister(logging.shutdown)
        atexit.register(finish_role_logs)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(deferral)
        _configure(logging.getLevelName(self._level), self._style, task=self._task)
        restore = self.restore

        class Configurator(logging.config.DictConfigurator):
            def configure(self) -> None:
                super().configure()
                restore()

        # The hook of the library. The app may configure logging at any time, also in a task.
        logging.config.dictConfigClass = Configurator

    def finish(self) -> None:
        if self._deferral is not None:
            self._deferral.finish(FAREWELL_SECONDS)

    def end(self) -> None:
        """Undo `configure` at the end of the command: the process may go on, as in a test."""
        import logging.config

        if self._deferral is not None:
            self._deferral.drain(FAREWELL_SECONDS)
            for name in _LOGGERS:
                logging.getLogger(name).removeFilter(self._deferral)
        logging.config.dictConfigClass = logging.config.DictConfigurator
        log_fields.uninstall()

    def restore(self) -> None:
        own_loggers.restore(self._level, partial(_make_handler, self._style, task=self._task))


def _is_main_thread() -> bool:
    """Say whether this is the thread that keeps the session of a role."""
    return threading.current_thread() is threading.main_thread()


_role_logs: RoleLogs | None = None


def configure_role_logs(level: str, style: str, *, task: bool = False) -> None:
    global _role_logs  # noqa: PLW0603 - as is what it configures
    _role_logs = RoleLogs(level, style, task=task)
    _role_logs.configure()
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(_role_logs.end)


def finish_role_logs() -> None:
    """Wait briefly for handlers and readers at the end of the process."""
    if _role_logs is not None:
        _role_logs.finish()
    else:
        logging.shutdown()
    flush_standard_streams()


def restore_role_logs() -> None:
    """Restore Herdmaster's loggers after the import of the app, which may have configured logging."""
    if _role_logs is not None:
        _role_logs.restore()


def wants_colour(stream: IO[str]) -> bool:
    """Return whether the stream is a terminal with colours, and $NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
