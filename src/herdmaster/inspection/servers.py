"""What the servers of ZooKeeper say of themselves: the four-letter word `mntr`, sent in place of a handshake."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.zookeeper.client import tls_faults
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.dialing import tls_options
from herdmaster.zookeeper.tls import TLS

_MAX_ANSWER: Final = 1 << 20


class Answer(enum.Enum):
    """How a server answered."""

    SERVES = "serves"
    NO_QUORUM = "is reachable and serves no requests"
    NOT_ALLOWED = "does not allow mntr"
    UNREACHABLE = "cannot be reached"


class ServerSeen(msgspec.Struct, frozen=True):
    """One server of the connect string. `values` are those of `mntr`, without the prefix `zk_`; `error` says why it
    cannot be reached."""

    address: str
    answer: Answer
    values: dict[str, str] = msgspec.field(default_factory=dict)
    error: str = ""

    @property
    def role(self) -> str:
        """`leader`, `follower`, `observer`, `standalone`; empty if it is not known."""
        return self.values.get("server_state", "")

    def number(self, name: str) -> float:
        """Return one of the values; 0 if it is absent."""
        try:
            return float(self.values.get(name, "0"))
        except ValueError:
            return 0.0


async def look_at_servers(addresses: Sequence[Address], seconds: float, tls: TLS | None = None) -> list[ServerSeen]:
    """Ask all servers at once, each for at most so many seconds. Raises InvalidTls."""
    return list(await asyncio.gather(*(_ask(address, seconds, tls) for address in addresses)))


async def _ask(address: Address, seconds: float, tls: TLS | None) -> ServerSeen:
    name = str(address)
    try:
        async with asyncio.timeout(seconds):
            text = await _send(address, b"mntr", tls)
    except TimeoutError:
        return ServerSeen(name, Answer.UNREACHABLE, error=f"no answer within {seconds:g} s")
    except OSError as error:
        fault = "" if tls is None else tls_faults.explain(error, tls, address.host)
        return ServerSeen(name, Answer.UNREACHABLE, error=fault or error.strerror or str(error))
    return read_answer(name, text)


async def _send(address: Address, word: bytes, tls: TLS | None) -> str:
    options = {} if tls is None else await tls_options(tls, address.host)
    reader, writer = await asyncio.open_connection(address.host, address.port, **options)
    try:
        writer.write(word)
        await writer.drain()
        return (await _read_all(reader)).decode("utf-8", "replace")
    finally:
        writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < _MAX_ANSWER and (part := await reader.read(65536)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def read_answer(address: str, text: str) -> ServerSeen:
    """Return what the answer to `mntr` says."""
    if "not currently serving requests" in text:
        return ServerSeen(address, Answer.NO_QUORUM)
    pairs = (line.split("\t", 1) for line in text.splitlines() if line.startswith("zk_") and "\t" in line)
    values = {name.removeprefix("zk_"): value.strip() for name, value in pairs}
    return ServerSeen(address, Answer.SERVES if values else Answer.NOT_ALLOWED, values)
