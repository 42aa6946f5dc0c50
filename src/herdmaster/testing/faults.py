"""The faults of a test's embedded ZooKeeper: requests that it loses, and the delay of its replies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.testing.checks import check_count
from herdmaster.zookeeper.server.faults import Arrival, Delay, Drop
from herdmaster.zookeeper.wire.records import Record, Request

__all__ = ["ChosenFaults", "Selects"]

Selects = Callable[[Request[Record]], bool]
"""Gets each request, a record of `herdmaster.testing.requests`, and returns whether the fault hits it."""

_FIELDS: Final = frozenset(field for kind in Request.__subclasses__() for field in kind.__struct_fields__)


class _Drop(msgspec.Struct, eq=False):
    before: bool
    selects: Selects | None
    times: int

    @property
    def name(self) -> str:
        return "drop_before" if self.before else "drop_after"

    def matches(self, request: Request[Record]) -> bool:
        """Return whether the fault hits the request. Raises what `selects` raises."""
        if self.selects is None:
            return True
        try:
            return bool(self.selects(request))
        except AttributeError as error:
            # Half of all requests have no path: a test that reads the path means the others. A field that no request
            # has is a mistake.
            if isinstance(error.obj, Record) and error.name in _FIELDS:
                return False
            raise


class ChosenFaults:
    """The faults that the server asks about. A `selects` that raises is removed; `raise_failure` raises its error."""

    def __init__(self) -> None:
        self.delay = 0
        self._lock = threading.Lock()
        self._drops: list[_Drop] = []
        self._failures: list[BaseException] = []

    def add(self, *, before: bool, selects: Selects | None, times: int) -> None:
        """Raises TypeError, ValueError."""
        drop = _Drop(before, selects, check_count("times", times, 1))
        if selects is not None and not callable(selects):
            raise TypeError(
                f"{drop.name} takes a function that gets a request and returns whether to drop it, "
                f"such as `lambda request: isinstance(request, Create)`, not {selects!r}"
            )
        with self._lock:
            self._drops.append(drop)

    def raise_failure(self) -> None:
        """Raise what a `selects` raised, once."""
        with self._lock:
            if self._failures:
                raise self._failures.pop(0)

    def before(self, arrival: Arrival, /) -> Drop | None:
        return Drop() if self._take(arrival, before=True) else None

    def after(self, arrival: Arrival, /) -> Drop | Delay | None:
        if self._take(arrival, before=False):
            return Drop()
        return Delay(self.delay) if self.delay else None

    def _take(self, arrival: Arrival, *, before: bool) -> bool:
        request = arrival.request
        # Pings and requests that open a connection have negative numbers.
        if request is None or arrival.xid < 0:
            return False
        with self._lock:
            for drop in [each for each in self._drops if each.before is before]:
                try:
                    is_meant = drop.matches(request)
                except BaseException as error:  # noqa: BLE001 - a bug of the test, which must not end the server's connection
                    kind = type(request).__name__
                    error.add_note(f"raised by the `selects` of {drop.name}, given a {kind}; the fault is removed")
                    self._failures.append(error)
                    self._drops.remove(drop)
                    continue
                if is_meant:
                    drop.times -= 1
                    if not drop.times:
                        self._drops.remove(drop)
                    return True
        return False
