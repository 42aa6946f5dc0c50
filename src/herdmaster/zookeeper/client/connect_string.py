"""The connect string: `host:port[,host:port...][/path]`."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from herdmaster.zookeeper.errors import InvalidConnectString, InvalidPath
from herdmaster.zookeeper.paths import Chroot

DEFAULT_PORT = 2181
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_HOST = re.compile(rf"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))(?::(?P<port>\d{{1,5}}))?")


class Address(msgspec.Struct, frozen=True):
    """A server as it was named; names are resolved at every connection attempt (ZOOKEEPER-2184)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ConnectString(msgspec.Struct, frozen=True):
    addresses: tuple[Address, ...]
    chroot: Chroot

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses)) + self.chroot.prefix


def parse_connect_string(text: str) -> ConnectString:
    """Parse a connect string. Raises InvalidConnectString, which names the part that is wrong."""
    hosts, slash, path = text.strip().partition("/")
    addresses = tuple(_parse_address(part.strip(), text) for part in hosts.split(","))
    try:
        chroot = Chroot("" if path == "" else slash + path)
    except InvalidPath as error:
        raise InvalidConnectString(f"connect string {text!r}: {error}") from None
    return ConnectString(addresses, chroot)


def _parse_address(part: str, text: str) -> Address:
    match = _HOST.fullmatch(part)
    if match is None and part.count(":") > 1:
        raise InvalidConnectString(f"connect string {text!r}: {part!r}: write an IPv6 address in brackets, [::1]:2181")
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidConnectString(
            f"connect string {text!r}: {part!r} is not host:port; write host1:2181,host2:2181/path"
        )
    if match["name"]:
        return Address(match["name"], port)
    try:
        ipaddress.IPv6Address(match["v6"])
    except ValueError:
        raise InvalidConnectString(f"connect string {text!r}: {match['v6']!r} is not an IPv6 address") from None
    return Address(match["v6"], port)
