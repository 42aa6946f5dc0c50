"""Subjects of certificates in the form of Java's X500Principal, which is the id of ZooKeeper's x509 scheme."""

from __future__ import annotations

import ssl

import pytest

from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.server.distinguished_names import subject_of
from tests.authority import Authority, Issued

pytestmark = pytest.mark.long  # a process for each certificate

SUBJECTS = {
    "/C=DE/O=Example/CN=worker": "CN=worker,O=Example,C=DE",
    "/O=Ex, Inc/CN=a": "CN=a,O=Ex\\, Inc",
    '/O=#1 =;<>"\\+x/CN=a': 'CN=a,O=\\#1 \\=\\;\\<\\>\\"\\+x',
    "/O=x  y /CN= lead": "CN=\\ lead,O=x  y\\ ",
    "/CN=Jörg 蒼": "CN=Jörg 蒼",
    "/OU=b+OU=a/CN=x": "CN=x,OU=a+OU=b",
    "/DC=com/DC=example/UID=u1/ST=S/L=L/street=Road/CN=x": "CN=x,STREET=Road,L=L,ST=S,UID=u1,DC=example,DC=com",
    "/title=boss/emailAddress=x@y.z/CN=x": ("CN=x,1.2.840.113549.1.9.1=#16057840792e7a,2.5.4.12=#0c04626f7373"),
}


def der_of(issued: Issued) -> bytes:
    text = issued.certificate.read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])


@pytest.mark.parametrize(("subject", "expected"), SUBJECTS.items())
def test_a_subject_is_written_as_java_does(authority: Authority, subject: str, expected: str) -> None:
    assert subject_of(der_of(authority.issue("subject", subject=subject, hosts=()))) == expected


def test_a_damaged_certificate_is_refused(authority: Authority) -> None:
    whole = der_of(authority.client)
    assert subject_of(whole) == "CN=client,OU=tests,O=Herdmaster"
    for length in range(0, len(whole) // 2, 7):
        with pytest.raises(InvalidTls, match="damaged"):
            subject_of(whole[:length])
