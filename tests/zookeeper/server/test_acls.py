"""ACL schemes: what is valid, what matches, and what is stored."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.errors import InvalidAcl
from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL, Acl, Id
from herdmaster.zookeeper.server import acls

LOCAL = Id("ip", "127.0.0.1")
AL = Id("digest", "al:E2WgW72KiEUG4R7vIVBkt6SPXyA=")


def test_a_digest_hashes_the_whole_credential() -> None:
    assert acls.digest_id(b"al:pw") == AL


def test_a_password_may_contain_colons_and_a_credential_may_lack_one() -> None:
    assert acls.digest_id(b"al:p:w").id.startswith("al:")
    assert acls.digest_id(b"plain").id.startswith("plain:")


def test_the_open_list_stays_the_one_object_that_is_not_looked_at() -> None:
    copy = (Acl(31, Id("world", "anyone")),)
    assert acls.resolve(copy, [LOCAL], "/") is OPEN_ACL


def test_duplicates_are_dropped() -> None:
    entry = Acl(1, Id("world", "anyone"))
    assert acls.resolve((entry, entry, Acl(2, entry.id)), [LOCAL], "/") == (entry, Acl(2, entry.id))


def test_auth_becomes_every_identity_that_the_connection_has_proved() -> None:
    bo = acls.digest_id(b"bo:pw")
    assert acls.resolve(CREATOR_ALL_ACL, [LOCAL, AL, bo], "/") == (Acl(31, AL), Acl(31, bo))


def test_auth_without_a_proved_identity_is_invalid() -> None:
    with pytest.raises(InvalidAcl):
        acls.resolve(CREATOR_ALL_ACL, [LOCAL], "/")


@pytest.mark.parametrize(
    "identity",
    [
        ("world", "someone"),
        ("digest", "nocolon"),
        ("digest", "a:b:c"),
        ("digest", "user:"),
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
        ("", ""),
    ],
)
def test_an_invalid_identity_is_refused(identity: tuple[str, str]) -> None:
    with pytest.raises(InvalidAcl):
        acls.resolve((Acl(31, Id(*identity)),), [LOCAL, AL], "/")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InvalidAcl):
        acls.resolve((), [LOCAL], "/")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.20.30.40", "10.20.30.0/24", "0.0.0.0/0"])
def test_an_ip_matches_its_network(text: str) -> None:
    assert acls.permits((Acl(1, Id("ip", text)),), acls.READ, [Id("ip", "10.20.30.40")])


@pytest.mark.parametrize("text", ["11.0.0.0/8", "10.20.30.41", "10.20.31.0/24"])
def test_an_ip_does_not_match_another_network(text: str) -> None:
    assert not acls.permits((Acl(1, Id("ip", text)),), acls.READ, [Id("ip", "10.20.30.40")])


def test_an_ipv6_client_matches_no_ip_entry() -> None:
    assert not acls.permits((Acl(1, Id("ip", "0.0.0.0/0")),), acls.READ, [Id("ip", "::1")])


def test_a_permission_counts_only_for_its_own_entry() -> None:
    acl = (Acl(acls.READ, Id("world", "anyone")), Acl(acls.WRITE, AL))
    assert acls.permits(acl, acls.READ, [LOCAL])
    assert not acls.permits(acl, acls.WRITE, [LOCAL])
    assert acls.permits(acl, acls.WRITE, [LOCAL, AL])
    assert acls.permits(acl, acls.READ | acls.ADMIN, [LOCAL])


def test_super_bypasses_every_list() -> None:
    identities = acls.authenticate("digest", b"al:pw", "127.0.0.1", AL.id)
    assert identities is not None
    assert acls.permits((Acl(1, Id("digest", "x:y")),), acls.DELETE, identities)


def test_digest_never_fails_and_unknown_schemes_do() -> None:
    assert acls.authenticate("digest", b"nocolon", "127.0.0.1", "") is not None
    assert acls.authenticate("world", b"anyone", "127.0.0.1", "") is None
    assert acls.authenticate("sasl", b"", "127.0.0.1", "") is None


def test_without_admin_the_digest_is_hidden() -> None:
    assert acls.masked((Acl(31, AL), Acl(1, LOCAL))) == (Acl(31, Id("digest", "al:x")), Acl(1, LOCAL))
