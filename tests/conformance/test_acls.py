"""Fact sheet 3.4 (rights) and 3.10 (ACL schemes), and whoAmI of 2.3.

The super user is in test_settings.py. Left out: enforced authentication, which is a setting; entries of networks that
are not loopback's own, but for one that does not match; `exists` without READ, which 3.8.0 answers and the newer
servers refuse.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL, READ_ONLY_ACL, Acl, Id
from herdmaster.zookeeper.wire import records
from tests.conformance.rig import Peer, Rig

NO_AUTH, INVALID_ACL, AUTH_FAILED = -102, -114, -115
READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
ANYONE = Id("world", "anyone")
AL = Id("digest", "al:E2WgW72KiEUG4R7vIVBkt6SPXyA=")


def acl_of(peer: Peer, path: str) -> tuple[Acl, ...]:
    reply = peer.body(records.GetAcl(path))
    assert isinstance(reply, records.AclReply)
    return reply.acl


def users(peer: Peer) -> list[tuple[str, str]]:
    reply = peer.body(records.WhoAmI())
    assert isinstance(reply, records.WhoAmIReply)
    return [(info.scheme, info.user) for info in reply.infos]


def test_a_digest_hashes_the_whole_credential(client: Peer) -> None:
    client.authenticate(b"al:pw")
    client.create("/p", acl=CREATOR_ALL_ACL)
    assert acl_of(client, "/p") == (Acl(31, AL),)


@pytest.mark.parametrize(("credential", "user"), [(b"al:p:w", "al"), (b"plain", "plain")])
def test_a_password_may_contain_colons_and_a_credential_may_lack_one(
    client: Peer, credential: bytes, user: str
) -> None:
    client.authenticate(credential)
    assert ("digest", user) in users(client)


def test_auth_becomes_every_identity_that_the_connection_has_proved(client: Peer) -> None:
    client.authenticate(b"al:pw")
    client.authenticate(b"bo:pw")
    client.create("/p", acl=(Acl(READ | ADMIN, Id("auth", "its text is ignored")),))
    acl = acl_of(client, "/p")
    assert sorted(entry.id.id[:3] for entry in acl) == ["al:", "bo:"]
    assert {entry.permissions for entry in acl} == {READ | ADMIN}
    client.body(records.SetAcl("/p", CREATOR_ALL_ACL, -1))
    assert {entry.permissions for entry in acl_of(client, "/p")} == {31}


def test_auth_without_a_proved_identity_is_invalid(client: Peer) -> None:
    assert client.error(records.Create("/p", b"", CREATOR_ALL_ACL, 0)) == INVALID_ACL
    assert client.error(records.SetAcl("/", CREATOR_ALL_ACL, -1)) == INVALID_ACL


@pytest.mark.parametrize(
    "identity",
    [
        ("world", "someone"),
        ("digest", "nocolon"),
        ("digest", "a:b:c"),
        ("ip", "1.2.3"),
        ("ip", "1.2.3.256"),
        ("ip", "1.2.3.4/33"),
        ("ip", "1.2.3.4/-1"),
        ("ip", "1.2.3.4/x"),
        ("ip", "::1"),
        ("ip", "localhost"),
        ("sasl", "x"),
        ("x509", "x"),
        ("super", ""),
        ("unheard-of", "x"),
    ],
)
def test_an_invalid_identity_is_refused(client: Peer, identity: tuple[str, str]) -> None:
    client.authenticate(b"al:pw")
    acl = (*OPEN_ACL, Acl(31, Id(*identity)))
    assert client.error(records.Create("/p", b"", acl, 0)) == INVALID_ACL


def test_an_empty_and_a_null_list_are_invalid(client: Peer) -> None:
    assert client.error(records.Create("/p", b"", (), 0)) == INVALID_ACL
    null = b"\0\0\0\x02/p" + b"\0" * 4 + b"\xff" * 4 + b"\0" * 4
    assert client.raw_request(1, null).error == INVALID_ACL


def test_exact_duplicates_are_dropped_and_permissions_are_not_looked_at(client: Peer) -> None:
    client.create("/p", acl=(Acl(31, ANYONE), Acl(31, ANYONE), Acl(READ, ANYONE)))
    assert acl_of(client, "/p") == (Acl(31, ANYONE), Acl(READ, ANYONE))
    client.create("/q", acl=(Acl(1023, ANYONE), Acl(0, ANYONE)))
    assert acl_of(client, "/q") == (Acl(1023, ANYONE), Acl(0, ANYONE))


@pytest.mark.parametrize("network", ["127.0.0.1", "127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0"])
def test_an_ip_lets_its_network_in(client: Peer, network: str) -> None:
    client.create("/p", acl=(Acl(31, Id("ip", network)),))
    assert client.error(records.GetData("/p", False)) == 0


@pytest.mark.parametrize("network", ["10.0.0.1", "10.0.0.0/8", "127.0.0.2"])
def test_an_ip_keeps_other_networks_out(client: Peer, network: str) -> None:
    client.create("/p", acl=(Acl(31, Id("ip", network)),))
    assert client.error(records.GetData("/p", False)) == NO_AUTH


@pytest.mark.parametrize("permission", [READ, WRITE, CREATE, DELETE, ADMIN])
def test_each_right_allows_its_own_requests_alone(client: Peer, permission: int) -> None:
    client.create("/p")
    client.create("/p/x")
    client.body(records.SetAcl("/p", (Acl(permission, ANYONE),), -1))
    needs = [
        (READ, records.GetData("/p", False)),
        (READ, records.GetChildren("/p", False)),
        (READ, records.GetChildren2("/p", False)),
        (READ, records.GetAllChildrenNumber("/p")),
        (READ | ADMIN, records.GetAcl("/p")),
        (WRITE, records.SetData("/p", b"", -1)),
        (CREATE, records.Create("/p/y", b"", OPEN_ACL, 0)),
        (DELETE, records.Delete("/p/x", -1)),
        (ADMIN, records.SetAcl("/p", READ_ONLY_ACL, -1)),
    ]
    for allowed_by, request in needs:
        assert client.error(request) == (0 if permission & allowed_by else NO_AUTH), request


def test_get_acl_needs_read_or_admin_and_hides_digests_without_admin(client: Peer, other: Peer) -> None:
    client.authenticate(b"al:pw")
    client.create("/p", acl=CREATOR_ALL_ACL)
    client.create("/q", acl=(*CREATOR_ALL_ACL, *READ_ONLY_ACL))
    assert other.error(records.GetAcl("/p")) == NO_AUTH
    assert acl_of(client, "/q") == (Acl(31, AL), *READ_ONLY_ACL)
    assert acl_of(other, "/q") == (Acl(31, Id("digest", "al:x")), *READ_ONLY_ACL)


def test_several_credentials_accumulate(client: Peer, other: Peer) -> None:
    client.authenticate(b"al:pw")
    client.create("/al", acl=CREATOR_ALL_ACL)
    other.authenticate(b"bo:pw")
    assert other.error(records.GetData("/al", False)) == NO_AUTH
    other.authenticate(b"al:wrong")
    assert other.error(records.GetData("/al", False)) == NO_AUTH
    other.authenticate(b"al:pw")
    assert other.error(records.GetData("/al", False)) == 0


def test_who_am_i_tells_the_address_and_the_users_and_not_their_hashes(client: Peer) -> None:
    assert users(client) == [("ip", "127.0.0.1")]
    client.authenticate(b"al:pw")
    client.authenticate(b"bo:pw")
    client.authenticate(b"bo:pw")
    assert sorted(users(client)) == [("digest", "al"), ("digest", "bo"), ("ip", "127.0.0.1")]


@pytest.mark.parametrize("scheme", ["world", "auth", "unheard-of"])
def test_a_refused_credential_ends_the_connection_and_not_the_session(rig: Rig, client: Peer, scheme: str) -> None:
    client.request(records.Auth(0, scheme, b"anyone"), xid=-4)
    (answer,) = client.answers
    assert (answer.xid, answer.zxid, answer.error) == (-4, 0, AUTH_FAILED)
    client.wait_closed()
    assert rig.reattach(client).is_open()
