"""A namespace with an access policy of digest identities, for tests, and sessions of these identities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from herdmaster.core.access import Identity, Policy, digest_id
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, Acl
from herdmaster.zookeeper.paths import join

PASSWORD = "a long and secret text"
POLICY = Policy.of({each: (f"digest:{digest_id(each, PASSWORD)}",) for each in Identity})


def credential_of(identity: Identity) -> bytes:
    return f"{identity}:{PASSWORD}".encode()


@asynccontextmanager
async def session_of(hosts: str, *identities: Identity) -> AsyncIterator[Client]:
    async with Client(hosts, session_timeout=4.0, connect_timeout=15.0) as client:
        for each in identities:
            await client.add_credential("digest", credential_of(each))
        yield client


async def acl_at(client: Client, path: str) -> tuple[Acl, ...]:
    return (await client.get_acl(path))[0]


async def reopen(client: Client, path: str = "/") -> None:
    """Open a znode and what is below it, so that a fixture without an identity can delete it. For a master."""
    with suppress(errors.NoNode):
        await client.set_acl(path, OPEN_ACL)
        for name in await client.children(path):
            await reopen(client, join(path, name))
