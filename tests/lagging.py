"""A client whose server lags behind until `sync` is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node
from tests.roles.primary.scripted import STAT


class _LaggingClient:
    def __init__(self, nodes: Mapping[str, bytes], old: Mapping[str, bytes]) -> None:
        self._nodes = nodes
        self._seen = old

    async def sync(self, _path: str = "/") -> None:
        self._seen = self._nodes

    async def multi_read(self, paths: Iterable[str]) -> list[Node | errors.ServerError]:
        return [(self._seen[path], STAT) if path in self._seen else errors.NoNode(path) for path in paths]


def lagging(nodes: Mapping[str, bytes], old: Mapping[str, bytes] | None = None) -> Client:
    """Return a client that reads `old` znodes, by default none, until it has called `sync`, and then `nodes`."""
    client: Any = _LaggingClient(nodes, old or {})
    found: Client = client
    return found
