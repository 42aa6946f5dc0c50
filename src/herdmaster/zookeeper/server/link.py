"""One TCP connection: its bytes from and to the hub, and the limits of what a client may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, cast

from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.model import Id
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.tls_context import subject_of_peer

_FAREWELL: Final = 5.0
"""Seconds that a client has to take its last bytes before its connection is cut."""


class Owner(Protocol):
    """What the links report to."""

    def attach(self, link: Link, host: str, port: int, identities: Sequence[Id]) -> Connection | None:
        """Take a new client, with the identities that its certificate proves; None turns it away."""

    def receive(self, link: Link, data: bytes) -> None: ...

    def end(self, link: Link) -> None:
        """Note that the client sends nothing more."""

    def wake(self) -> None: ...

    def detach(self, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """The asyncio protocol of a connection. `handshake` is in seconds, `unread` in bytes (see `Limits`)."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop, handshake: float, unread: int) -> None:
        self._owner = owner
        self._loop = loop
        self._handshake = handshake
        self._unread = unread
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._is_secure = False
        self._is_full = False
        self._is_reading = True
        self.undelivered = 0
        """Bytes that wait for the journal."""

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "an attached link has a connection"
        return self._connection

    @property
    def is_blocked(self) -> bool:
        """Whether the client should read first, before more of its requests are handled."""
        return self._is_full or self.undelivered > self._unread

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        secured = transport.get_extra_info("ssl_object")
        self._is_secure = secured is not None
        try:
            subject = subject_of_peer(secured)
        except InvalidTls:
            transport.abort()
            return
        identities = () if subject is None else (Id("x509", subject),)
        self._connection = self._owner.attach(self, peer[0], peer[1], identities)
        if self._connection is None:
            transport.abort()
            return
        self._patience = self._loop.call_later(self._handshake, self._end_without_handshake)

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            self._owner.receive(self, data)

    def eof_received(self) -> bool:
        """Return True: the transport stays open for what the client may still read. With TLS it cannot."""
        if self._connection is not None:
            self._owner.end(self)
        return self._connection is not None and not self._is_secure

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._owner.wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - every way to end is the same
        # A timer that stays keeps all of the connection: thousands of short ones would cost memory for seconds.
        for timer in (self._patience, self._farewell):
            if timer is not None:
                timer.cancel()
        if self._connection is not None:
            self._owner.detach(self)

    def deliver(self, data: bytes, *, close: bool) -> None:
        """Send data, and close after it if wanted. A client that has left too much unread is cut off."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data:
            if transport.get_write_buffer_size() > self._unread:
                transport.abort()
                return
            transport.write(data)
        if close:
            transport.close()
            self._farewell = self._loop.call_later(_FAREWELL, transport.abort)

    def read_on(self, wanted: bool) -> None:
        """Take more bytes from the client, or stop taking them: then they wait in the client's system."""
        if wanted == self._is_reading or self._transport is None or self._transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end_without_handshake(self) -> None:
        if not self.connection.session_id:
            self.abort()
