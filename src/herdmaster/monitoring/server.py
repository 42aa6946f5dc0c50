"""Serves monitoring in the event loop of a role, so that an answer shows that this loop turns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from herdmaster import forks
from herdmaster.errors import ConfigurationError


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the role."""
        yield


def bind(address: str) -> socket.socket:
    """Return a listening socket for `HOST:PORT`, `[::1]:PORT` or `:PORT` (loopback). Raises `ConfigurationError`."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not separator or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigurationError(f"listen on HOST:PORT, such as 127.0.0.1:9100, not {address!r}")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(where, family=family)
    except UnicodeError:
        raise ConfigurationError(f"cannot listen on {address}: {host!r} is not the name of a host") from None
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from None
    # A process that a task forked would otherwise keep the address in use after this process has ended.
    forks.add_fd(listening.fileno())
    return listening


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until cancelled; what is being answered may be finished within a second."""
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await asyncio.wait([serving], timeout=3)
        serving.cancel()
        raise
    finally:
        if listening.fileno() >= 0:
            forks.discard_fd(listening.fileno())
        listening.close()
