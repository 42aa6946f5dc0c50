"""Answers auth and SASL requests, and says who has to authenticate, as Apache's server with the same settings does."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from herdmaster.zookeeper.digest_md5 import SaslError, Server
from herdmaster.zookeeper.errors import AUTH_FAILED_CODE, SaslRequired
from herdmaster.zookeeper.model import Id
from herdmaster.zookeeper.server import acls
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.wire.framing import encode_reply, frame
from herdmaster.zookeeper.wire.opcodes import OpCode
from herdmaster.zookeeper.wire.records import Auth, EmptyReply, Sasl, SaslReply

_SIZE: Final = 4
"""Bytes of a frame's length."""


class Authentication:
    """The authentication of all connections. `secret` makes the nonces."""

    def __init__(self, settings: Settings, secret: bytes) -> None:
        self._settings = settings
        self._required = frozenset(settings.access.required_schemes)
        self._secret = secret
        self._challenges = 0

    def allows(self, connection: Connection, opcode: int) -> bool:
        """Return whether the connection has proved what the server requires for such a request."""
        if not self._required or opcode in (OpCode.AUTH, OpCode.SASL):
            return True
        return any(identity.scheme in self._required for identity in connection.actor.identities)

    def authenticate(self, connection: Connection, xid: int, request: Auth) -> tuple[bytes, bool]:
        """Return the answer, and False if the connection ends with it."""
        super_digest = self._settings.super_digest
        added = acls.authenticate(request.scheme, request.credential or b"", connection.host, super_digest)
        if added is None:
            return encode_reply(xid, 0, AUTH_FAILED_CODE, None), False
        identities = connection.actor.identities
        identities.extend(identity for identity in added if identity not in identities)
        return encode_reply(xid, 0, 0, EmptyReply()), True

    def answer_token(self, connection: Connection, xid: int, request: Sasl) -> tuple[bytes, bool]:
        """Return the answer, and False if the connection ends with it; a null token ends it without an answer.

        A server without users answers every token with an empty one. That does not keep the session of a client that
        goes on for ever (see `Machine`).
        """
        if request.token is None:
            return b"", False
        if not self._settings.access.sasl_users:
            return encode_reply(xid, 0, 0, SaslReply(None)), True
        try:
            return encode_reply(xid, 0, 0, SaslReply(self._converse(connection, request.token))), True
        except SaslError:
            return _refusal(xid, SaslRequired.code if "sasl" in self._required else AUTH_FAILED_CODE), False

    def _converse(self, connection: Connection, token: bytes) -> bytes:
        """Return the challenge to a connection's first token, whatever that is, and the proof to its second one."""
        if connection.sasl is None:
            connection.sasl = Server(self._new_nonce(), self._settings.access.sasl_users.get)
            return connection.sasl.challenge()
        if any(identity.scheme == "sasl" for identity in connection.actor.identities):
            raise SaslError("the connection has authenticated already")
        user, proof = connection.sasl.verify(token)
        connection.actor.identities.append(Id("sasl", user))
        return proof

    def _new_nonce(self) -> str:
        self._challenges += 1
        text = f"nonce {self._challenges}".encode()
        return base64.b64encode(hmac.digest(self._secret, text, hashlib.sha256)[:30]).decode()


def _refusal(xid: int, code: int) -> bytes:
    """Return an error with a null token behind it: the one error of the protocol that has a body."""
    return frame(encode_reply(xid, 0, code, None)[_SIZE:] + encode_reply(xid, 0, 0, SaslReply(None))[-_SIZE:])
