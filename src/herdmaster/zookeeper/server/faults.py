"""A seam for tests of programs that use the server: what may go wrong with one request.

A server without faults has none of this on its path. Give `EmbeddedServer(faults=...)` or `Machine(faults=...)` an
object with the two methods of `Faults`; each is called for every request of an attached session, pings included.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from herdmaster.zookeeper.wire.records import Record, Request


class Arrival(msgspec.Struct, frozen=True):
    """A request that came in. `request` is None where the server does not know its `opcode`, or cannot read it."""

    session_id: int
    xid: int
    opcode: int
    request: Request[Record] | None


class Drop(msgspec.Struct, frozen=True):
    """The connection ends. The session lives on."""


class Refuse(msgspec.Struct, frozen=True):
    """The request is not applied but answered with an error; -127 is what an overloaded server says."""

    code: int = -127


class Delay(msgspec.Struct, frozen=True):
    """The answer, and everything after it on the connection, waits for at least so long."""

    milliseconds: int


class Truncate(msgspec.Struct, frozen=True):
    """Only the first bytes of the answer's frame are sent, then the connection ends."""

    length: int


class Faults(Protocol):
    def before(self, arrival: Arrival, /) -> Drop | Refuse | None:
        """Before a request is applied; None lets it pass."""

    def after(self, arrival: Arrival, /) -> Drop | Delay | Truncate | None:
        """After a request was applied, before it is answered; None lets the answer go out."""
