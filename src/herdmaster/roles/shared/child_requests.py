"""Requests to cancel the children of a task, which are tasks and flows."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.zookeeper.client import Client


def request_cancel_nowait(client: Client, child: str, parent: bytes, done: Callable[[Exception | None], None]) -> None:
    """Request that the primary cancels a child, be it a task or a flow. `parent` is the data of the request, as of
    `children.encode_parent`: the primary keeps a request for a child that is nowhere as long as its parent may submit
    it. `done` gets the error of the request.

    Raises the errors of a client that cannot send.
    """
    client.create_nowait(layout.cancel_path(child), parent, lambda _path, error: done(error))
