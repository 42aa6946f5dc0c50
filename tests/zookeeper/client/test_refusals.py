"""What an error says of a right that a request lacks."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.presented import Presented
from herdmaster.zookeeper.client.refusals import refusal
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.records import (
    Check,
    Create,
    Delete,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    Record,
    SetAcl,
    SetData,
    Sync,
)

PATH = "/shop/prices"


@pytest.mark.parametrize(
    ("request_", "needed"),
    [
        (Create(PATH, b"", (), 0), "CREATE on /shop"),
        (Delete(PATH, -1), "DELETE on /shop"),
        (SetData(PATH, b"", -1), "WRITE on /shop/prices"),
        (SetAcl(PATH, (), -1), "ADMIN on /shop/prices"),
        (Check(PATH, -1), "READ on /shop/prices"),
        (Exists(PATH, watch=False), "READ on /shop/prices"),
        (GetData(PATH, watch=False), "READ on /shop/prices"),
        (GetChildren(PATH, watch=False), "READ on /shop/prices"),
        (GetAcl(PATH), "READ or ADMIN on /shop/prices"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Record) else "",
)
def test_a_refused_request_says_which_right_it_needs(request_: Record, needed: str) -> None:
    presented = Presented(has_certificate=True)
    assert str(refusal(errors.NoAuth.code, request_, PATH, presented)) == (
        f"NoAuth: {PATH}: this session lacks the right {needed}; it has presented x509: give it the credentials of an "
        "identity that has this right (docs/security.md lists them)"
    )
    assert str(refusal(errors.NoNode.code, request_, PATH, presented)) == f"NoNode: {PATH}"


def test_a_request_without_a_path_lacks_no_right_that_is_known() -> None:
    assert str(refusal(errors.NoAuth.code, Sync(""), "")) == "NoAuth"


@pytest.mark.parametrize(
    ("presented", "words"),
    [
        (Presented(), "no credential"),
        (Presented(has_certificate=True), "x509"),
        (Presented(mechanism="GSSAPI"), "SASL GSSAPI"),
        (Presented((("digest", Secret(b"al:pw")), ("digest", Secret(b"bo:pw")))), "digest"),
    ],
)
def test_what_is_presented_is_said_by_scheme(presented: Presented, words: str) -> None:
    assert str(presented) == words


def test_a_password_that_the_servers_do_not_check_may_be_wrong() -> None:
    presented = Presented(mechanism="DIGEST-MD5").with_credentials([("digest", Secret(b"al:pw"))])

    text = str(refusal(errors.NoAuth.code, Check(PATH, -1), PATH, presented))

    assert "it has presented SASL DIGEST-MD5, digest (ZooKeeper does not check its password: that may be wrong)" in text
    assert "may be wrong" not in str(
        refusal(errors.NoAuth.code, Check(PATH, -1), PATH, Presented(mechanism="DIGEST-MD5"))
    )
