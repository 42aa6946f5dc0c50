"""Closes sessions that this side gave up while no server answered.

A client that reaches no server gives its session up by its own clock. When the servers are back, they keep that session
for another timeout, and with it its ephemerals, such as `/master`. So the owner's next client closes the old session as
soon as its own is established, over a second connection to the same server. That connection carries nothing but the
handshake, authentication and closeSession: the requests of the old session have failed already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, cast

import msgspec

from herdmaster.zookeeper.client.dialing import Unreachable
from herdmaster.zookeeper.errors import SESSION_EXPIRED_CODE, AuthenticationFailed, WireError, ZooKeeperError
from herdmaster.zookeeper.model import ClientId
from herdmaster.zookeeper.wire.framing import (
    MAX_FRAME,
    ConnectRequest,
    ConnectResponse,
    Framer,
    encode_request,
    reply_body,
    unpack_reply_header,
)
from herdmaster.zookeeper.wire.records import CloseSession, Record, Request

_log = logging.getLogger("herdmaster.zookeeper")

_MOST_KEPT: Final = 8
_MOST_ATTEMPTS: Final = 3
"""For each session: after these it lapses by itself."""

_PAUSE_SECONDS: Final = 0.1
_SHORTEST_MS: Final = 1
"""The timeout that is asked for. A server grants its shortest, so a session that was attached to but not closed,
because the connection broke, lives no longer than it would have."""


class SessionCloser(asyncio.Protocol):
    """A connection that closes one session. `ended` is True once the servers do not have the session any more.

    With `authenticates` it closes only when it is told to: first `attached` is awaited, then `request` may be used.
    """

    def __init__(self, identity: ClientId, *, authenticates: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[bool] = loop.create_future()
        self.attached: asyncio.Future[bool] = loop.create_future()
        self._authenticates = authenticates
        self._answered: asyncio.Future[bytes] | None = None  # the reply to the request under way
        self._xid = 0
        self._closing_xid = 0
        self._identity = identity
        self._framer = Framer(MAX_FRAME)
        self._is_attached = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        identity = self._identity
        self._transport.write(ConnectRequest(0, _SHORTEST_MS, identity.session_id, identity.password).encode())

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._framer.feed(data):
                self._receive(body)
        except WireError:
            self._finish(is_ended=False)

    def _receive(self, body: bytes) -> None:
        if self._is_attached:
            xid, _, code = unpack_reply_header(body)
            if self._closing_xid and xid == self._closing_xid:
                self._finish(is_ended=code in (0, SESSION_EXPIRED_CODE))
            elif xid == self._xid and self._answered is not None and not self._answered.done():
                self._answered.set_result(body)
            return
        response = ConnectResponse.decode(body)
        if response.timeout <= 0 or response.session_id == 0:
            self._finish(is_ended=True)
        elif self._transport is not None and not self.attached.done():  # it is cancelled with the wait for it
            # A server that cannot re-attach has opened another session, which has to be closed as well.
            self._is_attached = True
            self.attached.set_result(True)
            if not self._authenticates:
                self.close_session()

    def close_session(self) -> None:
        self._closing_xid = self._send(CloseSession())

    async def request(self, request: Request[Record]) -> Record:
        """Send a request of authentication, and return its reply. Raises AuthenticationFailed."""
        self._answered = asyncio.get_running_loop().create_future()
        self._send(request)
        body = await self._answered
        if unpack_reply_header(body)[2] != 0:
            raise AuthenticationFailed("the server refused the credentials of a session that it was to close")
        return request.reply_type.read(reply_body(body))

    def _send(self, request: Request[Record]) -> int:
        self._xid += 1
        if self._transport is not None:
            self._transport.write(encode_request(self._xid, request))
        return self._xid

    def connection_lost(self, _error: Exception | None) -> None:
        self._finish(is_ended=False)

    def _finish(self, *, is_ended: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(is_ended)
        if not self.attached.done():
            self.attached.set_result(False)
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(AuthenticationFailed("the connection was lost"))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


Authenticate = Callable[[SessionCloser], Awaitable[None]]
"""Authenticates a connection. Raises ZooKeeperError."""

Dial = Callable[[Callable[[], SessionCloser]], Awaitable[SessionCloser]]
"""Connects to the server that the present session has reached. Raises Unreachable."""


class _Left(msgspec.Struct):
    identity: ClientId
    pid: int
    attempts: int = 0


class Predecessors:
    """The given-up sessions of one owner. It is given to the owner's clients one after the other: each adds its own
    session, and closes the earlier ones.

    Passwords are kept only until a server has answered, or a few attempts have failed.
    """

    def __init__(self) -> None:
        self._left: deque[_Left] = deque(maxlen=_MOST_KEPT)

    def __len__(self) -> int:
        return len(self._left)

    def add(self, identity: ClientId, pid: int) -> None:
        """Add a session. `pid` is the process that opened it: a forked child leaves its parent's sessions alone."""
        self._left.append(_Left(identity, pid))

    def holds(self, session_id: int) -> bool:
        return any(left.identity.session_id == session_id for left in self._left)

    async def close(self, dial: Dial, limit: float, authenticate: Authenticate | None = None) -> None:
        """Close all, or give them up; `limit` (seconds) bounds each attempt. If it is cancelled, the rest is kept for
        the next client. `authenticate` is None if the server asks for nothing."""
        while self._left:
            left = self._left[0]
            if left.pid != os.getpid():
                self._left.popleft()
                continue
            left.attempts += 1
            is_ended = await self._close_session(left.identity, dial, limit, authenticate)
            if is_ended:
                session_id = left.identity.session_id & 0xFFFFFFFFFFFFFFFF
                _log.info("closed session 0x%x, which was given up while no server answered", session_id)
            if is_ended or left.attempts >= _MOST_ATTEMPTS:
                with contextlib.suppress(ValueError):  # it was dropped meanwhile because too many were added
                    self._left.remove(left)
            else:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _close_session(
        self, identity: ClientId, dial: Dial, limit: float, authenticate: Authenticate | None
    ) -> bool:
        closer: SessionCloser | None = None
        try:
            async with asyncio.timeout(limit):
                closer = await dial(lambda: SessionCloser(identity, authenticates=authenticate is not None))
                if authenticate is not None and await closer.attached:
                    await authenticate(closer)
                    closer.close_session()
                return await closer.ended
        except (Unreachable, TimeoutError, ZooKeeperError):
            return False
        finally:
            if closer is not None:
                closer.abort()
