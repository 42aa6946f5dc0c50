"""Check what the roles log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Self

from herdmaster.core import layout
from herdmaster.simulation.checks.trace import Trace

_ERRORS: Final = ("cannot be sent", "was refused: ")
_NESTED: Final = f": NotEmpty: {layout.STATUS}/"


class LogCheck(logging.Handler):
    """A handler that fails the run when a role logs an exception or one of `_ERRORS`, even if the role goes on.

    `has_nested_statuses`: reference workers create znodes below statuses, so that a role is right to log that a status
    cannot be deleted. With `listen` all records are added to the trace.
    """

    def __init__(self, trace: Trace, fail: Callable[[str], None], *, has_nested_statuses: bool, listen: bool) -> None:
        super().__init__(logging.DEBUG if listen else logging.ERROR)
        self._trace = trace
        self._fail = fail
        self._listen = listen
        self._has_nested_statuses = has_nested_statuses
        self._logger = logging.getLogger("herdmaster")
        self._before = (self._logger.level, self._logger.propagate)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._listen:
            self._trace.add(self._trace.actor(), "logs: %s", text)
        if record.exc_info:
            error = record.exc_info[1]
            self._fail(f"{self._trace.actor()}: {text}: {type(error).__name__}: {error}")
        elif record.levelno >= logging.ERROR and any(error in text for error in _ERRORS) and not self._is_right(text):
            self._fail(f"{self._trace.actor()}: {text}")

    def _is_right(self, text: str) -> bool:
        return self._has_nested_statuses and _NESTED in text

    def __enter__(self) -> Self:
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(self.level)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        level, propagate = self._before
        self._logger.setLevel(level)
        self._logger.propagate = propagate
