"""The listener: how it sets up the connections that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from herdmaster.zookeeper.server.listener import Listener


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_small_answers_are_sent_at_once(host: str) -> None:
    """Without TCP_NODELAY an answer waits for the acknowledgement of the one before, up to 40 ms."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[int] = loop.create_future()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            found = transport.get_extra_info("socket")
            accepted.set_result(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    listener = Listener(loop, Accepted)
    await listener.open(host, 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, host, listener.port)
    with contextlib.closing(transport):
        no_delay = await asyncio.wait_for(accepted, 5)
    await listener.close()
    assert no_delay
