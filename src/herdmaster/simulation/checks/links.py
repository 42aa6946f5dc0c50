"""Check what arrives late on a connection: one that its client has given up, or has left for another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Link(Protocol):
    """A connection, as the check sees it."""

    @property
    def is_closing(self) -> bool:
        """Whether the client has given it up."""


class LinkCheck:
    """Checks that a session is served over its newest connection alone. `fail` is called with each complaint.

    A request that arrives over a connection which its client gave up may still be carried out, because the client
    takes its fate for unknown. Once the session is attached to another connection, the client has looked at what came
    of it: then a late request must not be carried out any more.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._newest: dict[int, Link] = {}
        self.late_requests = 0
        """The number of requests that were carried out although their client had given the connection up."""

    def attached(self, session_id: int, link: Link) -> None:
        self._newest[session_id] = link

    def asked(self, session_id: int, link: Link, request: object) -> None:
        newest = self._newest.get(session_id)
        if newest is not None and newest is not link:
            self._fail(f"{request} of session {session_id:x} arrives over {link}, which the session has left")
        self.late_requests += link.is_closing
