"""Planted bugs that only what arrives late over a connection shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.zookeeper.client.connection import Connection
from herdmaster.zookeeper.server.machine import Machine


def replies_of_any_connection() -> Any:
    """A client takes what arrives over a connection that it gave up for answers of the new one."""

    def handle_data(self: Any, _link: Any, data: bytes) -> None:
        self.handle(self._session.receive(data, self._clock()))

    return patch.object(Connection, "handle_data", handle_data)


def requests_of_any_connection() -> Any:
    """A server goes on with the requests of a connection whose session is attached to another one."""
    find = Machine._session_for

    def without_closing(self: Any, request: Any, now: Any) -> Any:
        attached, self._attached = self._attached, {}
        try:
            return find(self, request, now)
        finally:
            self._attached = attached | self._attached

    return patch.object(Machine, "_session_for", without_closing)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (replies_of_any_connection, requests_of_any_connection)
}
