"""Adds the running task to every log record: the task, call, queue and attempt whose code logs it.

A record gets the attributes `herd_task`, `herd_call`, `herd_queue` and `herd_attempt`, which a format may name. They
are empty outside of a task. The prefix keeps them apart from the `extra` of an app: logging refuses an `extra` that
names an attribute of the record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name
from herdmaster.running.current import running_now

NAMES: Final = ("task", "call", "queue", "attempt")
"""The fields, as a line of JSON names them."""


class _Factory:
    """A factory of log records that adds the fields. `inner` is the factory that it replaces."""

    def __init__(self, inner: Callable[..., logging.LogRecord]) -> None:
        self.inner = inner

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self.inner(*args, **kwargs)
        running = running_now.get(None)
        if running is None:
            set_fields(record, "", "", "", "")
        else:
            parsed = parse_task_name(running.name)
            queue = parsed.queue if parsed is not None else DEFAULT_QUEUE
            set_fields(record, running.name, running.call_name, queue, running.attempt)
        return record


def install() -> None:
    """Let every log record of this process have the fields, also after the app has configured logging."""
    present = logging.getLogRecordFactory()
    if not isinstance(present, _Factory):
        logging.setLogRecordFactory(_Factory(present))


def uninstall() -> None:
    """Undo `install`, unless another factory was set since."""
    present = logging.getLogRecordFactory()
    if isinstance(present, _Factory):
        logging.setLogRecordFactory(present.inner)


def set_fields(record: logging.LogRecord, task: str, call: str, queue: str, attempt: int | str) -> None:
    record.herd_task, record.herd_call, record.herd_queue, record.herd_attempt = task, call, queue, attempt


def log_about(
    logger: logging.Logger,
    level: int,
    message: str,
    fields: tuple[str, str, str, int],
    *,
    traceback: str | None = None,
) -> None:
    """Log a line about a task from outside of it, with the fields in the order of `NAMES`, and perhaps the text
    of a traceback."""
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, __file__, 0, message, (), None)
        set_fields(record, *fields)
        record.exc_text = traceback
        logger.handle(record)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record by their names; none outside of a task, or without the factory."""
    if not getattr(record, "herd_task", ""):
        return {}
    return {name: getattr(record, f"herd_{name}") for name in NAMES}
