"""Which rights a program is known to lack: each is logged once, because it concerns all tasks alike and lasts until an
operator grants it."""

from __future__ import annotations

from typing import Final

from herdmaster.zookeeper import errors

_MAX_REMEMBERED: Final = 100


class LackedRights:
    """The rights whose lack was logged."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_news(self, error: errors.ServerError) -> bool:
        """Return whether to log the error: True for every error but NoAuth, and for that once for each right."""
        cause = error.error if isinstance(error, errors.TransactionFailed) else error
        if not isinstance(cause, errors.NoAuth):
            return True
        lacks = cause.lacks or f"READ on {cause.path}"
        if lacks in self._told or len(self._told) >= _MAX_REMEMBERED:
            return False
        self._told.add(lacks)
        return True
