"""The security that environment variables and options of commands give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from herdmaster.api.auth import environment_auth, export_auth
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import Credential, Security
from herdmaster.zookeeper.given_file import of_environment
from herdmaster.zookeeper.tls import TLS, PasswordFile

TLS_VARIABLE: Final = "HERD_TLS"
VARIABLES: Final = {
    "ca": "HERD_TLS_CA",
    "certificate": "HERD_TLS_CERTIFICATE",
    "key": "HERD_TLS_KEY",
    "key_password_file": "HERD_TLS_KEY_PASSWORD_FILE",
    "server_name": "HERD_TLS_SERVER_NAME",
}
HOST_NAME_VARIABLE: Final = "HERD_TLS_VERIFY_HOST_NAME"


class GivenSecurity(msgspec.Struct, frozen=True):
    """What the options of a command say of security. What is UNSET is left to the app's Herd."""

    tls: TLS | UnsetType | None = UNSET
    auth: tuple[Credential, ...] | UnsetType = UNSET

    @property
    def is_empty(self) -> bool:
        return self == GivenSecurity()

    def over(self, other: Security) -> Security:
        """Return `other` with what is given here in place of its own."""
        return Security(
            other.tls if self.tls is UNSET else self.tls,
            other.auth if self.auth is UNSET else self.auth,
        )


def environment_security() -> Security:
    """Return the security of the environment. Raises ConfigurationError."""
    return Security(read_tls({}), environment_auth())


def export(security: GivenSecurity) -> None:
    """Write what is given into the environment, for this process and those that it starts."""
    if security.auth is not UNSET:
        export_auth(security.auth)
    if security.tls is UNSET:
        return
    for name in (TLS_VARIABLE, HOST_NAME_VARIABLE, *VARIABLES.values()):
        os.environ.pop(name, None)
    tls = security.tls
    os.environ[TLS_VARIABLE] = "0" if tls is None else "1"
    if tls is None:
        return
    password = tls.key_password
    password_file = password.path if isinstance(password, PasswordFile) else None
    values = (tls.ca, tls.certificate, tls.key, password_file, tls.server_name)
    os.environ.update({name: str(value) for name, value in zip(VARIABLES.values(), values, strict=True) if value})
    if not tls.verify_host_name:
        os.environ[HOST_NAME_VARIABLE] = "0"


def read_tls(
    given: Mapping[str, str | None], *, enabled: bool | None = None, verify_host_name: bool = True
) -> TLS | None:
    """Return TLS settings: those given, by the keys of `VARIABLES`, else those of the environment. None means plain
    connections: nothing says otherwise, or `enabled` (else $HERD_TLS) is false.

    Raises ConfigurationError.
    """
    found = {
        name: given.get(name) or of_environment(variable, is_file=name != "server_name")
        for name, variable in VARIABLES.items()
    }
    password_file = found.pop("key_password_file")
    if enabled is None:
        enabled = _read_flag(TLS_VARIABLE)
    if enabled is False or (enabled is None and not any(found.values())):
        return None
    return TLS(
        **found,
        key_password=None if password_file is None else PasswordFile(password_file),
        verify_host_name=verify_host_name and _read_flag(HOST_NAME_VARIABLE) is not False,
    )


def _read_flag(variable: str) -> bool | None:
    value = os.environ.get(variable) or None
    if value not in (None, "0", "1"):
        raise ConfigurationError(f"${variable} is {value!r}: it takes 1 or 0")
    return None if value is None else value == "1"
