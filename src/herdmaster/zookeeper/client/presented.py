"""What one connection presents to a server, and what is said when the server refuses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.records import Auth, Record, Request, Sasl

REFUSALS: Final = frozenset({errors.AUTH_FAILED_CODE, errors.SaslRequired.code})


class Presented(msgspec.Struct, frozen=True):
    """`credentials` are (scheme, secret) pairs for auth requests; `mechanism` names that of the SASL conversation that
    precedes them, empty for none; `has_certificate`: TLS shows one, for scheme x509."""

    credentials: tuple[tuple[str, Secret], ...] = ()
    mechanism: str = ""
    has_certificate: bool = False

    def with_credentials(self, added: Iterable[tuple[str, Secret]]) -> Presented:
        return Presented((*self.credentials, *added), self.mechanism, self.has_certificate)

    def __str__(self) -> str:
        schemes = dict.fromkeys(scheme for scheme, _ in self.credentials)
        if self.has_certificate:
            schemes["x509"] = None
        return ", ".join([f"SASL {self.mechanism}"] * bool(self.mechanism) + list(schemes)) or "no credential"


NOTHING: Final = Presented()


def authentication_refusal(
    code: int, request: Request[Record] | None, presented: Presented
) -> errors.AuthenticationFailed:
    """Return the error for one of REFUSALS. `request` is None for a ping."""
    if isinstance(request, Sasl):
        return errors.AuthenticationFailed(
            f"the server refused the authentication by SASL {presented.mechanism}: user or password is wrong, or it "
            "does not offer this mechanism"
        )
    if code == errors.SaslRequired.code:
        return errors.AuthenticationFailed(
            "the server takes only clients that have authenticated, by SASL (sessionRequireClientSASLAuth) or by the "
            f"scheme of its enforce.auth.schemes; this client has presented {presented}"
        )
    if isinstance(request, Auth):
        return errors.AuthenticationFailed(f"the server refused the credential of scheme {request.scheme!r}")
    return errors.AuthenticationFailed("the server refused a credential of this session")
