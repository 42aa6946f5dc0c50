"""A server on loopback that plays scripts: it does what a real one cannot be made to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from herdmaster.testing.ports import LOOPBACK
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.wire.framing import ConnectResponse, decode_request, decode_request_header, encode_reply
from herdmaster.zookeeper.wire.records import (
    AddWatch,
    CloseSession,
    Create,
    DataReply,
    EmptyReply,
    Exists,
    GetData,
    NumberReply,
    PathReply,
    Ping,
    Record,
    Request,
    StatReply,
)

STAT = Stat(*range(11))
ANSWERS: dict[type[Record], Record] = {
    AddWatch: NumberReply(0),
    CloseSession: EmptyReply(),
    Create: PathReply("/a"),
    Exists: StatReply(STAT),
    GetData: DataReply(b"", STAT),
    Ping: EmptyReply(),
}


class Conversation:
    """A client's connection as the scripted server has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def frame(self) -> bytes:
        return await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4)))

    async def handshake(self) -> None:
        await self.frame()
        self.writer.write(ConnectResponse(4000, 7, bytes(16)).encode())

    async def request(self) -> tuple[int, Request[Record]]:
        body = await self.frame()
        request = decode_request(body)
        assert request is not None
        return decode_request_header(body).xid, request

    async def answer(self) -> Request[Record]:
        """Answers one request."""
        xid, request = await self.request()
        self.writer.write(encode_reply(xid, 1, 0, ANSWERS[type(request)]))
        return request

    async def answer_all(self) -> None:
        while True:
            await self.answer()


Script = Callable[[Conversation], Awaitable[None]]


class Scripted:
    """A server that plays a script on every connection, the last one again and again."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = scripts
        self.connections = 0
        self.failures: list[BaseException] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Conversation(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went
        except AssertionError as failure:
            self.failures.append(failure)
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[tuple[Scripted, str]]:
    server = Scripted(scripts)
    listener = await asyncio.start_server(server.serve, LOOPBACK, 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield server, f"{LOOPBACK}:{port}"
        listener.close()
    assert server.failures == []


async def behave(conversation: Conversation) -> None:
    await conversation.handshake()
    await conversation.answer_all()


async def hang_up(conversation: Conversation) -> None:
    del conversation


async def hang_up_after_the_handshake(conversation: Conversation) -> None:
    await conversation.handshake()
