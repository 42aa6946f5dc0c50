"""The exception classes that an app registers, so that they come back from its tasks as themselves."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from herdmaster.api.callee import module_name
from herdmaster.core.failure import STEERING
from herdmaster.core.kept import Known
from herdmaster.errors import ConfigurationError

E = TypeVar("E", bound=type[Exception])


class ExceptionRegistry:
    """What `Herd` has of exceptions."""

    def __init__(self) -> None:
        self._exceptions: dict[str, type[Exception]] = {}

    def exceptions(self, kind: E, /, *others: type[Exception]) -> E:
        """Registers classes, as a decorator or called with them. What a task raises of exactly such a class, `result()`
        raises as that class, with the arguments and attributes that JSON can carry (4 KB in all); any other comes back
        as TaskFailed, unless it is built in. Both sides have to register it: the worker's app and the submitter's.

        Raises ConfigurationError for what is no class of exceptions.
        """
        for each in check_exceptions("exceptions", (kind, *others)):
            if getattr(builtins, each.__name__, None) is not each:
                self._exceptions[f"{module_name(each.__module__)}.{each.__qualname__}"] = each
        return kind

    @property
    def known_exceptions(self) -> Known:
        """Those that are registered, by the names that failures give."""
        return MappingProxyType(self._exceptions)

    def learn_exceptions(self, options: Mapping[str, object]) -> None:
        """Registers those that options of a task name."""
        found = check_exceptions("raises", options.get("raises", ()))
        if found:
            self.exceptions(*found)


def check_exceptions(name: str, value: object) -> tuple[type[Exception], ...]:
    """One class or several. Raises ConfigurationError."""
    several = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, type)) else (value,)
    for each in several:
        if not isinstance(each, type) or not issubclass(each, Exception) or issubclass(each, STEERING):
            raise ConfigurationError(f"{name}: {each!r} is no class of exceptions that a task may fail with")
    return several
