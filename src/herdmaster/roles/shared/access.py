"""The access policy of a namespace, as one session uses it: every znode that the session creates gets its ACL."""

from __future__ import annotations

import asyncio
import logging

from herdmaster.core.access import KINDS, POLICY, Kind, Policy, decode_policy, place_of
from herdmaster.errors import BadPolicy
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.watches import Watcher
from herdmaster.zookeeper.model import Acl, Id, WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

_log = logging.getLogger("herdmaster")


class PolicyAcls:
    """The ACLs of a policy, by the places of znodes; for `Client.default_acls`."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.size = max(map(policy.size_of, Kind))
        self._by_place = {place: acl_of_kind(policy, kind) for place, kind in KINDS.items()}
        self._other = acl_of_kind(policy, Kind.OTHER)

    def acl_of(self, path: str, /) -> tuple[Acl, ...]:
        return self._by_place.get(place_of(path), self._other)


def acl_of_kind(policy: Policy, kind: Kind) -> tuple[Acl, ...]:
    return tuple(Acl(int(entry.rights), Id(entry.scheme, entry.id)) for entry in policy.acl_of(kind))


async def read_policy(client: Client, watcher: Watcher | None = None) -> Policy | None:
    """Return the policy; None in an open namespace, or if there is no namespace. The watcher is armed in every case but
    NoAuth. Raises NoAuth if none of the session's identities may use the namespace, and BadPolicy."""
    try:
        if await client.exists(POLICY, watcher) is None:
            return None
        data, _ = await client.get(POLICY)
    except errors.NoNode:
        return None
    return decode_policy(data)


async def use_policy(client: Client, watcher: Watcher | None = None) -> None:
    """Give every znode that the session creates from now on the ACL of the namespace's policy. Raises as
    `read_policy`."""
    policy = await read_policy(client, watcher)
    client.default_acls = None if policy is None else PolicyAcls(policy)


class Access:
    """The policy of a role's namespace, over all its sessions."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    async def begin(self, client: Client) -> None:
        """Use the policy that there is when a session begins. Raises as `read_policy`."""
        self._changed = changed = asyncio.Event()

        def handle(_event: WatchEvent) -> None:
            changed.set()

        await use_policy(client, handle)

    async def follow(self, client: Client) -> None:
        """Use each new policy, until the session is over. One that cannot be read changes nothing. Raises
        SessionExpired, and NoAuth if the new policy does not name this program."""
        while True:
            await wait_unless_over(client, self._changed)
            before = client.default_acls
            try:
                await self.begin(client)
            except BadPolicy as error:
                _log.error("%s: this session goes on with the policy that it knows", error)
            else:
                _tell(before, client.default_acls)


def _tell(before: object, after: object) -> None:
    if after is None and before is not None:
        _log.warning("the access policy of the namespace is gone: what is created from now on is open to every session")
    elif after is not None:
        _log.info("the namespace has a new access policy: what is created from now on has its ACLs")
