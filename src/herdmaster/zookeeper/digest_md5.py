"""SASL DIGEST-MD5 (RFC 2831), both ends, as far as ZooKeeper uses it: qop `auth`, one authentication, no layer.

The server sends a challenge, the client answers with a digest of its password, and the server proves with `rspauth`
that it knows the password, too. ZooKeeper's Java client and server agree on the service `zookeeper` and the fixed host
`zk-sasl-md5` (ZooKeeperSaslClient and ZooKeeperSaslServer pass both to SecurityUtils); their realm is that host.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from herdmaster.zookeeper.secret import Secret

SERVICE: Final = "zookeeper"
HOST: Final = "zk-sasl-md5"

_URI: Final = f"{SERVICE}/{HOST}"
_LONGEST_CHALLENGE: Final = 2048  # bytes, section 2.1.1
_LONGEST_RESPONSE: Final = 4096  # bytes, section 2.1.2
_COUNT: Final = "00000001"
"""How often the nonce was used: there is no second authentication with the same one."""

_DIRECTIVE: Final = re.compile(
    r'[ \t]*(?P<name>[A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s",]*))[ \t]*(?:,+|$)',
    re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(r'(["\\])')


class SaslError(Exception):
    """The other end's token is malformed or proves the wrong thing. The text holds no secret."""


class Client:
    """The client's end. `cnonce` is random and printable, and is used for one authentication."""

    def __init__(self, user: str, password: Secret, cnonce: str, uri: str = _URI) -> None:
        """`password` is in UTF-8."""
        self._user = user
        self._password = password
        self._cnonce = cnonce
        self._uri = uri
        self._proof: Secret | None = None  # what the server has to send

    def answer(self, challenge: bytes) -> bytes:
        """Return the response to a challenge. Raises SaslError."""
        directives = parse(challenge, _LONGEST_CHALLENGE)
        nonce = _single(directives, "nonce")
        if _single(directives, "algorithm") != "md5-sess":
            raise SaslError("the challenge is not for algorithm md5-sess")
        qops = directives.get("qop", ["auth"])
        if "auth" not in [each.strip().lower() for qop in qops for each in qop.split(",")]:
            raise SaslError("the challenge does not offer qop auth")
        charset = directives.get("charset", [""])[0].lower()
        if charset not in ("", "utf-8"):
            raise SaslError("the challenge is in an unknown charset")
        realm = directives.get("realm", [""])[0]
        key = _key(self._user, realm, self._password)
        self._proof = Secret(_digest(key, nonce, self._cnonce, self._uri, is_proof=True))
        response = _digest(key, nonce, self._cnonce, self._uri).decode()
        quoted = {"username": self._user, "realm": realm, "nonce": nonce, "cnonce": self._cnonce}
        text = ",".join(f'{name}="{_escape(value)}"' for name, value in quoted.items())
        prefix = "charset=utf-8," if charset else ""
        text = f'{prefix}{text},nc={_COUNT},qop=auth,digest-uri="{self._uri}",response={response}'
        return text.encode("utf-8" if charset else "iso-8859-1", "replace")

    def verify(self, token: bytes) -> None:
        """Raise SaslError unless the server's last token proves that it knows the password."""
        proof = _single(parse(token, _LONGEST_CHALLENGE), "rspauth")
        if self._proof is None or not hmac.compare_digest(proof.encode(), self._proof.reveal()):
            raise SaslError("the server's proof is wrong: it does not know the password")


class Server:
    """The server's end. `nonce` is unpredictable and printable, and is used for one authentication. `find_password`
    returns the password of a user, in UTF-8, or None."""

    def __init__(
        self, nonce: str, find_password: Callable[[str], Secret | None], realm: str = HOST, uri: str = _URI
    ) -> None:
        self._nonce = nonce
        self._find_password = find_password
        self._realm = realm
        self._uri = uri

    def challenge(self) -> bytes:
        return f'realm="{self._realm}",nonce="{self._nonce}",charset=utf-8,algorithm=md5-sess'.encode()

    def verify(self, response: bytes) -> tuple[str, bytes]:
        """Return the user and the proof that answers the response. Raises SaslError."""
        directives = parse(response, _LONGEST_RESPONSE)
        user, cnonce = _single(directives, "username"), _single(directives, "cnonce")
        uri = _single(directives, "digest-uri")
        if directives.get("realm", [""]) != [self._realm] or uri.lower() != self._uri.lower():
            raise SaslError("the response is for another server")
        is_fresh = _single(directives, "nonce") == self._nonce and _single(directives, "nc") == _COUNT
        if not is_fresh or directives.get("qop", ["auth"]) != ["auth"]:
            raise SaslError("the response does not fit the challenge")
        password = self._find_password(user)
        # As much work for an unknown user as for a known one.
        key = _key(user, self._realm, password or Secret(b""))
        expected = Secret(_digest(key, self._nonce, cnonce, uri))
        is_right = hmac.compare_digest(_single(directives, "response").encode(), expected.reveal())
        if password is None or not is_right:
            raise SaslError(f"user {user!r} is unknown or has another password")
        return user, b"rspauth=" + _digest(key, self._nonce, cnonce, uri, is_proof=True)


def parse(token: bytes, longest: int) -> dict[str, list[str]]:
    """Return the directives of a token: name, in lower case, and values. Raises SaslError."""
    if len(token) > longest:
        raise SaslError(f"a token of {len(token)} bytes: the limit is {longest}")
    try:
        text = token.decode()
    except UnicodeDecodeError:
        text = token.decode("iso-8859-1")
    directives: dict[str, list[str]] = {}
    position = 0
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is None:
            raise SaslError("a token is not a list of directives")
        value = match["token"] if match["quoted"] is None else _ESCAPED.sub(r"\1", match["quoted"])
        directives.setdefault(match["name"].lower(), []).append(value)
        position = match.end()
    return directives


def _single(directives: dict[str, list[str]], name: str) -> str:
    values = directives.get(name, [])
    if len(values) != 1:
        raise SaslError(f"a token has {len(values)} directives {name}: it takes one")
    return values[0]


def _key(user: str, realm: str, password: Secret) -> Secret:
    """Return H(user:realm:password). It is worth as much as the password."""
    return Secret(_md5(b":".join((_charset(user.encode()), _charset(realm.encode()), _charset(password.reveal())))))


def _digest(key: Secret, nonce: str, cnonce: str, uri: str, *, is_proof: bool = False) -> bytes:
    """Return the response in hex, or the server's proof: section 2.1.2.1, with qop auth and no authzid."""
    a1 = Secret(key.reveal() + f":{nonce}:{cnonce}".encode())
    a2 = ("" if is_proof else "AUTHENTICATE") + ":" + uri
    middle = f":{nonce}:{_COUNT}:{cnonce}:auth:{_md5(a2.encode()).hex()}"
    return _md5(_md5(a1.reveal()).hex().encode() + middle.encode()).hex().encode()


def _charset(text: bytes) -> bytes:
    """Return UTF-8 as ISO 8859-1 if all of it is in that charset: section 2.1.2.1 wants this for hashing."""
    try:
        return text.decode().encode("iso-8859-1")
    except UnicodeError:
        return text


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()  # the mechanism's own; a system may forbid it otherwise


def _escape(value: str) -> str:
    return _TO_ESCAPE.sub(r"\\\1", value)
