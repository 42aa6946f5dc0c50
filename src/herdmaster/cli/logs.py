"""Log lines on stderr: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import IO, Final

from herdmaster.pools.outlets import free_standard_streams, own_stderr

_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}


class TextFormatter(logging.Formatter):
    """`2026-03-01 12:00:00.123 INFO master: elected: ...`, local time."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")[:23]
        level = record.levelname
        if self._colour:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{_PLAIN}"
        # What masters and workers share logs as `herdmaster`, and begins its lines with the role's kind.
        source = "" if record.name == "herdmaster" else f"{record.name.removeprefix('herdmaster.')}: "
        lines = [f"{when} {level} {source}{record.getMessage()}"]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (UTC), `level`, `logger`, `message`, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logs(level: str, style: str) -> None:
    """What this process logs goes to stderr, the app's own lines included. An app may still configure it otherwise."""
    stream = own_stderr()
    if stream is None:
        return  # closed: there is no one to tell
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter(colour=wants_colour(stream)))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def configure_role_logs(level: str, style: str) -> None:
    """The same for a process that keeps a session: a reader of its output that stands still does not hold it up."""
    free_standard_streams()
    configure_logs(level, style)


def wants_colour(stream: IO[str]) -> bool:
    """Only on a terminal that can, and not where $NO_COLOR says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
