"""DIGEST-MD5: the examples of RFC 2831, both ends against each other, and hostile tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.digest_md5 import Client, SaslError, Server, parse
from herdmaster.zookeeper.secret import Secret

_IMAP_CHALLENGE = b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def _respond(challenge: bytes, user: str = "al", password: str = "pw", uri: str = "zookeeper/zk-sasl-md5") -> bytes:
    return Client(user, Secret(password.encode()), "cnonce", uri).answer(challenge)


def _server(users: dict[str, str] | None = None, nonce: str = "nonce") -> Server:
    known = {"al": "pw"} if users is None else users

    def find(user: str) -> Secret | None:
        return Secret(known[user].encode()) if user in known else None

    return Server(nonce, find)


class TestTheExamplesOfTheRfc:
    def test_imap(self) -> None:
        client = Client("chris", Secret(b"secret"), "OA6MHXh6VqTrRk", "imap/elwood.innosoft.com")
        response = parse(client.answer(_IMAP_CHALLENGE), 4096)
        assert response == {
            "charset": ["utf-8"],
            "username": ["chris"],
            "realm": ["elwood.innosoft.com"],
            "nonce": ["OA6MG9tEQGm2hh"],
            "nc": ["00000001"],
            "cnonce": ["OA6MHXh6VqTrRk"],
            "digest-uri": ["imap/elwood.innosoft.com"],
            "response": ["d388dad90d4bbd760a152321f2143af7"],
            "qop": ["auth"],
        }
        client.verify(b"rspauth=ea40f60335c427b5527b84dbabcdfffd")

    def test_acap(self) -> None:
        challenge = _IMAP_CHALLENGE.replace(b"OA6MG9tEQGm2hh", b"OA9BSXrbuRhWay")
        client = Client("chris", Secret(b"secret"), "OA9BSuZWMSpW8m", "acap/elwood.innosoft.com")
        assert parse(client.answer(challenge), 4096)["response"] == ["6084c6db3fede7352c551284490fd0fc"]
        client.verify(b"rspauth=2f0b3d7c3c2e486600ef710726aa2eae")

    def test_the_server_s_end_of_imap(self) -> None:
        server = Server(
            "OA6MG9tEQGm2hh", lambda _user: Secret(b"secret"), "elwood.innosoft.com", "imap/elwood.innosoft.com"
        )
        client = Client("chris", Secret(b"secret"), "OA6MHXh6VqTrRk", "imap/elwood.innosoft.com")
        assert server.verify(client.answer(_IMAP_CHALLENGE)) == (
            "chris",
            b"rspauth=ea40f60335c427b5527b84dbabcdfffd",
        )


class TestBothEnds:
    @given(_TEXT, _TEXT, _TEXT)
    def test_any_user_and_password_pass_and_a_wrong_one_does_not(self, user: str, password: str, other: str) -> None:
        server = _server({user: password})
        client = Client(user, Secret(password.encode()), "cnonce")
        found, proof = server.verify(client.answer(server.challenge()))
        assert found == user
        client.verify(proof)
        if other != password:
            with pytest.raises(SaslError):
                server.verify(_respond(server.challenge(), user, other))

    def test_unknown_users_are_refused_also_without_a_password(self) -> None:
        server = _server()
        with pytest.raises(SaslError):
            server.verify(_respond(server.challenge(), "unknown", "x"))
        with pytest.raises(SaslError):
            server.verify(_respond(server.challenge(), "unknown", ""))

    def test_a_response_is_good_for_its_own_challenge_only(self) -> None:
        response = _respond(_server(nonce="first").challenge())
        with pytest.raises(SaslError, match="does not fit"):
            _server(nonce="second").verify(response)

    def test_a_response_for_another_service_is_refused(self) -> None:
        server = _server()
        with pytest.raises(SaslError, match="another server"):
            server.verify(_respond(server.challenge(), uri="imap/zk-sasl-md5"))

    def test_a_server_that_does_not_know_the_password_is_found_out(self) -> None:
        client = Client("al", Secret(b"pw"), "cnonce")
        client.answer(_server().challenge())
        with pytest.raises(SaslError, match="does not know the password"):
            client.verify(b"rspauth=" + b"0" * 32)


class TestHostileTokens:
    @given(st.binary(max_size=200))
    def test_any_bytes_are_directives_or_one_error(self, token: bytes) -> None:
        for take in (_respond, _server().verify, Client("al", Secret(b"pw"), "c").verify):
            with pytest.raises(SaslError):
                take(token)

    @pytest.mark.parametrize(
        "challenge",
        [
            b"",
            b'nonce="a",nonce="b",algorithm=md5-sess',
            b"algorithm=md5-sess",
            b'nonce="a"',
            b'nonce="a",algorithm=md5',
            b'nonce="a",algorithm=md5-sess,qop="auth-int"',
            b'nonce="a",algorithm=md5-sess,charset=utf-16',
            b'nonce="a,algorithm=md5-sess',
            b'nonce="a",algorithm=md5-sess,realm="' + b"r" * 2048 + b'"',
        ],
    )
    def test_a_challenge_that_is_none_is_refused(self, challenge: bytes) -> None:
        with pytest.raises(SaslError):
            _respond(challenge)

    def test_names_are_in_any_case_and_empty_elements_are_skipped(self) -> None:
        assert parse(b'Nonce="a\\"b" ,, ALGORITHM=md5-sess', 100) == {"nonce": ['a"b'], "algorithm": ["md5-sess"]}


def test_a_secret_is_never_shown() -> None:
    secret = Secret(b"marker")
    assert "marker" not in f"{secret!r} {secret} {secret.__reduce_ex__}"
    assert secret.reveal() == b"marker"
