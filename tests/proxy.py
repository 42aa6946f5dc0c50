"""A TCP proxy in front of ZooKeeper that loses what a test wants lost: whole connections, one request, one reply.

It reads frames, so a fault hits exactly one request: `lose_request` cuts the connection before the server has it,
`lose_reply` after the server has answered. To its sender, both look alike.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from herdmaster.zookeeper.wire.opcodes import OpCode

Match = Callable[[int, bytes], bool]
"""Is it this request? By its opcode and its body."""

_REQUEST = struct.Struct(">ii")


def multi_with(*paths: str) -> Match:
    """A transaction that names all these paths."""
    wanted = [path.encode() for path in paths]
    return lambda opcode, body: opcode == OpCode.MULTI and all(path in body for path in wanted)


def request_of(opcode: OpCode, path: str = "") -> Match:
    return lambda found, body: found == opcode and path.encode() in body


class Fault:
    """What is to go wrong once. `happened` is set when it did; what is held goes on with `go_on`."""

    def __init__(self, match: Match) -> None:
        self.match = match
        self.happened = asyncio.Event()
        self.go_on = asyncio.Event()
        self.is_taken = False


class _Pair:
    """One client's connection and the server's."""

    def __init__(self, proxy: Proxy, inner: asyncio.StreamWriter, outer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.inner = inner
        self.outer = outer
        self.fatal_replies: dict[int, Fault] = {}

    def cut(self) -> None:
        self.inner.transport.abort()
        self.outer.close()  # what was passed on is still delivered

    async def carry_requests(self, reader: asyncio.StreamReader) -> None:
        is_handshake = True
        while True:
            frame = await _read_frame(reader)
            await self.proxy.requests_pass.wait()
            if not is_handshake:
                xid, opcode = _REQUEST.unpack_from(frame)
                fault = self.proxy.take_fault(self.proxy.lost_requests, opcode, frame[8:])
                if fault is not None:
                    await self.outer.drain()
                    fault.happened.set()
                    return
                fault = self.proxy.take_fault(self.proxy.lost_replies, opcode, frame[8:])
                if fault is not None:
                    self.fatal_replies[xid] = fault
                fault = self.proxy.take_fault(self.proxy.held_requests, opcode, frame[8:])
                if fault is not None:
                    fault.happened.set()
                    await fault.go_on.wait()
            is_handshake = False
            self.outer.write(_with_length(frame))

    async def carry_replies(self, reader: asyncio.StreamReader) -> None:
        is_handshake = True
        while True:
            frame = await _read_frame(reader)
            await self.proxy.replies_pass.wait()
            fault = None if is_handshake else self.fatal_replies.get(_REQUEST.unpack_from(frame)[0])
            if fault is not None:
                fault.happened.set()
                return
            is_handshake = False
            self.inner.write(_with_length(frame))


class Proxy:
    """`async with` opens it; `hosts` is its connect string, with the namespace of the one that it was given."""

    def __init__(self, hosts: str) -> None:
        address, slash, namespace = hosts.partition("/")
        host, _, port = address.rpartition(":")
        self._upstream = (host, int(port))
        self._namespace = slash + namespace
        self._server: asyncio.Server | None = None
        self._pairs: dict[_Pair, asyncio.Task[None]] = {}
        self._accepting: set[asyncio.Task[None] | None] = set()
        self.lost_requests: list[Fault] = []
        self.lost_replies: list[Fault] = []
        self.held_requests: list[Fault] = []
        self.requests_pass = asyncio.Event()
        self.replies_pass = asyncio.Event()
        self.is_refusing = False
        self.pass_on()

    @property
    def hosts(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._namespace}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.is_refusing = True
        while self._accepting:  # else a connection that is being made now would be left open
            await asyncio.sleep(0.001)
        running = list(self._pairs.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- faults ----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Breaks every connection now; new ones are welcome."""
        for pair in list(self._pairs):
            pair.cut()

    def refuse(self, *, refusing: bool = True) -> None:
        """Breaks every connection now, and every new one at once, until `refuse(refusing=False)`."""
        self.is_refusing = refusing
        if refusing:
            self.cut()

    def hold(self, *, requests: bool = False, replies: bool = False) -> None:
        """Keeps what passes in that direction, until `pass_on`."""
        if requests:
            self.requests_pass.clear()
        if replies:
            self.replies_pass.clear()

    def pass_on(self) -> None:
        self.requests_pass.set()
        self.replies_pass.set()

    def lose_request(self, match: Match) -> Fault:
        """The next such request never reaches the server: its connection is cut instead."""
        self.lost_requests.append(Fault(match))
        return self.lost_requests[-1]

    def lose_reply(self, match: Match) -> Fault:
        """The next such request reaches the server; its connection is cut instead of giving back the reply."""
        self.lost_replies.append(Fault(match))
        return self.lost_replies[-1]

    def hold_request(self, match: Match) -> Fault:
        """The next such request, and what follows it on its connection, waits until its `go_on` is set."""
        self.held_requests.append(Fault(match))
        return self.held_requests[-1]

    def take_fault(self, faults: list[Fault], opcode: int, body: bytes) -> Fault | None:
        for fault in faults:
            if not fault.is_taken and fault.match(opcode, body):
                fault.is_taken = True
                return fault
        return None

    # --- connections -----------------------------------------------------------------------------------------------

    def _refuses(self, *writers: asyncio.StreamWriter) -> bool:
        for writer in writers if self.is_refusing else ():
            writer.transport.abort()
        return self.is_refusing

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses(writer):
            return
        accepting = asyncio.current_task()
        self._accepting.add(accepting)
        try:
            await self._connect(reader, writer)
        finally:
            self._accepting.discard(accepting)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        if self._refuses(writer, server_writer):  # since a moment ago
            return
        pair = _Pair(self, writer, server_writer)
        task = asyncio.ensure_future(_carry(pair, reader, server_reader))
        self._pairs[pair] = task
        task.add_done_callback(lambda _: self._pairs.pop(pair, None))


async def _carry(pair: _Pair, reader: asyncio.StreamReader, server_reader: asyncio.StreamReader) -> None:
    """Until either direction ends, which ends the other."""
    directions = [
        asyncio.ensure_future(pair.carry_requests(reader)),
        asyncio.ensure_future(pair.carry_replies(server_reader)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pair.cut()
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(length)


def _with_length(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame
