"""Makes connections to servers. Names are resolved at every attempt, and all addresses tried."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from herdmaster.zookeeper.client import tls_faults
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.tls import TLS, client_context, may_block

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


class Unreachable(Exception):
    """No connection was made; the message says why the last attempt failed. `is_tls`: an address answered, and TLS was
    not possible."""

    def __init__(self, fault: str, *, is_tls: bool = False) -> None:
        super().__init__(fault)
        self.is_tls = is_tls


async def dial(
    address: Address, tls: TLS | None, factory: Callable[[], ProtocolT], limit: float, rng: random.Random
) -> ProtocolT:
    """Connect, and return the protocol that `factory` makes. Addresses of a name are tried one after the other, so that
    one that swallows packets does not hide the others. `limit` is in seconds, once for the name and once for its
    addresses. With `tls` its files are read now.

    Raises Unreachable, InvalidTls.
    """
    options = {} if tls is None else await tls_options(tls, address.host)
    loop = asyncio.get_running_loop()
    unreachable = Unreachable("its name has no addresses")
    try:
        async with asyncio.timeout(limit):
            hosts = await _resolve(loop, address, rng)
    # UnicodeError: the resolver takes the name for no host name.
    except (OSError, TimeoutError, UnicodeError) as error:
        raise Unreachable(str(error) or "its name was not resolved in time") from None
    for host in hosts:
        try:
            async with asyncio.timeout(limit / len(hosts)):
                _, protocol = await loop.create_connection(factory, host, address.port, **options)
        except (OSError, TimeoutError, UnicodeError) as error:
            fault = "" if tls is None else tls_faults.explain(error, tls, address.host)
            unreachable = Unreachable(fault or _words(error), is_tls=bool(fault))
        else:
            return protocol
    raise unreachable


async def tls_options(tls: TLS, host: str) -> dict[str, Any]:
    """Return the arguments of `create_connection` for TLS. Without TLS there are none: a loop may know none.

    Raises InvalidTls.
    """
    return {"ssl": await make_context(tls), "server_hostname": tls.server_name or host.removesuffix(".")}


async def make_context(tls: TLS) -> ssl.SSLContext:
    """As `client_context`, which may wait for code of the program. Raises InvalidTls."""
    return await asyncio.to_thread(client_context, tls) if may_block(tls) else client_context(tls)


def _words(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


async def _resolve(loop: asyncio.AbstractEventLoop, address: Address, rng: random.Random) -> list[str]:
    """Return the addresses of a name, resolved anew (ZOOKEEPER-2184) and in random order: one name may stand for all
    servers."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address.host)
        return [address.host]
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except NotImplementedError:
        return [address.host]  # a loop with a network of its own, where names are addresses
    hosts = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    rng.shuffle(hosts)
    return hosts
