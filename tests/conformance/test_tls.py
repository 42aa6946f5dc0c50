"""The scheme x509: the subject of a client's certificate is an identity of its connection."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.errors import NoAuth
from herdmaster.zookeeper.model import Acl, ClientInfo, Id, Permission
from herdmaster.zookeeper.wire import records
from tests.authority import Authority
from tests.conformance.rig import Peer, Rig

SUBJECT = "CN=client,OU=tests,O=Herdmaster"
EVERYTHING = int(Permission.ALL)


def identities(peer: Peer) -> set[ClientInfo]:
    reply = peer.body(records.WhoAmI())
    assert isinstance(reply, records.WhoAmIReply)
    return set(reply.infos)


def owned_by(subject: str) -> tuple[Acl, ...]:
    return (Acl(EVERYTHING, Id("x509", subject)),)


def test_the_subject_is_an_identity_beside_the_address(secure_rig: Rig) -> None:
    assert identities(secure_rig.client()) == {ClientInfo("ip", "127.0.0.1"), ClientInfo("x509", SUBJECT)}


@pytest.mark.parametrize(
    ("subject", "identity"),
    [
        ("/C=DE/O=Ex, Inc/OU=b+OU=a/CN=Jörg", "CN=Jörg,OU=a+OU=b,O=Ex\\, Inc,C=DE"),
        (
            '/DC=foo/L=L/title=boss/emailAddress=x@y.z/CN= #1 =;<>"x  y#',
            'CN=\\ \\#1 \\=\\;\\<\\>\\"x  y\\#,1.2.840.113549.1.9.1=#16057840792e7a,2.5.4.12=#0c04626f7373,L=L,DC=foo',
        ),
    ],
)
def test_a_subject_is_written_by_rfc_2253(secure_rig: Rig, authority: Authority, subject: str, identity: str) -> None:
    client = secure_rig.client(tls=authority.issue("unusual", subject=subject, hosts=()).tls())
    assert ClientInfo("x509", identity) in identities(client)


def test_an_acl_with_a_subject_admits_that_client_alone(secure_rig: Rig, authority: Authority) -> None:
    client = secure_rig.client()
    other = secure_rig.client(tls=authority.issue("other", hosts=()).tls())
    client.create("/own", b"mine", acl=owned_by(SUBJECT))
    assert client.error(records.GetData("/own", False)) == 0
    assert other.error(records.GetData("/own", False)) == NoAuth.code
    assert other.error(records.SetData("/own", b"", -1)) == NoAuth.code
    client.create("/given", b"", acl=owned_by("CN=other,OU=tests,O=Herdmaster"))
    assert other.error(records.GetData("/given", False)) == 0
    assert client.error(records.GetData("/given", False)) == NoAuth.code


def test_auth_stands_for_the_subject(secure_rig: Rig) -> None:
    client = secure_rig.client()
    client.create("/own", b"", acl=(Acl(EVERYTHING, Id("auth", "")),))
    reply = client.body(records.GetAcl("/own"))
    assert isinstance(reply, records.AclReply)
    assert reply.acl == owned_by(SUBJECT)


def test_the_subject_is_that_of_the_connection_and_not_of_the_session(secure_rig: Rig, authority: Authority) -> None:
    client = secure_rig.client()
    client.create("/own", b"", acl=owned_by(SUBJECT))
    moved = secure_rig.reattach(client, tls=authority.issue("other", hosts=()).tls())
    assert moved.error(records.GetData("/own", False)) == NoAuth.code
