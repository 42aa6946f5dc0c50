"""What stands in ZooKeeper, seen through an independent client, and sessions ended from outside."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from herdmaster import Herd
from herdmaster.zookeeper.wire.framing import ConnectRequest
from herdmaster.zookeeper.wire.opcodes import OpCode

PATIENCE = 40.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Returns when the condition holds. Raises AssertionError with `what` after so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)


class Znodes:
    """A namespace."""

    def __init__(self, client: KazooClient, hosts: str) -> None:
        self._client = client
        self._root = hosts[hosts.index("/") :]

    def children(self, folder: str) -> list[str]:
        """Names in a folder, none where there is no such folder."""
        try:
            names: list[str] = self._client.retry(self._client.get_children, f"{self._root}/{folder}")
        except NoNodeError:
            return []
        return sorted(names)

    def has(self, path: str) -> bool:
        return self._client.retry(self._client.exists, f"{self._root}/{path}") is not None

    def create(self, path: str, data: bytes) -> None:
        self._client.retry(self._client.create, f"{self._root}/{path}", data)

    def read(self, path: str) -> bytes:
        data: bytes = self._client.retry(self._client.get, f"{self._root}/{path}")[0]
        return data

    def version(self, path: str) -> int:
        stat = self._client.retry(self._client.exists, f"{self._root}/{path}")
        found: int = stat.version
        return found

    def delete(self, path: str) -> None:
        self._client.retry(self._client.delete, f"{self._root}/{path}")

    def written_ms(self, path: str) -> int:
        """The servers' time, in unix milliseconds: that of a write to a znode that holds nothing."""
        stat = self._client.retry(self._client.set, f"{self._root}/{path}", b"")
        found: int = stat.mtime
        return found

    def sessions(self) -> list[str]:
        """`CLIENT/alive-SESSION` of every session that submits."""
        return [f"{name}/{alive}" for name in self.children("clients") for alive in self.children(f"clients/{name}")]

    def wait_gone(self, path: str) -> None:
        wait_until(lambda: not self.has(path), f"{path} is gone")

    def delete_all(self, folder: str) -> None:
        """Quickly, many at a time."""
        names = self.children(folder)
        for start in range(0, len(names), 500):
            transaction = self._client.transaction()
            for name in names[start : start + 500]:
                transaction.delete(f"{self._root}/{folder}/{name}")
            transaction.commit()


def session_of(herd: Herd) -> tuple[int, bytes]:
    """Id and password of the session that a Herd has now, or gets: its thread may be about to attach its parts."""
    runtime = herd._core._io_thread
    assert runtime is not None
    outcomes = runtime._client.outcomes
    wait_until(lambda: outcomes._client is not None, "a session")
    client = outcomes._client
    assert client is not None
    return client.client_id.session_id, client.client_id.password


def expire(server: str, session: tuple[int, bytes]) -> None:
    """End a session from outside: any client with its id and password can attach to it and close it.

    Both in one send, so that its owner, who loses his connection by the first, has no time to come back in between.
    """
    host, _, port = server.partition(":")
    session_id, password = session
    attach = ConnectRequest(0, 4000, session_id, password).encode()
    close = struct.pack(">iii", 8, 1, OpCode.CLOSE_SESSION)
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(attach + close)
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                continue
