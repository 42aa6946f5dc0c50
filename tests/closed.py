"""A namespace with an access policy of digest identities, for tests, and sessions of these identities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from herdmaster.core.access import Identity, Policy, digest_id
from herdmaster.operations.access import found_namespace, survey
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, ConnectString, Security, parse_connect_string
from herdmaster.zookeeper.client.credentials import Digest
from herdmaster.zookeeper.model import OPEN_ACL, Acl
from herdmaster.zookeeper.paths import Chroot, join

PASSWORD = "a long and secret text"
POLICY = Policy.of({each: (f"digest:{digest_id(each, PASSWORD)}",) for each in Identity})


def credential_of(identity: Identity) -> Digest:
    return Digest(identity.value, PASSWORD)


@asynccontextmanager
async def session_of(hosts: str, *identities: Identity) -> AsyncIterator[Client]:
    security = Security(auth=tuple(map(credential_of, identities)))
    async with Client(hosts, session_timeout=4.0, connect_timeout=15.0, security=security) as client:
        yield client


async def acl_at(client: Client, path: str) -> tuple[Acl, ...]:
    return (await client.get_acl(path))[0]


async def reopen(client: Client, path: str = "/") -> None:
    """Open a znode and what is below it, so that a fixture without an identity can delete it. For a master."""
    with suppress(errors.NoNode):
        await client.set_acl(path, OPEN_ACL)
        for name in await client.children(path):
            await reopen(client, join(path, name))


async def deviations(client: Client, policy: Policy = POLICY) -> list[str]:
    """Return each znode of a closed namespace whose ACL is not that of the matrix. For a master."""
    return [f"{seen.path} ({seen.kind})" async for seen in survey(client, policy) if seen.is_wrong]


def security_of(identity: Identity) -> Security:
    return Security(auth=(credential_of(identity),))


async def close_namespace(hosts: str, policy: Policy = POLICY) -> str:
    """Create a closed namespace below the one of the connect string, and return its connect string."""
    inside = parse_connect_string(f"{hosts}/closed")
    outside = ConnectString(inside.addresses, Chroot())
    async with Client(outside, connect_timeout=15.0, security=security_of(Identity.MASTER)) as client:
        assert await found_namespace(client, inside.chroot.prefix, policy)
    return str(inside)


async def reopen_namespace(hosts: str, *, is_checked: bool = False) -> None:
    """Open a namespace for a fixture that deletes it. `is_checked`: after a look at every ACL that its roles left."""
    async with session_of(hosts, Identity.MASTER) as client:
        found = await deviations(client) if is_checked else []
        await reopen(client)
    assert found == []
