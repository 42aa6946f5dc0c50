"""The server's end of a TLS handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, Final

from herdmaster.zookeeper.server.distinguished_names import subject_of
from herdmaster.zookeeper.tls import TLS, server_context

_PLAIN: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")

_NOT_TLS: Final = b"\x15\x03\x01\x00\x02\x02\x46"
"""The alert protocol_version. OpenSSL writes none if the client's first bytes are not TLS."""


class _Handshake(ssl.SSLObject):
    """A handshake that tells the client why it failed. asyncio closes the connection without sending the alert that
    OpenSSL has written, and the client would see nothing but the end of the connection."""

    outgoing: ssl.MemoryBIO
    channel: socket.socket

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            with contextlib.suppress(OSError):  # a few bytes; a client that does not read has closed the connection
                self.channel.send(self.outgoing.read() or _NOT_TLS)
            raise


class AlertingContext(ssl.SSLContext):
    """The context of one accepted connection."""

    channel: socket.socket

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **named: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **named)
        assert isinstance(made, _Handshake)
        made.outgoing = outgoing
        made.channel = self.channel
        return made


AlertingContext.sslobject_class = _Handshake


def accepting_context(tls: TLS, channel: socket.socket) -> ssl.SSLContext:
    """Return the context of an accepted connection, made of files that are read now. Raises InvalidTls."""
    context = server_context(tls, AlertingContext)
    assert isinstance(context, AlertingContext)
    context.channel = channel
    return context


def explain(error: Exception) -> str:
    """Return why a handshake with a client failed."""
    reason = getattr(error, "reason", None) or ""
    if reason in _PLAIN:
        return "it does not speak TLS, and this is a port for TLS"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if "ALERT" in reason:
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"it refuses the certificate of this server (TLS alert: {alert})"
    return str(error) or "it ended the TLS handshake"


def subject_of_peer(link: ssl.SSLObject | None) -> str | None:
    """Return the subject of the client's certificate; None if it has shown none. Raises InvalidTls."""
    certificate = None if link is None else link.getpeercert(binary_form=True)
    return None if certificate is None else subject_of(certificate)
