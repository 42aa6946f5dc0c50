"""The functions that a worker can run, by their names in calls.

These are the registered functions, and those of modules that the worker may import. Nothing else is ever run, whatever
a payload says.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from herdmaster.core.codec import Codecs
from herdmaster.core.imports import allowed_import, check_prefix, resolve_import
from herdmaster.core.kept import NONE_KNOWN
from herdmaster.core.options import Overrides, PoolKind, RunOptions, apply_overrides
from herdmaster.core.signature import Signature
from herdmaster.core.signing import SignedOnly
from herdmaster.errors import ConfigurationError
from herdmaster.pools.limits import NO_LIMITS, Limits
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import DEFAULT_OPTIONS, Function, Registration, registrations

if TYPE_CHECKING:
    from herdmaster.spans import Spans

_MAX_IMPORTED: Final = 10_000


class Way(msgspec.Struct, frozen=True, gc=False):
    """The options and limits with which one task is run."""

    options: RunOptions = DEFAULT_OPTIONS
    limits: Limits = NO_LIMITS


PLAIN: Final = Way()


def way(options: RunOptions) -> Way:
    if options == DEFAULT_OPTIONS:
        return PLAIN
    limits = Limits(options.soft_timeout, options.timeout, options.memory_limit, options.max_tasks_per_process)
    return Way(options, NO_LIMITS if limits == NO_LIMITS else limits)


class Callee:
    """The function that calls of one name run. If it has to be imported, that is done at its first run, on the pool's
    thread."""

    def __init__(
        self, call: str, registration: Registration | None, program: Program, prefixes: tuple[str, ...]
    ) -> None:
        self.call = call
        self.program = program
        self._prefixes = prefixes
        self.is_imported = registration is None
        self._function = registration.function if registration is not None else None
        self.known = registration.known if registration is not None else NONE_KNOWN
        self._way = way(registration.options) if registration is not None else PLAIN
        self.signature = Signature(call, self._function) if self._function is not None else None
        self.is_async = self._way.options.pool is PoolKind.ASYNCIO

    def way(self, wanted: Overrides | None) -> Way:
        """Return how a call with these options is run. Raises ConfigurationError for a pool that cannot run the
        function."""
        if wanted is None:
            return self._way
        options = apply_overrides(self._way.options, wanted)
        if (options.pool is PoolKind.ASYNCIO) != self.is_async:
            kind = "an `async def`" if self.is_async else "a plain `def`"
            raise ConfigurationError(
                f"{self.call} is {kind}, which pool={options.pool.value!r} cannot run: leave it out"
            )
        return way(options)

    @property
    def function(self) -> Function:
        """The function, imported if need be. Raises UnknownCall, ConfigurationError, and what the module raises."""
        if self._function is None:
            function = resolve_import(self.call, self._prefixes)
            if inspect.iscoroutinefunction(function):
                raise ConfigurationError(
                    f"{self.call} is an `async def`, which cannot be run by import alone: register it with @herd.task"
                )
            self.signature = Signature(self.call, function)
            self._function = function
        return self._function


class Program:
    """What a worker can run: `functions` by the names of their calls, and what may be imported by `prefixes` (see
    `herdmaster.core.imports`). `codecs` by their names."""

    def __init__(
        self,
        functions: Mapping[str, Function | Registration],
        *,
        prefixes: Iterable[str] = (),
        codecs: Codecs | None = None,
        hooks: Hooks | None = None,
        spans: Spans | None = None,
        signed_only: SignedOnly | None = None,
    ) -> None:
        """Raises ConfigurationError."""
        self.prefixes = tuple(check_prefix(prefix) for prefix in prefixes)
        self._registrations = registrations(functions)
        self._callees = {
            call: Callee(call, registration, self, self.prefixes) for call, registration in self._registrations.items()
        }
        self.codecs: Codecs = codecs or {}
        self.hooks = hooks or Hooks()
        self.signed_only = signed_only
        self.has_task_hooks = any((self.hooks.before_task, self.hooks.after_task, self.hooks.on_error))
        self.trace_with(spans)

    def trace_with(self, spans: Spans | None) -> None:
        """Make a span for each attempt from now on; none without `spans`."""
        self.spans = spans
        self.is_watched = self.has_task_hooks or spans is not None

    @property
    def names(self) -> list[str]:
        """The names of the registered functions, sorted."""
        return sorted(self._registrations)

    @property
    def runs_calls(self) -> bool:
        return bool(self._registrations or self.prefixes)

    @property
    def pools(self) -> set[PoolKind]:
        """The pools that the registered functions run in."""
        return {registration.options.pool for registration in self._registrations.values()}

    def find(self, call: str) -> Callee | None:
        found = self._callees.get(call)
        if found is None and allowed_import(call, self.prefixes):
            found = Callee(call, None, self, self.prefixes)
            if len(self._callees) < _MAX_IMPORTED:
                self._callees[call] = found
        return found
