"""Findings about who may read and change the tasks: an open namespace, plain connections, exposed files."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.inspection.finding import Finding, warning
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Security
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.credentials import Kerberos
from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.tls import PasswordFile

_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH


class SecuritySeen(msgspec.Struct, frozen=True):
    """The security of a program's connections. `remote` are the servers that are not on this machine, `exposed` the
    files with secrets that every user of this machine may read or write."""

    remote: tuple[str, ...]
    is_encrypted: bool
    exposed: tuple[str, ...]


def look_at_security(addresses: Sequence[Address], security: Security, others: Sequence[str] = ()) -> SecuritySeen:
    """`others` are further files with secrets."""
    remote = tuple(str(each) for each in addresses if not _is_loopback(each.host))
    exposed = tuple(str(path) for path in (*_secret_files(security), *map(Path, others)) if _is_exposed(path))
    return SecuritySeen(remote, security.tls is not None, exposed)


async def is_open(client: Client) -> bool:
    """Return whether every session may do everything in the namespace."""
    try:
        acl, _ = await client.get_acl("/")
    except (errors.NoAuth, errors.NoNode):
        return False
    return acl == OPEN_ACL


def security_findings(seen: SecuritySeen, *, namespace_is_open: bool) -> Iterator[Finding]:
    """Yield what is not safe. Servers on this machine alone are taken for a developer's, and may be open and plain."""
    if seen.remote and namespace_is_open:
        yield warning(
            "open",
            "every program that reaches the servers may read, change and submit tasks here",
            "`herd access migrate` closes the namespace",
        )
    if seen.remote and not seen.is_encrypted:
        yield warning(
            "plain",
            f"connections with {', '.join(seen.remote)} are not encrypted",
            "give the servers a secureClientPort, and use --tls",
        )
    for path in seen.exposed:
        yield warning("exposed", f"every user of this machine may read or write {path}", f"chmod 600 {path}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _secret_files(security: Security) -> Iterator[Path]:
    tls = security.tls
    if tls is not None and tls.certificate is not None:
        yield Path(tls.key or tls.certificate)
    if tls is not None and isinstance(tls.key_password, PasswordFile):
        yield Path(tls.key_password.path)
    for credential in security.auth:
        file = credential.keytab if isinstance(credential, Kerberos) else credential.file
        if file is not None:
            yield Path(file)


def _is_exposed(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False
