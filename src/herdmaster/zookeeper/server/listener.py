"""Accepts connections, and refuses them while the process has few file descriptors left.

asyncio's own server accepts connections until no descriptor is left, not even for the journal. Then it logs each of a
hundred failed attempts per turn of the loop, and retries all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final

from herdmaster import forks
from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.server import descriptors
from herdmaster.zookeeper.server.tls_context import accepting_context, explain
from herdmaster.zookeeper.tls import TLS, server_context

BACKLOG: Final = 100
"""Connections that wait in the kernel until the listener takes them."""

_PER_TURN: Final = 100
_RETRY_SECONDS: Final = 0.5
_SHUTDOWN_SECONDS: Final = 1.0
"""How long a client may take to confirm the end of TLS."""

_QUIET_SECONDS: Final = 1.0
"""Between two lines of the log."""

_log = logging.getLogger(__name__)


class Listener:
    """Makes a protocol for each connection. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.Protocol],
        tls: TLS | None = None,
        handshake: float = 10.0,
        per_host: int = 0,
    ) -> None:
        """`handshake` (seconds) bounds a handshake of TLS; a host may have `per_host` of them at a time, 0 for no
        limit."""
        self._loop = loop
        self._factory = factory
        self._tls = tls
        self._handshake = handshake
        self._per_host = per_host
        self._handshakes: Counter[str] = Counter()  # that are under way, by host
        self._sockets: list[socket.socket] = []
        self._attaching: set[asyncio.Task[None]] = set()
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        self._quiet: asyncio.TimerHandle | None = None
        self._refused = 0

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    async def open(self, host: str, port: int) -> None:
        """Listen on every address of the host. If `port` is 0, for a free port, listen on the first address only,
        because several would get a port each. Raises OSError, InvalidTls."""
        if self._tls is not None:
            server_context(self._tls)  # a mistake shows now, and not when the first client comes
        addresses = await self._resolve(host, port)
        try:
            for family, address in addresses if port else addresses[:1]:
                self._bind(family, address)
        except BaseException:
            self._close_sockets()
            raise
        for each in self._sockets:
            self._loop.add_reader(each, self._accept, each)

    async def _resolve(self, host: str, port: int) -> list[tuple[int, tuple[str | bytes | int, ...]]]:
        """Return families and addresses. An address needs no look-up, which takes a thread."""
        with contextlib.suppress(ValueError):
            family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
            return [(family, (host, port))]
        infos = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return list(dict.fromkeys((family, address) for family, _, _, _, address in infos))

    def _bind(self, family: int, address: tuple[str | bytes | int, ...]) -> None:
        each = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
        self._sockets.append(each)
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            each.bind(address)
            each.listen(BACKLOG)
            forks.add_fd(each.fileno())  # a child would keep the port
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {address[0]!s}:{address[1]!s}: {str(error.strerror).lower()}"
            ) from None

    async def close(self) -> None:
        """Accept no more connections. Accepted ones get to their protocol first."""
        for each in self._sockets:
            self._loop.remove_reader(each)
        for timer in (*self._retries.values(), self._quiet):
            if timer is not None:
                timer.cancel()
        await asyncio.gather(*self._attaching)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    # --- connections -------------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_PER_TURN):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._complain(f"cannot take connections: {error}")
                self._loop.remove_reader(listening)  # it stays ready, and would fail again at once
                self._retries[listening] = self._loop.call_later(_RETRY_SECONDS, self._listen_again, listening)
                return
            if descriptors.is_reserved(accepted.fileno()):
                accepted.close()
                self._refuse()
            else:
                accepted.setblocking(False)
                forks.add_fd(accepted.fileno())
                task = self._loop.create_task(self._attach(accepted))
                self._attaching.add(task)
                task.add_done_callback(self._attaching.discard)

    def _listen_again(self, listening: socket.socket) -> None:
        del self._retries[listening]
        self._loop.add_reader(listening, self._accept, listening)

    async def _attach(self, accepted: socket.socket) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._factory, accepted)
            else:
                await self._shake_hands(accepted, self._tls)
        except (OSError, InvalidTls) as error:
            accepted.close()
            self._complain(f"cannot take a connection: {error}")

    async def _shake_hands(self, accepted: socket.socket, tls: TLS) -> None:
        """Let asyncio do the handshake, whose end makes the protocol. Raises OSError, InvalidTls."""
        host = str(accepted.getpeername()[0])
        if self._per_host and self._handshakes[host] >= self._per_host:
            accepted.close()
            return
        self._handshakes[host] += 1
        try:
            await self._loop.connect_accepted_socket(
                self._factory,
                accepted,
                ssl=accepting_context(tls, accepted),
                ssl_handshake_timeout=self._handshake,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except OSError as error:
            accepted.close()
            self._complain(f"cannot take a client on {host}: {explain(error)}")
        finally:
            self._handshakes[host] -= 1
            if not self._handshakes[host]:
                del self._handshakes[host]

    # --- complaints --------------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        self._refused += 1
        if self._quiet is None:
            self._log_refused()

    def _log_refused(self) -> None:
        self._quiet = None
        refused, self._refused = self._refused, 0
        if refused:
            self._complain(
                f"connections refused: {refused}. Of the {descriptors.limit()} file descriptors that this process may "
                f"have, only the last {descriptors.RESERVE} are free; `ulimit -n` raises the limit"
            )

    def _complain(self, text: str) -> None:
        if self._quiet is None:
            _log.warning("%s", text)
            self._quiet = self._loop.call_later(_QUIET_SECONDS, self._log_refused)
