"""Loopback ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

__all__ = ["LOOPBACK", "free_ports"]

LOOPBACK = "127.0.0.1"

# Below the range that the kernel gives to outgoing connections (32768 and up on Linux). Otherwise a client that
# reconnects to a stopped server can get the server's port, connect to itself, and keep the server from binding it.
_CANDIDATES = range(16_384, 32_768)


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now. Another program may take one before its server binds it."""
    ports: list[int] = []
    choose = random.SystemRandom().choice
    with ExitStack() as bound:
        while len(ports) < count:
            candidate = bound.enter_context(socket.socket())
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = choose(_CANDIDATES)
            with suppress(OSError):
                candidate.bind((LOOPBACK, port))
                ports.append(port)
    return ports
