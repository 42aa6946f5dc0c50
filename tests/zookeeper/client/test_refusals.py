"""What an error says of a right that a request lacks."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.refusals import refusal
from herdmaster.zookeeper.wire.records import Check, Delete, Exists, Record, SetAcl, SetData

PATH = "/shop/prices"


@pytest.mark.parametrize(
    ("request_", "needed"),
    [
        (Delete(PATH, -1), "DELETE on /shop"),
        (SetData(PATH, b"", -1), "WRITE on /shop/prices"),
        (SetAcl(PATH, (), -1), "ADMIN on /shop/prices"),
        (Check(PATH, -1), "READ on /shop/prices"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Record) else "",
)
def test_a_refused_write_says_which_right_it_needs(request_: Record, needed: str) -> None:
    assert needed in str(refusal(errors.NoAuth.code, request_, PATH))
    assert needed not in str(refusal(errors.NoNode.code, request_, PATH))


def test_a_refused_read_says_its_path_alone() -> None:
    plain = errors.from_code(errors.NoAuth.code, PATH)

    assert str(refusal(errors.NoAuth.code, Exists(PATH, watch=False), PATH)) == str(plain)
