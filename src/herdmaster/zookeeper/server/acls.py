"""Access control: the schemes world, auth, digest, ip, sasl and x509, with the rules of ZooKeeper's providers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Final

from herdmaster.zookeeper.errors import InvalidAcl, NoAuth
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission
from herdmaster.zookeeper.server.name_syntax import is_distinguished_name

_ANYONE: Final = Id("world", "anyone")
_SUPER: Final = Id("super", "")
_SASL_SUPER: Final = Id("sasl", "super")
"""Apache's provider takes this user for every other one of its scheme."""

_PROVED: Final = frozenset({"digest", "sasl", "x509"})
_WITHOUT_SETTINGS: Final = frozenset({"digest", "ip"})
_PRINCIPAL: Final = re.compile(r"[^/@]*(/[^/@]*)?@[^/@]*")
_JAVA_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,10}")

READ: Final = int(Permission.READ)
WRITE: Final = int(Permission.WRITE)
CREATE: Final = int(Permission.CREATE)
DELETE: Final = int(Permission.DELETE)
ADMIN: Final = int(Permission.ADMIN)


def permits(acl: tuple[Acl, ...], permission: int, identities: Sequence[Id]) -> bool:
    """Return whether one of the identities has one of the permissions."""
    if acl is OPEN_ACL:
        return True
    if not acl or _SUPER in identities:
        return True
    return any(
        entry.permissions & permission
        and (entry.id == _ANYONE or any(_matches(entry.id, identity) for identity in identities))
        for entry in acl
    )


def require(acl: tuple[Acl, ...], permission: int, identities: Sequence[Id], path: str) -> None:
    """Raise NoAuth unless one of the identities has one of the permissions."""
    if acl is not OPEN_ACL and not permits(acl, permission, identities):
        raise NoAuth(path)


def resolve(
    acl: tuple[Acl, ...], identities: Sequence[Id], path: str, schemes: Collection[str] = _WITHOUT_SETTINGS
) -> tuple[Acl, ...]:
    """Return the list as it is stored: without duplicates, `auth` replaced by the identities that the connection has
    proved. `schemes` are those that the server knows.

    Raises InvalidAcl.
    """
    if acl == OPEN_ACL:
        return OPEN_ACL
    resolved: list[Acl] = []
    for entry in dict.fromkeys(acl):
        if entry.id == _ANYONE:
            resolved.append(entry)
        elif entry.id.scheme == "auth":
            # "ip" is an identity of every connection but proves nothing.
            proved = [identity for identity in identities if identity.scheme in _PROVED and identity.scheme in schemes]
            if not proved:
                raise InvalidAcl(path)
            resolved.extend(Acl(entry.permissions, identity) for identity in proved)
        elif entry.id.scheme in schemes and _is_valid(entry.id):
            resolved.append(entry)
        else:
            raise InvalidAcl(path)
    if not resolved:
        raise InvalidAcl(path)
    return tuple(resolved)


def masked(acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
    """Return the list for a client without ADMIN: the password part of every digest reads `x`."""
    return tuple(
        Acl(entry.permissions, Id("digest", re.sub(":.*", ":x", entry.id.id))) if entry.id.scheme == "digest" else entry
        for entry in acl
    )


def authenticate(scheme: str, credential: bytes, address: str, super_digest: str) -> tuple[Id, ...] | None:
    """Return the identities that an auth request adds, or None if it is refused."""
    if scheme == "ip":
        return (Id("ip", address),)
    if scheme != "digest":
        return None
    identity = digest_id(credential)
    return (_SUPER, identity) if super_digest and identity.id == super_digest else (identity,)


def digest_id(credential: bytes) -> Id:
    """Return the identity for `user:password` as the server keeps it. The whole text is hashed, and the password may
    contain colons."""
    text = credential.decode("utf-8", "replace")
    user, _, _ = text.partition(":")
    # ZooKeeper's protocol fixes SHA-1; it hides a password from readers of an ACL and secures nothing else.
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return Id("digest", f"{user}:{base64.b64encode(digest).decode()}")


def _is_valid(identity: Id) -> bool:
    if identity.scheme == "digest":
        # Java's split drops empty parts at the end, so "user:hash:" passes and "user:" does not.
        parts = identity.id.split(":")
        while parts and not parts[-1]:
            parts.pop()
        return len(parts) == 2
    if identity.scheme == "ip":
        return _network(identity.id) is not None
    if identity.scheme == "sasl":
        return "@" not in identity.id or _PRINCIPAL.fullmatch(identity.id) is not None
    return identity.scheme == "x509" and is_distinguished_name(identity.id)


def _matches(granted: Id, identity: Id) -> bool:
    if granted.scheme != identity.scheme:
        return False
    if granted.scheme != "ip":
        return granted.id == identity.id or identity == _SASL_SUPER
    network = _network(granted.id)
    address = _ipv4(identity.id)
    if network is None or address is None:
        return False
    base, bits = network
    shift = 32 - bits
    return base >> shift == address >> shift


def _network(text: str) -> tuple[int, int] | None:
    """Return address and prefix length of `a.b.c.d` or `a.b.c.d/bits`."""
    address, slash, suffix = text.partition("/")
    base = _ipv4(address)
    bits = _java_integer(suffix) if slash else 32
    return None if base is None or bits is None or not 0 <= bits <= 32 else (base, bits)


def _ipv4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    address = 0
    for part in parts:
        number = _java_integer(part)
        if number is None or not 0 <= number <= 255:
            return None
        address = address << 8 | number
    return address


def _java_integer(text: str) -> int | None:
    return int(text) if _JAVA_INTEGER.fullmatch(text) else None
