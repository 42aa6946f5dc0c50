"""SASL GSSAPI (RFC 4752) by the package `gssapi`. Every call here may block: it reads files and asks the KDC."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from herdmaster.zookeeper.errors import AuthenticationFailed, CredentialUnavailable, InvalidCredential

_KEYTAB_START: Final = b"\x05"
"""The first byte of every keytab, before its version."""
_NO_LAYER: Final = b"\x01\x00\x00\x00"
"""The answer to the server's offer: no security layer, and so no largest message."""


class Keytab(NamedTuple):
    """A file with keys of principals. Errors call it `name`; `cache` names the ticket cache for its tickets."""

    file: Path
    name: str
    cache: str

    def check(self) -> None:
        """Raise CredentialUnavailable for a file that cannot be used: GSSAPI does not name it."""
        try:
            with self.file.open("rb") as file:
                start = file.read(1)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise CredentialUnavailable(f"Kerberos: keytab {self.name} cannot be read: {reason}") from None
        if start != _KEYTAB_START:
            raise CredentialUnavailable(f"Kerberos: keytab {self.name} is no keytab: it is empty or has another format")


class Conversation:
    """One authentication. `target` is `service@host`."""

    def __init__(self, target: str, principal: str | None, keytab: Keytab | None) -> None:
        """Raises InvalidCredential without the package."""
        # Any: the package is optional, and its types are not installed where it is absent.
        try:
            self._gssapi: Any = importlib.import_module("gssapi")
        except ImportError:
            raise InvalidCredential("Kerberos needs the package gssapi: pip install 'herdmaster[kerberos]'") from None
        self._target = target
        self._principal = principal
        self._keytab = keytab
        self._context: Any = None
        self._has_chosen = False

    def start(self) -> bytes:
        """Take a ticket for the server, and return the first token. Raises CredentialUnavailable."""
        gssapi = self._gssapi
        keytab = self._keytab
        options: dict[str, object] = {}
        if keytab is not None:
            keytab.check()
            options["store"] = {"client_keytab": str(keytab.file), "ccache": keytab.cache}
        try:
            name = gssapi.Name(self._principal, gssapi.NameType.kerberos_principal) if self._principal else None
            credentials = gssapi.Credentials(name=name, usage="initiate", **options)
            target = gssapi.Name(self._target, gssapi.NameType.hostbased_service)
            flags = gssapi.RequirementFlag
            self._context = gssapi.SecurityContext(
                name=target,
                creds=credentials,
                usage="initiate",
                mech=gssapi.MechType.kerberos,
                flags=flags.mutual_authentication | flags.integrity,
            )
            return self._context.step() or b""
        except gssapi.exceptions.GSSError as error:
            raise CredentialUnavailable(f"Kerberos: no ticket for {self._target}{self._reason(error)}") from None

    def _reason(self, error: Any) -> str:  # as in `_words`
        words = _words(error)
        if self._keytab is None:
            return f": {words}"
        if "credentials cache" in words:  # what is said of a cache that a keytab has not filled
            words = f"it has no key of {self._principal or 'a client'}"
        return f" by keytab {self._keytab.name}: {words}"

    def answer(self, token: bytes | None) -> bytes | None:
        """Return what answers the server's token; None at the end. Raises AuthenticationFailed."""
        if self._has_chosen:
            return None
        if token is None:
            raise AuthenticationFailed("the server did not answer SASL GSSAPI: it has no SASL, or another mechanism")
        try:
            if not self._context.complete:
                return self._context.step(token) or b""
            offer = self._context.unwrap(token).message  # only a server that has the key can have made it
            if not offer or not offer[0] & _NO_LAYER[0]:
                raise AuthenticationFailed(f"Kerberos: {self._target} wants a security layer, which is not offered")
            self._has_chosen = True
            return bytes(self._context.wrap(_NO_LAYER, False).message)
        except self._gssapi.exceptions.GSSError as error:
            raise AuthenticationFailed(f"Kerberos: the answer of {self._target} is wrong: {_words(error)}") from None


def _words(error: Any) -> str:  # a GSSError, of a package without types
    """Return the text of the mechanism, else of GSSAPI."""
    texts = [*error.get_all_statuses(error.min_code, False), *error.get_all_statuses(error.maj_code, True)]
    return str(next((text for text in texts if text), error))
