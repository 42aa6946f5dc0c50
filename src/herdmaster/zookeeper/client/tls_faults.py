"""Why a TLS connection failed, in words: OpenSSL names the function that failed, not the mistake."""

from __future__ import annotations

import ssl
from typing import Final

from herdmaster.zookeeper.given_file import shown
from herdmaster.zookeeper.tls import TLS

_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_NAMES: Final = (62, 64)
_UNKNOWN_AUTHORITIES: Final = (2, 18, 19, 20, 21)
"""The X509_V_ERR_* codes for a chain that does not end at an authority of ours."""

_PLAIN: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")
"""The reasons that OpenSSL gives if the first bytes are not TLS."""

_ENDS: Final = (ConnectionAbortedError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_ENDED: Final = (
    "the server ended the connection during the TLS handshake: check that this is its port for TLS (secureClientPort)"
)


def explain(error: BaseException | None, tls: TLS, host: str) -> str:
    """Return why a handshake with a server failed, and what to do; empty if the error says so itself."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, tls, host)
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, _ENDS):
        return _ENDED
    if "ALERT" in reason:
        return _explain_alert(reason, tls)
    if reason in _PLAIN:
        return "the server does not speak TLS on this port: give its port for TLS (secureClientPort)"
    return f"the TLS handshake failed: {error}" if isinstance(error, ssl.SSLError) else ""


def explain_end(error: BaseException | None, tls: TLS | None) -> str:
    """Return why the server ended a connection after the handshake; empty if that has nothing to do with TLS. With TLS
    1.3 a client learns only then that the server refused its certificate."""
    reason = getattr(error, "reason", None) or ""
    return _explain_alert(reason, tls) if tls is not None and "ALERT" in reason else ""


def _explain_certificate(error: ssl.SSLCertVerificationError, tls: TLS, host: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "the server's certificate has expired: renew it, or check the clock of this machine"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet: check the clock of this machine"
    if code in _OTHER_NAMES:
        return (
            f"the server's certificate is not for {tls.server_name or host!r}: name the server as its certificate "
            "does, in the connect string or as the TLS server name"
        )
    if code in _UNKNOWN_AUTHORITIES:
        authorities = "the system" if tls.ca is None else shown(tls.ca)
        return f"the server's certificate is of no authority in {authorities}: give the CA file of its authority"
    return f"the server's certificate is refused: {error.verify_message}"


def _explain_alert(reason: str, tls: TLS) -> str:
    alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
    if tls.certificate is None:
        return f"the server refused a client without a certificate (TLS alert: {alert}): give one, with its key"
    return f"the server refused the certificate in {shown(tls.certificate)} (TLS alert: {alert})"
