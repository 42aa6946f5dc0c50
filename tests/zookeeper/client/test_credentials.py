"""Credentials, as they are made, compared, shown and read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from herdmaster.zookeeper.client.credentials import Digest, Kerberos, Sasl
from herdmaster.zookeeper.errors import CredentialUnavailable, InvalidCredential

LONGEST = 4096
Kind = type[Digest] | type[Sasl]


@pytest.mark.parametrize("kind", [Digest, Sasl])
@pytest.mark.parametrize(
    ("user", "password"),
    [("", "x"), ("a:b", "x"), (7, "x"), ("al", ""), ("al", "x" * (LONGEST - 1)), ("al", 7), ("al", None)],
)
def test_a_mistake_names_the_kind_of_credential(kind: Kind, user: Any, password: Any) -> None:
    with pytest.raises(InvalidCredential, match=kind.__name__):
        kind(user, password)


def test_a_user_and_its_password_have_at_most_4096_bytes() -> None:
    assert Digest("ä", "x" * (LONGEST - 2)).load().reveal() == b"\xc3\xa4:" + b"x" * (LONGEST - 2)


def test_credentials_are_equal_by_kind_user_and_password(tmp_path: Path) -> None:
    same = (Digest("al", "x"), Digest("al", "x"))
    others = (Digest("al", "y"), Digest("bo", "x"), Sasl("al", "x"), Digest("al", tmp_path), Digest.from_file(tmp_path))

    assert same[0] == same[1]
    assert hash(same[0]) == hash(same[1])
    assert all(same[0] != other for other in others)
    assert len({*same, *others}) == 6


def test_a_credential_shows_where_its_password_is_and_not_the_password() -> None:
    path = Path("/etc/password")

    assert repr(Digest("al", "x")) == "Digest('al', ***)"
    assert repr(Sasl("al", path)) == "Sasl('al', '/etc/password')"
    assert repr(Sasl.from_file(path)) == "Sasl.from_file('/etc/password')"


def test_a_credential_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="Digest"):
        pickle.dumps(Digest("al", "x"))


def test_only_what_is_in_memory_is_read_without_waiting(tmp_path: Path) -> None:
    assert not Digest("al", "x").blocks
    assert Digest("al", tmp_path).blocks
    assert Digest("al", lambda: "x").blocks
    assert Digest.from_file(tmp_path).blocks


@pytest.mark.parametrize("content", [b"al:secret\n", b"al:secret\r\n", b"al:secret"])
def test_a_file_has_one_line_and_is_read_anew_each_time(tmp_path: Path, content: bytes) -> None:
    both, one = tmp_path / "both", tmp_path / "one"
    both.write_bytes(content)
    one.write_bytes(content.removeprefix(b"al:"))
    credentials = (Digest.from_file(both), Digest("al", one), Digest("al", str(one.read_text()).strip()))
    assert [each.load().reveal() for each in credentials] == [b"al:secret"] * 3
    one.write_bytes(b"new")

    assert credentials[1].load().reveal() == b"al:new"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"x" * (LONGEST + 1)])
@pytest.mark.parametrize("make", [lambda path: Digest("al", path), Digest.from_file])
def test_a_file_that_is_not_one_line_is_refused(tmp_path: Path, content: bytes, make: Callable[[Path], Digest]) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)

    with pytest.raises(CredentialUnavailable, match=str(path)):
        make(path).load()


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CredentialUnavailable, match=r"password cannot be read: no such file or directory$"):
        Digest("al", tmp_path / "password").load()


def test_each_credential_names_its_way_as_the_server_knows_it() -> None:
    assert (Digest.scheme, Sasl.mechanism, Kerberos.mechanism) == ("digest", "DIGEST-MD5", "GSSAPI")
    assert Kerberos.blocks


@pytest.mark.parametrize("password", ["x", b"x", "x" * (LONGEST - 3)])
def test_a_function_may_return_the_shortest_and_the_longest_password(password: str | bytes) -> None:
    whole = Digest("al", lambda: password).load().reveal()
    assert whole == b"al:" + (password if isinstance(password, bytes) else password.encode())


@pytest.mark.parametrize("password", ["", b"", None, 7])
def test_a_function_that_returns_no_password_is_told(password: Any) -> None:
    with pytest.raises(CredentialUnavailable, match="the password function of 'al' returned no password"):
        Digest("al", lambda: password).load()
