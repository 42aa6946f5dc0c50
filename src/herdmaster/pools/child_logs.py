"""Sends the log records of a process of a pool to its parent, as lines on its standard error.

There they are in order with what is printed, the parent reads a bounded amount in each turn of its loop, and processes
that a task forks can write them as well. The parent passes each record to its own logger of that name, so that it
appears with its level among the lines of the worker.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from typing import Final

import msgspec

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools import own_loggers
from herdmaster.pools.output import MAX_LINE

MARK: Final = "\x1e"
"""Begins the mark of a record, as in RFC 7464. A mark may follow a line that a task has not ended. The rest of it is
secret, so that text which a task prints is never taken for a record."""

_STDERR: Final = 2
_MOST_NAME: Final = 100
_MOST_FIELD: Final = 200
_MOST_TEXT: Final = (MAX_LINE - 2048) // 12
"""Characters of the message and of the exception if they do not both fit. In JSON a character has up to six bytes."""
_CUT: Final = " ... (cut)"
_FIELDS: Final = ("herd_task", "herd_call", "herd_queue", "herd_attempt")
"""Attributes of a record that are passed on, if it has them: they tell the task that has logged it."""

_formatter: Final = logging.Formatter()


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    level: int
    created: float
    pid: int
    thread: str
    message: str
    exception: str | None = None
    fields: tuple[str | int, ...] = ()
    """The values of `_FIELDS`, none outside of a task."""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Record)


def new_mark() -> str:
    """Return the mark of the records of one pool."""
    return MARK + secrets.token_hex(8)


class ChildHandler(logging.Handler):
    """Writes each record to the descriptor of standard error, even if code has replaced `sys.stderr`."""

    mark = MARK

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _encode(record, self.mark)
            while line:
                line = line[os.write(_STDERR, line) :]
        except SoftTimeLimitExceeded:
            raise
        except OSError:
            pass  # the task has closed standard error
        except Exception:  # noqa: BLE001 - a bad log call must not end the task
            self.handleError(record)


def _encode(record: logging.LogRecord, mark: str) -> bytes:
    message = record.getMessage()
    exception = record.exc_text
    if exception is None and record.exc_info:
        exception = _formatter.formatException(record.exc_info)
    made = _Record(
        record.name[:_MOST_NAME],
        record.levelno,
        record.created,
        os.getpid(),
        str(record.threadName)[:_MOST_NAME],
        _clean(message),
        None if exception is None else _clean(exception),
        _fields_of(record),
    )
    line = _line(made, mark)
    if len(line) > MAX_LINE:
        short = None if exception is None else _shorten(exception)
        line = _line(msgspec.structs.replace(made, message=_shorten(message), exception=short), mark)
    return line


def _fields_of(record: logging.LogRecord) -> tuple[str | int, ...]:
    if not getattr(record, "herd_task", ""):
        return ()
    values = [getattr(record, name, "") for name in _FIELDS]
    return tuple(value[:_MOST_FIELD] if isinstance(value, str) else value for value in values)


def _line(made: _Record, mark: str) -> bytes:
    return mark.encode() + _encoder.encode(made) + b"\n"


def _clean(text: str) -> str:
    """Escape lone surrogates, which file names may have and JSON may not."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + _CUT


_handler: Final = ChildHandler()


def install(level: int, mark: str) -> None:
    """Install the handler in a child, before it imports the app, which may configure logging. `level` is that of the
    parent, which gives the mark."""
    _handler.mark = mark
    root = logging.getLogger()
    root.addHandler(_handler)
    root.setLevel(level)


def restore(level: int) -> None:
    """Restore Herdmaster's loggers in a child, after it has imported the app. `level` is the parent's."""
    own_loggers.restore(level, lambda: _handler)


def relay(line: str, mark: str) -> str:
    """Log, in the parent, the record in a line of a child's standard error. Return the rest of the line."""
    text, found, data = line.partition(mark)
    if not found:
        return line
    try:
        made = _decoder.decode(data)
    except msgspec.MsgspecError:
        return line  # another process has written into it
    logger = logging.getLogger(made.name)
    if logger.isEnabledFor(made.level):
        record = logger.makeRecord(made.name, made.level, "", 0, made.message, (), None)
        record.created, record.msecs = made.created, made.created % 1 * 1000
        record.process, record.threadName, record.exc_text = made.pid, made.thread, made.exception
        for name, value in zip(_FIELDS, made.fields, strict=False):
            setattr(record, name, value)
        _handle(logger, record)
    return text


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Handle a record with the handlers that write to a console. The child has the app's other handlers as well, and
    they have handled the record there."""
    consoles = [each for each in _handlers_of(logger) if _is_console(each)]
    if not consoles:
        logger.handle(record)
    elif not logger.disabled and logger.filter(record):
        for handler in consoles:
            if record.levelno >= handler.level:
                handler.handle(record)


def _handlers_of(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
