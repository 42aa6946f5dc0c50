"""Fallbacks: times after which the same answer comes from another place, such as a later look or the end of a wait.

A test that waits long enough for a fallback does not notice that the event which it is about never came. So the tests
in FOLDERS run with these times out of reach, in their own process: the processes that they start have them as they are.
A test that is about a fallback has the marker `fallback(NAME, ...)`, which leaves those times as they are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection
from typing import Final

NEVER: Final = 5_000.0  # seconds

FALLBACKS: Final = (
    "api.io_thread:CALLBACK_SECONDS",
    "api.io_thread:GOODBYE_SECONDS",
    "api.io_thread:JOIN_SECONDS",
    "api.loop_thread:_CANCEL_SECONDS",
    "api.session:_REFUSED_SECONDS",
    "api.session:_RETRY_SECONDS",
    "api.submitting:_GRACE_SECONDS",
    "operations.workers:_LOOK_SECONDS",
    "pools.outlets:FAREWELL_SECONDS",
    "pools.outlets:STALL_SECONDS",
    "pools.processes:_CLOSE_SECONDS",
    "pools.processes:_RETIRE_SECONDS",
    "roles.client.outcomes:FIRST_LOOK_SECONDS",
    "roles.client.outcomes:LOOK_AGAIN_SECONDS",
    "roles.client.outcomes:LOOK_AT_ALL_SECONDS",
    "roles.primary.flow_stops:_AGAIN_SECONDS",
    "roles.primary.part:SET_ASIDE_SECONDS",
    "roles.primary.part:TRY_LATER_SECONDS",
    "roles.primary.recount:_AGAIN_SECONDS",
    "roles.shared.history_writer:_FINISH_SECONDS",
    "roles.shared.server_clock:_TRY_AGAIN_SECONDS",
    "roles.worker.commits:_SET_ASIDE_SECONDS",
    "roles.worker.commits:_TRY_LATER_SECONDS",
    "roles.worker.error_calls:END_SECONDS",
    "roles.worker.requested_drain:_INTERVAL",
    "roles.worker.worker_hooks:STOP_SECONDS",
    "roles.worker.worker_hooks:_CANCEL_SECONDS",
    "roles.worker.worker_session:_UNANSWERED_SECONDS",
)
OUT_OF_REACH: Final = {fallback: NEVER + number for number, fallback in enumerate(FALLBACKS)}
"""A value for each, so that a constant is put back only where it was: some modules have others of the same name."""
FOLDERS: Final = tuple(f"tests/{name}/" for name in ("api", "cli", "inspection", "operations", "pools", "roles"))


class Switch:
    """Puts fallbacks out of reach, and back."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._off: frozenset[str] = frozenset()
        self._loaded = 0

    def leave(self, wanted: Collection[str] | None) -> None:
        """Put all fallbacks out of reach but those whose names are wanted; None: leave all as they are."""
        off = frozenset() if wanted is None else frozenset(each for each in FALLBACKS if not _is_named(each, wanted))
        if not self._values and off:
            self._values = {each: getattr(*_place(each)) for each in FALLBACKS}
        if off != self._off or (off and len(sys.modules) != self._loaded):
            for each in off | self._off:
                self._set(each, OUT_OF_REACH[each] if each in off else self._values[each])
            self._off, self._loaded = off, len(sys.modules)

    def _set(self, fallback: str, seconds: float) -> None:
        """Set the constant in its module, and in those that have imported it."""
        module, name = _place(fallback)
        before = getattr(module, name)
        for each in list(sys.modules.values()):
            if getattr(each, "__name__", "").startswith("herdmaster.") and vars(each).get(name) is before:
                setattr(each, name, seconds)


def _is_named(fallback: str, wanted: Collection[str]) -> bool:
    return fallback.partition(":")[2] in wanted or fallback in wanted


def _place(fallback: str) -> tuple[object, str]:
    module, _, name = fallback.partition(":")
    return importlib.import_module(f"herdmaster.{module}"), name
