"""Operations of people on access control: give a namespace an access policy, close one that is open, check every ACL.

All of them need a session of one of the policy's masters.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from herdmaster.core.access import POLICY, Identity, Kind, Policy, Right, encode_policy, kind_of, letters_of
from herdmaster.core.layout import FOLDERS, history_path
from herdmaster.errors import ConfigurationError
from herdmaster.operations.many import for_each
from herdmaster.roles.shared.access import PolicyAcls, acl_of_kind, read_policy, use_policy
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Stat
from herdmaster.zookeeper.paths import join

_PASSES: Final = 10
_PROBE: Final = history_path("access-probe")  # a master may create and delete there, and no role watches it
_MASKED: Final = ":x"  # ends a digest id for sessions without ADMIN


class AclState(enum.StrEnum):
    """What the ACL of a znode is, beside what the policy says."""

    AS_IT_SHOULD_BE = "as it should be"
    OPEN = "open to every session"
    DIFFERENT = "different"
    UNREADABLE = "not to be read by this session"
    FOREIGN = "no znode of Herdmaster"


class AclSeen(msgspec.Struct, frozen=True):
    """The ACL of a znode, and the one that it should have, as `scheme:id` with letters of rights."""

    path: str
    kind: Kind
    state: AclState
    acl: dict[str, str] = msgspec.field(default_factory=dict)
    wanted: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        return self.state not in (AclState.AS_IT_SHOULD_BE, AclState.FOREIGN)


async def found_namespace(outside: Client, path: str, policy: Policy) -> bool:
    """Create the namespace `path` with its folders and a policy, in one transaction. Return False if it exists.

    `outside` is a session without a chroot, of one of the policy's masters. The levels above the namespace are open.
    Raises NoAuth if it is not, and nothing is created then.
    """
    above = ""
    for segment in path.split("/")[1:-1]:
        above = f"{above}/{segment}"
        if await outside.exists(above) is None:
            try:
                await until_certain(partial(outside.create, above))
            except errors.NodeExists:
                continue
    transaction = outside.transaction().create(path, acl=acl_of_kind(policy, Kind.NAMESPACE))
    transaction.create(path + POLICY, encode_policy(policy), acl=acl_of_kind(policy, Kind.POLICY))
    for folder in FOLDERS:
        transaction.create(path + folder, acl=acl_of_kind(policy, kind_of(folder)))
    try:
        await until_certain(transaction.commit)
    except errors.TransactionFailed as failure:
        if isinstance(failure.error, errors.NodeExists):
            return False
        raise failure.error from None
    return True


async def put_policy(client: Client, policy: Policy) -> bool:
    """Write the policy, and close the namespace and its folders, so that what is created from now on is closed. Return
    whether the policy is new. May be repeated, also after it was interrupted.

    Raises ConfigurationError, before anything is changed, if this session is of none of the policy's masters.
    """
    known = await read_policy(client)
    if known is None:
        await make_folders(client)
    await _refuse_outsider(client, policy)
    data = encode_policy(policy)
    if known is None:
        with suppress(errors.NodeExists):  # by a request whose reply was lost, or by another operator
            await until_certain(partial(client.create, POLICY, data, acl=acl_of_kind(policy, Kind.POLICY)))
    if await read_policy(client) != policy:
        await until_certain(partial(client.set, POLICY, data))
    await use_policy(client)
    # The namespace first: until then any session may delete the policy.
    for path in ("/", POLICY, *FOLDERS):
        try:
            await until_certain(partial(client.set_acl, path, acl_of_kind(policy, kind_of(path))))
        except errors.NoNode:
            await make_folders(client)
    return known != policy


async def _refuse_outsider(client: Client, policy: Policy) -> None:
    """Try a znode with the new ACL in a transaction that leaves nothing."""
    transaction = client.transaction().create(_PROBE, acl=acl_of_kind(policy, Kind.POLICY))
    try:
        await until_certain(transaction.set(_PROBE, b"").delete(_PROBE).commit)
    except errors.TransactionFailed as failure:
        if isinstance(failure.error, errors.InvalidAcl):
            schemes = sorted({text.partition(":")[0] for each in Identity for text in policy.ids_of(each)})
            raise ConfigurationError(
                f"the servers do not take these ids: is {' or '.join(schemes)} set up there?"
            ) from None
        if not isinstance(failure.error, errors.NoAuth):
            raise failure.error from None
        raise ConfigurationError(
            "this session is of none of the policy's masters, and would lock itself out: present the credentials of "
            f"one, or check the ids (refused: {failure.error})"
        ) from None


async def close_znodes(client: Client, policy: Policy) -> AsyncIterator[AclSeen]:
    """Give every znode in the namespace the ACL of its kind, and yield each that was looked at, as it was.

    Repeats until nothing was wrong: a role that does not know the policy yet may still create open znodes. Raises
    SessionExpired, ConnectionLoss, and ConfigurationError if it does not come to an end.
    """
    acls = PolicyAcls(policy)
    for _ in range(_PASSES):
        wrong: list[str] = []
        async for seen in survey(client, policy):
            if seen.is_wrong:
                wrong.append(seen.path)
            yield seen
        if not wrong:
            return

        async def close(path: str) -> None:
            try:
                await until_certain(partial(client.set_acl, path, acls.acl_of(path)))
            except errors.NoNode:
                return

        async for path, refused in for_each(wrong, close):
            if refused is not None:
                raise refused
            del path
    raise ConfigurationError(
        f"open znodes still appear after {_PASSES} rounds: a program that has not read the policy creates them; "
        "restart it, and repeat the command"
    )


async def survey(client: Client, policy: Policy) -> AsyncIterator[AclSeen]:
    """Yield the ACL of every znode in the namespace; of those that are not Herdmaster's only the topmost. Raises
    SessionExpired."""
    await client.sync()
    acls = PolicyAcls(policy)
    level = ["/"]
    while level:
        below: list[str] = []
        async for path, found in for_each(level, client.get_acl):
            if isinstance(found, errors.NoNode):
                continue
            seen = _seen(path, found, acls)
            yield seen
            has_children = not isinstance(found, tuple) or found[1].num_children > 0
            if has_children and seen.state is not AclState.FOREIGN:
                below += await _children(client, path)
        level = below


async def _children(client: Client, path: str) -> list[str]:
    try:
        return [join(path, name) for name in await client.children(path)]
    except (errors.NoNode, errors.NoAuth):
        return []


def _seen(path: str, found: tuple[tuple[Acl, ...], Stat] | Exception, acls: PolicyAcls) -> AclSeen:
    kind = kind_of(path)
    if kind is Kind.OTHER and path.count("/") == 1:
        return AclSeen(path, kind, AclState.FOREIGN)
    wanted = acls.acl_of(path)
    if not isinstance(found, tuple):
        return AclSeen(path, kind, AclState.UNREADABLE, wanted=_letters(wanted))
    acl, _ = found
    state = AclState.DIFFERENT
    if set(acl) == set(wanted):
        state = AclState.AS_IT_SHOULD_BE
    elif acl == OPEN_ACL:
        state = AclState.OPEN
    elif any(entry.id.scheme == "digest" and entry.id.id.endswith(_MASKED) for entry in acl):
        state = AclState.UNREADABLE
    return AclSeen(path, kind, state, _letters(acl), _letters(wanted))


def _letters(acl: tuple[Acl, ...]) -> dict[str, str]:
    return {_text(entry.id): letters_of(Right(entry.permissions)) for entry in acl}


def _text(identity: Id) -> str:
    return f"{identity.scheme}:{identity.id}"
