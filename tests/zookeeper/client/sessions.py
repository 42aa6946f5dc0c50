"""Clients for tests, and what can be done to a session from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.client import Client, Security, parse_connect_string
from herdmaster.zookeeper.client.credentials import Credential, checked
from herdmaster.zookeeper.model import ClientId, SessionState, WatchEvent
from herdmaster.zookeeper.wire.framing import ConnectRequest, ConnectResponse, encode_request
from herdmaster.zookeeper.wire.records import CloseSession

PATIENCE = 30.0
"""Seconds after which a test gives up waiting; nothing that works takes that long."""


def client_of(hosts: str, *, session_timeout: float = 4.0, auth: Credential | tuple[Credential, ...] = ()) -> Client:
    """A client that fails rather than waits for ever. The servers of the tests grant 0.4 to 4 s."""
    security = Security(auth=checked(auth))
    return Client(hosts, session_timeout=session_timeout, connect_timeout=PATIENCE, security=security)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


class OwnServer:
    """A server that one test at a time may do with as it likes; afterwards it runs again."""

    def __init__(self, server: ChildServer, namespace: str) -> None:
        self._server = server
        self.hosts = server.hosts + namespace

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    def pause(self) -> None:
        self._server.pause()

    def resume(self) -> None:
        self._server.resume()

    def forget(self) -> None:
        """It must be down: all that it knew is gone, and so is the namespace."""
        for file in self._server.data_dir.rglob("*"):
            if file.is_file():
                file.unlink()


class Events:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []

    def __call__(self, event: WatchEvent) -> None:
        self.events.append(event)

    async def wait(self, count: int = 1) -> None:
        await wait_until(lambda: len(self.events) >= count)

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(event.type.name, event.path) for event in self.events]

    @property
    def paths(self) -> list[str]:
        return [event.path for event in self.events]


class States(list[SessionState]):
    """A listener that keeps what it is told."""

    def __call__(self, state: SessionState) -> None:
        self.append(state)

    async def wait_for(self, state: SessionState) -> None:
        await wait_until(lambda: state in self)


class _Intruder:
    """A second connection of a session, by raw frames; it kicks the first."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def attach(self, identity: ClientId) -> bool:
        """False where the client was quick to come back, and kicked this one."""
        self._writer.write(ConnectRequest(0, 4000, identity.session_id, identity.password).encode())
        try:
            length = int.from_bytes(await self._reader.readexactly(4))
            response = ConnectResponse.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        assert response.session_id == identity.session_id
        return True

    async def wait_kicked(self) -> None:
        with suppress(ConnectionError):
            await self._reader.read()

    async def end_session(self) -> None:
        self._writer.write(encode_request(1, CloseSession()))
        await self._reader.read()


@asynccontextmanager
async def _intruder(hosts: str) -> AsyncIterator[_Intruder]:
    address = parse_connect_string(hosts).addresses[0]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield _Intruder(reader, writer)
    finally:
        writer.close()


async def end_session(hosts: str, identity: ClientId) -> None:
    """Ends a session from outside, as if it had expired: attaches to it and closes it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with _intruder(hosts) as intruder:
                if await intruder.attach(identity):
                    await intruder.end_session()
                    return


async def kick(hosts: str, client: Client, *, comes_back: bool = True) -> None:
    """Cost a client its connection but not its session, and return when the client has noticed and, if it comes back,
    has attached to its session again.

    An intruder that closed its connection first could make Apache's server forget which connection the session has: the
    server may handle that end after the client's return. The next intruder would then kick nothing.
    """
    await wait_until(lambda: client.state is SessionState.CONNECTED)
    states = States()
    client.add_listener(states)
    async with asyncio.timeout(PATIENCE), _intruder(hosts) as intruder:
        await intruder.attach(client.client_id)
        await states.wait_for(SessionState.DISCONNECTED)
        if comes_back:
            await intruder.wait_kicked()
    client.remove_listener(states)
