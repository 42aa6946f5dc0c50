"""Fault injection for tests of programs that use the server: what may go wrong with one request.

A server without faults runs none of this. Give `EmbeddedServer(faults=...)` or `Machine(faults=...)` an object with the
two methods of `Faults`; both are called for every request of an attached session, pings included.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from herdmaster.zookeeper.wire.records import Record, Request


class Arrival(msgspec.Struct, frozen=True):
    """A request that arrived. `request` is None if the server does not know its `opcode`, or cannot read it."""

    session_id: int
    xid: int
    opcode: int
    request: Request[Record] | None


class Drop(msgspec.Struct, frozen=True):
    """End the connection. The session lives on."""


class Refuse(msgspec.Struct, frozen=True):
    """Answer the request with an error instead of applying it; -127 is the code of an overloaded server."""

    code: int = -127


class Delay(msgspec.Struct, frozen=True):
    """Delay the answer, and everything after it on the connection, by at least so long."""

    milliseconds: int


class Truncate(msgspec.Struct, frozen=True):
    """Send only the first bytes of the answer's frame, then end the connection."""

    length: int


class Faults(Protocol):
    def before(self, arrival: Arrival, /) -> Drop | Refuse | None:
        """Choose a fault before a request is applied; None lets it pass."""

    def after(self, arrival: Arrival, /) -> Drop | Delay | Truncate | None:
        """Choose a fault after a request was applied, before it is answered; None lets the answer go out."""
